"""What the tests of the version store share: the four stores, another machine's view of them, and folders to give away.

A test that takes ``store`` runs on all four. A module for the embedded store alone says so by a fixture of its own:
``store = embedded``.
"""

import itertools
import json
import logging
import secrets
import tempfile
from pathlib import Path

import moto.backends
import pytest

from drivelake.storage import Store
from drivelake.versions import EmbeddedStore, publish
from tests.drivelake.versions.backends import KINDS, Site
from tests.servers.faults import FaultProxy
from tests.servers.lakefs.fixtures import S3Block, lakefs_server
from tests.servers.s3 import fresh_bucket


@pytest.fixture(scope="session", autouse=True)
def quick_moto():
    """moto lists its modules on disk, 180 files, for each request, and logs each: a fifth of its time."""
    names = tuple(moto.backends.list_of_moto_modules())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moto.backends, "list_of_moto_modules", lambda: names)
        patch.setattr(logging.getLogger("werkzeug"), "level", logging.WARNING)
        yield


@pytest.fixture(scope="session")
def behind_lakefs(s3):
    """A proxy between lakeFS on S3, and its clients where they move bytes themselves, and that S3."""
    with FaultProxy(s3) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def lakefs_local():
    """A lakeFS whose bytes go through the server."""
    with lakefs_server("local") as server:
        yield server


@pytest.fixture(scope="session")
def lakefs_s3(s3, behind_lakefs):
    """A lakeFS on S3, which clients reach by signed addresses."""
    with lakefs_server(S3Block(behind_lakefs.endpoint, fresh_bucket(s3))) as server:
        yield server


@pytest.fixture
def new_bucket_url(s3):
    """new_bucket_url() -> ``s3://<fresh bucket>/team/lake``."""
    return lambda: f"s3://{fresh_bucket(s3)}/team/lake"


@pytest.fixture
def new_site(request, tmp_path, monkeypatch):
    """new_site(kind) -> a Site whose store is not made yet; its server runs for the whole session."""
    numbers = itertools.count()

    def go(kind):
        n = next(numbers)
        folder = tmp_path / f"site_{n}" if n else tmp_path
        if kind == "dvc-local":
            return Site(kind, Store(), folder)
        if kind == "dvc-s3":
            bucket = request.getfixturevalue("new_bucket_url")()
            return Site(kind, Store(bucket=bucket, s3_endpoint=request.getfixturevalue("s3")), folder)
        server = request.getfixturevalue(kind.replace("-", "_"))
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        repository = f"lake-{secrets.token_hex(6)}"
        if server.kind == "real":
            request.addfinalizer(lambda: server.sdk().repositories_api.delete_repository(repository, force=True))
        behind = request.getfixturevalue("behind_lakefs") if kind == "lakefs-s3" and server.kind != "real" else None
        endpoint = behind.endpoint if behind else None
        declared = Store(kind="lakefs", url=server.endpoint, repository=repository, s3_endpoint=endpoint)
        return Site(kind, declared, folder, f"{server.namespace}/{repository}", behind)

    return go


@pytest.fixture(params=KINDS)
def site(request, new_site):
    """Where the store is; a test that needs it takes it beside ``store``."""
    return new_site(request.param)


@pytest.fixture
def store(site):
    """An empty store: of one machine, or the first machine's view of a shared one."""
    return site.create()


@pytest.fixture
def reopen(site):
    """reopen(store) -> the same store as another process has it, or another machine where it is shared."""
    return lambda _store: site.another()


@pytest.fixture
def patience(monkeypatch):
    """patience(seconds): for how long every store, also one that is open already, asks a silent server again."""
    from drivelake.versions.lakefs.calls import Server
    from drivelake.versions.s3.calls import S3Calls

    def go(seconds):
        for owner in (Server, S3Calls):
            monkeypatch.setattr(owner, "patience_s", property(lambda _: seconds, lambda *_: None), raising=False)

    return go


@pytest.fixture
def embedded(tmp_path):
    """The embedded store of one machine."""
    return EmbeddedStore.create(tmp_path / "lake" / "store")


@pytest.fixture
def make(tmp_path):
    """make({"a/b.bin": b".."}) -> a fresh folder of these files."""
    scratch = tmp_path / "lake" / "scratch"

    def make_folder(files):
        scratch.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=scratch))  # a name of its own in child processes too
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder

    return make_folder


def manifest_of(files):
    return json.dumps({name: len(data) for name, data in sorted(files.items())}, separators=(",", ":")).encode()


@pytest.fixture
def put_up(store, make):
    """put_up(path, files) publishes them with a manifest made from them, and gives the commit."""

    def go(path, files, **options):
        into = options.pop("into", store)
        metadata = options.pop("metadata", {"Drivelake-Run": "r1"})
        manifest = options.pop("manifest", manifest_of(files))
        return publish(into, path, make(files), manifest, message=f"{path}: new", metadata=metadata, **options)

    return go


@pytest.fixture
def commit_on(store, make):
    """commit_on(branch, {path: files or None}) puts or removes each path and commits; gives the commit.

    ``manifest.json`` of a path is made from its files, unless ``small`` says otherwise.
    """

    def go(branch, changes, *, into=store, message="m", metadata=None, small=None):
        for path, files in changes.items():
            if files is None:
                into.remove(branch, path)
            else:
                into.put(branch, path, make(files), {"manifest.json": manifest_of(files)} if small is None else small)
        return into.commit(branch, message, metadata or {})

    return go


@pytest.fixture
def content():
    """content(store, ref, path) -> the version's files as bytes, read through the store."""

    def read(store, ref, path):
        return {name: Path(file).read_bytes() for name, file in store.files(ref, path).items()}

    return read


@pytest.fixture
def branches():
    """branches(store) -> names of all branches."""
    return lambda store: list(store.branches())
