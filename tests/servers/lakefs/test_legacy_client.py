"""lakefs-client, end of life upstream: the operations that people use still work. Needs the extra ``legacy``."""

import io

import pytest

lakefs_client = pytest.importorskip(
    "lakefs_client", reason="the extra legacy is not installed: pip install 'drivelake[legacy]' (lakefs-client==1.44.0)"
)

from lakefs_client import models  # noqa: E402 - only where the package is
from lakefs_client.client import LakeFSClient  # noqa: E402 - as above


@pytest.fixture
def old(on_disk):
    """A client, and the name of a fresh repository."""
    configuration = lakefs_client.Configuration(
        host=f"{on_disk.endpoint}/api/v1",
        username=on_disk.credentials.access_key_id,
        password=on_disk.credentials.secret_access_key,
    )
    return LakeFSClient(configuration), on_disk.repository()


def put(client, name, branch, path, data):
    content = io.BytesIO(data)
    content.name = path
    return client.objects_api.upload_object(name, branch, path, content=content)


def test_upload_commit_merge_and_read(old):
    client, name = old
    client.branches_api.create_branch(name, models.BranchCreation(name="ingest", source="main"))
    assert put(client, name, "ingest", "t/a", b"legacy").size_bytes == 6
    assert [change.path for change in client.branches_api.diff_branch(name, "ingest").results] == ["t/a"]
    made = client.commits_api.commit(name, "ingest", models.CommitCreation(message="m", metadata={"run": "1"}))
    assert client.commits_api.get_commit(name, made.id).metadata["run"] == "1"
    assert [change.path for change in client.refs_api.diff_refs(name, "main", "ingest").results] == ["t/a"]
    merged = client.refs_api.merge_into_branch(name, "ingest", "main").reference
    assert client.branches_api.get_branch(name, "main").commit_id == merged
    assert client.objects_api.get_object(name, "main", "t/a").read() == b"legacy"
    assert client.objects_api.stat_object(name, "main", "t/a").size_bytes == 6
    assert [found.path for found in client.objects_api.list_objects(name, "main").results] == ["t/a"]
    assert next(iter(client.refs_api.log_commits(name, "main").results)).id == merged


def test_tags_reverts_and_deletions(old):
    client, name = old
    put(client, name, "main", "a", b"1")
    first = client.commits_api.commit(name, "main", models.CommitCreation(message="one")).id
    client.tags_api.create_tag(name, models.TagCreation(id="v1", ref=first))
    put(client, name, "main", "a", b"2")
    second = client.commits_api.commit(name, "main", models.CommitCreation(message="two")).id
    client.branches_api.revert_branch(name, "main", models.RevertCreation(ref=second, parent_number=0))
    assert client.objects_api.get_object(name, "main", "a").read() == b"1"
    client.objects_api.delete_object(name, "main", "a")
    assert list(client.objects_api.list_objects(name, "main").results) == []
    assert client.tags_api.get_tag(name, "v1").commit_id == first
    client.tags_api.delete_tag(name, "v1")
    client.branches_api.create_branch(name, models.BranchCreation(name="x", source="main"))
    client.branches_api.delete_branch(name, "x")
    assert [ref.id for ref in client.branches_api.list_branches(name).results] == ["main"]


def test_errors_come_as_its_own_exceptions(old):
    client, name = old
    with pytest.raises(lakefs_client.exceptions.NotFoundException):
        client.branches_api.get_branch(name, "nowhere")
    with pytest.raises(lakefs_client.ApiException, match="no changes"):
        client.commits_api.commit(name, "main", models.CommitCreation(message="empty"))


def test_the_server_is_asked_what_it_is(old):
    client, name = old
    assert client.config_api.get_config().version_config.version
    assert client.repositories_api.get_repository(name).default_branch == "main"
    assert name in [repository.id for repository in client.repositories_api.list_repositories(prefix=name).results]
