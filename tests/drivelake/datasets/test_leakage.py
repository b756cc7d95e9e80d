"""What two splits share is named; what was not compared is never called independent."""

import hashlib

import pytest

from drivelake.datasets.leakage import Ancestry, LeakageCheck
from drivelake.errors import DatasetError


def check(**changes):
    sound = {
        name: Ancestry(name, split, frozenset({name}), "car", start, start + 9)
        for start, (name, split) in zip((0, 10, 20), (("a", "train"), ("b", "validation"), ("c", "test")), strict=True)
    }
    collected = LeakageCheck(drives=list({**sound, **changes}.values()))
    for drive in collected.drives:
        collected.picture(drive.split, hashlib.sha256(drive.drive.encode()).digest())
    return collected


def test_splits_that_share_nothing_pass():
    check().require_none()


def test_the_same_raw_log_in_two_splits_is_named():
    with pytest.raises(DatasetError, match=r"a \(train\) and c \(test\) hold the same log"):
        check(c=Ancestry("c", "test", frozenset({"a", "c"}), "car", 20, 29)).require_none()


def test_two_drives_of_one_vehicle_at_one_time_are_named():
    with pytest.raises(DatasetError, match="overlap in time on vehicle car"):
        check(c=Ancestry("c", "test", frozenset({"c"}), "car", 5, 12)).require_none()


def test_other_vehicles_may_drive_at_the_same_time():
    check(c=Ancestry("c", "test", frozenset({"c"}), "other", 0, 9)).require_none()


def test_equal_pictures_in_two_splits_are_counted():
    leaking = check()
    for n in range(3):
        leaking.picture("train", bytes([n]))
        leaking.picture("test", bytes([n]))
    with pytest.raises(DatasetError, match=r"train and test share 3 equal picture"):
        leaking.require_none()


def test_an_empty_split_shows_nothing():
    empty = LeakageCheck()
    empty.picture("train", b"1")
    with pytest.raises(DatasetError, match="validation, test hold no row, so their independence is NOT SHOWN"):
        empty.require_none()
