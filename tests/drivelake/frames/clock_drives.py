"""Drives with a known clock: motion as a vehicle makes it, seen by two observers whose clocks differ.

Belongs here: what the tests of the alignment share. Never here: the estimator, files.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from drivelake.demo.motion import Vehicle, follow
from drivelake.frames.alignment import Observation

EPOCH_NS = 1_700_000_000_000_000_001
RATE_HZ = 200


@dataclass(frozen=True)
class Truth:
    """reference time = native time + offset + drift * time since the start, of a drive that lasts ``duration_s``."""

    duration_s: float
    offset_s: float
    drift: float

    def native_s(self, t_s):
        """Native time of a time of the reference, s since the start."""
        return (t_s - self.offset_s) / (1 + self.drift)


@cache
def road_drive(number):
    """(t_s, speed, yaw rate) of 11 minutes on a generated road."""
    _, driven = follow(np.random.default_rng(900 + number), 680.0, Vehicle(), lane_offset_m=0.0)
    return driven.t_s - 10.0, driven.speed_mps, driven.yaw_rate_radps


def filtered_noise(rng, duration_s, cutoff_hz=1.0):
    """Random motion of unit variance below about ``cutoff_hz``, at 200 Hz, 20 s longer on both sides."""
    count = int((duration_s + 40) * RATE_HZ)
    spectrum = np.fft.rfft(rng.standard_normal(count)) / (1 + (np.fft.rfftfreq(count, 1 / RATE_HZ) / cutoff_hz) ** 4)
    values = np.fft.irfft(spectrum, count)
    return np.arange(count) / RATE_HZ - 20, values / values.std()


def halted(rng, t_s, values, duration_s):
    """The same motion with a stop now and then: down to nothing in 2 s, nothing for 5 to 15 s, up again."""
    moving = np.ones_like(t_s)
    for start_s in np.arange(rng.uniform(15, 60), duration_s - 20, 90.0):
        away_s = np.maximum(np.maximum(start_s - t_s, t_s - start_s - rng.uniform(5, 15)), 0.0)
        moving = np.minimum(moving, np.clip(away_s / 2.0, 0, 1))
    return values * moving * moving * (3 - 2 * moving)


def motion(rng, duration_s, kind):
    """(t_s, values) about zero mean and unit variance where it moves."""
    if kind == "noise":
        t_s, values = filtered_noise(rng, duration_s, rng.uniform(0.3, 1.5))
        return t_s, halted(rng, t_s, values, duration_s)
    t_s, speed, yaw_rate = road_drive(int(rng.integers(3)))
    from_s = rng.uniform(0, 650 - duration_s)
    rows = slice(int(from_s * RATE_HZ), int((from_s + duration_s + 20) * RATE_HZ))
    t_s, values = t_s[: rows.stop - rows.start], (speed if kind == "speed" else yaw_rate)[rows]
    values = values if kind == "speed" else values - values.mean()
    return t_s, halted(rng, t_s, values / values.std(), duration_s)


def observed(rng, truth, clock, rate_hz, *, jitter_s=2e-3, drops=0.02, noise=0.05, outliers=0.05):
    """Stamps (int64 ns, increasing) and values of one observer; ``clock`` maps reference seconds to native ones."""
    t_s = np.arange(0, clock.duration_s, 1 / rate_hz) + rng.uniform(0, 1 / rate_hz)
    t_s = t_s[rng.random(t_s.size) > drops]
    values = np.interp(t_s, *truth) + noise * rng.standard_normal(t_s.size)
    wrong = rng.random(t_s.size) < outliers
    values[wrong] += rng.uniform(-8, 8, int(wrong.sum()))
    stamps_s = clock.native_s(t_s + rng.normal(0, jitter_s, t_s.size))
    native_ns, first = np.unique(EPOCH_NS + np.round(stamps_s * 1e9).astype(np.int64), return_index=True)
    return native_ns, values[first]


def observation(rng, truth, clock, *, own_hz=100, reference_hz=50, name="own~reference", **noise):
    """Both sides of one motion, the own one with a gain and a bias."""
    own_ns, own = observed(rng, truth, clock, own_hz, **noise)
    reference_ns, reference = observed(rng, truth, Truth(clock.duration_s, 0.0, 0.0), reference_hz, **noise)
    return Observation(name, own_ns, 2.5 * own + 0.7, reference_ns, reference)


def drive(seed, duration_s=None):
    """A seeded drive with everything that goes wrong in one: (observation, truth of its clock, kind of motion)."""
    rng = np.random.default_rng(seed)
    kind = ("speed", "yaw_rate", "noise")[seed % 3]
    # 60 s to 600 s; three of four below 240 s, to save time
    duration_s = float(rng.uniform(60, 600 if seed % 4 == 0 else 240)) if duration_s is None else duration_s
    clock = Truth(duration_s, rng.uniform(-60, 60), rng.uniform(-200e-6, 200e-6))
    own_hz, reference_hz = rng.choice([50, 100, 200]), rng.choice([50, 100])
    noise = {"jitter_s": rng.uniform(0, 3e-3), "drops": rng.uniform(0, 0.05), "noise": rng.uniform(0.005, 0.05)}
    truth = motion(rng, duration_s, kind)
    return observation(rng, truth, clock, own_hz=own_hz, reference_hz=reference_hz, outliers=0.05, **noise), clock, kind


def worst_error_ms(model, clock, first_s=0.0, last_s=None):
    """Largest error of the mapped time, by the one segment of the model."""
    t_s = np.linspace(first_s, clock.duration_s if last_s is None else last_s, 50)
    native_ns = EPOCH_NS + np.round(clock.native_s(t_s) * 1e9).astype(np.int64)
    want_ns = EPOCH_NS + np.round(t_s * 1e9).astype(np.int64)
    return float(np.max(np.abs(model.segments[0].shift(native_ns) - want_ns))) / 1e6


@dataclass(frozen=True)
class Jumping:
    """A clock that starts as ``clock`` says and steps forward by ``by_s`` at ``at_s`` of the reference, once or more often."""

    clock: Truth
    at_s: tuple[float, ...]
    by_s: tuple[float, ...]

    @property
    def duration_s(self):
        return self.clock.duration_s

    def native_s(self, t_s):
        stepped = sum(by * (np.asarray(t_s) >= at) for at, by in zip(self.at_s, self.by_s, strict=True))
        return self.clock.native_s(t_s) + stepped


def as_written(rng, truth, clock, rate_hz, *, jitter_s=1e-3, drops=0.02, noise=0.03, pauses=()):
    """Stamps in the order written, which may jump back, and values; nothing was written in the pauses (from, to; s)."""
    t_s = np.arange(0, clock.duration_s, 1 / rate_hz)
    t_s = t_s[rng.random(t_s.size) > drops]
    for low, high in pauses:
        t_s = t_s[(t_s < low) | (t_s > high)]
    values = np.interp(t_s, *truth) + noise * rng.standard_normal(t_s.size)
    stamps_s = clock.native_s(t_s) + rng.normal(0, jitter_s, t_s.size)
    return EPOCH_NS + np.round(stamps_s * 1e9).astype(np.int64), values
