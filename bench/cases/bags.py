"""ROS bags to Arrow. Belongs here: ROS 1 bags and SQLite bags of ROS 2. Never here: MCAP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.case import Case, Counts, Variant
from bench.cases import mcap

__all__ = ["CASES"]


def drivelake_db3(inputs: Mapping[str, Path]) -> Counts:
    """Every message as columns, out of the file in the bag's folder."""
    return mcap.drivelake({name: next(path.glob("*.db3")) for name, path in inputs.items()})


PEERS = (
    Variant("rosbags, objects", "peer", mcap.rosbags_decode),
    Variant("rosbags to Arrow", "peer", mcap.rosbags_arrow),
)
CASES = (
    Case(
        "ros1",
        "ROS 1 bag with telemetry (lz4) to Arrow",
        ("telemetry.bag",),
        (Variant("drivelake", "ours", mcap.drivelake), *PEERS),
    ),
    Case(
        "db3",
        "ROS 2 SQLite bag with telemetry to Arrow",
        ("telemetry_db3",),
        (Variant("drivelake", "ours", drivelake_db3), *PEERS),
    ),
)
