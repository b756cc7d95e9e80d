"""The stages raw_logs and signals: landing a drive's files, and turning what is sound of its logs into tables.

Belongs here: what is copied, registered, salvaged, quarantined. Never here: parsing a format (the readers do).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from drivelake.catalogue import Catalogue, drive_files, signature
from drivelake.declaration import Ingest, matches
from drivelake.errors import EmptyDrive, InputError
from drivelake.hashing import Ledger, hash_files
from drivelake.lake import Lake, Version
from drivelake.logs import LOG_SUFFIXES, Caps, LogReport, in_readers, is_log, write_signals
from drivelake.manifest import CHUNK_BYTES, Reference, hash_file
from drivelake.references import INBOX, bring, register
from drivelake.stage import Made, Progress, Recipe, Stage

__all__ = ["RAW_LOGS", "SIGNALS", "RawLogs", "Signals", "log_paths"]

SIDECAR = "drive.yaml"
LEDGER = "hashes.sqlite"  # beside the catalogue: digests of large logs of the inbox
READERS = ("asammdf", "cantools", "deflate", "lz4", "mcap", "numba", "numpy", "pyarrow", "rosbags", "zstandard")


class Sidecar(BaseModel):
    """``drive.yaml``: what a person or a campaign tool knows of a drive.

    ``logs`` names files of the drive that are in a bucket already; the last part of a key is the file's name in the drive.
    They are registered where they are when the drive lands. An object replaced later is not noticed by looking at the inbox:
    write ``drive.yaml`` anew (its time of modification counts) to land the drive again.
    """

    model_config = ConfigDict(extra="forbid")
    vehicle: str = ""
    tags: dict[str, str | int | float | bool] = {}
    logs: tuple[Annotated[str, Field(pattern=r"^s3://[^/]+/(.*/)?[^/.][^/]*$")], ...] = ()

    def remote(self) -> dict[str, str]:
        """URI by name."""
        return {uri.rpartition("/")[2]: uri for uri in self.logs}

    @model_validator(mode="after")
    def _one_name_each(self) -> Sidecar:
        if len(self.remote()) < len(self.logs):
            raise ValueError(f"{len(self.logs)} logs have {len(self.remote())} different names; each needs its own")
        return self


class RawLogs(Stage):
    """A drive's files as they landed, hashed, with a health report a log.

    A damaged log of which too little can be read is quarantined; the rest goes on.
    """

    asset = "raw_logs"
    code_version = "2"
    tools = READERS

    def recipe(self, lake: Lake, partition: str) -> Recipe:  # noqa: ARG002 - every stage
        """Nothing in the lake goes in; what stands in the inbox decides. A drive gone from there keeps its versions."""
        ingest = lake.declaration.ingest
        return Recipe(parameters={"copy_up_to_mb": ingest.copy_up_to_mb, **_reading(ingest)})

    def changed_outside(self, lake: Lake, partition: str) -> str | None:
        """A file of the drive was replaced since it landed; a drive gone from the inbox has not changed."""
        folder = lake.inbox / partition
        if not folder.is_dir():
            return None
        row = Catalogue(lake.root / "catalogue.sqlite").row(partition)
        return None if row and row.landed == signature(folder) else "files in the inbox changed"

    def make(self, lake: Lake, partition: str, recipe: Recipe, out: Path, progress: Progress) -> Made:  # noqa: ARG002 - every stage
        """Copy or register each file while hashing it, then read every log to its end."""
        lake.declaration.rig_of(partition)  # a drive that no rig names would only fail later
        ingest = lake.declaration.ingest
        folder = lake.drive_folder(partition)
        before = signature(folder)
        sidecar = _sidecar(folder / SIDECAR)
        with lake.scratch(f"landing-{partition}") as scratch:
            paths, references = _land(lake, partition, sidecar, out, scratch)
            reports = _inspect(paths, ingest)
        if signature(folder) != before:
            raise InputError(
                f"Drive {partition!r} changed while it was read.",
                next_step="wait until its transfer ends; it will be tried again",
            )
        quarantined = {r.name: reason for r in reports if (reason := r.unusable(ingest.keep_salvaged_share))}
        salvaged = {r.name: r.damage[0] for r in reports if r.damage and r.name not in quarantined}
        for name, reason in quarantined.items():
            progress(f"quarantined {name}: {reason}")
        for name, reason in salvaged.items():
            progress(f"salvaged {name}: {reason}")
        _write_health(out, reports, quarantined, salvaged)
        known = {"vehicle": sidecar.vehicle, "tags": {k: str(v) for k, v in sorted(sidecar.tags.items())}}
        facts = {"logs": len(reports), "quarantined": quarantined, "salvaged": salvaged, **known}
        return Made(facts=facts, references=references, note=before)

    def published(self, lake: Lake, version: Version, made: Made) -> None:
        """Remember which state of the inbox this version is, so that an unchanged drive is not read again."""
        catalogue = Catalogue(lake.root / "catalogue.sqlite")
        catalogue.land(version.manifest.partition, made.note, version.digest, time.time())


class Signals(Stage):
    """One table a topic or channel group of what is sound of the drive's logs; pictures as pointers into them."""

    asset = "signals"
    code_version = "2"
    tools = READERS

    def recipe(self, lake: Lake, partition: str) -> Recipe:
        """The drive's raw logs, and which of its files are CAN databases."""
        _, rig = lake.declaration.rig_of(partition)
        raw = lake.head("raw_logs", partition)
        return Recipe(parameters={"databases": list(rig.databases), **_reading(lake.declaration.ingest)}, inputs=(raw,))

    def make(self, lake: Lake, partition: str, recipe: Recipe, out: Path, progress: Progress) -> Made:
        """Read every log that is not quarantined once, in batches."""
        raw = recipe.input("raw_logs")
        ingest = lake.declaration.ingest
        _, rig = lake.declaration.rig_of(partition)
        with lake.scratch(f"view-{partition}") as scratch:
            paths = log_paths(lake, raw, scratch)
            quarantined = _texts(raw.manifest.facts["quarantined"])
            index = write_signals(
                {name: path for name, path in paths.items() if is_log(path)},
                out,
                databases=[p for name, p in sorted(paths.items()) if any(matches(name, glob) for glob in rig.databases)],
                quarantined=quarantined,
                keep_salvaged_share=ingest.keep_salvaged_share,
                caps=_caps(ingest),
            )
        tables = index["tables"]
        rows = sum(table["rows"] for table in tables)
        progress(f"{len(tables)} tables, {rows} rows")
        return Made(
            facts={
                "tables": len(tables),
                "rows": rows,
                "quarantined": [entry["log"] for entry in index["quarantined"]],
                "salvaged": [entry["log"] for entry in index["salvaged"]],
            }
        )


