"""The wire of the lakeFS stand-in: routes, basic auth, parsing requests and checking answers with lakefs_sdk's own models.

Never here: what an operation does (model.py), the list of operations (repositories.py, routes.py, objects.py).

An answer that lakefs_sdk cannot read, or of which it would drop a key, is the stand-in's own fault: the client gets 500,
and the server remembers it (``violations``) so that the fixture fails the test run.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pydantic.v1
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.servers.lakefs.blocks import Blocks
from tests.servers.lakefs.model import Repository
from tests.servers.lakefs.trees import Failure

OPEN = ("/healthcheck", "/setup_lakefs")  # asked without credentials
VERSION = "1.83.0"  # of the API that the answers follow


@dataclass
class Fault:
    """An answer that the server gives instead of its own, or (``after``) instead of the answer of what it has done.

    Attributes:
        status: HTTP status.
        method: of the requests it hits; any when empty.
        path: regular expression searched in ``/repositories/...``.
        times: how many requests it still hits.
        after: the operation is done first: the client only never hears of it.
    """

    status: int
    method: str = ""
    path: str = ""
    times: int = 1
    after: bool = False


@dataclass
class Lake:
    """The whole state of one server."""

    blocks: Blocks
    access_key_id: str
    secret_access_key: str
    page: int = 1000
    repositories: dict[str, Repository] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    faults: list[Fault] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def repository(self, name: str) -> Repository:
        if name not in self.repositories:
            raise Failure(404, "repository not found")
        return self.repositories[name]

    def fault(self, method: str, path: str) -> Fault | None:
        """The first planned fault that hits this request; it is then one time less to come."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method in {"", method} and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None


@dataclass
class Call:
    """One request, as a handler sees it."""

    lake: Lake
    params: Mapping[str, str]
    query: Mapping[str, str]
    lists: Callable[[str], list[str]]
    headers: Mapping[str, str]
    body: bytes

    @property
    def repository(self) -> Repository:
        return self.lake.repository(self.params["repository"])

    @property
    def path(self) -> str:
        return self.query.get("path", "")

    def flag(self, name: str) -> bool:
        return self.query.get(name, "").lower() == "true"

    def parse(self, model: type[Any]) -> Any:
        """The body, read by the model of lakefs_sdk; 400 when it does not fit."""
        try:
            return model.from_dict(json.loads(self.body or b"{}"))
        except (ValueError, pydantic.v1.ValidationError) as error:
            raise Failure(400, f"error decoding JSON body: {error}") from error


Handler = Callable[[Call], Any]


class Routes:
    """A table of operations, filled by decorators."""

    def __init__(self) -> None:
        self.table: list[tuple[str, str, Handler, type[Any] | None, int, bool]] = []

    def add(
        self, method: str, path: str, answer: type[Any] | None = None, status: int = 200, *, locked: bool = True
    ) -> Callable[[Handler], Handler]:
        """Register an operation. ``answer`` checks what goes out; ``locked``: one at a time, over all repositories."""

        def keep(handler: Handler) -> Handler:
            self.table.append((method, path, handler, answer, status, locked))
            return handler

        return keep


def application(lake: Lake, tables: Iterable[Routes]) -> Any:
    """The ASGI application below ``/api/v1``."""
    routes = [_route(lake, *row) for table in tables for row in table.table]
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    routes += [_route(lake, method, "/{rest:path}", _unknown, None, 200, locked=False) for method in methods]
    inner = Starlette(routes=routes)

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            # routed as it was sent, so that a slash inside a tag (%2F) is not taken for a separator
            scope = {**scope, "path": scope["raw_path"].decode("ascii")}
        await inner(scope, receive, send)

    return outer


def _unknown(call: Call) -> Any:
    raise Failure(501, f"the stand-in does not know this operation: {call.params['rest']}")


def _route(lake: Lake, method: str, path: str, handler: Handler, answer: type[Any] | None, status: int, locked: bool) -> Route:
    async def endpoint(request: Request) -> Response:
        body = await request.body()
        return await run_in_threadpool(_serve, lake, request, body, handler, answer, status, locked)

    return Route("/api/v1" + path, endpoint, methods=[method])


