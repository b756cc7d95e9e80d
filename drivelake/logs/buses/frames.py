"""Frames of a vehicle bus, many at once. Belongs here: the one type that files and databases both know.

Never here: files, databases.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Frames"]


class Frames(NamedTuple):
    """Consecutive data frames of one kind of bus, in the order they were logged.

    Attributes:
        t_ns: (n,) int64, receive stamps, UTC ns.
        bus: (n,) uint8, number of the bus as the logger counts; 0 where it does not say.
        id: (n,) uint32, 11 or 29 bits (CAN), 6 bits (LIN), without flags.
        extended: (n,) bool, whether the id has 29 bits.
        dlc: (n,) uint8, data length code as recorded.
        length: (n,) uint8, payload bytes, at most 64.
        data: (n, width) uint8, C order; width 8 or 64, the first bytes of longer payloads; behind ``length`` are zeros.
    """

    t_ns: NDArray[np.int64]
    bus: NDArray[np.uint8]
    id: NDArray[np.uint32]
    extended: NDArray[np.bool_]
    dlc: NDArray[np.uint8]
    length: NDArray[np.uint8]
    data: NDArray[np.uint8]
