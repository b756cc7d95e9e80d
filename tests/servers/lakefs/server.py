"""The lakeFS stand-in: a stateful server in this process. A STAND-IN, written from lakeFS' documentation and sources.

It is not lakeFS. It holds the semantics that a version store needs (see model.py), and every answer passes the models of
lakefs_sdk before it leaves. Run the same tests against a real server to know more: see fixtures.py. What it assumes:

* commits: one id per content, in whole seconds; ``log`` lists children before parents within one second;
* merging: both sides' same change is no conflict, and gives a merge commit; the metadata of a merge commit holds
  ``.lakefs.merge.strategy`` beside what was given;
* an upload of the same bytes with the same content type is no change; through multipart it is one (another checksum);
* linking an address needs one that was given out, works once, and looks at no bytes;
* a read of bytes that are gone answers 410; ``stat`` and ``head`` do not look at bytes;
* Lua does not run: see hooks.py; concurrent merges into one branch wait for one another, where lakeFS may answer 429;
* operations that it does not know answer 501, never something made up.

Never here: operations (repositories.py, routes.py, objects.py), the choice between this and a real server (fixtures.py).
"""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn

from tests.servers.lakefs.blocks import LocalBlocks, S3Block, S3Blocks
from tests.servers.lakefs.objects import objects
from tests.servers.lakefs.repositories import repositories
from tests.servers.lakefs.routes import routes
from tests.servers.lakefs.wire import Fault, Lake, application

START_S = 10.0


class StandIn:
    """One server on a free port. Its state outlives ``stop`` and ``start``; the port stays the same."""

    def __init__(
        self, block: S3Block | None, folder: Path, *, access_key_id: str, secret_access_key: str, page: int = 1000
    ) -> None:
        blocks = LocalBlocks(folder) if block is None else S3Blocks(block)
        self.lake = Lake(blocks, access_key_id, secret_access_key, page)
        self._application = application(self.lake, (repositories, routes, objects))
        self._port = 0
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        # a short keep-alive would close connections that a client's pool is about to use again
        config = uvicorn.Config(
            self._application, log_level="critical", access_log=False, lifespan="off", timeout_keep_alive=300, backlog=512
        )
        self._server = uvicorn.Server(config)
        arguments: dict[str, Any] = {"sockets": [listener]}
        self._thread = threading.Thread(target=self._server.run, kwargs=arguments, daemon=True, name="lakefs stand-in")
        self._thread.start()
        deadline = time.monotonic() + START_S
        while not self._server.started:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the lakeFS stand-in did not start within {START_S:g} s")
            time.sleep(0.005)

    def stop(self) -> None:
        """Stop answering, and close every connection."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(START_S)
        self._server = self._thread = None

    def answer(self, status: int, *, method: str = "", path: str = "", times: int = 1, after: bool = False) -> None:
        """Plan to give ``status`` to requests that match; ``after``: what was asked is done, the answer is lost."""
        with self.lake.lock:
            self.lake.faults.append(Fault(status, method, path, times, after))

    def requests(self, method: str = "", containing: str = "") -> int:
        """How many matching requests came in."""
        return sum(method in {"", known} and containing in path for known, path in self.lake.requests)
