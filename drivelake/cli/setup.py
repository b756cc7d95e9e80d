"""Commands that set a lake up: init, migrate, pull, push. Belongs here: words to a declaration. Never here: moving versions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer
import yaml
from pydantic import ValidationError
from rich.markup import escape

from drivelake.cli.show import AsJson, LakeFolder, amount, console, emit, talk
from drivelake.errors import DeclarationError, Denied, StoreError
from drivelake.lake import DECLARATION, Lake, find_lake, write_declaration
from drivelake.manifest import ASSETS
from drivelake.storage import Store
from drivelake.versions import EmbeddedStore, VersionStore
from drivelake.withdrawal import OF_A_DRIVE

__all__ = ["register"]

Kind = Annotated[Literal["dvc", "lakefs"], typer.Option("--store", help="dvc: no server. lakefs: a server, for teams.")]
Bucket = Annotated[str | None, typer.Option(help="dvc: s3://bucket/prefix that all machines share.")]
Endpoint = Annotated[str | None, typer.Option(help="Address of an S3 other than that of AWS.")]
Url = Annotated[str | None, typer.Option(help="lakefs: the server.")]
Repository = Annotated[str | None, typer.Option(help="lakefs: the repository on it.")]
Namespace = Annotated[
    str | None, typer.Option(help="lakefs: where a new repository keeps its objects, as in s3://bucket/prefix.")
]

# What an option has to look like, in words where a pattern would say it
FORMS = {
    "bucket": "expected s3://bucket or s3://bucket/prefix",
    "s3_endpoint": "expected http://... or https://...",
    "url": "expected http://... or https://...",
    "repository": "expected 3 to 63 lower case letters, digits and dashes, the first no dash",
}


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.command()(init)
    app.command()(migrate)
    app.command()(pull)
    app.command()(push)


def init(
    lake: LakeFolder = None,
    declaration: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="lakehouse.yaml to begin with; the shipped example if none.")
    ] = None,
    store: Kind = "dvc",
    bucket: Bucket = None,
    s3_endpoint: Endpoint = None,
    url: Url = None,
    repository: Repository = None,
    storage_namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Make a lake, or join the one that a team has: the folder, its declaration, the store."""
    from drivelake.demo import example

    root = lake or Path("lake")
    there = root / DECLARATION
    if there.is_file() and declaration is None:
        text = there.read_text(encoding="utf-8")
    else:
        text = declaration.read_text(encoding="utf-8") if declaration else example("generated")
    declared = _store(store, bucket, s3_endpoint, url, repository)
    with talk.status(f"opening {escape(declared.describe())}"):  # one that does not answer is asked for a minute
        opened = Lake.create(root, with_store(text, declared), storage_namespace=storage_namespace)
    rules = _rules(opened.store)
    at = opened.store.resolve("main")
    if as_json:
        emit({"lake": str(opened.root), "store": declared.describe(), "main": at, "rules": rules})
        return
    console.print(f"lake      {escape(str(opened.root))}", soft_wrap=True)
    console.print(f"store     {escape(declared.describe())}, main at {at[:12]}", soft_wrap=True)
    if rules:
        console.print(f"rules     {escape(rules)}", soft_wrap=True)
    console.print(
        f"next      put drives into {escape(str(opened.inbox))}, then drivelake ingest --lake {escape(str(root))}", soft_wrap=True
    )


