"""The part of the summary that is about data: drives and logs, time, the dataset. See ``summary``.

Never here: the model, verdicts on anything but what the dataset's own leakage check compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from drivelake.evidence.drawing import left_out
from drivelake.evidence.published import fields, listed, load, pick
from drivelake.lake import Version
from drivelake.logs import is_log
from drivelake.manifest import FileEntry, Reference

__all__ = ["SPLITS", "dataset_part", "drive_part", "time_part"]

SPLITS = ("train", "validation", "test")
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
FIT_WINDOWS_MIN = 2


def drive_part(ordered: Iterable[Version], dataset: Version | None) -> list[JsonValue]:
    """One entry a version of ``raw_logs``: its files, its health, and what became of it."""
    versions = list(ordered)
    reasons = left_out(versions)
    used = fields(load(dataset, "card.json"), "drives")
    sync = {v.manifest.partition: load(v, "sync.json") for v in versions if v.manifest.asset == "sensor_frames"}
    return [_drive(raw, reasons, used, sync.get(raw.manifest.partition)) for raw in _of(versions, "raw_logs")]


def _drive(raw: Version, reasons: Mapping[str, str], used: Mapping[str, JsonValue], sync: JsonValue) -> dict[str, JsonValue]:
    manifest, drive = raw.manifest, raw.manifest.partition
    health = load(raw, "health.json")
    first_ns, last_ns = (pick(sync, "reference", key) for key in ("first_ns", "last_ns"))
    return {
        "drive": drive,
        "version": raw.digest,
        "vehicle": pick(manifest.facts, "vehicle") or None,
        "tags": [{"name": name, "value": value} for name, value in fields(manifest.facts, "tags").items()],
        "logs": [_log(entry, pick(health, "logs", _name(entry))) for entry in _logs(raw)],
        "other_files": len(manifest.files) + len(manifest.references) - len(_logs(raw)),
        "bytes": sum(entry.bytes for entry in (*manifest.files, *manifest.references)),
        "quarantined": [{"log": name, "reason": reason} for name, reason in fields(health, "quarantined").items()],
        "left_out": reasons.get(drive),
        "split": pick(used, drive, "split"),
        "rows": pick(used, drive, "rows"),
        "first_ns": first_ns,
        "duration_s": (last_ns - first_ns) / NS_PER_S if isinstance(first_ns, int) and isinstance(last_ns, int) else None,
    }


def _log(entry: FileEntry, report: JsonValue) -> dict[str, JsonValue]:
    channels = [pick(channel, "messages") for channel in listed(report, "channels")]
    return {
        "path": entry.path,
        "bytes": entry.bytes,
        "sha256": entry.sha256,
        "registered": isinstance(entry, Reference),
        "format": pick(report, "format"),
        "channels": len(channels) if report is not None else None,
        "messages": sum(count for count in channels if isinstance(count, int)) if report is not None else None,
        "damage": listed(report, "damage"),
        "notes": listed(report, "notes"),
    }


def time_part(ordered: Iterable[Version]) -> dict[str, JsonValue]:
    """Clock models a drive, and every sensor over all drives; the drives' own sensor reports stand in ``sync.json``."""
    reports = [(v.manifest.partition, load(v, "sync.json")) for v in _of(ordered, "sensor_frames")]
    return {"drives": [_synchronised(drive, report) for drive, report in reports], "sensors": _sensors(reports)}


def _synchronised(drive: str, report: JsonValue) -> dict[str, JsonValue]:
    return {
        "drive": drive,
        "excluded": pick(report, "excluded"),
        "frames": pick(report, "frames"),
        "reference": pick(report, "reference", "sensor"),
        "clocks": [row for name, clock in fields(report, "clocks").items() for row in _clock(name, clock)],
    }


def _clock(name: str, clock: JsonValue) -> list[dict[str, JsonValue]]:
    """A row a segment of a clock model; what the signals say of a declared clock stands in each of its rows."""
    segments = listed(clock, "segments")
    whole: dict[str, JsonValue] = {
        "clock": name,
        "segments": len(segments),
        "compared_ms": pick(clock, "compared", "largest_ms"),
    }
    return [{**whole, **_segment(at, segment, clock)} for at, segment in enumerate(segments, start=1)]


def _segment(number: int, segment: JsonValue, clock: JsonValue) -> dict[str, JsonValue]:
    """A segment as far as it was measured: a drift without its uncertainty was not shown, and a single window always fits."""
    offset_ns, windows = pick(segment, "offset_ns"), len(listed(segment, "windows"))
    estimated = pick(segment, "method") == "estimated"
    drift_shown = not estimated or pick(segment, "drift_sigma_ppm") is not None
    fitted = ("residual_ms", "residual_p95_ms", "residual_p99_ms")
    return {
        "segment": number,
        "method": pick(segment, "method"),
        "first_ns": pick(segment, "first_ns"),
        "last_ns": pick(segment, "last_ns"),
        "offset_ms": offset_ns / NS_PER_MS if isinstance(offset_ns, int) else None,
        "drift_ppm": pick(segment, "drift_ppm") if drift_shown else None,
        "sigma_ms": pick(segment, "sigma_ms"),
        **{key: None if estimated and windows < FIT_WINDOWS_MIN else pick(segment, key) for key in fitted},
        "correlation": pick(segment, "correlation"),
        "windows": windows,
        "windows_tried": pick(segment, "windows_tried"),
        "reason": pick(segment, "reason") or pick(clock, "reason") or "",
    }


