"""Calls to a lakeFS server: one client a process, time limits, patience, pages. Belongs here: how the server is asked.

Never here: what is asked of it, and what an error means (see lakefs.errors).

The connection, its credentials and its settings are those of the ``lakefs`` package, and so is making a repository. Most
calls go through the ``lakefs_sdk`` client inside it: the objects of the high-level package take no time limit when they
commit, merge, branch or upload, and could then wait for a dead server for ever.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import IO, Any, TypeVar
from urllib.parse import urlencode, urlsplit

import lakefs
import tenacity
import urllib3
from lakefs_sdk.client import LakeFSClient
from lakefs_sdk.exceptions import ApiException
from lakefs_sdk.models.storage_config import StorageConfig
from lakefs_sdk.rest import RESTClientObject

from drivelake.errors import Denied, StoreError
from drivelake.versions.lakefs.errors import ANSWERED, may_pass, told

__all__ = ["CONNECT_S", "PAGE", "PATIENCE_S", "READ_S", "THREADS", "Server"]

T = TypeVar("T")

PATIENCE_S = 60.0  # how long a call is tried again before it is Unavailable
CONNECT_S = 3.0
READ_S = 30.0  # without one byte: committing and merging wait for the server's storage
THREADS = 16  # calls at once: waiting for a server, they cost no processor
PAGE = 1000  # the server gives no more at once
KEY, SECRET = "LAKEFS_ACCESS_KEY_ID", "LAKEFS_SECRET_ACCESS_KEY"


class Server:
    """Access to one repository of one server. Safe between threads, and in a child after fork.

    Retries are decided here alone, so that patience is a time and not a product of counts.

    Args:
        url: the server, with or without ``/api/v1``.
        repository: its name there.
        patience_s: how long a call is tried again.

    Raises:
        Denied: there are no credentials in the environment.
        StoreError: there are some in the url.
    """

    def __init__(self, url: str, repository: str, *, patience_s: float = PATIENCE_S) -> None:
        self.url = re.sub(r"(/api/v1)?/*$", "", url)
        if "@" in urlsplit(self.url).netloc:  # every message would print them
            raise StoreError("The url of the server holds credentials.", next_step=f"take them out; set {KEY} and {SECRET}")
        self.repository = repository
        self.patience_s = patience_s
        self._made: tuple[int, lakefs.Client] | None = None
        self._storage: StorageConfig | None = None
        self._credentials()

    def _credentials(self) -> tuple[str, str]:
        key, secret = os.environ.get(KEY, ""), os.environ.get(SECRET, "")
        if not key or not secret:
            raise Denied(
                f"There are no credentials for {self.url}: {KEY if not key else SECRET} is not set.",
                next_step=f"set {KEY} and {SECRET}; the server's page of credentials makes a pair",
            )
        return key, secret

    @property
    def client(self) -> lakefs.Client:
        """This process' client."""
        made = self._made
        if made is None or made[0] != os.getpid():
            # Two threads that meet here make one each, and the last stays: clients hold nothing that could differ.
            made = (os.getpid(), self._connect())
            self._made = made
        return made[1]

    def _connect(self) -> lakefs.Client:
        key, secret = self._credentials()
        client = lakefs.Client(  # type: ignore[no-untyped-call]  # it leaves this one untyped
            host=f"{self.url}/api/v1", username=key, password=secret
        )
        client.config.retries = False
        client.config.connection_pool_maxsize = 2 * THREADS
        api = client.sdk_client.objects_api.api_client  # one for all parts of the interface
        api.rest_client = RESTClientObject(client.config)
        return client

    @property
    def sdk(self) -> LakeFSClient:
        """The generated client: every call of the server's interface."""
        client: LakeFSClient = self.client.sdk_client
        return client

    @property
    def limits(self) -> dict[str, Any]:  # the generated client types its options so
        """What every call of ``sdk`` is given: its time limits."""
        return {"_request_timeout": (CONNECT_S, min(READ_S, max(self.patience_s, 1.0)))}

    def call(self, name: str, once: Callable[[], T], *, lost: Callable[[], T | None] = lambda: None, whom: str = "") -> T:
        """The result of ``once``, tried again with jittered backoff while what hinders it may pass.

        Args:
            name: of the call, for messages.
            once: asks the server; may run many times.
            lost: asked from the second attempt on, before and after it: what the call would have given if an attempt that
                seemed lost took effect after all, None if none did.
            whom: who is asked, for messages; the server unless said.

        Raises:
            DrivelakeError: as the table in ``errors`` says.
        """
        failed = False

        def attempt() -> T:
            nonlocal failed
            if failed and (found := lost()) is not None:
                return found
            try:
                return once()
            except ANSWERED as error:
                if failed and not may_pass(error) and (found := lost()) is not None:
                    return found
                failed = True
                raise

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self.patience_s),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=5.0),
            retry=tenacity.retry_if_exception(may_pass),
            reraise=True,
        )
        try:
            return retrying(attempt)
        except ANSWERED as error:
            raise told(error, f"{name} of {self.repository!r}", whom or self.url) from error

    def pages(self, name: str, ask: Callable[..., Any], **given: object) -> Iterator[Any]:  # lists of many models
        """Every result of a listing, in the server's order; pages are asked for as they are read."""
        after = ""
        while True:
            page = self.call(name, partial(ask, after=after, **{"amount": PAGE, **given, **self.limits}))
            yield from page.results
            if not page.pagination.has_more:
                return
            after = page.pagination.next_offset

    # --- requests that the generated client cannot make: streams, ranges, other hosts

    def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | IO[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """One attempt, its whole answer read. Raises one of ``ANSWERED``, also for a status other than success."""
        pool = self.sdk.objects_api.api_client.rest_client.pool_manager
        connect_s, read_s = self.limits["_request_timeout"]
        answer: urllib3.BaseHTTPResponse = pool.request(
            method, url, body=body, headers=dict(headers or {}), timeout=urllib3.Timeout(connect=connect_s, read=read_s)
        )
        if not 200 <= answer.status < 300:
            error = ApiException(status=answer.status, reason=answer.reason)
            error.body = answer.data
            raise error
        return answer

    def object_url(self, ref_kind: str, ref: str, path: str) -> str:
        """Where the server takes (``branches``) and gives (``refs``) an object's bytes."""
        where = f"{self.url}/api/v1/repositories/{self.repository}/{ref_kind}/{ref}/objects"
        return f"{where}?{urlencode({'path': path})}"

    @property
    def authority(self) -> dict[str, str]:
        """The header that says who asks."""
        return {"Authorization": str(self.client.config.get_basic_auth_token())}

    # --- about the server

    @property
    def storage(self) -> StorageConfig:
        """What the server's storage can do."""
        if self._storage is None:
            config = self.call("CONFIG", lambda: self.sdk.config_api.get_config(**self.limits))
            found = config.storage_config or (config.storage_config_list or [None])[0]
            if found is None:
                raise StoreError(f"{self.url} names no storage.", next_step="check the server's version and settings")
            self._storage = found
        return self._storage

    def now(self) -> datetime:
        """The server's clock, to a second."""
        answer = self.call("CLOCK", lambda: self.request("GET", f"{self.url}/api/v1/healthcheck"))
        date = answer.headers.get("Date")
        if date is None:
            raise StoreError(f"{self.url} does not say what time it is.", next_step="let its proxy pass the header Date on")
        return parsedate_to_datetime(date).astimezone(UTC)
