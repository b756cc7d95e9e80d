"""Where versions are kept and for how long, as declared. Belongs here: the declaration's keys ``store`` and ``retention``.

Never here: opening a store, credentials (they come from the environment), removing anything.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from drivelake.strict import Strict

__all__ = ["Retention", "Store"]

ADDRESS = r"^https?://[^@\s]+$"  # without credentials: a declaration is read by many
S3_URL = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._=@-]+)*$"


class Store(Strict):
    """The version store of a lake.

    Credentials are never declared: S3 takes them where AWS' own tools do (``AWS_ACCESS_KEY_ID`` ...), lakeFS from
    ``LAKEFS_ACCESS_KEY_ID`` and ``LAKEFS_SECRET_ACCESS_KEY``.
    """

    kind: Literal["dvc", "lakefs"] = Field(
        default="dvc", description="dvc: embedded, without a server; lakefs: a server, for teams"
    )
    bucket: str | None = Field(
        default=None,
        pattern=S3_URL,
        description="dvc only: s3://bucket/prefix that every machine shares; none: this folder alone",
    )
    s3_endpoint: str | None = Field(
        default=None, pattern=ADDRESS, description="address of an S3 other than that of AWS, for bucket and for logs on S3"
    )
    url: str | None = Field(default=None, pattern=ADDRESS, description="lakefs only: the server")
    repository: str | None = Field(
        default=None, pattern=r"^[a-z0-9][a-z0-9-]{2,62}$", description="lakefs only: the repository on it"
    )

    @property
    def local(self) -> bool:
        """Whether the lake's own folder is all there is."""
        return self.kind == "dvc" and self.bucket is None

    def describe(self) -> str:
        """In words, for messages."""
        if self.kind == "lakefs":
            return f"lakeFS repository {self.repository} at {self.url}"
        return "its own folder" if self.local else f"bucket {self.bucket}"

    @model_validator(mode="after")
    def _belongs_together(self) -> Store:
        if self.kind == "lakefs" and (self.url is None or self.repository is None or self.bucket is not None):
            raise ValueError("kind lakefs needs url and repository, and takes no bucket: the repository has its own")
        if self.kind == "dvc" and (self.url is not None or self.repository is not None):
            raise ValueError("url and repository belong to kind lakefs; kind dvc takes a bucket or nothing")
        return self


class Retention(Strict):
    """What garbage collection keeps beside branches, tags, signed evidence and releases."""

    days: float = Field(default=30.0, ge=0, description="versions published within this many days are kept whole")
