"""The inputs of the bench. Belongs here: which files there are, how large, and keeping them. Never here: their bytes.

They are written once into a cache that git ignores; a changed generator gets a new cache.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import bag_files, lake_files, mcap_files, mdf_files, sync_files

__all__ = ["CACHE", "INPUTS", "inputs"]

CACHE = Path(__file__).parent / ".cache"

SIGNALS_S = 400.0
FRAMES = 2_000_000
UNSORTED_FRAMES = 500_000
TELEMETRY_S = 200.0
CAMERA_S = 25.0
PROTOBUF_MESSAGES = 100_000
BAG_S = 60.0
LONG_DRIVE_H = 10.0
DRIVES = 1_000_000
DRIVES_OPENED = 100_000
SMALL_FILES = 10_000
SENT_FILES = 1_000  # moto in its own process takes milliseconds for each


def _can_database(path: Path, _: float) -> None:
    mdf_files.write_database(path)


# name of the file -> what writes it, given the size factor
INPUTS: dict[str, Callable[[Path, float], None]] = {
    "signals.mf4": lambda path, factor: mdf_files.write_signals(path, SIGNALS_S * factor),
    "can.dbc": _can_database,
    "can.mf4": lambda path, factor: mdf_files.write_can(path, int(FRAMES * factor)),
    "can_unsorted.mf4": lambda path, factor: mdf_files.write_can_unsorted(path, int(UNSORTED_FRAMES * factor)),
    "telemetry.mcap": lambda path, factor: mcap_files.write_telemetry(path, "zstd", TELEMETRY_S * factor),
    "camera_zstd.mcap": lambda path, factor: mcap_files.write_camera(path, "zstd", CAMERA_S * factor),
    "camera_lz4.mcap": lambda path, factor: mcap_files.write_camera(path, "lz4", CAMERA_S * factor),
    "camera_none.mcap": lambda path, factor: mcap_files.write_camera(path, "none", CAMERA_S * factor),
    "protobuf.mcap": lambda path, factor: mcap_files.write_protobuf(path, int(PROTOBUF_MESSAGES * factor)),
    "telemetry.bag": lambda path, factor: bag_files.write_ros1(path, BAG_S * factor),
    "telemetry_db3": lambda path, factor: bag_files.write_db3(path, BAG_S * factor),
    "drive_20hz": lambda path, factor: sync_files.write_drive(path, factor, 20),
    "drive_100hz": lambda path, factor: sync_files.write_drive(path, factor, 100),
    "drive_long": lambda path, factor: sync_files.write_drive(path, LONG_DRIVE_H * factor, 20),
    "drives_many": lambda path, factor: lake_files.write_lake(path, int(DRIVES * factor)),
    "drives_few": lambda path, factor: lake_files.write_lake(path, max(1, int(DRIVES * factor) // 1000)),
    "drives_opened": lambda path, factor: lake_files.write_lake(path, int(DRIVES_OPENED * factor)),
    "small_files": lambda path, factor: lake_files.write_order(path, int(SMALL_FILES * factor)),
    "sent_files": lambda path, factor: lake_files.write_order(path, int(SENT_FILES * factor)),
}


def inputs(names: Iterable[str], factor: float, cache: Path = CACHE) -> dict[str, Path]:
    """The named inputs, written if they are not there yet.

    Args:
        names: keys of :data:`INPUTS`.
        factor: of their sizes; 1 is what the published table was measured with.
        cache: where they are kept.

    Returns:
        Path by name.
    """
    here = cache / _generation()
    for stale in cache.glob("*"):
        if stale != here:
            shutil.rmtree(stale)
    folder = here / f"{factor:g}"
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in names:
        found[name] = folder / name
        if not found[name].exists():
            with TemporaryDirectory(dir=folder) as scratch:
                INPUTS[name](Path(scratch) / name, factor)
                (Path(scratch) / name).replace(found[name])
    return found


def _generation() -> str:
    """A digest of what writes the inputs."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for module in (bag_files, lake_files, mcap_files, mdf_files, sync_files):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    inputs(sys.argv[3:], float(sys.argv[2]), Path(sys.argv[1]))
