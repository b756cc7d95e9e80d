"""lakeFS for tests: the stand-in, or a real server when the environment names one; and fresh repositories on it.

A real server is used instead, with no other change, when all of these are set: ``LAKEFS_ENDPOINT`` (with or without
``/api/v1``), ``LAKEFS_ACCESS_KEY_ID``, ``LAKEFS_SECRET_ACCESS_KEY``, ``LAKEFS_STORAGE_NAMESPACE`` (repositories are made
below it, and deleted from the server afterwards; their bytes stay, as lakeFS leaves them).

Never here: what the stand-in does.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import lakefs
import lakefs_sdk
import pytest
from lakefs_sdk.client import LakeFSClient

from tests.servers.lakefs.blocks import S3Block
from tests.servers.lakefs.server import StandIn
from tests.servers.s3 import fresh_bucket

VARIABLES = ("LAKEFS_ENDPOINT", "LAKEFS_ACCESS_KEY_ID", "LAKEFS_SECRET_ACCESS_KEY", "LAKEFS_STORAGE_NAMESPACE")


class Credentials(NamedTuple):
    """What lakeFS asks for."""

    access_key_id: str
    secret_access_key: str


@dataclass
class LakeFS:
    """A running server.

    Attributes:
        endpoint: its address, without ``/api/v1``.
        credentials: of a user who may do everything.
        kind: ``stand-in`` or ``real``.
        block: the block store's type: ``local``, ``s3``, ...
        namespace: below which repositories are made.
    """

    endpoint: str
    credentials: Credentials
    kind: str
    block: str
    namespace: str
    _stand_in: StandIn | None = None
    _made: list[str] = field(default_factory=list)

    @property
    def stand_in(self) -> StandIn:
        """The stand-in behind it, to stop it or plan its faults; skips the test on a real server."""
        if self._stand_in is None:
            pytest.skip("this test stops or breaks the server: it runs on the lakeFS stand-in alone")
        return self._stand_in

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs in its environment to open a store on this server."""
        return {
            "LAKEFS_ACCESS_KEY_ID": self.credentials.access_key_id,
            "LAKEFS_SECRET_ACCESS_KEY": self.credentials.secret_access_key,
        }

    def repository(self, hint: str = "lake") -> str:
        """Make an empty repository with a name of its own and a default branch ``main``; gives the name."""
        name = f"{hint}-{secrets.token_hex(6)}"
        asked = lakefs_sdk.RepositoryCreation(name=name, storage_namespace=f"{self.namespace}/{name}", default_branch="main")
        self.sdk().repositories_api.create_repository(asked)
        self._made.append(name)
        return name

    def sdk(self) -> LakeFSClient:
        """A new client of the generated SDK."""
        return LakeFSClient(
            lakefs_sdk.Configuration(
                host=f"{self.endpoint}/api/v1",
                username=self.credentials.access_key_id,
                password=self.credentials.secret_access_key,
            )
        )

    def client(self) -> lakefs.Client:
        """A new client of the high-level package."""
        return lakefs.Client(
            host=self.endpoint, username=self.credentials.access_key_id, password=self.credentials.secret_access_key
        )

    def close(self) -> None:
        """Delete what was made."""
        for name in self._made:
            self.sdk().repositories_api.delete_repository(name, force=True)


@contextmanager
def lakefs_server(block: str | S3Block = "local", *, page: int = 1000) -> Iterator[LakeFS]:
    """A lakeFS server for the block's duration.

    Args:
        block: ``"local"``, or an ``S3Block(endpoint, bucket)`` whose bucket exists. On a real server with another kind of
            block store the test is skipped. ``"any"``: a local stand-in, or a real server with whatever it has.
        page: how many items the stand-in lists at most at once; a real server has its own limit.
    """
    wanted = "s3" if isinstance(block, S3Block) else block
    given = {name: os.environ.get(name, "") for name in VARIABLES}
    if given["LAKEFS_ENDPOINT"]:
        with _real(given, wanted) as server:
            yield server
        return
    credentials = Credentials("AKIASTANDIN", secrets.token_hex(16))
    with tempfile.TemporaryDirectory(prefix="lakefs-") as folder:
        stand_in = StandIn(
            block if isinstance(block, S3Block) else None,
            Path(folder),
            access_key_id=credentials.access_key_id,
            secret_access_key=credentials.secret_access_key,
            page=page,
        )
        stand_in.start()
        try:
            blocks = stand_in.lake.blocks
            yield LakeFS(stand_in.endpoint, credentials, "stand-in", blocks.scheme, blocks.root(), stand_in)
        finally:
            stand_in.stop()
        violations = stand_in.lake.violations
        assert not violations, f"the lakeFS stand-in failed {len(violations)} times; first:\n{violations[0]}"


@contextmanager
def _real(given: Mapping[str, str], wanted: str) -> Iterator[LakeFS]:
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise RuntimeError(f"LAKEFS_ENDPOINT names a real server, but these are not set: {', '.join(missing)}")
    endpoint = given["LAKEFS_ENDPOINT"].rstrip("/").removesuffix("/api/v1").rstrip("/")
    credentials = Credentials(given["LAKEFS_ACCESS_KEY_ID"], given["LAKEFS_SECRET_ACCESS_KEY"])
    server = LakeFS(endpoint, credentials, "real", "", given["LAKEFS_STORAGE_NAMESPACE"].rstrip("/"))
    config = server.sdk().config_api.get_config()
    server.block = config.storage_config.blockstore_type if config.storage_config else ""
    if wanted not in {"any", server.block}:
        pytest.skip(f"the real lakeFS server keeps its bytes on {server.block!r}; this test asks for {wanted!r}")
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def on_disk() -> Iterator[LakeFS]:
    """A server, for what does not depend on its block store; the stand-in's is a folder."""
    with lakefs_server("any") as server:
        yield server


@pytest.fixture(scope="session")
def on_s3(s3: str) -> Iterator[LakeFS]:
    """A server on S3; import the fixture ``s3`` of tests/servers/s3.py beside it."""
    with lakefs_server(S3Block(s3, fresh_bucket(s3))) as server:
        yield server


@pytest.fixture(scope="session", params=["local", "s3"])
def server(request: pytest.FixtureRequest) -> LakeFS:
    """Both, one after the other. A real server has one block store: the other half skips."""
    given: LakeFS = request.getfixturevalue("on_disk" if request.param == "local" else "on_s3")
    if given.block != request.param:
        pytest.skip(f"the real lakeFS server keeps its bytes on {given.block!r}; this half is about {request.param!r}")
    return given
