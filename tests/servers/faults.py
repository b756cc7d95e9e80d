"""An HTTP/1.1 proxy in front of any server that forwards, counts, and breaks requests by plan."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, NamedTuple, Self
from urllib.parse import urlsplit

Kind = Literal["reset", "lost", "500", "503", "slow", "cut"]

HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
CODES = {"500": "InternalError", "503": "SlowDown"}


class Seen(NamedTuple):
    """One request as it came in; ``sent`` and ``got`` are the bytes of its body and of its answer's."""

    method: str
    path: str
    sent: int
    got: int
    fault: str | None


@dataclass
class Fault:
    """What goes wrong, and with which of the requests that match (counted from 1 since it was planned)."""

    kind: Kind
    nth: int = 1
    times: float = 1
    method: str | None = None
    path: str | None = None
    seconds: float = 0.0
    matched: int = 0
    happened: int = 0

    def strikes(self, method: str, path: str) -> bool:
        if (self.method and self.method != method) or (self.path and not re.search(self.path, path)):
            return False
        self.matched += 1
        struck = self.nth <= self.matched < self.nth + self.times
        self.happened += struck
        return struck


class FaultProxy:
    """A proxy on a free port. ``with FaultProxy(endpoint) as proxy: ... proxy.endpoint``.

    The Host header and all others go through as they came, so that signatures stay valid.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self.upstream = (parts.scheme, parts.hostname, parts.port)
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self.seen: list[Seen] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def endpoint(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def plan(self, kind: Kind, *, nth: int = 1, times: float = 1, method=None, path=None, seconds: float = 0.0) -> Fault:
        """Break requests ``nth`` to ``nth + times - 1`` (``times=math.inf``: all from there) of those that match.

        Args:
            kind: ``reset`` closes the connection and forwards nothing; ``lost`` forwards and closes without an answer;
                ``500`` and ``503`` answer so and forward nothing; ``slow`` answers after ``seconds``; ``cut`` sends half of
                the answer's body and closes.
            nth: first request that is broken, of those that match from now on.
            times: how many.
            method: only these, e.g. ``"PUT"``.
            path: only where this regular expression is found in path and query.
            seconds: for ``slow``.
        """
        fault = Fault(kind, nth, times, method, path, seconds)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forget all plans and counts."""
        with self._lock:
            self._faults, self.seen = [], []

    def count(self, method: str | None = None, path: str = "") -> int:
        """How many requests came in."""
        with self._lock:
            return sum((method is None or s.method == method) and bool(re.search(path, s.path)) for s in self.seen)

    def bytes_sent(self, method: str | None = None, path: str = "") -> int:
        """Bytes of the bodies that clients sent."""
        with self._lock:
            return sum(s.sent for s in self.seen if (method is None or s.method == method) and re.search(path, s.path))

    def bytes_got(self, method: str | None = None, path: str = "") -> int:
        """Bytes of the bodies that clients were sent."""
        with self._lock:
            return sum(s.got for s in self.seen if (method is None or s.method == method) and re.search(path, s.path))

    def fault_for(self, method: str, path: str) -> Fault | None:
        """The first plan that strikes this request; all count it."""
        with self._lock:
            return next((f for f in [f for f in self._faults if f.strikes(method, path)]), None)

    def note(self, seen: Seen) -> None:
        with self._lock:
            self.seen.append(seen)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    proxy: FaultProxy

    def handle_error(self, request, client_address) -> None:
        """Clients that go away are what this server is for; anything else is shown."""
        import sys

        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # the base class answers Expect: 100-continue then
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def handle_expect_100(self) -> bool:
        done = super().handle_expect_100()
        self.wfile.flush()
        return done

    def _forward(self) -> None:
        self._sent = self._body()
        fault = self.server.proxy.fault_for(self.command, self.path)
        self._kind = kind = fault.kind if fault else None
        if kind == "reset":
            return self._hang_up()
        if kind in CODES:
            return self._refuse(kind)
        if fault and kind == "slow":
            time.sleep(fault.seconds)
        try:
            status, reason, headers, answer = self._ask(self._sent)
        except (OSError, http.client.HTTPException):
            return self._hang_up()  # the server behind is gone: so is this one
        if kind == "lost":
            return self._hang_up()
        return self._answer(status, reason, headers, answer)

    def _note(self, got: int) -> None:
        """Before the client can know: its next look at the counts includes this request."""
        self.server.proxy.note(Seen(self.command, self.path, len(self._sent), got, self._kind))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = do_OPTIONS = _forward  # noqa: N815 - http.server's own names

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        blocks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            blocks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(blocks)

    def _ask(self, body: bytes) -> tuple[int, str, list[tuple[str, str]], bytes]:
        scheme, host, port = self.server.proxy.upstream
        connect = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        upstream = connect(host, port, timeout=120)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP | {"content-length"}:
                    upstream.putheader(name, value)
            if body or "Content-Length" in self.headers:
                upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body)
            answer = upstream.getresponse()
            return answer.status, answer.reason, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def _answer(self, status: int, reason: str, headers: list[tuple[str, str]], body: bytes) -> None:
        bodiless = self.command == "HEAD" or status in {204, 304}
        cut = self._kind == "cut"
        answered = b"" if bodiless else body[: len(body) // 2] if cut else body
        self._note(len(answered))
        self.send_response_only(status, reason)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP and (bodiless or name.lower() != "content-length"):
                self.send_header(name, value)
        if not bodiless:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(answered)
        self.wfile.flush()
        if cut:
            self._close()

    def _refuse(self, kind: str) -> None:
        said = f"<?xml version='1.0'?><Error><Code>{CODES[kind]}</Code><Message>by plan</Message></Error>".encode()
        if "json" in self.headers.get("Accept", ""):
            said = f'{{"message": "{CODES[kind]} by plan"}}'.encode()
        self._answer(int(kind), CODES[kind], [], said)

    def _hang_up(self) -> None:
        """Close without an answer, with a reset as a crashed peer does."""
        self._note(0)
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._close()

    def _close(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
