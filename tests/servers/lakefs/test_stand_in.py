"""What a version store relies on in lakeFS, said through its own clients; run on the stand-in, or on a real server (fixtures.py).

A test that names an assumption in its docstring is one to look at first when a real server disagrees.
"""

from datetime import UTC, datetime

import lakefs_sdk
import pytest
from lakefs.exceptions import BadRequestException, ConflictException, NotFoundException, ObjectExistsException

from tests.servers.lakefs.here import Here, refused

MANY = [f"raw_logs/drive_{number}/manifest.json" for number in range(5)]


@pytest.fixture
def here(server):
    return Here(server)


@pytest.fixture
def disk(on_disk):
    return Here(on_disk)


# --- objects


def test_an_uploaded_object_comes_back_whole_in_parts_and_described(here):
    data = bytes(range(256)) * 8
    stats = here.put("main", "a/b.bin", data)
    assert (stats.path, stats.size_bytes) == ("a/b.bin", len(data))
    assert here.read("main", "a/b.bin") == data
    assert bytes(here.sdk.objects_api.get_object(here.name, "main", "a/b.bin", range="bytes=10-19")) == data[10:20]
    assert bytes(here.sdk.objects_api.get_object(here.name, "main", "a/b.bin", range="bytes=-5")) == data[-5:]
    answer = here.sdk.objects_api.head_object_with_http_info(here.name, "main", "a/b.bin")
    assert int(answer.headers["Content-Length"]) == len(data)
    stat = here.sdk.objects_api.stat_object(here.name, "main", "a/b.bin")
    assert stat.checksum == stats.checksum
    refused(416, here.sdk.objects_api.get_object, here.name, "main", "a/b.bin", range=f"bytes={len(data)}-")


def test_the_high_level_client_writes_reads_and_will_not_overwrite_in_mode_x(here):
    thing = here.main.object("t/x").upload(b"12345", metadata={"k": "v"}, pre_sign=here.server.block == "s3")
    with thing.reader(pre_sign=here.server.block == "s3") as reader:
        reader.seek(2)
        assert reader.read(2) == b"34"
    assert here.lake.ref("main").object("t/x").stat().metadata == {"k": "v"}
    with pytest.raises(ObjectExistsException):
        here.main.object("t/x").upload(b"other", mode="xb")
    assert here.read("main", "t/x") == b"12345"


def test_an_upload_may_ask_that_nothing_is_there(disk):
    disk.put("main", "once", b"1", if_none_match="*")
    refused(412, disk.put, "main", "once", b"2", if_none_match="*")
    assert disk.read("main", "once") == b"1"


def test_objects_are_copied_and_deleted_singly_and_in_numbers(disk):
    disk.committed("main", a=b"1", b=b"2", c=b"3")
    api = disk.sdk.objects_api
    api.copy_object(disk.name, "main", "d", lakefs_sdk.ObjectCopyCreation(src_path="a", src_ref="main"))
    api.delete_object(disk.name, "main", "a")
    assert api.delete_objects(disk.name, "main", lakefs_sdk.PathList(paths=["b", "never was"])).errors == []
    api.delete_object(disk.name, "main", "never was")
    assert disk.paths("main") == ["c", "d"]
    assert disk.paths("main@") == ["a", "b", "c"], "what is not committed is not seen at main@"
    assert disk.read("main", "d") == b"1"
    refused(404, disk.read, "main", "a")


def test_an_upload_may_ask_for_what_it_replaces(disk):
    first = disk.put("main", "a", b"1")
    disk.put("main", "a", b"2", if_match=first.checksum)
    refused(412, disk.put, "main", "a", b"3", if_match=first.checksum)
    assert disk.read("main", "a") == b"2"


def test_user_metadata_changes_without_new_bytes_and_is_a_change(disk):
    disk.committed("main", a=b"1")
    before = disk.sdk.objects_api.stat_object(disk.name, "main", "a")
    asked = lakefs_sdk.UpdateObjectUserMetadata(set={"k": "v"})
    disk.sdk.experimental_api.update_object_user_metadata(disk.name, "main", "a", asked)
    after = disk.sdk.objects_api.stat_object(disk.name, "main", "a")
    assert (after.metadata, after.physical_address) == ({"k": "v"}, before.physical_address)
    disk.commit("main", "metadata alone")