def migrate(
    lake: LakeFolder = None,
    store: Kind = "dvc",
    bucket: Bucket = None,
    s3_endpoint: Endpoint = None,
    url: Url = None,
    repository: Repository = None,
    storage_namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Move a lake's versions to another store, digests unchanged; interrupted, it goes on when it is run again."""
    from drivelake.publications import Key
    from drivelake.retention import needed
    from drivelake.versions import create_store
    from drivelake.versions.migration import migrate as move

    opened = Lake(find_lake(lake))
    target = _store(store, bucket, s3_endpoint, url, repository)
    if target == opened.declaration.store:
        raise StoreError(f"The lake's versions are in {target.describe()} already.", next_step="name another store")
    with talk.status("moving") as status, opened.scratch("migrate") as scratch:
        into = create_store(target, opened.root / "store", storage_namespace=storage_namespace)
        status.update("looking for what was collected or withdrawn")
        kept = needed(opened.store)
        moved = move(
            opened.store,
            into,
            scratch,
            tell=status.update,
            may_lack=lambda path, version: Key.of(path, version) not in kept,
        )
    rules = _rules(into)  # not before: what was made before there were rules need not follow them
    # The lake changes stores in this one step; what it had stays where it is.
    before = opened.declaration.store.describe()
    write_declaration(opened.root, with_store((opened.root / DECLARATION).read_text(encoding="utf-8"), target))
    if as_json:
        emit({**moved._asdict(), "store": target.describe(), "rules": rules})
        return
    for path in moved.without_bytes:
        console.print(f"lineage   {path}: its bytes had been collected or withdrawn, its manifest was moved", soft_wrap=True)
    console.print(f"moved     {moved.versions} versions ({moved.copied} copied now), {moved.tags} tags", soft_wrap=True)
    console.print(f"store     {escape(target.describe())}", soft_wrap=True)
    if rules:
        console.print(f"rules     {escape(rules)}", soft_wrap=True)
    console.print(f"kept      what is in {escape(before)}; remove it once drivelake verify --all is content", soft_wrap=True)


def pull(
    ref: Annotated[str, typer.Argument(help="A branch, a tag or a commit.")] = "main",
    lake: LakeFolder = None,
    as_json: AsJson = False,
) -> None:
    """Fetch every file of a ref to this machine and compare it; for work without a network, or with stock DVC."""
    opened = Lake(find_lake(lake))
    commit = opened.store.resolve(ref)
    absent = _absent(opened, commit)
    files = size = 0
    with talk.status("fetching") as status:
        if isinstance(opened.store, EmbeddedStore) and opened.declaration.store.bucket is not None:
            opened.store.pull(commit, absent)  # the whole history of commits too, so that git clone needs no bucket
        for version in (v for asset in ASSETS for v in opened.heads(asset, commit) if v.name not in absent):
            status.update(f"fetching {version.name}")
            files, size = files + len(version.files), size + sum(path.stat().st_size for path in version.files.values())
    if as_json:
        emit({"commit": commit, "files": files, "bytes": size})
    else:
        console.print(f"{files} files, {amount(size)} of {commit[:12]} are on this machine")


def push(
    ref: Annotated[str, typer.Argument(help="A branch, a tag or a commit.")] = "main",
    lake: LakeFolder = None,
    as_json: AsJson = False,
) -> None:
    """Make sure that a bucket holds all that a ref reaches, and store again what it lost and this machine still has."""
    opened = Lake(find_lake(lake))
    store = opened.store
    if not isinstance(store, EmbeddedStore) or opened.declaration.store.bucket is None:
        raise StoreError(
            f"The lake's versions are in {opened.declaration.store.describe()}; only a bucket is pushed to.",
            next_step="drivelake migrate --bucket s3://...",
        )
    commit = store.resolve(ref)
    sent = store.push(commit, _absent(opened, commit))
    if as_json:
        emit({"commit": commit, **sent._asdict()})
        return
    console.print(
        f"{sent.git_objects} git objects ({sent.git_objects_moved} stored again) and {sent.files} files of {sent.versions} "
        f"versions are on {escape(str(opened.declaration.store.bucket))}"
    )


def _rules(store: VersionStore) -> str:
    """Give a lakeFS repository its rules, and say how that went; nothing elsewhere."""
    from drivelake.versions.lakefs.store import LakeFSStore

    if not isinstance(store, LakeFSStore):
        return ""
    try:
        store.install_rules()
    except Denied as refused:
        return f"not looked at: {refused.message} Who made the repository can: drivelake init again."
    return "main takes merges alone; a pre-merge hook asks for version, run and manifest; lakeFS' own gc keeps what was committed"


def _absent(lake: Lake, commit: str) -> frozenset[str]:
    """Paths at a commit whose bytes were withdrawn; each is told."""
    heads = [v for asset in OF_A_DRIVE for v in lake.heads(asset, commit)]
    said = {v.name: lake.withdrawals.of(v.manifest.asset, v.manifest.partition, v.digest) for v in heads}
    for words in filter(None, said.values()):
        talk.print(escape(words), soft_wrap=True)
    return frozenset(name for name, words in said.items() if words)


def with_store(text: str, store: Store) -> str:
    """The declaration with another store, all else as it was written, comments too."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if re.match(r"store:\s*", line)), None)
    if start is not None:
        end = next((i for i in range(start + 1, len(lines)) if not re.match(r"\s+\S", lines[i])), len(lines))
        del lines[start:end]
    block = yaml.safe_dump({"store": store.model_dump(exclude_defaults=True)}, width=10_000).splitlines()
    if store == Store():
        block = []
    at = next((i + 1 for i, line in enumerate(lines) if re.match(r"owner:\s*\S", line)), len(lines))
    return "\n".join([*lines[:at], *block, *lines[at:]]) + "\n"


def _store(kind: str, bucket: str | None, s3_endpoint: str | None, url: str | None, repository: str | None) -> Store:
    try:
        return Store.model_validate(
            {"kind": kind, "bucket": bucket, "s3_endpoint": s3_endpoint, "url": url, "repository": repository}
        )
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        said = f"--{key.replace('_', '-')}: " if key else ""
        raise DeclarationError(
            f"{said}{FORMS.get(key) or first['msg'].removeprefix('Value error, ')}.",
            next_step="drivelake init --help; docs/operations.md",
        ) from None
