"""An S3 in this process (moto in server mode; its conditional writes hold under a race), and fixtures that give one.

It costs 2-5 ms of processor a request: keep the number of objects small.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import boto3
import pytest
from moto.server import ThreadedMotoServer

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
FOREIGN = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE")


@contextmanager
def s3_server() -> Iterator[str]:
    """The endpoint of a server on a free port. All servers of a process share what they hold: use fresh buckets."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@cache
def client(endpoint: str):
    """A plain client, for looking at a bucket past our own code."""
    return boto3.session.Session().client("s3", endpoint_url=endpoint)


def fresh_bucket(endpoint: str, *, versioned: bool = False) -> str:
    """The name of a bucket just made."""
    name, s3 = f"lake-{secrets.token_hex(6)}", client(endpoint)
    s3.create_bucket(Bucket=name)
    if versioned:
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The endpoint of an S3; credentials for it stand in the environment for the rest of the session."""
    with pytest.MonkeyPatch.context() as patch:
        for name in FOREIGN:
            patch.delenv(name, raising=False)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        with s3_server() as endpoint:
            yield endpoint


@pytest.fixture
def bucket_url(s3) -> str:
    """``s3://<fresh bucket>/team/lake``."""
    return f"s3://{fresh_bucket(s3)}/team/lake"
