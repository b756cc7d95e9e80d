"""How a camera's view shifts sideways. Belongs here: the shift between pictures that follow each other, and which pictures of a
drive are looked at.

Never here: what the shift is compared with (pairs), decoding for learning.

Memory: two small pictures, the bytes of one, and 16 bytes a picture of the sensor for the choice.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivelake.errors import InputError
from drivelake.frames.sources import Absent, Source, read_samples
from drivelake.logs import PayloadReader
from drivelake.rig import Rig

__all__ = ["PICTURES_MAX", "chosen_rows", "payload_pictures", "shift_px", "sideways_flow"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Grey = NDArray[np.float32]

PICTURES_MAX = 3000
STRETCHES = 10
# Small enough to be quick, large enough that the shift of a turn is several pixels. The road flows towards the vehicle; what
# stands at the horizon and above shifts with the turn alone, and a camera that looks ahead has it in its upper part.
WIDTH_PX, HEIGHT_PX = 128, 72
BAND = slice(0, 44)
REACH_PX = WIDTH_PX // 4
WHITE_FLOOR = 1e-3
# Two pictures further apart than this many median periods do not follow each other.
PERIODS_MAX = 2.5
DECODED_BYTES_MAX = 1 << 28


def sideways_flow(pictures: Iterator[tuple[int, bytes]], sensor: str) -> tuple[IntArray, FloatArray] | str:
    """Speed at which the view moves sideways, from pictures that follow each other.

    Args:
        pictures: native stamp in ns and bytes (JPEG, PNG, WebP, BMP) of each, in the order written.
        sensor: its name, for the message.

    Returns:
        (N,) int64 stamps in the middle between two pictures, rounded down, and (N,) float64 in px/s of a picture scaled to a
        width of 128 px, to the right positive; or why there are none.
    """
    stamps, shifts, unreadable, seen = [], [], 0, 0
    before: tuple[int, Grey] | None = None
    for t_ns, content in pictures:
        seen += 1
        picture = _grey(content)
        if picture is None:
            unreadable, before = unreadable + 1, None
            continue
        if before is not None and t_ns > before[0]:
            stamps.append((before[0], t_ns))
            shifts.append(shift_px(before[1], picture))
        before = (t_ns, picture)
    if not stamps:
        return f"sensor {sensor!r}: of {seen} pictures {unreadable} cannot be decoded, and no two others follow each other"
    ends_ns = np.array(stamps, dtype=np.int64)
    steps_ns = ends_ns[:, 1] - ends_ns[:, 0]
    kept = steps_ns <= PERIODS_MAX * np.median(steps_ns)
    middle: IntArray = ends_ns[kept, 0] + steps_ns[kept] // 2
    return middle, np.array(shifts)[kept] / (steps_ns[kept] / 1e9)


def shift_px(before: Grey, after: Grey) -> float:
    """How far a picture has moved to the right, in px, by phase correlation (Kuglin and Hines, 1975), at most a quarter.

    Args:
        before: (H, W) float32, windowed to zero at the borders.
        after: (H, W) float32, the same.
    """
    cross = np.fft.rfft2(after) * np.conj(np.fft.rfft2(before))
    # the phase alone: light and contrast do not count; the floor keeps frequencies without content from counting as much
    size = np.abs(cross)
    surface = np.fft.irfft2(cross / (size + WHITE_FLOOR * size.max() + 1e-12), s=before.shape)
    # a camera nods as well: the best of all small vertical shifts
    rows = np.r_[0:4, -3:0]
    profile = np.fft.fftshift(surface[rows].max(axis=0))
    middle = profile.size // 2
    near = profile[middle - REACH_PX : middle + REACH_PX + 1]
    at = int(np.argmax(near))
    if at in (0, near.size - 1):
        return float(at - REACH_PX)
    left, peak, right = (float(near[at + by]) for by in (-1, 0, 1))
    bend = left - 2 * peak + right
    return at - REACH_PX + ((left - right) / (2 * bend) if bend < 0 else 0.0)


def _grey(content: bytes) -> Grey | None:
    """(H, W) float32 of the upper part, without its mean, windowed; None where it is no picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP", "BMP")) as picture:
            if picture.width * picture.height * 4 > DECODED_BYTES_MAX:
                return None
            # a JPEG is decoded at a fraction of its size, which is several times faster
            picture.draft("L", (WIDTH_PX, HEIGHT_PX))
            small = picture.convert("L").resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BOX)
    except (UnidentifiedImageError, OSError, SyntaxError):
        # Pillow says SyntaxError of a PNG whose chunks are broken
        return None
    grey = np.asarray(small, dtype=np.float32)[BAND]
    window = np.hanning(grey.shape[0])[:, None] * np.hanning(grey.shape[1])[None, :]
    windowed: Grey = ((grey - grey.mean()) * window).astype(np.float32)
    return windowed


def chosen_rows(pictures: int) -> IntArray:
    """Rows of the pictures to look at: all of them, or ten stretches evenly spread over the drive, 3,000 together.

    Returns:
        (N,) int64, increasing, N at most ``PICTURES_MAX``.
    """
    if pictures <= PICTURES_MAX:
        return np.arange(pictures, dtype=np.int64)
    length = PICTURES_MAX // STRETCHES
    starts = np.linspace(0, pictures - length, STRETCHES).astype(np.int64)
    return (starts[:, None] + np.arange(length)).ravel()


def payload_pictures(
    signals: Path, rig: Rig, found: Mapping[str, Source | Absent], logs: Mapping[str, Path], sensor: str
) -> Iterator[tuple[int, bytes]]:
    """Native stamp and payload of the chosen pictures of a sensor, in the order written; bind the first four arguments.

    Args:
        signals: folder with ``index.json`` and its tables.
        rig: the declared sensors.
        found: where each of them stands; the sensor must not be absent.
        logs: the raw logs by the names that the signals give them.
        sensor: a payload sensor of the rig.

    Raises:
        InputError: the sensor is absent, or its log is not among ``logs``.
        LogDamaged: a payload is not where its pointer says.
    """
    source = found[sensor]
    if isinstance(source, Absent):
        raise InputError(f"There are no pictures: {source.reason}.", next_step="declare another pair for the clock")
    samples = read_samples(signals, sensor, rig.sensors[sensor], source)
    chosen = samples.taken(chosen_rows(samples.t_ns.size))
    with ExitStack() as stack:
        readers: dict[str, PayloadReader] = {}
        for t_ns, (log, chunk, offset, size) in zip(chosen.t_ns.tolist(), chosen.values.tolist(), strict=True):
            name = chosen.logs[log]
            if name not in logs:
                raise InputError(f"The log {name} of sensor {sensor!r} is not there.", next_step="fetch the raw logs")
            if name not in readers:
                readers[name] = stack.enter_context(PayloadReader(logs[name]))
            yield t_ns, readers[name].read(chunk, offset, size)
