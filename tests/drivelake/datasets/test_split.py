"""A drive's split depends on its name and the declaration, on nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from drivelake.datasets.split import SPLITS, split_of
from drivelake.declaration import Split

DRIVES = st.text(alphabet="abcdefgh0123456789_", min_size=1, max_size=12)


@given(st.sets(DRIVES, max_size=20), st.sets(DRIVES, max_size=20), st.integers(0, 99))
def test_a_drive_never_changes_sides_as_the_lake_grows(before, arriving, seed):
    declared = Split(seed=seed)
    was = {d: split_of(d, declared) for d in before}
    assert {d: split_of(d, declared) for d in before | arriving}.items() >= was.items()


def test_the_shares_are_kept_in_the_long_run():
    declared = Split(seed=1, train=0.7, validation=0.1, test=0.2)
    found = [split_of(f"drive_{n}", declared) for n in range(5000)]
    assert [round(found.count(s) / 5000, 1) for s in SPLITS] == [0.7, 0.1, 0.2]


def test_the_first_matching_glob_puts_a_drive_by_hand():
    declared = Split(assign={"drive_0*": "test", "drive_*": "train"})
    assert (split_of("drive_01", declared), split_of("drive_11", declared)) == ("test", "train")
