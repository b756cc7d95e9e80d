"""Bytes that go around the lakeFS server, by presigned addresses; see test_stand_in.py for where this runs."""

import lakefs_sdk
import pytest
import urllib3
from lakefs.exceptions import ServerException

from tests.servers.lakefs.here import Here, refused


@pytest.fixture
def disk(on_disk):
    return Here(on_disk)


def fetched(url, data=None):
    answer = urllib3.request("GET" if data is None else "PUT", url, body=data)
    assert answer.status == 200, answer.data
    return answer.data, answer.headers.get("ETag", "").strip('"')


@pytest.fixture
def remote(on_s3):
    return Here(on_s3)


def test_a_presigned_read_needs_no_credentials(remote):
    remote.put("main", "a", b"123")
    stat = remote.sdk.objects_api.stat_object(remote.name, "main", "a", presign=True)
    assert fetched(stat.physical_address)[0] == b"123"
    assert stat.physical_address_expiry > 0
    listed = remote.sdk.objects_api.list_objects(remote.name, "main", presign=True).results
    assert fetched(listed[0].physical_address)[0] == b"123"
    assert remote.sdk.objects_api.stat_object(remote.name, "main", "a").physical_address.startswith("s3://")


def link(here, path, location, checksum, size):
    metadata = lakefs_sdk.StagingMetadata(staging=location, checksum=checksum, size_bytes=size)
    return here.sdk.staging_api.link_physical_address(here.name, "main", path, metadata)


def test_a_presigned_upload_is_linked_once(remote):
    location = remote.sdk.staging_api.get_physical_address(remote.name, "main", "big", presign=True)
    _, etag = fetched(location.presigned_url, b"payload")
    link(remote, "big", location, etag, 7)
    assert remote.read("main", "big") == b"payload"
    refused(400, link, remote, "again", location, etag, 7)
    foreign = lakefs_sdk.StagingLocation(physical_address=location.physical_address + "0")
    refused(400, link, remote, "foreign", foreign, etag, 7)


def test_a_presigned_upload_in_parts_is_one_object(remote):
    api, parts = remote.sdk.experimental_api, [b"a" * (5 << 20), b"b" * 100]
    begun = api.create_presign_multipart_upload(remote.name, "main", "big", parts=len(parts))
    etags = [fetched(url, data)[1] for url, data in zip(begun.presigned_urls, parts, strict=True)]
    completion = lakefs_sdk.CompletePresignMultipartUpload(
        physical_address=begun.physical_address,
        parts=[lakefs_sdk.UploadPart(part_number=number + 1, etag=etag) for number, etag in enumerate(etags)],
    )
    stats = api.complete_presign_multipart_upload(
        remote.name, "main", begun.upload_id, "big", complete_presign_multipart_upload=completion
    )
    assert stats.size_bytes == sum(map(len, parts))
    assert remote.read("main", "big") == b"".join(parts)
    assert stats.checksum.endswith("-2"), "the ETag of an upload in parts is no digest of the bytes"


def test_parts_that_are_given_up_leave_nothing(remote):
    api = remote.sdk.experimental_api
    begun = api.create_presign_multipart_upload(remote.name, "main", "big", parts=1)
    abort = lakefs_sdk.AbortPresignMultipartUpload(physical_address=begun.physical_address)
    api.abort_presign_multipart_upload(remote.name, "main", begun.upload_id, "big", abort_presign_multipart_upload=abort)
    assert remote.paths("main") == []


def test_a_local_block_store_presigns_nothing(disk):
    if disk.server.block != "local":
        pytest.skip(f"the real lakeFS server keeps its bytes on {disk.server.block!r}")
    config = disk.sdk.config_api.get_config().storage_config
    assert not config.pre_sign_support
    assert not config.pre_sign_multipart_upload
    disk.put("main", "a", b"1")
    with pytest.raises(ServerException):
        disk.main.object("a").stat(pre_sign=True)
    refused(501, disk.sdk.experimental_api.create_presign_multipart_upload, disk.name, "main", "a", parts=1)