def test_bytes_that_are_in_the_block_store_already_can_be_staged(disk):
    disk.committed("main", a=b"123")
    known = disk.sdk.objects_api.stat_object(disk.name, "main", "a")
    creation = lakefs_sdk.ObjectStageCreation(
        physical_address=known.physical_address, checksum=known.checksum, size_bytes=known.size_bytes
    )
    disk.sdk.internal_api.stage_object(disk.name, "main", "b", creation)
    assert disk.read("main", "b") == b"123"


def test_listing_comes_in_pages_and_folds_below_a_delimiter(disk):
    for path in [*MANY, "sensor_frames/drive_0/manifest.json", "z"]:
        disk.put("main", path, b"x")
    api, seen, after = disk.sdk.objects_api, [], ""
    while True:
        answer = api.list_objects(disk.name, "main", prefix="raw_logs/", amount=2, after=after)
        seen += [found.path for found in answer.results]
        if not answer.pagination.has_more:
            break
        assert answer.pagination.results == 2
        after = answer.pagination.next_offset
    assert seen == MANY
    folded = [(found.path, found.path_type) for found in api.list_objects(disk.name, "main", delimiter="/").results]
    assert folded == [("raw_logs/", "common_prefix"), ("sensor_frames/", "common_prefix"), ("z", "object")]
    first = api.list_objects(disk.name, "main", delimiter="/", amount=1)
    assert first.pagination.has_more
    rest = api.list_objects(disk.name, "main", delimiter="/", after=first.pagination.next_offset).results
    assert [found.path for found in rest] == ["sensor_frames/", "z"]


# --- commits


def test_a_commit_keeps_message_metadata_and_date_and_never_changes(disk):
    disk.put("main", "a", b"1")
    when = int(datetime(2024, 2, 29, 12, tzinfo=UTC).timestamp())
    made = disk.commit("main", "first line", metadata={"Drivelake-Run": "r 1"}, var_date=when)
    known = disk.sdk.commits_api.get_commit(disk.name, made)
    assert (known.message, known.metadata, known.creation_date) == ("first line", {"Drivelake-Run": "r 1"}, when)
    assert len(known.parents) == 1
    disk.committed("main", a=b"2")
    assert disk.read(made, "a") == b"1"
    assert disk.sdk.commits_api.get_commit(disk.name, made) == known


def test_a_commit_without_changes_is_refused_unless_it_is_asked_for(disk):
    assert "no changes" in refused(400, disk.commit, "main")
    before = disk.head()
    made = disk.commit("main", allow_empty=True)
    assert disk.sdk.commits_api.get_commit(disk.name, made).parents == [before]


def test_the_same_bytes_again_are_no_change(disk):
    """Taken from lakeFS' sources: objects are compared by size, checksum, metadata and content type, not by address."""
    disk.committed("main", a=b"same")
    one = disk.sdk.objects_api.stat_object(disk.name, "main", "a")
    disk.put("main", "a", b"same")
    other = disk.sdk.objects_api.stat_object(disk.name, "main", "a")
    assert one.physical_address != other.physical_address
    listed = disk.sdk.objects_api.list_objects(disk.name, "main").results
    assert [found.physical_address for found in listed] == [other.physical_address]
    assert disk.sdk.branches_api.diff_branch(disk.name, "main").results == []
    assert "no changes" in refused(400, disk.commit, "main")


def test_staged_objects_are_seen_on_their_branch_alone_and_can_be_dropped(disk):
    disk.committed("main", a=b"1")
    disk.branch("x")
    disk.put("x", "a", b"2")
    disk.put("x", "b", b"3")
    assert (disk.read("x", "a"), disk.read("x@", "a"), disk.read("main", "a")) == (b"2", b"1", b"1")
    staged = disk.sdk.branches_api.diff_branch(disk.name, "x").results
    assert [(change.type, change.path) for change in staged] == [("changed", "a"), ("added", "b")]
    disk.sdk.branches_api.reset_branch(disk.name, "x", lakefs_sdk.ResetCreation(type="object", path="a"))
    assert disk.read("x", "a") == b"1"
    disk.sdk.branches_api.reset_branch(disk.name, "x", lakefs_sdk.ResetCreation(type="reset"))
    assert disk.paths("x") == ["a"]


# --- refs


