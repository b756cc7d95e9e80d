"""A path has one place in the tree, and the place tells the path."""

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.versions.dvc.paths import place, shard, standing

NAMES = st.text(st.characters(blacklist_characters="/", blacklist_categories=("Cs",)), min_size=1, max_size=40)


@given(asset=NAMES, partition=NAMES)
@settings(max_examples=100)
def test_a_place_stands_for_its_path_and_every_other_shard_for_none(asset, partition):
    path = f"{asset}/{partition}"
    assert standing(place(path)) == path
    assert standing(f"{asset}/{int(shard(partition), 16) ^ 1:02x}/{partition}") is None
    assert standing(path) is None
    assert standing(f"{place(path)}/manifest.json") is None


def test_the_shard_is_the_beginning_of_the_sha256():
    assert place("raw_logs/drive_01") == f"raw_logs/{hashlib.sha256(b'drive_01').hexdigest()[:2]}/drive_01"


def test_a_hundred_thousand_partitions_spread_evenly():
    counts = {}
    for n in range(100_000):
        at = shard(f"drive_{n:06d}")
        counts[at] = counts.get(at, 0) + 1
    assert len(counts) == 256
    assert max(counts.values()) < 2 * 100_000 / 256
