"""Calls to an S3: one client a process, patience, and what an answer means. Belongs here: retries and the table of errors.

Never here: what is kept in a bucket, and keys below a prefix (see bucket).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Protocol, TypedDict, TypeVar

import tenacity
import urllib3.exceptions
from botocore import exceptions as said  # type: ignore[import-untyped]  # it has no types
from botocore.config import Config  # type: ignore[import-untyped]  # it has no types
from botocore.loaders import Loader, create_loader  # type: ignore[import-untyped]  # it has no types
from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]  # it has no types
from botocore.session import Session  # type: ignore[import-untyped]  # it has no types

from drivelake.errors import Conflict, Denied, NotFound, StoreError, Unavailable

__all__ = ["CONNECT_S", "PATIENCE_S", "READ_S", "THREADS", "Answer", "S3Calls", "Streamed", "code_of"]

T = TypeVar("T")

PATIENCE_S = 60.0  # how long a call is tried again before it is Unavailable
CONNECT_S = 3.0
READ_S = 20.0  # without one byte; the server may take longer in all
THREADS = 16  # calls at once in transfers: waiting for a server, they cost no processor

DENIED_CODES = {"AccessDenied", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
PASSING_CODES = {"RequestTimeout", "RequestTimeoutException", "SlowDown", "Throttling", "ThrottlingException"}
# AWS says 409 when two conditional writes meet: neither is decided, and asking again is what it documents
PASSING_CONFLICTS = {"ConditionalRequestConflict", "OperationAborted"}
NO_CREDENTIALS = (
    said.NoCredentialsError,
    said.PartialCredentialsError,
    said.CredentialRetrievalError,
    said.TokenRetrievalError,
    said.ProfileNotFound,
)
# urllib3's own come through while a body is read
BROKEN = (
    said.ConnectionError,
    said.HTTPClientError,
    said.IncompleteReadError,
    ResponseParserError,
    urllib3.exceptions.HTTPError,
)


class Streamed(Protocol):
    """A body that is read as it arrives."""

    def read(self, amount: int | None = None) -> bytes: ...
    def close(self) -> None: ...


class _Meta(TypedDict):
    HTTPHeaders: dict[str, str]


class _Entry(TypedDict, total=False):
    Key: str
    Size: int
    ETag: str
    LastModified: datetime
    Prefix: str
    Code: str
    Message: str


class Answer(TypedDict, total=False):
    """What is used of S3's answers, by botocore's names."""

    Body: Streamed
    ETag: str
    VersionId: str
    ContentLength: int
    ContentRange: str
    LastModified: datetime
    Contents: list[_Entry]
    CommonPrefixes: list[_Entry]
    Errors: list[_Entry]
    NextContinuationToken: str
    UploadId: str
    ResponseMetadata: _Meta


class Client(Protocol):
    """The calls that are used of boto3's S3 client."""

    def get_object(self, **given: object) -> Answer: ...
    def head_object(self, **given: object) -> Answer: ...
    def head_bucket(self, **given: object) -> Answer: ...
    def put_object(self, **given: object) -> Answer: ...
    def delete_object(self, **given: object) -> Answer: ...
    def delete_objects(self, **given: object) -> Answer: ...
    def list_objects_v2(self, **given: object) -> Answer: ...
    def create_multipart_upload(self, **given: object) -> Answer: ...
    def upload_part(self, **given: object) -> Answer: ...
    def complete_multipart_upload(self, **given: object) -> Answer: ...
    def abort_multipart_upload(self, **given: object) -> Answer: ...


class S3Calls:
    """Access to one S3. Safe between threads, and in a child after fork: each process makes a client of its own.

    Retries are decided here alone (botocore makes one attempt), so that patience is a time and not a product of counts.
    Credentials come from where AWS' own tools take them.
    """

    def __init__(self, endpoint: str | None, patience_s: float | None = None) -> None:
        self.endpoint = endpoint
        self.patience_s = PATIENCE_S if patience_s is None else patience_s
        self._made: tuple[int, Client] | None = None

    @property
    def client(self) -> Client:
        """This process' client."""
        made = self._made
        if made is None or made[0] != os.getpid():
            # Two threads that meet here make one each, and the last stays: clients hold nothing that could differ.
            made = (os.getpid(), self._connect())
            self._made = made
        return made[1]

    def _connect(self) -> Client:
        config = Config(
            connect_timeout=CONNECT_S,
            read_timeout=min(READ_S, max(self.patience_s, 1.0)),
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=2 * THREADS,
            # newer checksums only where S3 asks for them: other servers refuse their trailers
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # a server of one's own seldom has a name a bucket
            s3={"addressing_style": "path"} if self.endpoint else None,
        )
        session = Session()  # one a client: making clients of one session at once is not safe
        session.register_component("data_loader", _descriptions())
        made: Client = session.create_client("s3", endpoint_url=self.endpoint, config=config)
        return made

    def call(self, name: str, where: str, once: Callable[[], T]) -> T:
        """The result of ``once``, tried again with jittered backoff while what hinders it may pass.

        Args:
            name: of the call, for messages.
            where: the URI it is about, for messages.
            once: makes the call and reads its whole answer; may run many times, and touches no file.

        Raises:
            NotFound: no such key or bucket.
            Conflict: the object is not the one that the call names by its ETag.
            Denied: the credentials are missing or do not reach.
            Unavailable: the server or the network did not answer within the patience.
            StoreError: the server refuses the call for another reason.
        """
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self.patience_s),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=5.0),
            retry=tenacity.retry_if_exception(_may_pass),
            reraise=True,
        )
        try:
            return retrying(once)
        except (said.BotoCoreError, said.ClientError, *BROKEN) as error:
            raise _told(error, f"{name} of {where}", self.endpoint) from error


@cache
def _descriptions() -> Loader:
    """The descriptions of S3's calls, read once a process: a client is then made in 15 ms and not in 70."""
    return create_loader()


def code_of(error: BaseException | None) -> tuple[str, int]:
    """S3's code and the HTTP status of an error; ("", 0) when no server said anything."""
    if not isinstance(error, said.ClientError):
        return "", 0
    response = error.response
    return str(response.get("Error", {}).get("Code", "")), int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may succeed a moment later."""
    if isinstance(error, said.ClientError):
        code, status = code_of(error)
        return status >= 500 or status == 429 or code in PASSING_CODES or (status == 409 and code in PASSING_CONFLICTS)
    return isinstance(error, BROKEN)


def _told(error: BaseException, what: str, endpoint: str | None) -> StoreError:
    """The error of our tree for one of botocore's."""
    server = endpoint or "S3"
    if isinstance(error, NO_CREDENTIALS):
        return Denied(f"{what}: no usable credentials: {error}.", next_step="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if _may_pass(error):
        return Unavailable(f"{what}: {server} does not answer as it should: {error}.", next_step="run again once it does")
    code, status = code_of(error)
    if status in {401, 403} or code in DENIED_CODES:
        return Denied(f"{what}: {server} refuses ({status} {code}).", next_step="check the credentials and their policy")
    if status == 404:
        missing = "the bucket is not there" if code == "NoSuchBucket" else "it is not there"
        return NotFound(f"{what}: {missing} ({status} {code}).", next_step="check the address, and what removed it")
    if status == 412:
        return Conflict(f"{what}: it was replaced since it was looked at (412).", next_step="run again once it stays as it is")
    return StoreError(f"{what} failed ({status} {code}): {error}.", next_step="check the address, the region and the server")
