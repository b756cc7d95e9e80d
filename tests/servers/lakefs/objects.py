"""Operations of the lakeFS stand-in on objects and their bytes, over HTTP: upload, read, list, link, presigned multipart.

Never here: branches and commits (routes.py), where bytes are kept (blocks.py).
"""

from __future__ import annotations

import hashlib
import re
import time
from email.utils import formatdate
from typing import Any

import lakefs_sdk
from botocore.exceptions import ClientError
from lakefs_sdk import models
from starlette.responses import RedirectResponse, Response

from tests.servers.lakefs.blocks import S3Blocks, fresh_address
from tests.servers.lakefs.model import Repository
from tests.servers.lakefs.trees import Entry, Failure, Listed, listed
from tests.servers.lakefs.wire import Call, Routes, page

objects = Routes()
ONE = "/repositories/{repository}"
ON_BRANCH = ONE + "/branches/{branch}/objects"
AT_REF = ONE + "/refs/{ref}/objects"
STAGING = ONE + "/branches/{branch}/staging"
META = "x-lakefs-meta-"
MOST_DELETED = 1000
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def show(path: str, entry: Entry, *, metadata: bool = True) -> dict[str, Any]:
    """An object as the API shows it."""
    return {
        "path": path,
        "path_type": "object",
        "physical_address": entry.address,
        "checksum": entry.checksum,
        "size_bytes": entry.size,
        "mtime": entry.mtime,
        "content_type": entry.content_type,
        **({"metadata": dict(entry.metadata)} if metadata else {}),
    }


def _presigned(call: Call, shown: dict[str, Any], entry: Entry) -> dict[str, Any]:
    url, expiry = call.lake.blocks.presigned(entry.address, write=False)
    return {**shown, "physical_address": url, "physical_address_expiry": expiry}


# --- writing


@objects.add("POST", ON_BRANCH, models.ObjectStats, 201, locked=False)
def _upload(call: Call) -> Any:
    absent, match = _conditions(call)
    with call.lake.lock:
        repository = call.repository
        repository.branch(call.params["branch"])
        if absent and _is_there(repository, call.params["branch"], call.path):
            raise Failure(412, "path already exists")
    data, content_type = _content(call)
    entry = Entry(
        fresh_address(repository.namespace),
        hashlib.md5(data).hexdigest(),
        len(data),
        int(time.time()),
        content_type,
        {name[len(META) :]: value for name, value in call.headers.items() if name.startswith(META)},
    )
    call.lake.blocks.write(entry.address, data)
    with call.lake.lock:
        repository.writable(force=call.flag("force"))
        repository.stage(call.params["branch"], call.path, entry, absent=absent, match=match)
    return show(call.path, entry)


def _conditions(call: Call) -> tuple[bool, str | None]:
    none_match = call.headers.get("if-none-match")
    if none_match not in {None, "*"}:
        raise Failure(400, 'Unsupported value for If-None-Match - Only "*" is supported')
    return none_match == "*", call.headers.get("if-match")


def _is_there(repository: Repository, ref: str, path: str) -> bool:
    try:
        repository.entry(ref, path)
    except Failure:
        return False
    return True


def _content(call: Call) -> tuple[bytes, str]:
    """The uploaded bytes and their content type: the body itself, or the part ``content`` of a form."""
    kind = call.headers.get("content-type") or "application/octet-stream"
    if not kind.startswith("multipart/form-data"):
        return call.body, kind
    found = re.search(r'boundary="?([^";]+)', kind)
    if found is None:
        raise Failure(400, "no multipart boundary param in Content-Type")
    for part in call.body.split(b"--" + found.group(1).encode())[1:]:
        head, _, data = part.partition(b"\r\n\r\n")
        if b'name="content"' in head:
            named = re.search(rb"(?i)content-type:\s*([^\r\n]+)", head)
            return data.removesuffix(b"\r\n"), named.group(1).decode() if named else "application/octet-stream"
    raise Failure(400, 'multipart upload missing key "content"')


@objects.add("DELETE", ON_BRANCH, status=204)
def _delete(call: Call) -> None:
    call.repository.writable(force=call.flag("force"))
    call.repository.unstage(call.params["branch"], call.path)


@objects.add("POST", ON_BRANCH + "/delete", models.ObjectErrorList)
def _delete_many(call: Call) -> Any:
    paths = call.parse(lakefs_sdk.PathList).paths
    if len(paths) > MOST_DELETED:
        raise Failure(500, f"request size exceeded, max paths is set to {MOST_DELETED}")
    repository, errors = call.repository, []
    repository.branch(call.params["branch"])
    for path in paths:
        try:
            repository.unstage(call.params["branch"], path)
        except Failure as failure:
            errors.append({"path": path, "status_code": failure.status, "message": failure.message})
    return {"errors": errors}


