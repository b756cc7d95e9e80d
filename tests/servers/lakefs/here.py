"""A fresh repository in the hands of a test, with short names for what tests do in it. Never here: what is expected of it."""

import lakefs
import lakefs_sdk
import pytest
from lakefs_sdk.exceptions import ApiException

from tests.servers.lakefs.fixtures import LakeFS


class Here:
    """A fresh repository, and short names for what the tests do in it."""

    def __init__(self, server: LakeFS) -> None:
        self.server = server
        self.name = server.repository()
        self.sdk = server.sdk()
        self.lake = lakefs.Repository(self.name, client=server.client())
        self.main = self.lake.branch("main")

    def put(self, branch, path, data, **given):
        return self.sdk.objects_api.upload_object(self.name, branch, path, content=data, **given)

    def commit(self, branch, message="m", **given):
        return self.sdk.commits_api.commit(self.name, branch, lakefs_sdk.CommitCreation(message=message, **given)).id

    def committed(self, branch, **files):
        for name, data in files.items():
            self.put(branch, name, data)
        return self.commit(branch, ", ".join(files))

    def branch(self, name, source="main"):
        self.sdk.branches_api.create_branch(self.name, lakefs_sdk.BranchCreation(name=name, source=source))
        return name

    def merge(self, source, into="main", **given):
        return self.sdk.refs_api.merge_into_branch(self.name, source, into, merge=lakefs_sdk.Merge(**given)).reference

    def revert(self, ref, parent_number=0):
        creation = lakefs_sdk.RevertCreation(ref=ref, parent_number=parent_number)
        self.sdk.branches_api.revert_branch(self.name, "main", creation)

    def read(self, ref, path):
        return bytes(self.sdk.objects_api.get_object(self.name, ref, path))

    def paths(self, ref):
        return [found.path for found in self.sdk.objects_api.list_objects(self.name, ref).results]

    def head(self, branch="main"):
        return self.sdk.branches_api.get_branch(self.name, branch).commit_id


def refused(status, call, *arguments, **given):
    """The message of the ApiException that a call must raise."""
    with pytest.raises(ApiException) as caught:
        call(*arguments, **given)
    assert caught.value.status == status, (caught.value.status, caught.value.body)
    return str(caught.value.body)
