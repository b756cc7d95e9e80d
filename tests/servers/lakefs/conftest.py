"""Fixtures of the tests of the lakeFS stand-in."""

from tests.servers.lakefs.fixtures import on_disk, on_s3, server
from tests.servers.s3 import s3

__all__ = ["on_disk", "on_s3", "s3", "server"]