def _serve(
    lake: Lake, request: Request, body: bytes, handler: Handler, answer: type[Any] | None, status: int, locked: bool
) -> Response:
    method, where = request.method, request.url.path.removeprefix("/api/v1")
    lake.requests.append((method, where))
    try:
        fault = lake.fault(method, where)
        if fault is not None and not fault.after:
            return message(fault.status, "planned by the test")
        if where not in OPEN:
            _authenticate(lake, request.headers.get("authorization", ""))
        params = {name: unquote(value) for name, value in request.path_params.items()}
        call = Call(lake, params, request.query_params, request.query_params.getlist, request.headers, body)
        if locked:
            with lake.lock:
                given = handler(call)
        else:
            given = handler(call)
        response = given if isinstance(given, Response) else _answer(given, answer, status)
        if fault is not None:
            return message(fault.status, "planned by the test, after it was done")
    except Failure as failure:
        return message(failure.status, failure.message)
    except Exception:  # noqa: BLE001 - a mistake of the stand-in must reach the test, not only the client
        lake.violations.append(f"{method} {where}\n{traceback.format_exc()}")
        return message(500, traceback.format_exc())
    return response


def _authenticate(lake: Lake, given: str) -> None:
    kind, _, encoded = given.partition(" ")
    wanted = f"{lake.access_key_id}:{lake.secret_access_key}".encode()
    if kind.lower() != "basic" or not secrets.compare_digest(base64.b64decode(encoded), wanted):
        raise Failure(401, "error authenticating request")


def message(status: int, text: str) -> Response:
    """An error as lakeFS gives it."""
    return _json({"message": text}, status)


def _json(content: Any, status: int) -> Response:
    return Response(json.dumps(content), status, {"X-Content-Type-Options": "nosniff"}, "application/json")


def _answer(content: Any, model: type[Any] | None, status: int) -> Response:
    if content is None:
        return Response(status_code=status)
    check_answer(content, model)
    return _json(content, status)


def check_answer(content: Any, model: type[Any] | None) -> None:
    """Raise unless lakefs_sdk reads the answer and gives every key of it back."""
    if model is None:
        return
    for item in content if isinstance(content, list) else [content]:
        plain = json.loads(json.dumps(item))
        read = model.from_dict(plain).to_dict()
        lost = _keys(plain) - _keys(read)
        if lost:
            raise AssertionError(f"{model.__name__} of lakefs_sdk does not know {sorted(lost)}")


def _keys(content: Any, at: str = "") -> set[str]:
    if isinstance(content, dict):
        return set().union(
            *({f"{at}.{key}"} | _keys(value, f"{at}.{key}") for key, value in content.items() if value is not None)
        )
    if isinstance(content, list):
        return set().union(*(_keys(value, f"{at}[]") for value in content))
    return set()


def amount(call: Call) -> int:
    """How many items a page may have: what was asked for, never more than the server's most."""
    asked = int(call.query.get("amount", call.lake.page))
    return min(asked, call.lake.page) if asked > 0 else call.lake.page


def page(call: Call, items: Iterable[Mapping[str, Any]], key: str, *, promises_more: bool = True) -> dict[str, Any]:
    """One page of a listing that starts behind ``after`` already."""
    most = amount(call)
    kept: list[Mapping[str, Any]] = []
    more = False
    for item in items:
        if len(kept) == most:
            more = promises_more
            break
        kept.append(item)
    offset = str(kept[-1][key]) if more else ""
    return {
        "pagination": {"has_more": more, "next_offset": offset, "results": len(kept), "max_per_page": call.lake.page},
        "results": kept,
    }


def named_page(call: Call, items: Mapping[str, Any] | Sequence[str], show: Callable[[str], Mapping[str, Any]]) -> dict[str, Any]:
    """A page of things that are listed by name: sorted, with ``prefix`` and ``after``."""
    prefix, after = call.query.get("prefix", ""), call.query.get("after", "")
    names = (name for name in sorted(items) if name.startswith(prefix) and name > after)
    return page(call, (show(name) for name in names), "id")