@objects.add("POST", ON_BRANCH + "/copy", models.ObjectStats, 201)
def _copy(call: Call) -> Any:
    asked = call.parse(lakefs_sdk.ObjectCopyCreation)
    repository = call.repository
    repository.writable(force=asked.force)
    source = repository.entry(asked.src_ref or call.params["branch"], asked.src_path)
    address = source.address
    if not asked.shallow:
        address = fresh_address(repository.namespace)
        call.lake.blocks.write(address, call.lake.blocks.read(source.address, 0, source.size))
    entry = Entry(address, source.checksum, source.size, int(time.time()), source.content_type, source.metadata)
    repository.stage(call.params["branch"], call.query["dest_path"], entry)
    return show(call.query["dest_path"], entry)


@objects.add("PUT", ON_BRANCH, models.ObjectStats, 201)
def _stage(call: Call) -> Any:
    """Stage bytes that are in the block store already, inside the namespace or not."""
    asked = call.parse(lakefs_sdk.ObjectStageCreation)
    repository = call.repository
    repository.writable(force=asked.force)
    if not asked.physical_address.startswith(f"{call.lake.blocks.scheme}://"):
        raise Failure(400, f"invalid storage type: expected {call.lake.blocks.scheme}")
    kind = asked.content_type or "application/octet-stream"
    mtime = asked.mtime or int(time.time())
    entry = Entry(asked.physical_address, asked.checksum, asked.size_bytes, mtime, kind, asked.metadata or {})
    repository.stage(call.params["branch"], call.path, entry)
    return show(call.path, entry)


@objects.add("PUT", ON_BRANCH + "/stat/user_metadata", status=201)
def _set_metadata(call: Call) -> None:
    repository, branch = call.repository, call.params["branch"]
    old = repository.entry(branch, call.path)
    asked = call.parse(lakefs_sdk.UpdateObjectUserMetadata)
    repository.stage(branch, call.path, Entry(old.address, old.checksum, old.size, old.mtime, old.content_type, asked.set))


# --- reading


@objects.add("GET", AT_REF, locked=False)
def _read(call: Call) -> Any:
    entry = _entry(call)
    headers = _headers(entry)
    if call.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304)
    if call.flag("presign"):
        return RedirectResponse(call.lake.blocks.presigned(entry.address, write=False)[0], 302)
    start, stop = _range(call, entry.size)
    data = call.lake.blocks.read(entry.address, start, stop)
    if "range" not in call.headers:
        return Response(data, 200, headers, entry.content_type)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{entry.size}"
    return Response(data, 206, headers, entry.content_type)


@objects.add("HEAD", AT_REF)
def _head(call: Call) -> Any:
    entry = _entry(call)
    start, stop = _range(call, entry.size)
    status = 206 if "range" in call.headers else 200
    return Response(None, status, {**_headers(entry), "Content-Length": str(stop - start)}, entry.content_type)


def _entry(call: Call) -> Entry:
    with call.lake.lock:
        return call.repository.entry(call.params["ref"], call.path)


def _headers(entry: Entry) -> dict[str, str]:
    return {
        "ETag": f'"{entry.checksum}"',
        "Last-Modified": formatdate(entry.mtime, usegmt=True),
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'",
        **{META + name: value for name, value in entry.metadata.items()},
    }


def _range(call: Call, size: int) -> tuple[int, int]:
    """First byte and the one behind the last, of what is asked for."""
    asked = call.headers.get("range")
    if asked is None:
        return 0, size
    match = RANGE.fullmatch(asked)
    if match is None or match.groups() == ("", ""):
        raise Failure(416, "Requested Range Not Satisfiable")
    first, last = match.groups()
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if start >= stop:
        raise Failure(416, "Requested Range Not Satisfiable")
    return start, stop


@objects.add("GET", AT_REF + "/stat", models.ObjectStats)
def _stat(call: Call) -> Any:
    entry = _entry(call)
    shown = show(call.path, entry, metadata=call.query.get("user_metadata", "true") != "false")
    return _presigned(call, shown, entry) if call.flag("presign") else shown


@objects.add("GET", AT_REF + "/underlyingProperties", models.UnderlyingObjectProperties)
def _underlying(call: Call) -> Any:
    _entry(call)
    return {"storage_class": "STANDARD"} if call.lake.blocks.scheme == "s3" else {}


