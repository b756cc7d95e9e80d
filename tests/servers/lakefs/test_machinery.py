"""The stand-in's own parts: trees, listings, checks of answers, planned faults, hooks. Nothing here runs on a real server."""

import lakefs_sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lakefs_sdk import models
from lakefs_sdk.exceptions import ApiException, ServiceException

from tests.servers.lakefs import hooks
from tests.servers.lakefs.fixtures import S3Block, lakefs_server
from tests.servers.lakefs.trees import Entry, Failure, Tree, differences, listed, merged
from tests.servers.lakefs.wire import check_answer

PATHS = st.text("ab/", min_size=1, max_size=5)
CONTENTS = st.dictionaries(PATHS, st.integers(0, 2), max_size=6)


def tree(contents):
    return Tree({path: entry(number) for path, number in contents.items()})


def entry(number, address="x"):
    return Entry(address, f"sum{number}", number, 0)


def contents(of):
    return {path: found.size for path, found in of.entries.items()}


@given(CONTENTS, CONTENTS)
@settings(max_examples=50, deadline=None)
def test_a_tree_reached_by_changes_has_the_id_of_the_tree_made_at_once(before, after):
    one, other = tree(before), tree(after)
    changes = {change.path: other.get(change.path) for change in differences(one, other)}
    assert one.changed(changes).id == other.id
    assert contents(one.changed(changes)) == after


def test_an_address_is_no_part_of_what_an_object_is():
    assert Tree({"a": entry(1, "here")}).id == Tree({"a": entry(1, "there")}).id
    assert Tree({"a": entry(1)}).id != Tree({"b": entry(1)}).id


@given(CONTENTS, CONTENTS, CONTENTS)
@settings(max_examples=100, deadline=None)
def test_merging_agrees_with_a_merge_written_path_by_path(base, source, destination):
    expected, conflict = {}, False
    for path in {*base, *source, *destination}:
        before, theirs, mine = base.get(path), source.get(path), destination.get(path)
        conflict |= len({before, theirs, mine}) == 3
        kept = mine if theirs == before else theirs
        if kept is not None:
            expected[path] = kept
    given = tree(base), tree(source), tree(destination)
    if conflict:
        with pytest.raises(Failure, match="409"):
            merged(*given, strategy=None, allow_empty=True)
    else:
        assert contents(merged(*given, strategy=None, allow_empty=True)) == expected