def _sensors(reports: Sequence[tuple[str, JsonValue]]) -> list[JsonValue]:
    """Counts summed over the drives that gave frames; drives whose rigs match a sensor differently are not summed together."""
    rules: dict[tuple[str, ...], list[tuple[str, JsonValue]]] = {}
    for drive, report in reports:
        if pick(report, "excluded") is None:
            for name, sensor in fields(report, "sensors").items():
                key = (name, *(str(pick(sensor, part)) for part in ("rule", "stamp", "clock", "tolerance_ms")))
                rules.setdefault(key, []).append((drive, sensor))
    return [_sensor(key[0], rules[key]) for key in sorted(rules)]


def _sensor(name: str, drives: Sequence[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    ages = [(age, drive) for drive, sensor in drives if isinstance(age := pick(sensor, "age_ms", "p95"), int | float)]
    greatest = [age for _, sensor in drives if isinstance(age := pick(sensor, "age_ms", "max"), int | float)]
    unmatched = [sum(n for n in fields(sensor, "unmatched").values() if isinstance(n, int)) for _, sensor in drives]
    return {
        "sensor": name,
        **{key: pick(drives[0][1], key) for key in ("kind", "rule", "stamp", "clock", "tolerance_ms", "unit")},
        "drives": len(drives),
        **{key: _total(drives, key) for key in ("samples", "matched", "reused", "unused", "backward_stamps")},
        "unmatched": sum(unmatched),
        "age_p95_worst_ms": max(ages)[0] if ages else None,
        "age_p95_worst_drive": max(ages)[1] if ages else None,
        "age_max_ms": max(greatest, default=None),
        "missing": [{"drive": drive, "reason": reason} for drive, sensor in drives if (reason := pick(sensor, "missing"))],
    }


def _total(drives: Sequence[tuple[str, JsonValue]], key: str) -> int | None:
    counts = [count for _, sensor in drives if isinstance(count := pick(sensor, key), int)]
    return sum(counts) if len(counts) == len(drives) else None


def dataset_part(ordered: Iterable[Version], dataset: Version | None) -> dict[str, JsonValue] | None:
    """What the card says of the rows, beside the declared selection; None without a dataset."""
    if dataset is None:
        return None
    card, declared = load(dataset, "card.json"), dataset.manifest.parameters
    used = fields(card, "drives")
    sides = {split: [drive for drive, of in used.items() if pick(of, "split") == split] for split in SPLITS}
    raws = {raw.manifest.partition: raw for raw in _of(ordered, "raw_logs")}
    splits: list[JsonValue] = [
        {
            "split": split,
            "rows": pick(card, "splits", split),
            "drives": len(sides[split]) if used else None,
            "raw_logs": len({e.sha256 for drive in sides[split] if drive in raws for e in _logs(raws[drive])}) if used else None,
            "pictures": pick(card, "leakage", "distinct_pictures", split),
        }
        for split in SPLITS
    ]
    nameless = [drive for drive in used if drive in raws and not pick(raws[drive].manifest.facts, "vehicle")]
    return {
        "name": dataset.name,
        "version": dataset.digest,
        "sql": pick(declared, "sql"),
        "payload": pick(declared, "payload"),
        "split_rule": {key: pick(declared, "split", key) for key in ("seed", *SPLITS)},
        "split_by_hand": [{"drives": glob, "split": split} for glob, split in fields(declared, "split", "assign").items()],
        "rows": pick(card, "rows"),
        "splits": splits,
        "slices": [_slice(name, counts, pick(declared, "slices", name)) for name, counts in fields(card, "slices").items()],
        "values": [
            {"name": name, **{key: pick(found, key) for key in ("min", "max", "mean", "std", "nulls")}}
            for name, found in fields(card, "values").items()
        ],
        "left_out": [{"drive": drive, "reason": reason} for drive, reason in fields(card, "left_out").items()],
        "drives_without_vehicle": len(nameless),
        "leakage": _leakage(pick(card, "leakage", "shared"), splits, drives=len(used), nameless=len(nameless)),
    }


def _slice(name: str, counts: JsonValue, expression: JsonValue) -> dict[str, JsonValue]:
    return {
        "slice": name,
        "expression": expression,
        "values": [
            {"value": value, **{split: pick(count, split) for split in SPLITS}} for value, count in fields(counts).items()
        ],
    }


def _leakage(shared: JsonValue, splits: Sequence[JsonValue], *, drives: int, nameless: int) -> list[JsonValue]:
    """What was compared between the splits and what two of them share.

    NONE FOUND takes something to compare on every side: an empty split, or a drive without a vehicle where times on one
    vehicle are compared, leaves it NOT SHOWN (None).
    """
    compared = {
        "raw_logs": all(pick(split, "raw_logs") for split in splits),
        "pictures": all(pick(split, "pictures") for split in splits),
        "times": drives > 0 and nameless == 0,
    }
    checks: list[JsonValue] = []
    for what, whole in compared.items():
        found = pick(shared, what)
        sentences = found if isinstance(found, list) else []
        verdict = "SHARED" if sentences else "NONE FOUND" if isinstance(found, list) and whole else None
        checks.append({"what": what, "shared": sentences, "verdict": verdict})
    checks.append({"what": "near_duplicates", "shared": [], "verdict": None})
    return checks


def _of(versions: Iterable[Version], asset: str) -> list[Version]:
    return [version for version in versions if version.manifest.asset == asset]


def _logs(raw: Version) -> list[FileEntry]:
    """Copied and registered logs, without side files."""
    entries: list[FileEntry] = [*raw.manifest.files, *raw.manifest.references]
    return sorted((entry for entry in entries if is_log(Path(entry.path))), key=lambda entry: entry.path)


def _name(entry: FileEntry) -> str:
    """The path inside the drive, as the health report names it."""
    return entry.path.removeprefix("logs/")