def test_ref_expressions_name_ancestors_parents_and_prefixes(disk):
    first, second = disk.committed("main", a=b"1"), disk.committed("main", a=b"2")
    disk.branch("side", first)
    theirs = disk.committed("side", b=b"1")
    merge = disk.merge("side")
    get = disk.sdk.commits_api.get_commit
    named = {ref: get(disk.name, ref).id for ref in ("main", "main~1", "main^1", "main^2", "main~2", "main~1~1", merge[:12])}
    assert named == {
        "main": merge,
        "main~1": second,
        "main^1": second,
        "main^2": theirs,
        "main~2": first,
        "main~1~1": first,
        merge[:12]: merge,
    }
    for ref in ("nothing", "main~99", "0" * 64):
        refused(404, get, disk.name, ref)
    refused(400, get, disk.name, "main$")


def test_branches_start_at_a_ref_are_listed_in_pages_and_go_with_what_is_staged(disk):
    first = disk.committed("main", a=b"1")
    disk.committed("main", a=b"2")
    for number in range(4):
        disk.branch(f"publish-{number}", first)
    api = disk.sdk.branches_api
    page = api.list_branches(disk.name, prefix="publish-", amount=3)
    assert page.pagination.has_more
    rest = api.list_branches(disk.name, prefix="publish-", after=page.pagination.next_offset)
    assert {ref.id: ref.commit_id for ref in [*page.results, *rest.results]} == {f"publish-{n}": first for n in range(4)}
    disk.put("publish-0", "staged", b"1")
    api.delete_branch(disk.name, "publish-0")
    refused(404, api.get_branch, disk.name, "publish-0")
    refused(404, api.delete_branch, disk.name, "publish-0")
    refused(403, api.delete_branch, disk.name, "main")
    refused(409, disk.branch, "publish-1")
    refused(404, disk.branch, "fresh", "nowhere")
    for name in ("with/slash", "dots.", "-x"):
        refused(400, disk.branch, name)


def test_a_branch_can_be_set_to_another_commit_when_nothing_is_staged(disk):
    first = disk.committed("main", a=b"1")
    disk.committed("main", a=b"2")
    disk.branch("x")
    api = disk.sdk.experimental_api
    disk.put("x", "b", b"1")
    refused(400, api.hard_reset_branch, disk.name, "x", first)
    disk.sdk.branches_api.reset_branch(disk.name, "x", lakefs_sdk.ResetCreation(type="reset"))
    api.hard_reset_branch(disk.name, "x", first)
    assert disk.head("x") == first


def test_hidden_branches_are_listed_only_when_asked_for(disk):
    creation = lakefs_sdk.BranchCreation(name="quiet", source="main", hidden=True)
    disk.sdk.branches_api.create_branch(disk.name, creation)
    names = [ref.id for ref in disk.sdk.branches_api.list_branches(disk.name).results]
    shown = [ref.id for ref in disk.sdk.branches_api.list_branches(disk.name, show_hidden=True).results]
    assert (names, shown) == (["main"], ["main", "quiet"])


def test_tags_never_move_and_force_does_not_overwrite(disk):
    """``force`` in lakeFS is about read-only repositories: a tag that is there answers 409 with it as well."""
    first, second = disk.committed("main", a=b"1"), disk.committed("main", a=b"2")
    api = disk.sdk.tags_api
    assert api.create_tag(disk.name, lakefs_sdk.TagCreation(id="v1.0/rc~1", ref=first)).commit_id == first
    for force in (False, True):
        refused(409, api.create_tag, disk.name, lakefs_sdk.TagCreation(id="v1.0/rc~1", ref=second, force=force))
    assert api.get_tag(disk.name, "v1.0/rc~1").commit_id == first
    api.create_tag(disk.name, lakefs_sdk.TagCreation(id="v2", ref=second))
    assert [tag.id for tag in api.list_tags(disk.name, prefix="v").results] == ["v1.0/rc~1", "v2"]
    api.delete_tag(disk.name, "v2")
    refused(404, api.get_tag, disk.name, "v2")
    refused(404, api.delete_tag, disk.name, "v2")
    refused(404, api.create_tag, disk.name, lakefs_sdk.TagCreation(id="v3", ref="nowhere"))
    for name in ("a..b", "a b", "a.lock", "a:b"):
        refused(400, api.create_tag, disk.name, lakefs_sdk.TagCreation(id=name, ref=first))


