"""Recorder 2 of the generated drives: ``can.mf4``. Belongs here: the bus signals, as MDF4 channels or as CAN frames.

Never here: the truth they are taken from, the other recorder. Its clock has an offset and a drift.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from drivelake.demo.motion import Trajectory
from drivelake.demo.sampling import Clock, Samples, take_samples

if TYPE_CHECKING:
    from asammdf import MDF

__all__ = ["SIGNALS", "BusSignal", "database", "write_can_log"]

Floats: TypeAlias = NDArray[np.float64]
Raw: TypeAlias = NDArray[np.int16] | NDArray[np.uint16]
Series: TypeAlias = "list[tuple[BusSignal, Floats, Raw]]"

STAMP_JITTER_S = 0.0003
TRANSPOSED_DEFLATE: Literal[2] = 2


@dataclass(frozen=True)
class BusSignal:
    """One signal, alone in its message; 16 bits at the start of eight bytes, physical = raw * scale."""

    message: str
    name: str
    unit: str
    scale: float
    coding: Literal["<i2", ">u2"]  # Intel signed or Motorola unsigned
    frame_id: int
    rate_hz: float
    noise: float  # standard deviation, in ``unit``
    of: Callable[[Trajectory], Floats]

    @property
    def signed(self) -> bool:
        """Whether raw counts go below zero."""
        return self.coding[1] == "i"

    @property
    def motorola(self) -> bool:
        """Whether the most significant byte comes first on the bus."""
        return self.coding[0] == ">"

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest raw count."""
        return (-(2**15), 2**15 - 1) if self.signed else (0, 2**16 - 1)

    def raw(self, truth: Trajectory, rng: np.random.Generator) -> Raw:
        """Raw counts that the sensor sends: noisy, quantised, kept inside its range; shape (N,)."""
        physical = self.of(truth) + rng.normal(0, self.noise, len(truth.t_s))
        low, high = self.limits
        counts = np.clip(np.round(physical / self.scale), low, high)
        return counts.astype(np.int16) if self.signed else counts.astype(np.uint16)


def _brake_pressure_bar(truth: Trajectory) -> Floats:
    """Pressure that goes with deceleration; what drag alone slows needs no pedal."""
    return np.maximum(-truth.acceleration_mps2 - 0.3, 0) * 12.0


SIGNALS = (
    BusSignal("Steering", "SteeringAngle", "deg", 0.01, "<i2", 0x0C6, 100.0, 0.02, lambda t: np.degrees(t.steering_rad)),
    BusSignal("Wheels", "WheelSpeed", "km/h", 0.01, ">u2", 0x0B4, 50.0, 0.05, lambda t: t.speed_mps * 3.6),
    BusSignal("Dynamics", "YawRate", "deg/s", 0.01, "<i2", 0x130, 100.0, 0.08, lambda t: np.degrees(t.yaw_rate_radps)),
    BusSignal("Brake", "BrakePressure", "bar", 0.1, ">u2", 0x1A0, 50.0, 0.02, _brake_pressure_bar),
)


def write_can_log(
    path: Path,
    rng: np.random.Generator,
    truth: Trajectory,
    clock: Clock,
    *,
    start_ns: int,
    as_frames: bool,
    gap_s: tuple[float, float] | None,
) -> dict[str, Samples]:
    """Write the log: a channel group a message, or with ``as_frames`` one bus logging group that a database decodes.

    Returns:
        What was recorded, by ``Message.Signal``.

    """
    from asammdf import MDF
    from asammdf.blocks.v4_blocks import FileHistory

    recorded: dict[str, Samples] = {}
    series: Series = []
    for signal in SIGNALS:
        samples = take_samples(rng, signal.rate_hz, float(truth.t_s[-1]), gap_s=gap_s)
        received_s = np.maximum.accumulate(samples.t_s + rng.normal(0, STAMP_JITTER_S, len(samples.t_s)))
        native_s = clock.native_s(start_ns + np.round(received_s * 1e9).astype(np.int64))
        series.append((signal, native_s, signal.raw(truth.at(samples.t_s), rng)))
        recorded[f"{signal.message}.{signal.name}"] = samples
    with MDF(version="4.10") as log:
        created = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=clock.native_zero_ns // 1000)
        log.header.start_time = created
        # the library would note the time of writing here; the same drive must give the same bytes
        history = FileHistory()
        history.time_stamp = created
        history.comment = "<FHcomment><TX>created</TX><tool_id>drivelake.demo</tool_id><tool_vendor/><tool_version/></FHcomment>"
        log.file_history.append(history)
        if as_frames:
            _append_frames(log, series)
        else:
            _append_channels(log, series)
        log.save(path, compression=TRANSPOSED_DEFLATE, add_history_block=False)
    return recorded


