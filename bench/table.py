"""What was measured, for people and for files. Belongs here: ratios, targets met or missed, JSON, the README's table.

Never here: running anything.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from bench.case import Case, Target

__all__ = ["CAP_MB", "Measured", "Verdict", "publish", "text", "verdict", "verdicts"]

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results.json"
MARKS = ("<!-- bench -->", "<!-- /bench -->")
CAP_MB = 512
PACKAGES = (
    *("drivelake", "numpy", "pyarrow", "numba", "deflate", "zstandard", "lz4", "protobuf"),
    *("asammdf", "cantools", "mcap", "mcap-ros2-support", "mcap-protobuf-support", "rosbags"),
    *("polars", "pandas", "dvc", "dvc-s3", "moto", "pygit2"),
)


class Measured(NamedTuple):
    """Medians of one variant.

    Attributes:
        name: of the variant.
        role: of the variant.
        cpu_s: user and system time of the work, what is loaded late already loaded.
        wall_s: of the same.
        whole_cpu_s: of the process from its start, imports and the warming up included.
        peak_mb: the most memory that was resident in any run, MB.
        counts: what it saw.
    """

    name: str
    role: str
    cpu_s: float
    wall_s: float
    whole_cpu_s: float
    peak_mb: float
    counts: Mapping[str, int]


class Verdict(NamedTuple):
    """A target and what became of it."""

    words: str
    value: float
    met: bool


Results = Mapping[Case, Sequence[Measured]]


def judge(target: Target, measured: Mapping[str, Measured]) -> Verdict:
    """One target against what was measured."""
    ours = measured[target.of]
    bound = f"{'at most' if target.at_most else 'at least'} {target.bound:g}"
    if target.measure == "rate":
        value = ours.counts[target.against] / ours.cpu_s / 1e6
        return Verdict(f"{target.of}: {bound} M {target.against}/s", value, value >= target.bound)
    if target.measure == "seconds":
        value = ours.wall_s / ours.counts[target.against]
        return Verdict(f"{target.of}: {bound} s for one of {target.against}", value, value <= target.bound)
    other = measured[target.against]
    if target.measure == "wall":
        value = other.wall_s / ours.wall_s
        return Verdict(f"{target.of}: {bound} x as fast as {target.against}", value, value >= target.bound)
    if target.measure == "speed":
        value = other.cpu_s / ours.cpu_s
        return Verdict(f"{target.of}: {bound} x cheaper than {target.against}", value, value >= target.bound)
    value = ours.cpu_s / other.cpu_s
    return Verdict(f"{target.of}: {bound} x {target.against}", value, value <= target.bound)


def verdicts(results: Results) -> Iterator[tuple[Case | None, Verdict]]:
    """Every target; the last is the memory of all that is ours."""
    for case, measured in results.items():
        by_name = {one.name: one for one in measured}
        yield from ((case, judge(target, by_name)) for target in case.targets)
    peak = max(one.peak_mb for measured in results.values() for one in measured if one.role == "ours")
    yield None, Verdict(f"drivelake, every case: peak memory at most {CAP_MB} MB", peak, peak <= CAP_MB)


def text(results: Results) -> str:
    """The table for a terminal."""
    lines = []
    for case, measured in results.items():
        lines.append(f"\n{case.title}: {_counts(measured)}")
        lines.append(f"  {'':44}{'CPU s':>9}{'ratio':>8}{'wall s':>9}{'peak MB':>9}")
        first = measured[0]
        for one in measured:
            ratio = one.cpu_s / first.cpu_s
            lines.append(f"  {one.name:44}{one.cpu_s:9.3f}{ratio:8.2f}{one.wall_s:9.3f}{one.peak_mb:9.0f}")
    return "\n".join(lines)


def verdict(results: Results) -> str:
    """Every target, met or missed."""
    rows = ["", f"{'target':72}{'measured':>9}"]
    for case, one in verdicts(results):
        words = f"{case.name}: {one.words}" if case else one.words
        rows.append(f"{words:72}{one.value:9.2f}  {'met' if one.met else 'MISSED'}")
    return "\n".join(rows)


def _counts(measured: Sequence[Measured]) -> str:
    counts = {kind: count for one in reversed(measured) for kind, count in one.counts.items()}
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.items())


def publish(results: Results, *, reps: int) -> None:
    """Write results.json, and the README's table between its marks."""
    machine = _machine()
    facts = {
        "measured": datetime.now(UTC).date().isoformat(),
        "reps": reps,
        "load": round(os.getloadavg()[0], 2),
        "machine": machine,
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        "cases": [
            {
                "name": case.name,
                "title": case.title,
                "variants": [one._asdict() for one in measured],
                "targets": [judge(target, {m.name: m for m in measured})._asdict() for target in case.targets],
            }
            for case, measured in results.items()
        ],
        "all": [one._asdict() for case, one in verdicts(results) if case is None],
    }
    RESULTS.write_text(json.dumps(_rounded(facts), indent=2) + "\n", encoding="utf-8")
    readme = ROOT / "README.md"
    before, mark, rest = readme.read_text(encoding="utf-8").partition(MARKS[0])
    _, closing, after = rest.partition(MARKS[1])
    if not mark or not closing:
        raise SystemExit(f"README.md has no place for the table: write {MARKS[0]} and {MARKS[1]} where it belongs.")
    readme.write_text(f"{before}{mark}\n{markdown(results, machine)}\n{closing}{after}", encoding="utf-8")


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value


def _machine() -> dict[str, object]:
    """What the numbers depend on and what names nobody's machine."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"processor": model, "cores": os.cpu_count(), "memory_gb": round(memory / 1e9), "system": platform.system()}


def markdown(results: Results, machine: Mapping[str, object]) -> str:
    """The README's tables: the work, then the targets."""
    rows = [
        "| work | drivelake, CPU s | the same work, times drivelake's CPU | peak MB, drivelake / others |",
        "|---|---|---|---|",
    ]
    for case, measured in results.items():
        first = measured[0]
        others = [f"{'limit: ' if one.role == 'limit' else ''}{one.name} {one.cpu_s / first.cpu_s:.2g}" for one in measured[1:]]
        peaks = [f"{one.peak_mb:.0f}" for one in measured[1:] if one.role == "peer"]
        rows.append(
            f"| {case.title} | {first.cpu_s:.2f} | {', '.join(others)} | {first.peak_mb:.0f} / {', '.join(peaks) or '-'} |"
        )
    rows += ["", "| target | measured | |", "|---|---|---|"]
    for judged, one in verdicts(results):
        words = f"{judged.title}; {one.words}" if judged else one.words
        rows.append(f"| {words} | {one.value:.3g} | {'met' if one.met else '**missed**'} |")
    return "\n".join([f"On {machine['cores']} cores, {machine['processor']}:", "", *rows])
