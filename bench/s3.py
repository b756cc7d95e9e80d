"""An S3 for the bench: moto in a process of its own. Belongs here: starting and ending it. Never here: what is sent there.

It takes milliseconds of its own processor a request, so wall clocks beside it are moto's; the CPU time that is measured is
that of the client alone.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = ["Place", "s3_place"]

SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


class Place(NamedTuple):
    """Where to send: ``s3://bucket/prefix`` and the server's address."""

    url: str
    endpoint: str


@contextmanager
def s3_place(folder: Path) -> Iterator[Place]:
    """A fresh bucket on a server of its own; credentials for it stand in this process's environment from then on.

    Args:
        folder: for the settings of AWS' tools, empty ones: a machine's own must not count.
    """
    (folder / "aws").touch()
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "bench")
    files = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), str(folder / "aws"))
    os.environ.update(**keys, **files, AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true")
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet, text=True
    ) as server:
        assert server.stdin is not None, "a pipe was asked for"
        assert server.stdout is not None, "a pipe was asked for"
        try:
            endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
            yield Place(f"s3://{_fresh_bucket(endpoint)}/lake", endpoint)
        finally:
            server.stdin.close()  # which ends it


def _fresh_bucket(endpoint: str) -> str:
    import boto3

    name = f"bench-{secrets.token_hex(6)}"
    boto3.session.Session().client("s3", endpoint_url=endpoint).create_bucket(Bucket=name)
    return name
