"""Bytes that a collection took while a publisher came to rely on them. Belongs here: noticing, storing them again.

Never here: collecting.

lakeFS takes an object with the same size, checksum and metadata for the same, and keeps the address that it has: sending the
bytes again would not mend it. So they are put back to that address, which needs the storage's own credentials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from drivelake.errors import NotFound, StoreError
from drivelake.versions.lakefs.calls import Server
from drivelake.versions.lakefs.refs import GC_LEASE_S, GC_LOCK, Refs
from drivelake.versions.lakefs.transfer import Hashed
from drivelake.versions.lakefs.tree import Held

if TYPE_CHECKING:
    from drivelake.versions.s3.bucket import Bucket

__all__ = ["Restoring", "storage_bucket"]


def storage_bucket(server: Server, endpoint: str | None) -> Bucket | None:
    """The repository's storage where it is S3, with the storage's own credentials; None where it is something else."""
    repository = server.call("REPOSITORY", lambda: server.sdk.repositories_api.get_repository(server.repository, **server.limits))
    namespace = str(repository.storage_namespace)
    if not namespace.startswith("s3://"):
        return None
    from drivelake.versions.s3.bucket import Bucket  # boto3 takes a third of a second

    return Bucket(namespace.rstrip("/"), endpoint, patience_s=server.patience_s)


class Restoring:
    """What a publisher does about collections.

    Args:
        refs: of the repository.
        cached: where this machine's copy of the bytes of a SHA-256 is, or would be.
        endpoint: of an S3 other than that of AWS.
    """

    def __init__(self, refs: Refs, cached: Callable[[str], Path], endpoint: str | None) -> None:
        self._refs, self._server = refs, refs.server
        self._cached = cached
        self._endpoint = endpoint

    def wait(self) -> None:
        """Wait while somebody collects. Raises Unavailable when it takes longer than the server's patience."""
        self._refs.wait_until_free(GC_LOCK, GC_LEASE_S)

    def suspects(self, held: Iterable[Held]) -> list[Held]:
        """Those whose bytes a collection may have taken."""
        every = [one for one in held if one.size]
        until_s = self._refs.collected_s() if every else None
        return [] if until_s is None else [one for one in every if one.mtime_s <= until_s]

    def restore(self, held: Iterable[Held], at: str) -> None:
        """See that the bytes of objects are there, and put back those that are not from this machine's copies.

        Raises:
            StoreError: they are gone, and there is no copy here, or no way to put them back; names the first.
        """
        gone = [one for one in self.suspects(held) if not self._there(at, one)]
        if not gone:
            return
        bucket = storage_bucket(self._server, self._endpoint)
        missing = next((one for one in gone if bucket is None or self._copy(one) is None), None)
        if bucket is None or missing is not None:
            named = missing or gone[0]
            raise StoreError(
                f"The bytes of {named.path} at {at[:12]} are gone, {len(gone)} in all, and this machine has no copy to put back.",
                next_step="restore them from a copy of the store; or remove the path on a branch, merge, and publish again",
            )
        copies = {one.address.removeprefix(f"{bucket.url}/"): copy for one in gone if (copy := self._copy(one)) is not None}
        bucket.upload(copies)

    def _copy(self, one: Held) -> Path | None:
        name = self._cached(one.sha256) if one.sha256 else None
        if name is None or not name.is_file():
            return None
        return name if Hashed.of(name).sha256 == one.sha256 else None

    def _there(self, at: str, one: Held) -> bool:
        server, url = self._server, self._server.object_url("refs", at, one.path)
        headers = {**server.authority, "Range": "bytes=0-0"}
        try:
            server.call(f"READ {one.path}", lambda: server.request("GET", url, headers=headers))
        except NotFound:
            return False
        except StoreError as error:
            if getattr(error.__cause__, "status", None) == 410:
                return False
            raise
        return True
