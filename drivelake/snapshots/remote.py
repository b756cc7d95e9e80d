"""Reading tables in place, on this disk, on S3 or at a signed address. Belongs here: credentials, file systems, DuckDB's httpfs.

Never here: which files belong to which table, writing anything, keeping credentials.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from drivelake.errors import Denied, StoreError, ToolMissing, Unavailable

if TYPE_CHECKING:
    import duckdb

__all__ = ["Remote", "S3Access", "is_remote", "literal"]

DEFAULT_REGION = "us-east-1"  # what servers other than AWS' own answer to
DENIED = ("ACCESS_DENIED", "HTTP status 403", "InvalidAccessKeyId", "SignatureDoesNotMatch")  # as Arrow's words have it
HTTPFS = "httpfs.duckdb_extension"
# httpfs copies them from the environment into settings that SQL can read; its secret is all that it needs
S3_SETTINGS = ("s3_access_key_id", "s3_secret_access_key", "s3_session_token")


class S3Access(NamedTuple):
    """How S3 is spoken to.

    Attributes:
        key: access key id.
        secret: the secret access key.
        token: the session token; empty where there is none.
        endpoint: address of a server other than AWS' own; None for AWS.
        region: as AWS' own tools find it; None where it has to be asked of the bucket.
    """

    key: str
    secret: str
    token: str
    endpoint: str | None
    region: str | None

    @classmethod
    def found(cls, endpoint: str | None) -> S3Access:
        """The credentials that AWS' own tools would take: environment, profile, or the machine's role.

        Raises:
            Denied: there are none.
        """
        import boto3  # type: ignore[import-untyped]  # it has no types; a third of a second, which no lake of one machine needs

        session = boto3.Session()
        credentials = session.get_credentials()
        if credentials is None:
            raise Denied(
                "The tables stand on S3 and there are no credentials for it.",
                next_step="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
            )
        frozen = credentials.get_frozen_credentials()
        endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return cls(frozen.access_key, frozen.secret_key, frozen.token or "", endpoint, session.region_name)

    def region_of(self, bucket: str) -> str:
        """The region to sign for."""
        if self.region is not None:
            return self.region
        if self.endpoint is not None:
            return DEFAULT_REGION
        try:
            return str(pafs.resolve_s3_region(bucket))
        except OSError as error:
            raise Unavailable(f"The region of bucket {bucket} is not known: {error}.", next_step="set AWS_REGION") from None


class Remote:
    """Readers for addresses as ``VersionStore.addresses`` gives them.

    Args:
        endpoint: the declared address of an S3 other than that of AWS.
    """

    def __init__(self, endpoint: str | None) -> None:
        self._endpoint = endpoint
        self._access: S3Access | None = None
        self._systems: dict[str, pafs.FileSystem] = {}

    @property
    def access(self) -> S3Access:
        """Looked for once, when it is first needed. Raises Denied when there are no credentials."""
        if self._access is None:
            self._access = S3Access.found(self._endpoint)
        return self._access

    def prepare(self, connection: duckdb.DuckDBPyConnection, uris: Iterable[str]) -> None:
        """Let DuckDB read these addresses; nothing is loaded where all are files of this machine.

        Raises:
            Denied: credentials are missing.
            ToolMissing: the extension's wheel is not installed.
        """
        away = [uri for uri in uris if is_remote(uri)]
        if not away:
            return
        connection.load_extension(str(_httpfs()))
        for name in S3_SETTINGS:
            connection.execute(f"SET {name} = ''")
        # What an address holds never changes, so one look at each file is enough for a query that opens it several times.
        connection.execute("SET enable_http_metadata_cache = true")
        connection.execute("SET allow_asterisks_in_http_paths = true")  # a signature may hold one; it is taken as it stands
        for number, bucket in enumerate(sorted({urlsplit(uri).netloc for uri in away if uri.startswith("s3://")})):
            connection.execute(f"CREATE OR REPLACE SECRET drivelake_{number} ({self._secret(bucket)})")

    def _secret(self, bucket: str) -> str:
        access = self.access
        said = {"KEY_ID": access.key, "SECRET": access.secret, "REGION": access.region_of(bucket), "SCOPE": f"s3://{bucket}/"}
        if access.token:
            said["SESSION_TOKEN"] = access.token
        if access.endpoint is not None:
            server = urlsplit(access.endpoint)
            said |= {"ENDPOINT": server.netloc + server.path.rstrip("/"), "URL_STYLE": "path"}
        ssl = "" if access.endpoint is None else f", USE_SSL {str(access.endpoint.startswith('https')).lower()}"
        return "TYPE s3, " + ", ".join(f"{name} {literal(value)}" for name, value in said.items()) + ssl

    @staticmethod
    def kind(uri: str) -> str:
        """Names the file system of an address: equal for all addresses that one system reads."""
        if not is_remote(uri):
            return "file"
        parts = urlsplit(uri)
        return parts.netloc if parts.scheme == "s3" else "http:"

    def place(self, uri: str) -> tuple[pafs.FileSystem, str]:
        """The Arrow file system of an address, and the file's name in it. The same system for all files of one kind and bucket.

        Raises:
            Denied: credentials are missing.
        """
        kind = self.kind(uri)
        if kind not in self._systems:
            self._systems[kind] = self._open(kind)
        return self._systems[kind], uri.removeprefix("s3://")

    def _open(self, kind: str) -> pafs.FileSystem:
        if kind == "file":
            return pafs.LocalFileSystem()
        if kind == "http:":
            import fsspec  # type: ignore[import-untyped]  # it has no types

            signed = fsspec.filesystem("http", encoded=True)  # a signature holds for the address as it is written
            return pafs.PyFileSystem(pafs.FSSpecHandler(signed))  # type: ignore[abstract]  # its stub forgets what it has
        return self._s3(kind)

    @contextmanager
    def reading(self, uri: str) -> Iterator[tuple[pafs.FileSystem, str]]:
        """``place``, and errors of reading from it within the block as ours.

        Raises:
            StoreError: the file is not there, or is no Parquet file.
            Denied, Unavailable: as the words of Arrow say.
        """
        name = uri.partition("?")[0]  # a signature is nobody's to see
        try:
            yield self.place(uri)
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            raise StoreError(f"{name} cannot be read: {error}.", next_step="drivelake verify --all") from None
        except OSError as error:
            if any(word in str(error) for word in DENIED):
                raise Denied(f"{name} may not be read: {error}.", next_step="check the credentials for S3") from None
            raise Unavailable(f"{name} cannot be reached: {error}.", next_step="run it again") from None

    def _s3(self, bucket: str) -> pafs.S3FileSystem:
        access = self.access
        server = urlsplit(access.endpoint) if access.endpoint is not None else None
        return pafs.S3FileSystem(
            access_key=access.key,
            secret_key=access.secret,
            session_token=access.token or None,
            region=access.region_of(bucket),
            endpoint_override=None if server is None else server.netloc + server.path.rstrip("/"),
            scheme="http" if server is not None and server.scheme == "http" else "https",
        )


def is_remote(uri: str) -> bool:
    """Whether an address is none of this machine."""
    return uri.startswith(("s3://", "http://", "https://"))


def literal(text: str) -> str:
    """A string as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _httpfs() -> Path:
    """The extension as its wheel brought it: loaded from there, nothing is installed into anybody's home, nothing downloaded."""
    found = find_spec("duckdb_extension_httpfs")
    for folder in (found.submodule_search_locations or []) if found else []:
        for path in sorted(Path(folder).rglob(HTTPFS)):
            return path
    raise ToolMissing(
        "DuckDB needs its extension httpfs to read S3.", next_step="pip install duckdb-extensions duckdb-extension-httpfs"
    )
