"""What the tests of the version store share: a store, and folders to give away."""

import itertools
import json
from pathlib import Path

import pytest

from drivelake.versions import EmbeddedStore, publish


@pytest.fixture
def store(tmp_path):
    return EmbeddedStore.create(tmp_path / "lake" / "store")


@pytest.fixture
def make(tmp_path):
    """make({"a/b.bin": b".."}) -> a fresh folder of these files."""
    names = itertools.count()

    def make_folder(files):
        folder = tmp_path / "lake" / "scratch" / str(next(names))
        folder.mkdir(parents=True)
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
def content():
    """content(store, ref, path) -> the version's files as bytes, read through the store."""

    def read(store, ref, path):
        return {name: Path(file).read_bytes() for name, file in store.files(ref, path).items()}

    return read


@pytest.fixture
def branches():
    """branches(store) -> names of all branches."""
    import pygit2

    return lambda store: sorted(pygit2.Repository(str(store.root / "repo.git")).branches.local)
