from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.logs.buses.lookup import FrameKey, FrameLookup
from drivelake.logs.mdf.bus import count_ids
from tests.drivelake.logs.buses.frames_of import frames_from

KEYS = st.builds(FrameKey, st.integers(0, 255), st.integers(0, 0x1FFF_FFFF), st.booleans())
# those for which a table of all ids of 11 bits is enough, and those next to them
SHORT_KEYS = st.builds(FrameKey, st.integers(0, 9), st.integers(0, 2100), st.sampled_from([False, False, False, True]))
ONLY_SHORT_KEYS = st.builds(FrameKey, st.integers(0, 7), st.integers(0, 2047), st.just(False))


@settings(deadline=None)
@given(
    st.dictionaries(KEYS | SHORT_KEYS, st.integers(1, 70_000), max_size=300),
    st.lists(KEYS) | st.lists(SHORT_KEYS) | st.lists(ONLY_SHORT_KEYS),
)
def test_every_frame_gets_the_number_of_its_key_and_others_none(tables, others):
    lookup = FrameLookup(tables)
    for keys in ([*tables, *others], others):
        found = lookup(frames_from([(0, *key, b"") for key in keys]))
        assert found.tolist() == [tables.get(key, 0) for key in keys]


@settings(deadline=None)
@given(st.lists(KEYS | SHORT_KEYS) | st.lists(ONLY_SHORT_KEYS))
def test_ids_are_counted_whatever_they_are(keys):
    assert count_ids(frames_from([(0, *key, b"") for key in keys])) == Counter(keys)
