"""Ego motion out of frames. Belongs here: which rows hold a pose or a fix, thinning the trajectory out.

Never here: estimating the motion (frames does), files of viewers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from drivelake.rig import Poses
from drivelake.viewer.scene import EgoPose, Fix, Path2D
from drivelake.viewer.tracks import Span

__all__ = ["Ego", "open_ego"]

POSE_COLUMNS = ("ego_x_m", "ego_y_m", "ego_yaw_rad")
HEIGHT = "ego_z_m"
PATH_POSES = 2000
BATCH_ROWS = 1 << 14
UNDECLARED = "No trajectory is shown: the rig declares no poses. Declare poses with an odometry, or with speed and yaw_rate."


@dataclass(frozen=True)
class Ego:
    """Poses and fixes at the ticks of a drive's frames; read batch by batch.

    Attributes:
        frames: ``frames.parquet``.
        span: what of it is shown.
        pose_columns: where poses stand; empty where there are none.
        fix_columns: latitude and longitude; empty where there are none.
        notes: what is not shown, and why.
    """

    frames: Path
    span: Span
    pose_columns: tuple[str, ...]
    fix_columns: tuple[str, ...]
    notes: tuple[str, ...]

    def poses(self) -> Iterator[tuple[int, EgoPose]]:
        """Time in ns and pose of every tick that has one, in order of time."""
        for t_ns, values in self._rows(self.pose_columns):
            x_m, y_m, yaw_rad, *height = values
            yield t_ns, EgoPose(x_m, y_m, height[0] if height else 0.0, yaw_rad)

    def fixes(self) -> Iterator[tuple[int, Fix]]:
        """Time in ns and position of every tick that has one, in order of time."""
        return ((t_ns, Fix(*values)) for t_ns, values in self._rows(self.fix_columns))

    def path(self) -> tuple[int, Path2D] | None:
        """Every n-th pose and the last, at most ``PATH_POSES``, with the time of the first; None without one."""
        count = sum(1 for _ in self.poses())
        if not count:
            return None
        stride = -(-count // (PATH_POSES - 1))
        kept = [found for at, found in enumerate(self.poses()) if at % stride == 0 or at == count - 1]
        return kept[0][0], tuple(pose for _, pose in kept)

    def _rows(self, columns: tuple[str, ...]) -> Iterator[tuple[int, tuple[float, ...]]]:
        """Rows in which none of the columns is null."""
        if not columns:
            return
        with pq.ParquetFile(self.frames) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=["t_ns", *columns]):
                whole = batch
                for name in columns:
                    whole = whole.filter(pc.is_finite(whole.column(name)), null_selection_behavior="drop")
                t_ns = np.asarray(whole.column("t_ns").to_numpy(), dtype=np.int64)
                values = np.column_stack([whole.column(name).to_numpy() for name in columns])
                inside = self.span.holds(t_ns)
                for stamp_ns, row in zip(t_ns[inside].tolist(), values[inside].tolist(), strict=True):
                    yield stamp_ns, tuple(row)


def open_ego(frames: Path, declared: Poses | None, span: Span) -> Ego:
    """The ego motion of a drive.

    Args:
        frames: ``frames.parquet``.
        declared: the rig's poses.
        span: what of the drive is shown.
    """
    names = set(pq.read_schema(frames).names)
    notes: tuple[str, ...] = ()
    poses = (*POSE_COLUMNS, *([HEIGHT] if HEIGHT in names else []))
    if not set(poses) <= names:
        poses, notes = (), (UNDECLARED,)
    fix = (declared.latitude, declared.longitude) if declared else (None, None)
    fixes = tuple(name for name in fix if name is not None and name in names)
    return Ego(frames, span, poses, fixes if len(fixes) == len(fix) else (), notes)
