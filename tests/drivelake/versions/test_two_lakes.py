"""Two lakes on one server: as one where they are declared as one, and without a trace of each other where they are not."""

import pytest

from drivelake.errors import NotFound
from drivelake.storage import Store
from drivelake.versions import MAIN
from tests.drivelake.versions.backends import SHARED, Site, held

PATH = "raw_logs/drive_01"


@pytest.fixture
def neighbours(site, new_site, tmp_path):
    """Lakes beside ``site``: in the same bucket, under names that begin alike or lie inside; or two repositories."""
    if site.kind != "dvc-s3":
        return [new_site(site.kind)]
    bucket = site.declared.bucket.removesuffix("/team/lake")
    urls = [bucket, f"{bucket}/team", f"{bucket}/team/lake2", f"{bucket}/team/lak", f"{bucket}/team/lake/inside"]
    return [
        Site(site.kind, Store(bucket=url, s3_endpoint=site.address), tmp_path / f"neighbour_{n}") for n, url in enumerate(urls)
    ]


@pytest.mark.parametrize("site", SHARED, indirect=True)
def test_lakes_of_other_names_do_not_see_each_other_and_collecting_in_one_leaves_the_others_whole(
    store, neighbours, put_up, content
):
    others = [place.create() for place in neighbours]
    head = store.resolve(MAIN)
    for n, other in enumerate(others):
        put_up(PATH, {"a": b"same", "own": b"%d" % n}, into=other)
        other.tag("prod", MAIN)
        other.branch("work")
    assert store.resolve(MAIN) == head
    assert not held(store)
    assert list(store.branches()) == [MAIN]
    assert dict(store.tags()) == {}
    put_up(PATH, {"a": b"same", "own": b"mine"})
    for n, other in enumerate(others):
        assert content(other, MAIN, PATH) == {"a": b"same", "own": b"%d" % n}
        with pytest.raises(NotFound):
            other.resolve(store.resolve(MAIN))
    with store.collecting():
        for other in others:
            with other.collecting():
                pass
        if found := held(store):
            store.discard(stored.id for stored in found)
    for n, (place, other) in enumerate(zip(neighbours, others, strict=True)):
        assert content(place.another(), MAIN, PATH) == {"a": b"same", "own": b"%d" % n}
        assert other.check() > 0


@pytest.mark.parametrize("site", SHARED, indirect=True)
def test_two_machines_that_declare_one_lake_have_one(store, site, put_up, content):
    elsewhere = site.create()
    assert elsewhere.resolve(MAIN) == store.resolve(MAIN)
    one = put_up(PATH, {"a": b"1"})
    two = put_up(PATH, {"a": b"2"}, into=elsewhere)
    assert [entry.commit for entry in store.history(MAIN, PATH)] == [two, one]
    assert content(store, two, PATH) == {"a": b"2"}
    assert content(elsewhere, one, PATH) == {"a": b"1"}
    assert store.objects(two, PATH) == elsewhere.objects(two, PATH)
