"""Generated drives and the truth about them. Belongs here: which drives there are, where they are written, what is damaged.

Never here: how a vehicle moves, how a sensor sees, how a log is encoded.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from drivelake.demo.camera import LIGHTS, WEATHERS, Camera, Light, Renderer, Weather
from drivelake.demo.camera_log import ORIGINS, write_camera_log
from drivelake.demo.can_log import database, write_can_log
from drivelake.demo.motion import Trajectory, Vehicle, follow
from drivelake.demo.sampling import Clock, Samples
from drivelake.errors import InputError

__all__ = ["generate_drives"]

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"

GENERATOR = "drivelake.demo/1"  # raise when the same parameters give other bytes
EPOCH_NS = 1_709_539_200_000_000_000  # 2024-03-04T08:00:00Z
HOUR_NS = 3_600_000_000_000
SECOND_NS = 1_000_000_000
DRIVES_MAX = 99
SECONDS_MIN, SECONDS_MAX = 2.0, 600.0
OFFSET_MAX_NS = 400_000_000
DRIFT_MAX_PPM = 60.0
DAMAGED, DAMAGED_KEEPS = 3, 0.6  # the fourth drive's camera log ends early, as after a power cut
GAPPED, GAP_S = 5, 0.8  # recorder 2 of the sixth drive hears nothing for a while
MARKETS = tuple(ORIGINS)


@dataclass(frozen=True)
class Plan:
    """Everything that decides the bytes of one drive; the number of drives does not."""

    seed: int
    index: int
    seconds: float

    @property
    def name(self) -> str:
        """``bus_NN`` for every third drive, whose recorder 2 keeps CAN frames, else ``signals_NN``."""
        return f"{'bus' if self.as_frames else 'signals'}_{self.index + 1:02d}"

    @property
    def as_frames(self) -> bool:
        """Whether recorder 2 keeps CAN frames instead of signals."""
        return self.index % 3 == 1

    @property
    def start_ns(self) -> int:
        """Start of the drive on the reference clock, UTC."""
        return EPOCH_NS + self.index * HOUR_NS

    @property
    def tags(self) -> tuple[Weather, Light, str]:
        """Weather, light and market: a Latin square, so that three drives in a row (from 1, 4, 7) see all values of each.

        After nine drives the square moves on by one column: the tenth drive repeats the fourth, which is damaged.
        """
        row, column = self.index % 3, self.index // 3 + self.index // 9
        return WEATHERS[row], LIGHTS[(row + column) % 3], MARKETS[(row + 2 * column) % 3]

    @property
    def gap_s(self) -> tuple[float, float] | None:
        """From when to when recorder 2 hears nothing, since the start of the drive."""
        begin = 0.4 * self.seconds
        return (begin, begin + min(GAP_S, 0.2 * self.seconds)) if self.index == GAPPED else None

    def rng(self, purpose: int) -> np.random.Generator:
        """Independent random numbers for each purpose, so that a change in one place moves nothing elsewhere."""
        return np.random.default_rng([self.seed, self.index, purpose])

    def clock(self) -> Clock:
        """Clock of recorder 2, switched on a second before the drive so that its stamps are positive."""
        rng = self.rng(0)
        offset_ns = int(rng.integers(-OFFSET_MAX_NS, OFFSET_MAX_NS + 1))
        return Clock(self.start_ns - SECOND_NS, offset_ns, round(float(rng.uniform(-DRIFT_MAX_PPM, DRIFT_MAX_PPM)), 3))


def generate_drives(
    folder: Path, *, seed: int = 7, drives: int = 10, seconds: float = 40.0, truth_folder: Path | None = None
) -> list[Path]:
    """Write generated drives into ``folder``, and the truth about them into ``truth_folder``.

    Each drive holds ``camera.mcap`` (recorder 1, the reference clock), ``can.mf4`` (recorder 2, with offset and drift),
    ``drive.yaml`` and, for ``bus_*``, ``vehicle.dbc``. The same seed, number of the drive and seconds give the same bytes.
    A drive appears whole or not at all; one that is there already is left alone.

    The truth is ``<drive>.json`` (clock, losses, damage, parameters, SHA-256 of the files) and ``<drive>.parquet``: the
    trajectory at 200 Hz on the reference clock, ENU, rear axle, columns with their units in the name.

    Args:
        folder: where the drives go, an inbox; made if absent.
        seed: of all randomness.
        drives: how many, 1 to 99.
        seconds: length of each, 2 to 600 s.
        truth_folder: by default ``truth`` beside ``folder``, so that it is never taken for a drive.

    Returns:
        The folders of the drives, in order.

    Raises:
        InputError: a number out of range, or a drive in the way that was made otherwise.

    """
    if not (1 <= drives <= DRIVES_MAX and SECONDS_MIN <= seconds <= SECONDS_MAX and seed >= 0):
        raise InputError(
            f"Asked for {drives} drives of {seconds:g} s with seed {seed}; expected 1 to {DRIVES_MAX} drives "
            f"of {SECONDS_MIN:g} to {SECONDS_MAX:g} s and a seed of at least 0.",
            next_step="choose numbers in these ranges",
        )
    folder = folder.absolute()
    truth_folder = folder.parent / "truth" if truth_folder is None else truth_folder
    folder.mkdir(parents=True, exist_ok=True)
    truth_folder.mkdir(parents=True, exist_ok=True)
    plans = [Plan(seed, index, float(seconds)) for index in range(drives)]
    missing = [plan for plan in plans if not _is_there(plan, folder, truth_folder)]
    for plan in missing:
        _generate(plan, folder, truth_folder)
    return [folder / plan.name for plan in plans]


def _is_there(plan: Plan, folder: Path, truth_folder: Path) -> bool:
    drive, truth = folder / plan.name, truth_folder / f"{plan.name}.json"
    if not drive.exists():
        return False
    found = json.loads(truth.read_text()).get("made_by") if truth.exists() else None
    if found != _made_by(plan):
        raise InputError(
            f"{drive.name} is there already, made by {found or 'something unknown'}; expected {_made_by(plan)}.",
            next_step="generate into another folder, or remove that drive and its truth first",
        )
    return True


def _made_by(plan: Plan) -> dict[str, Json]:
    return {"generator": GENERATOR, **asdict(plan)}


def _generate(plan: Plan, folder: Path, truth_folder: Path) -> None:
    """Write one drive under a hidden name, its truth, and only then give the drive its name."""
    scratch = folder / f".{plan.name}.partial"
    shutil.rmtree(scratch, ignore_errors=True)  # what an interrupted run left
    scratch.mkdir()
    weather, light, market = plan.tags
    vehicle, camera, clock = Vehicle(), Camera(), plan.clock()
    lane_offset_m = -vehicle.lane_width_m / 2  # all markets drive on the right
    road, trajectory = follow(plan.rng(1), plan.seconds, vehicle, lane_offset_m=lane_offset_m)
    renderer = Renderer(plan.rng(2), road, camera, vehicle, weather=weather, light=light)
    seen = write_camera_log(scratch / "camera.mcap", plan.rng(3), trajectory, renderer, start_ns=plan.start_ns, market=market)
    heard = write_can_log(
        scratch / "can.mf4",
        plan.rng(4),
        trajectory,
        clock,
        start_ns=plan.start_ns,
        as_frames=plan.as_frames,
        gap_s=plan.gap_s,
    )
    if plan.as_frames:
        (scratch / "vehicle.dbc").write_text(database(), encoding="utf-8")
    sidecar = f"vehicle: demo_{market}\ntags:\n  weather: {weather}\n  light: {light}\n  market: {market}\n"
    (scratch / "drive.yaml").write_text(sidecar, encoding="utf-8")
    damage = _truncate(scratch / "camera.mcap") if plan.index == DAMAGED else None
    truth: dict[str, Json] = {
        "drive": plan.name,
        "made_by": _made_by(plan),
        "start_ns": plan.start_ns,
        "tags": {"weather": weather, "light": light, "market": market},
        "vehicle": asdict(vehicle),
        "camera": asdict(camera),
        "lane_offset_m": lane_offset_m,
        "clock": {
            "log": "can.mf4",
            **asdict(clock),
            "law": "reference_ns = native_ns + offset_ns + drift_ppm * 1e-6 * (native_ns - native_zero_ns)",
        },
        "channels": {"camera.mcap": _counts(seen), "can.mf4": _counts(heard)},
        "gap": None if plan.gap_s is None else {"log": "can.mf4", "from_s": plan.gap_s[0], "to_s": plan.gap_s[1]},
        "damage": damage,
        "files": {file.name: _sha256(file) for file in sorted(scratch.iterdir())},
    }
    _write_trajectory(truth_folder / f"{plan.name}.parquet", trajectory, plan.start_ns)
    (truth_folder / f"{plan.name}.json").write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
    scratch.rename(folder / plan.name)


def _counts(recorded: dict[str, Samples]) -> dict[str, Json]:
    return {name: dict(samples.counts()) for name, samples in recorded.items()}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _truncate(log: Path) -> dict[str, Json]:
    """Cut the log as a power cut would; the counts of its channels are those before the cut."""
    size = log.stat().st_size
    kept = int(size * DAMAGED_KEEPS)
    with log.open("r+b") as stream:
        stream.truncate(kept)
    return {"log": log.name, "kind": "truncated", "bytes_before": size, "bytes_kept": kept}


def _write_trajectory(path: Path, trajectory: Trajectory, start_ns: int) -> None:
    columns = asdict(trajectory)
    t_ns = start_ns + np.round(columns.pop("t_s") * 1e9).astype(np.int64)
    pq.write_table(pa.table({"t_ns": t_ns, **columns}), path, compression="zstd")
