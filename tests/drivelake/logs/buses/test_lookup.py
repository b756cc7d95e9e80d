from hypothesis import given
from hypothesis import strategies as st

from drivelake.logs.buses.lookup import FrameKey, FrameLookup
from tests.drivelake.logs.buses.frames_of import frames_from

KEYS = st.builds(FrameKey, st.integers(0, 255), st.integers(0, 0x1FFF_FFFF), st.booleans())


@given(st.dictionaries(KEYS, st.integers(1, 70_000), max_size=300), st.lists(KEYS))
def test_every_frame_gets_the_number_of_its_key_and_others_none(tables, others):
    keys = [*tables, *others]
    found = FrameLookup(tables)(frames_from([(0, *key, b"") for key in keys]))
    assert found.tolist() == [tables.get(key, 0) for key in keys]
