"""Where the lakeFS stand-in keeps bytes: a local folder, or an S3 bucket with presigned transfer.

Never here: which path of which branch an address belongs to (model.py), HTTP routes.
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.servers.lakefs.trees import Failure

PRESIGNED_S = 900


class S3Block(NamedTuple):
    """Ask for a stand-in on S3.

    Attributes:
        endpoint: address of the S3 (moto, or a proxy before it); presigned addresses name it too.
        bucket: an existing bucket; repositories live at ``s3://bucket/<name>``.
    """

    endpoint: str
    bucket: str


class Blocks(Protocol):
    """The block adapter: bytes by absolute physical address."""

    scheme: str
    presigns: bool

    def root(self) -> str:
        """Below which namespaces can be made."""

    def write(self, address: str, data: bytes) -> None: ...

    def read(self, address: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop). Raises Failure 410 when there are none."""

    def presigned(self, address: str, *, write: bool) -> tuple[str, int]:
        """The address and when it expires, in seconds since the epoch."""


def fresh_address(namespace: str) -> str:
    """A new physical address in a namespace, formed as lakeFS forms them; never given twice."""
    return f"{namespace.rstrip('/')}/data/{secrets.token_hex(8)}/{secrets.token_hex(10)}"


class LocalBlocks:
    """A folder; presigns nothing, as lakeFS on a local block store."""

    scheme = "local"
    presigns = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def root(self) -> str:
        return "local://stand-in"

    def write(self, address: str, data: bytes) -> None:
        path = self._path(address)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def read(self, address: str, start: int, stop: int) -> bytes:
        path = self._path(address)
        if not path.is_file():
            raise Failure(410, "No data")
        with path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def presigned(self, address: str, *, write: bool) -> tuple[str, int]:
        raise Failure(400, "operation not supported")

    def _path(self, address: str) -> Path:
        return self.folder / address.removeprefix("local://")


class S3Blocks:
    """A bucket; presigned GET, PUT and multipart."""

    scheme = "s3"
    presigns = True

    def __init__(self, block: S3Block) -> None:
        self.block = block
        self.client = boto3.client(
            "s3",
            endpoint_url=block.endpoint,
            region_name=os.environ.get("AWS_REGION", "us-east-1"),
            aws_access_key_id=os.environ.get("AWS_ACCESS_KEY_ID", "stand-in"),
            aws_secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY", "stand-in"),
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, max_pool_connections=32),
        )

    def root(self) -> str:
        return f"s3://{self.block.bucket}"

    def write(self, address: str, data: bytes) -> None:
        self.client.put_object(**self._named(address), Body=data)

    def read(self, address: str, start: int, stop: int) -> bytes:
        where = self._named(address)
        try:
            if stop <= start:
                self.client.head_object(**where)
                return b""
            return self.client.get_object(**where, Range=f"bytes={start}-{stop - 1}")["Body"].read()
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise Failure(410, "No data") from error
            raise

    def presigned(self, address: str, *, write: bool) -> tuple[str, int]:
        call = "put_object" if write else "get_object"
        url = self.client.generate_presigned_url(call, Params=self._named(address), ExpiresIn=PRESIGNED_S)
        return url, int(time.time()) + PRESIGNED_S

    def begin_parts(self, address: str) -> str:
        return self.client.create_multipart_upload(**self._named(address))["UploadId"]

    def presigned_part(self, address: str, upload: str, number: int) -> str:
        where = {**self._named(address), "UploadId": upload, "PartNumber": number}
        return self.client.generate_presigned_url("upload_part", Params=where, ExpiresIn=PRESIGNED_S)

    def end_parts(self, address: str, upload: str, parts: list[tuple[int, str]]) -> tuple[str, int]:
        """Put the parts together; gives the object's ETag and its size in bytes."""
        where = self._named(address)
        listed = [{"PartNumber": number, "ETag": etag} for number, etag in parts]
        done = self.client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": listed})
        return done["ETag"].strip('"'), self.client.head_object(**where)["ContentLength"]

    def drop_parts(self, address: str, upload: str) -> None:
        self.client.abort_multipart_upload(**self._named(address), UploadId=upload)

    @staticmethod
    def _named(address: str) -> dict[str, str]:
        parts = urlsplit(address)
        return {"Bucket": parts.netloc, "Key": parts.path.lstrip("/")}
