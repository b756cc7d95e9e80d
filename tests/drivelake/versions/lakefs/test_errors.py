"""The table of what a lakeFS server's answers mean, walked row by row."""

import pytest
import urllib3
from lakefs.exceptions import ServerException
from lakefs_sdk.exceptions import ApiException

from drivelake.errors import Conflict, Denied, GateClosed, NotFound, StoreError, Unavailable
from drivelake.versions.lakefs.errors import TABLE, NoChanges, may_pass, row_of, told

EXAMPLES = [
    (400, "commit: no changes", NoChanges),
    (400, "main: uncommitted changes (dirty branch)", StoreError),
    (400, "branch id: invalid value: validation error", StoreError),
    (401, "error authenticating request", Denied),
    (403, "cannot write to protected branch", Denied),
    (403, "insufficient permissions", Denied),
    (404, "branch not found", NotFound),
    (408, "", Unavailable),
    (409, "update branch main: conflict found", Conflict),
    (410, "No data", StoreError),
    (412, "update branch main: pre-merge hook aborted, run id '5': evidence is missing", GateClosed),
    (412, "Precondition failed", Unavailable),
    (420, "Enhance your calm", Unavailable),
    (423, "", Unavailable),
    (425, "", Unavailable),
    (429, "Too many attempts, try again later", Unavailable),
    (499, "Client closed request", Unavailable),
    (500, "branch is currently locked, try again later", Unavailable),
    (501, "Not implemented", StoreError),
    (502, "<html>Bad Gateway</html>", Unavailable),
    (503, "Throughput exceeded. Slow down and retry", Unavailable),
    (302, "elsewhere", StoreError),
]


def api_error(status, words):
    error = ApiException(status=status, reason="Reason")
    error.body = f'{{"message": "{words}"}}'.encode() if words and not words.startswith("<") else words
    return error


@pytest.mark.parametrize(("status", "words", "kind"), EXAMPLES)
def test_each_answer_becomes_one_kind_of_error_that_carries_the_servers_words(status, words, kind):
    for error in (api_error(status, words), ServerException(status, "Reason", f'{{"message": "{words}"}}')):
        found = told(error, "MERGE of 'lake'", "http://server")
        assert type(found) is kind
        assert "MERGE of 'lake'" in str(found)
        assert words in str(found)
        assert f"({status})" in str(found)
        assert found.next_step
        assert may_pass(error) == (kind is Unavailable)


def test_no_row_of_the_table_is_without_an_example():
    met = {row_of(api_error(status, words)) for status, words, _ in EXAMPLES} | {row_of(network) for network in NETWORK}
    assert met == set(TABLE)


NETWORK = [
    urllib3.exceptions.ProtocolError("Connection aborted."),
    urllib3.exceptions.ConnectTimeoutError("timed out"),
    urllib3.exceptions.NewConnectionError(None, "refused"),
]


@pytest.mark.parametrize("error", NETWORK)
def test_no_answer_is_unavailable_and_worth_another_try(error):
    assert type(told(error, "GET", "http://server")) is Unavailable
    assert may_pass(error)


def test_a_certificate_that_is_wrong_and_a_page_that_is_no_lakefs_stay_so():
    for error in (ApiException(status=0, reason="SSLError certificate verify failed"), ValueError("not JSON")):
        assert type(told(error, "GET", "http://server")) is StoreError
        assert not may_pass(error)
    assert not may_pass(KeyError("ours"))