def _land(lake: Lake, drive: str, sidecar: Sidecar, out: Path, scratch: Path) -> tuple[dict[str, Path], tuple[Reference, ...]]:
    """A readable path of every file by its name in the drive, and those that are registered where they are.

    Up to the declared size a file of the inbox is copied to ``out``; what is in a bucket is read once, into ``scratch``.
    """
    folder = lake.drive_folder(drive)
    files = {path.relative_to(folder).as_posix(): path for path in drive_files(folder)}
    remote = sidecar.remote()
    if twice := sorted(files.keys() & remote.keys()):
        raise InputError(
            f"{twice[0]} stands in {folder} and is named by {SIDECAR} as {remote[twice[0]]} too.",
            next_step="remove one of the two",
        )
    if not any(is_log(Path(name)) for name in (*files, *remote)):
        raise EmptyDrive(
            f"Drive {drive!r} holds {len(files) + len(remote)} file(s) and no log ({', '.join(sorted(LOG_SUFFIXES))}).",
            next_step=f"put its logs into {folder}, name them under `logs` in its {SIDECAR}, or remove the folder",
        )
    large: dict[str, Path] = {}
    paths = dict(files)
    for name, path in files.items():
        try:
            if path.stat().st_size > lake.declaration.ingest.copy_up_to_mb * 1e6:
                large[f"{INBOX}{drive}/{name}"] = path
            else:
                paths[name] = out / "logs" / name
                _copy(path, paths[name])
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error}.", next_step="check its rights and the disk") from None
    references = [
        Reference(path=f"logs/{uri.removeprefix(f'{INBOX}{drive}/')}", bytes=size, sha256=sha256, uri=uri)
        for uri, (size, sha256) in hash_files(large, Ledger(lake.root / LEDGER)).items()
    ]
    for name, uri in remote.items():
        paths[name] = scratch / name
        references.append(register(uri, lake.declaration.store.s3_endpoint, f"logs/{name}", paths[name]))
    return paths, tuple(sorted(references, key=lambda each: each.path))


