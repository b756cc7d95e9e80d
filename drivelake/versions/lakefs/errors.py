"""What an answer of a lakeFS server means in our error tree. Belongs here: the one table, and reading an answer for it.

Never here: calling the server, deciding how often.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

import urllib3.exceptions
from lakefs.exceptions import ServerException
from lakefs_sdk.exceptions import ApiException, OpenApiException

from drivelake.errors import Conflict, Denied, DrivelakeError, GateClosed, NotFound, StoreError, Unavailable

__all__ = ["ANSWERED", "TABLE", "NoChanges", "Row", "may_pass", "row_of", "told"]

# What a call can raise: the server's refusals, an answer in no known form, and the network.
# OpenApiException and ValueError: the clients raise them when the body is not what lakeFS' interface says.
ANSWERED = (OpenApiException, ServerException, urllib3.exceptions.HTTPError, ValueError)


class NoChanges(StoreError):
    """Nothing to commit, to merge or to revert. A caller that knows what that means catches it."""


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        low: first HTTP status it holds for; 0 stands for no answer at all.
        high: the last one.
        words: what the server's message has to contain, a pattern; empty: any.
        kind: the error it becomes.
        meaning: in words.
        next_step: for the person.
    """

    low: int
    high: int
    words: str
    kind: type[DrivelakeError]
    meaning: str
    next_step: str


AGAIN = "run again once the server is well"
ADMIN = "ask the repository's administrator"
# The first row that holds is the meaning. Statuses and words are those of lakeFS 1.x.
TABLE = (
    Row(0, 0, "", Unavailable, "no answer", AGAIN),
    Row(400, 400, r"no changes", NoChanges, "nothing differs", "nothing is left to do"),
    Row(400, 400, r"dirty branch|uncommitted", StoreError, "something is staged on the branch", "reset its changes"),
    Row(400, 400, "", StoreError, "the server does not take the request", "check the names and the server's version"),
    Row(401, 401, "", Denied, "the credentials are not known", "set LAKEFS_ACCESS_KEY_ID and LAKEFS_SECRET_ACCESS_KEY anew"),
    Row(403, 403, r"protected branch", Denied, "the branch is protected", "work on a branch of its own and merge it"),
    Row(403, 403, "", Denied, "these credentials do not reach so far", f"{ADMIN} for the right"),
    Row(404, 404, "", NotFound, "not there", "check the name of the repository and of the ref"),
    Row(408, 408, "", Unavailable, "the request took too long", AGAIN),
    Row(409, 409, "", Conflict, "another was first", "look at what stands there now, and run again"),
    Row(410, 410, "", StoreError, "the bytes are gone: collected as garbage or deleted", "publish the version again"),
    Row(412, 412, r"hook|action", GateClosed, "a hook of the repository said no", "read the hook's words; meet them, run again"),
    Row(412, 412, "", Unavailable, "another moved the branch at the same moment", AGAIN),
    Row(420, 420, "", Unavailable, "too many requests", AGAIN),
    Row(423, 423, "", Unavailable, "the branch is locked", AGAIN),
    Row(425, 425, "", Unavailable, "too early", AGAIN),
    Row(429, 429, "", Unavailable, "too many attempts at one time", AGAIN),
    Row(499, 499, "", Unavailable, "the request was broken off", AGAIN),
    Row(501, 501, "", StoreError, "this server does not offer it", "check the server's version and edition"),
    Row(500, 599, "", Unavailable, "the server failed", AGAIN),
    Row(0, 999, "", StoreError, "not understood", "check the url: is a lakeFS server there?"),
)


def row_of(error: BaseException) -> Row:
    """The table's row for what a call raised."""
    status, words = _status(error), _words(error)
    return next(row for row in TABLE if row.low <= status <= row.high and re.search(row.words, words, re.IGNORECASE))


def may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed a moment later."""
    return isinstance(error, ANSWERED) and row_of(error).kind is Unavailable


def told(error: BaseException, call: str, server: str) -> DrivelakeError:
    """The error of our tree for what a call raised.

    Args:
        error: one of ``ANSWERED``.
        call: what was asked, for the message.
        server: whom.
    """
    row, status = row_of(error), _status(error)
    words = re.sub(r"\s+", " ", _words(error)).strip()[:1000]
    code = f" ({status})" if status not in {0, 999} else ""
    return row.kind(f"{call}: {row.meaning}{code}; {server} said: {words or 'nothing'}.", next_step=row.next_step)


def _status(error: BaseException) -> int:
    found = error.status if isinstance(error, ApiException) else getattr(error, "status_code", None)
    if found:
        return int(found)
    # An SSL failure is an ApiException with status 0 in the client; asking again does not heal a certificate.
    network = isinstance(error, urllib3.exceptions.HTTPError) and not isinstance(error, urllib3.exceptions.SSLError)
    return 0 if network else 999


def _words(error: BaseException) -> str:
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        return str(body.get("message") or body)
    if not body:
        return str(getattr(error, "reason", None) or error)
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    try:
        parsed = json.loads(text)
    except ValueError:
        return text
    return str(parsed.get("message") or parsed) if isinstance(parsed, dict) else str(parsed)