@objects.add("GET", AT_REF + "/ls", models.ObjectStatsList)
def _list(call: Call) -> Any:
    tree = call.repository.tree(call.params["ref"])
    metadata = call.query.get("user_metadata", "true") != "false"

    def line(found: Listed) -> dict[str, Any]:
        if found.prefix:
            common = {"path": found.path, "path_type": "common_prefix", "physical_address": "", "checksum": ""}
            return {**common, "mtime": 0, "size_bytes": 0}
        entry = tree.entries[found.path]
        shown = show(found.path, entry, metadata=metadata)
        return _presigned(call, shown, entry) if call.flag("presign") else shown

    lines = listed(
        tree.paths,
        prefix=call.query.get("prefix", ""),
        delimiter=call.query.get("delimiter", ""),
        after=call.query.get("after", ""),
    )
    return page(call, (line(found) for found in lines), "path")


# --- bytes that go around the server


@objects.add("GET", STAGING + "/backing", models.StagingLocation)
def _offer(call: Call) -> Any:
    repository = call.repository
    repository.branch(call.params["branch"])
    address = fresh_address(repository.namespace)
    given: dict[str, Any] = {"physical_address": address}
    if call.flag("presign"):
        url, expiry = call.lake.blocks.presigned(address, write=True)
        given |= {"presigned_url": url, "presigned_url_expiry": expiry}
    repository.offer_address(address)
    return given


@objects.add("PUT", STAGING + "/backing", models.ObjectStats)
def _link(call: Call) -> Any:
    """Size and checksum are what the client says: lakeFS looks at no bytes here."""
    asked = call.parse(lakefs_sdk.StagingMetadata)
    absent, match = _conditions(call)
    repository = call.repository
    repository.writable(force=asked.force)
    address = repository.take_address(asked.staging.physical_address)
    mtime = asked.mtime or int(time.time())
    kind = asked.content_type or "application/octet-stream"
    entry = Entry(address, asked.checksum.strip('"'), asked.size_bytes, mtime, kind, asked.user_metadata or {})
    repository.stage(call.params["branch"], call.path, entry, absent=absent, match=match)
    return show(call.path, entry)


def _multipart(call: Call) -> S3Blocks:
    if not isinstance(call.lake.blocks, S3Blocks):
        raise Failure(501, "presign multipart upload API is not supported")
    return call.lake.blocks


@objects.add("POST", STAGING + "/pmpu", models.PresignMultipartUpload, 201)
def _begin(call: Call) -> Any:
    blocks, repository = _multipart(call), call.repository
    repository.branch(call.params["branch"])
    address = fresh_address(repository.namespace)
    repository.offer_address(address)
    upload = blocks.begin_parts(address)
    urls = [blocks.presigned_part(address, upload, number + 1) for number in range(int(call.query.get("parts", 0)))]
    return {"upload_id": upload, "physical_address": address, **({"presigned_urls": urls} if urls else {})}


@objects.add("PUT", STAGING + "/pmpu/{upload}/parts/{number}", models.UploadTo)
def _part(call: Call) -> Any:
    address = call.parse(lakefs_sdk.UploadPartFrom).physical_address
    return {"presigned_url": _multipart(call).presigned_part(address, call.params["upload"], int(call.params["number"]))}


@objects.add("PUT", STAGING + "/pmpu/{upload}", models.ObjectStats, locked=False)
def _complete(call: Call) -> Any:
    asked = call.parse(lakefs_sdk.CompletePresignMultipartUpload)
    if not asked.parts:
        raise Failure(400, "parts are required")
    with call.lake.lock:
        repository = call.repository
        address = repository.take_address(asked.physical_address)
    parts = [(part.part_number, part.etag) for part in asked.parts]
    try:
        etag, size = _multipart(call).end_parts(address, call.params["upload"], parts)
    except ClientError as error:
        raise Failure(500, str(error)) from error
    kind = asked.content_type or "application/octet-stream"
    entry = Entry(address, etag, size, int(time.time()), kind, asked.user_metadata or {})
    with call.lake.lock:
        repository.stage(call.params["branch"], call.path, entry)
    # here lakeFS gives the address relative to the namespace
    return {**show(call.path, entry), "physical_address": address.removeprefix(repository.namespace + "/")}


@objects.add("DELETE", STAGING + "/pmpu/{upload}", status=204)
def _abort(call: Call) -> None:
    asked = call.parse(lakefs_sdk.AbortPresignMultipartUpload)
    address = call.repository.take_address(asked.physical_address)
    _multipart(call).drop_parts(address, call.params["upload"])