def _inspect(paths: Mapping[str, Path], ingest: Ingest) -> list[LogReport]:
    """A health report a log, by name."""
    logs = sorted(name for name in paths if is_log(Path(name)))
    try:
        return in_readers(logs, lambda reader, name: reader.inspect(paths[name], name=name), _caps(ingest))
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}.", next_step="check the disk") from None


def log_paths(lake: Lake, raw: Version, view: Path) -> dict[str, Path]:
    """Readable path of every file of a drive by its name in it; each byte of a registered log is compared before it is read.

    Logs in a bucket are fetched into ``view``.

    Raises:
        LogDamaged: a registered log is gone or has other bytes than when it landed.
        Denied, Unavailable: the bucket of a log refuses, or does not answer.
    """
    folder = raw.view(view) / "logs"
    paths = {
        entry.path.removeprefix("logs/"): folder / entry.path.removeprefix("logs/")
        for entry in raw.manifest.files
        if entry.path.startswith("logs/")
    }
    registered = bring(raw.manifest.references, lake.inbox, lake.declaration.store.s3_endpoint, view / "registered")
    return paths | {path.removeprefix("logs/"): found for path, found in registered.items()}


def _reading(ingest: Ingest) -> dict[str, float]:
    """What of the declaration decides which logs can be read, and which of the damaged ones are used."""
    return {
        "keep_salvaged_share": ingest.keep_salvaged_share,
        "reader_memory_mb": ingest.reader_memory_mb,
        "reader_seconds": ingest.reader_seconds,
        "reader_seconds_per_gb": ingest.reader_seconds_per_gb,
    }


def _caps(ingest: Ingest) -> Caps:
    return Caps(memory_mb=ingest.reader_memory_mb, seconds=ingest.reader_seconds, seconds_per_gb=ingest.reader_seconds_per_gb)


def _write_health(out: Path, reports: Sequence[LogReport], quarantined: dict[str, str], salvaged: dict[str, str]) -> None:
    health = {
        "logs": {report.name: report.as_dict() for report in reports},
        "quarantined": quarantined,
        "salvaged": salvaged,
    }
    (out / "health.json").write_text(json.dumps(health, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    """Copy in blocks and compare: what landed is what was read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("xb") as writer:
        while block := reader.read(CHUNK_BYTES):
            digest.update(block)
            writer.write(block)
    if hash_file(target)[1] != digest.hexdigest():
        raise InputError(f"{target} does not hold the bytes read from {source}.", next_step="check the disk")


def _sidecar(path: Path) -> Sidecar:
    """What ``drive.yaml`` says; a drive without one has nothing said of it."""
    if not path.is_file():
        return Sidecar()
    try:
        return Sidecar.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: expected `vehicle`, `tags` of one value each and `logs` as s3://bucket/key: {reason}.",
            next_step="correct or remove it",
        ) from None


def _texts(value: JsonValue) -> dict[str, str]:
    assert isinstance(value, dict), "raw_logs publishes quarantined logs as a mapping"
    return {name: str(reason) for name, reason in value.items()}


RAW_LOGS = RawLogs()
SIGNALS = Signals()