# --- rules


def test_a_protected_branch_takes_merges_and_reverts_alone(disk):
    api = disk.sdk.repositories_api
    api.set_branch_protection_rules(disk.name, [lakefs_sdk.BranchProtectionRule(pattern="main")])
    assert [rule.pattern for rule in api.get_branch_protection_rules(disk.name)] == ["main"]
    assert "protected" in refused(403, disk.put, "main", "a", b"1")
    assert "protected" in refused(403, disk.commit, "main", allow_empty=True)
    refused(403, disk.sdk.objects_api.delete_object, disk.name, "main", "a")
    disk.branch("x")
    made = disk.committed("x", a=b"1")
    disk.merge("x")
    disk.revert(made)
    assert disk.paths("main") == []


def test_garbage_collection_rules_are_kept(disk):
    api = disk.sdk.repositories_api
    refused(404, api.get_gc_rules, disk.name)
    rules = lakefs_sdk.GarbageCollectionRules(
        default_retention_days=30, branches=[lakefs_sdk.GarbageCollectionRule(branch_id="main", retention_days=90)]
    )
    api.set_gc_rules(disk.name, rules)
    assert api.get_gc_rules(disk.name) == rules


def test_a_read_only_repository_is_written_with_force_alone(disk):
    name = disk.name + "-ro"
    asked = lakefs_sdk.RepositoryCreation(
        name=name, storage_namespace=f"{disk.server.namespace}/{name}", default_branch="main", read_only=True
    )
    disk.sdk.repositories_api.create_repository(asked)
    creation = lakefs_sdk.BranchCreation(name="x", source="main")
    refused(403, disk.sdk.branches_api.create_branch, name, creation)
    creation.force = True
    disk.sdk.branches_api.create_branch(name, creation)
    refused(403, disk.sdk.repositories_api.delete_repository, name)
    disk.sdk.repositories_api.delete_repository(name, force=True)
    refused(404, disk.sdk.repositories_api.get_repository, name)


def test_two_repositories_never_share_a_storage_namespace(disk):
    known = disk.sdk.repositories_api.get_repository(disk.name)
    asked = lakefs_sdk.RepositoryCreation(name=disk.name + "-2", storage_namespace=known.storage_namespace)
    refused(400, disk.sdk.repositories_api.create_repository, asked)


# --- the server


def test_the_server_says_what_it_is(here):
    config = here.sdk.config_api.get_config()
    assert config.version_config.version
    assert config.storage_config.blockstore_type == here.server.block
    here.sdk.health_check_api.health_check()
    assert here.sdk.internal_api.get_setup_state().state == "initialized"


def test_a_wrong_key_is_401_and_an_unknown_repository_404(disk):
    wrong = lakefs_sdk.Configuration(host=f"{disk.server.endpoint}/api/v1", username="AKIANOBODY", password="x")
    api = lakefs_sdk.client.LakeFSClient(wrong).repositories_api
    refused(401, api.get_repository, disk.name)
    refused(404, disk.sdk.repositories_api.get_repository, "nowhere")
    again = lakefs_sdk.RepositoryCreation(name=disk.name, storage_namespace=f"{disk.server.namespace}/again")
    refused(409, disk.sdk.repositories_api.create_repository, again)


def test_the_high_level_client_raises_its_own_errors(disk):
    disk.main.object("a").upload(b"1", pre_sign=False)
    disk.main.commit("one")
    with pytest.raises(BadRequestException):
        disk.main.commit("again")
    with pytest.raises(NotFoundException):
        disk.lake.branch("gone").get_commit()
    one, other = disk.lake.branch("one").create("main"), disk.lake.branch("other").create("main")
    for branch, data in ((one, b"2"), (other, b"3")):
        branch.object("a").upload(data, pre_sign=False)
        branch.commit("m")
    one.merge_into(disk.main)
    with pytest.raises(ConflictException):
        other.merge_into(disk.main)


def test_a_transaction_of_the_high_level_client_is_one_merge(disk):
    with disk.main.transact(commit_message="tx", commit_metadata={"a": "b"}) as transaction:
        transaction.object("t").upload(b"x", pre_sign=False)
    assert disk.read("main", "t") == b"x"
    assert [branch.id for branch in disk.lake.branches(show_hidden=True)] == ["main"]
