"""Damage: what a failing disk, a lost connection, a bad merge or somebody hostile does to a file.

Belongs here: changing bytes, and saying which. Never here: formats, what damage should cost.
"""

from typing import NamedTuple

import numpy as np

BLOCK = 512  # bytes that a disk loses at a time
WIDTHS = (2, 4, 8)
ABSURD = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


class Damaged(NamedTuple):
    """A changed file.

    Attributes:
        data: its bytes.
        kind: of damage.
        words: what was done, with offsets.
        begin: of the changed bytes in the sound file.
        end: of the changed bytes in the sound file.
        in_place: whether everything else stands where it stood.
        foreign: whether bytes of another file were brought in.
    """

    data: bytes
    kind: str
    words: str
    begin: int
    end: int
    in_place: bool = True
    foreign: bool = False


def flip(data, rng, _):
    """Single bits near each other."""
    start = int(rng.integers(len(data)))
    places = {min(start + int(offset), len(data) - 1) for offset in rng.integers(0, 16, int(rng.integers(1, 5)))}
    changed = bytearray(data)
    for place in places:
        changed[place] ^= 1 << int(rng.integers(8))
    return Damaged(bytes(changed), "flip", f"bits of bytes {sorted(places)} flipped", min(places), max(places) + 1)


def cut(data, rng, _):
    """The end is missing."""
    end = int(rng.integers(len(data)))
    return Damaged(data[:end], "cut", f"cut at {end}", end, len(data), in_place=False)


def zero(data, rng, _):
    """A stretch reads as zeros."""
    begin, end = _stretch(data, rng)
    return Damaged(data[:begin] + bytes(end - begin) + data[end:], "zero", f"zeros from {begin} to {end}", begin, end)


def noise(data, rng, _):
    """A stretch reads as something else."""
    begin, end = _stretch(data, rng)
    return Damaged(data[:begin] + rng.bytes(end - begin) + data[end:], "noise", f"noise from {begin} to {end}", begin, end)


def delete(data, rng, _):
    """A stretch is missing."""
    begin, end = _stretch(data, rng)
    return Damaged(data[:begin] + data[end:], "delete", f"{begin} to {end} deleted", begin, end, in_place=False)


def repeat(data, rng, _):
    """A stretch comes twice."""
    begin, end = _stretch(data, rng)
    return Damaged(data[:end] + data[begin:], "repeat", f"{begin} to {end} repeated", end, end, in_place=False)


def swap(data, rng, _):
    """Two stretches change places."""
    low, middle, high = sorted(rng.integers(0, len(data) + 1, 3).tolist())
    changed = data[:low] + data[middle:high] + data[low:middle] + data[high:]
    return Damaged(changed, "swap", f"{low} to {middle} and {middle} to {high} swapped", low, high, in_place=False)


def absurd(data, rng, _):
    """A number becomes the largest, the smallest, or a little more or less than it was."""
    width = int(rng.choice(WIDTHS))
    place = int(rng.integers(max(1, len(data) - width)))
    place -= place % width if rng.random() < 0.5 else 0
    before = int.from_bytes(data[place : place + width], "little")
    choices = (*ABSURD, before + 1, before - 1, before * 2, place, len(data))
    after = choices[int(rng.integers(len(choices)))] % (1 << 8 * width)
    changed = data[:place] + after.to_bytes(width, "little") + data[place + width :]
    return Damaged(changed, "absurd", f"the {width} bytes at {place} become {after}", place, place + width)


def splice(data, rng, other):
    """The end of another file behind the beginning of this one."""
    end, begin = int(rng.integers(len(data))), int(rng.integers(len(other)))
    changed = data[:end] + other[begin:]
    return Damaged(changed, "splice", f"from {end} on another file from {begin} on", end, len(data), False, foreign=True)


def insert(data, rng, other):
    """A stretch of another file in the middle of this one."""
    begin, end = _stretch(other, rng)
    place = int(rng.integers(len(data)))
    changed = data[:place] + other[begin:end] + data[place:]
    words = f"{begin} to {end} of another file inserted at {place}"
    return Damaged(changed, "insert", words, place, place, in_place=False, foreign=True)


MUTATIONS = (flip, flip, cut, zero, noise, delete, repeat, swap, absurd, absurd, splice, insert)


def mutate(data, rng, other):
    """One damage, chosen by ``rng``; ``other`` is a file to take bytes from."""
    return MUTATIONS[int(rng.integers(len(MUTATIONS)))](data, rng, other)


def _stretch(data, rng):
    """Mostly short, sometimes a block of a disk, sometimes anything."""
    begin = int(rng.integers(len(data)))
    longest = (16, BLOCK, len(data))[int(rng.integers(3))]
    if longest == BLOCK:
        begin -= begin % BLOCK
    return begin, min(len(data), begin + int(rng.integers(1, longest + 1)))


def generator(*numbers):
    """The random numbers of one case."""
    return np.random.default_rng(numbers)