def _append_channels(log: MDF, series: Series) -> None:
    from asammdf import Signal

    for signal, native_s, raw in series:
        linear: dict[str, object] = {"a": signal.scale, "b": 0.0}
        channel = Signal(raw, native_s, name=signal.name, unit=signal.unit, conversion=linear)
        log.append(channel, acq_name=signal.message, comment="")


def _append_frames(log: MDF, series: Series) -> None:
    """One CAN_DataFrame group as ASAM MDF Bus Logging 1.0 describes it, sorted by time."""
    from asammdf import Signal, Source
    from asammdf.blocks import v4_constants
    from asammdf.blocks.v4_blocks import Channel, ChannelGroup

    layout = np.dtype(
        [
            ("CAN_DataFrame.BusChannel", "u1"),
            ("CAN_DataFrame.ID", "<u4"),
            ("CAN_DataFrame.IDE", "u1"),
            ("CAN_DataFrame.DLC", "u1"),
            ("CAN_DataFrame.DataLength", "u1"),
            ("CAN_DataFrame.DataBytes", "u1", (8,)),
            ("CAN_DataFrame.Dir", "u1"),
        ]
    )
    times, parts = [], []
    for signal, native_s, raw in series:
        frames = np.zeros(len(raw), layout)
        frames["CAN_DataFrame.BusChannel"] = 1
        frames["CAN_DataFrame.ID"] = signal.frame_id
        frames["CAN_DataFrame.DLC"] = frames["CAN_DataFrame.DataLength"] = 8
        frames["CAN_DataFrame.DataBytes"][:, :2] = raw.astype(signal.coding).view(np.uint8).reshape(-1, 2)
        times.append(native_s)
        parts.append(frames)
    time_s, frames = np.concatenate(times), np.concatenate(parts)
    order = np.argsort(time_s, kind="stable")
    bus = Source("CAN1", "CAN1", "", v4_constants.SOURCE_BUS, v4_constants.BUS_TYPE_CAN)
    channel = Signal(frames[order], time_s[order], name="CAN_DataFrame", source=bus)
    log.append(channel, acq_name="CAN1", acq_source=bus, comment="CAN1")
    group, frame = log.groups[-1].channel_group, log.groups[-1].channels[1]
    assert isinstance(group, ChannelGroup)
    assert isinstance(frame, Channel)
    group.flags |= v4_constants.FLAG_CG_BUS_EVENT | v4_constants.FLAG_CG_PLAIN_BUS_EVENT
    frame.flags |= v4_constants.FLAG_CN_BUS_EVENT


def database() -> str:
    """CAN database (DBC) of the four messages, as text."""
    lines = ['VERSION ""', "", "NS_ :", "", "BS_:", "", "BU_: Vehicle Logger", ""]
    for signal in SIGNALS:
        low, high = signal.limits
        # a Motorola signal starts at its most significant bit: bit 7 of byte 0
        bits = f"{7 if signal.motorola else 0}|16@{0 if signal.motorola else 1}{'-' if signal.signed else '+'}"
        span = f"[{low * signal.scale:g}|{high * signal.scale:g}]"
        lines += [
            f"BO_ {signal.frame_id} {signal.message}: 8 Vehicle",
            f' SG_ {signal.name} : {bits} ({signal.scale:g},0) {span} "{signal.unit}" Logger',
            "",
        ]
    return "\n".join(lines) + "\n"