@given(st.lists(PATHS, unique=True), st.text("ab/", max_size=2), st.sampled_from(["", "/"]), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_pages_put_together_are_the_listing(paths, prefix, delimiter, size):
    names = sorted(paths)
    whole = [line.path for line in listed(names, prefix=prefix, delimiter=delimiter, after="")]
    below = {path[len(prefix) :] for path in names if path.startswith(prefix)}
    folded = {rest[: rest.index("/") + 1] if delimiter and "/" in rest else rest for rest in below}
    assert whole == sorted(prefix + rest for rest in folded)
    pages, after = [], ""
    while found := [line.path for line in listed(names, prefix=prefix, delimiter=delimiter, after=after)][:size]:
        pages += found
        after = found[-1]
    assert pages == whole


def test_an_answer_that_the_sdk_would_not_read_whole_never_leaves():
    check_answer({"id": "main", "commit_id": "0"}, models.Ref)
    with pytest.raises(AssertionError, match="surprise"):
        check_answer({"id": "main", "commit_id": "0", "surprise": 1}, models.Ref)
    with pytest.raises(ValueError, match="commit_id"):
        check_answer({"id": "main"}, models.Ref)


def test_a_mistake_of_the_stand_in_fails_the_run_that_met_it(monkeypatch):
    def broken():
        with lakefs_server("local") as server:
            name = server.stand_in and server.repository()
            server.stand_in.lake.repositories[name].tags = None
            with pytest.raises(ApiException, match="500"):
                server.sdk().tags_api.list_tags(name)

    for variable in ("LAKEFS_ENDPOINT",):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(AssertionError, match="failed 1 times"):
        broken()


def test_a_real_server_must_be_named_whole(monkeypatch):
    monkeypatch.setenv("LAKEFS_ENDPOINT", "http://127.0.0.1:9/api/v1")
    monkeypatch.delenv("LAKEFS_STORAGE_NAMESPACE", raising=False)
    with pytest.raises(RuntimeError, match="LAKEFS_STORAGE_NAMESPACE"), lakefs_server("local"):
        pass


def test_the_variables_lead_to_a_real_server_with_and_without_the_path_of_its_api(on_disk, monkeypatch):
    on_disk.stand_in.start  # noqa: B018 - skips where the server is a real one already
    for ending in ("", "/", "/api/v1", "/api/v1/"):
        monkeypatch.setenv("LAKEFS_ENDPOINT", on_disk.endpoint + ending)
        monkeypatch.setenv("LAKEFS_ACCESS_KEY_ID", on_disk.credentials.access_key_id)
        monkeypatch.setenv("LAKEFS_SECRET_ACCESS_KEY", on_disk.credentials.secret_access_key)
        monkeypatch.setenv("LAKEFS_STORAGE_NAMESPACE", "local://below/")
        with lakefs_server("local") as server:
            assert (server.kind, server.block) == ("real", "local")
            with lakefs_server("any") as same:
                assert (same.kind, same.endpoint) == ("real", on_disk.endpoint)
            name = server.repository()
            assert server.sdk().repositories_api.get_repository(name).storage_namespace == f"local://below/{name}"
            with pytest.raises(pytest.skip.Exception, match="stand-in alone"):
                _ = server.stand_in
        with pytest.raises(ApiException, match="404"):
            on_disk.sdk().repositories_api.get_repository(name)
        with pytest.raises(pytest.skip.Exception, match="'local'"), lakefs_server(S3Block("http://127.0.0.1:9", "b")):
            pass


def test_a_planned_fault_is_answered_before_or_after_the_work(on_disk):
    stand_in, name = on_disk.stand_in, on_disk.repository()
    api = on_disk.sdk().branches_api
    creation = lakefs_sdk.BranchCreation(name="x", source="main")
    stand_in.answer(503, method="POST", path=f"{name}/branches$")
    with pytest.raises(ServiceException):
        api.create_branch(name, creation)
    assert [ref.id for ref in api.list_branches(name).results] == ["main"]
    stand_in.answer(500, method="POST", path=f"{name}/branches$", after=True)
    with pytest.raises(ServiceException):
        api.create_branch(name, creation)
    assert [ref.id for ref in api.list_branches(name).results] == ["main", "x"]
    assert stand_in.requests("POST", f"{name}/branches") == 2


def test_state_and_port_outlive_a_stop():
    with lakefs_server("local") as server:
        stand_in, name, before = server.stand_in, server.repository(), server.endpoint
        stand_in.stop()
        with pytest.raises(OSError, match="refused"):
            __import__("socket").create_connection(("127.0.0.1", int(before.rpartition(":")[2])))
        stand_in.start()
        assert server.endpoint == before
        assert server.sdk().repositories_api.get_repository(name).id == name


def test_an_operation_that_it_does_not_know_is_refused(on_disk):
    name = on_disk.stand_in and on_disk.repository()
    with pytest.raises(ApiException, match="501"):
        on_disk.sdk().pulls_api.list_pull_requests(name)


def test_pages_are_as_small_as_the_fixture_says():
    with lakefs_server("local", page=2) as server:
        name = server.stand_in and server.repository()
        api = server.sdk().branches_api
        for number in range(4):
            api.create_branch(name, lakefs_sdk.BranchCreation(name=f"b{number}", source="main"))
        page = api.list_branches(name)
        assert ([ref.id for ref in page.results], page.pagination.has_more) == (["b0", "b1"], True)
        assert len(list(server.client().sdk_client.branches_api.list_branches(name, amount=1000).results)) == 2


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name: ok name\nhooks: []", "'on' is required"),
        ("name: ok name\non:\n  pre-bake:\nhooks: []", "not supported"),
        ("name: '!'\non:\n  pre-merge:\n", "'name' is invalid"),
        ("name: ok name\non:\n  pre-merge:\nhooks:\n- id: a_b\n  type: perl", "unknown"),
        ("name: ok name\non:\n  pre-merge:\nhooks:\n- id: a_b\n  type: lua", "script"),
    ],
)
def test_an_action_file_is_held_to_the_rules_of_lakefs(text, word):
    with pytest.raises(Failure, match=word):
        hooks.parse(text.encode())
