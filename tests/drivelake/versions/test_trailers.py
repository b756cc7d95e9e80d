"""Metadata in commit messages comes back as it went in, or is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.errors import StoreError
from drivelake.versions.trailers import join_message, split_message

KEYS = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True)
VALUES = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp", "Zs")), min_size=1, max_size=60)


@given(message=VALUES, metadata=st.dictionaries(KEYS, VALUES, max_size=4))
@settings(max_examples=100)
def test_message_and_metadata_come_back_as_they_went_in(message, metadata):
    assert split_message(join_message(message, metadata)) == (message, metadata)


@given(message=st.text(max_size=40), metadata=st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3))
@settings(max_examples=200)
def test_what_cannot_come_back_is_refused(message, metadata):
    try:
        text = join_message(message, metadata)
    except StoreError:
        return
    assert split_message(text) == (message, metadata)
    assert "\0" not in text


@pytest.mark.parametrize("value", ["two\nlines", "", " padded", "nul\0"])
def test_a_value_that_is_not_one_trimmed_line_is_refused(value):
    with pytest.raises(StoreError, match="cannot be read back"):
        join_message("message", {"Key": value})


def test_a_message_whose_end_reads_like_metadata_is_refused():
    with pytest.raises(StoreError, match="cannot be read back"):
        join_message("subject\n\nKey: value", {})


def test_a_message_by_stock_git_is_a_message_without_metadata():
    assert split_message("subject\n\nbody of words\n") == ("subject\n\nbody of words", {})
    assert split_message("subject\n\nSigned-off-by: someone\n") == ("subject", {"Signed-off-by": "someone"})
