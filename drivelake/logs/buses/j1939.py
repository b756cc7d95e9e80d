"""The 29 bits of a J1939 identifier. Belongs here: parameter group number and addresses. Never here: payloads, databases.

Source of the layout: SAE J1939-21, 5.2: priority (3 bits), extended data page, data page, PDU format, PDU specific, source
address. Below PDU format 240 the PDU specific byte is the destination and no part of the parameter group number (PGN).
"""

from __future__ import annotations

__all__ = ["GLOBAL_ADDRESS", "NULL_ADDRESS", "TRANSPORT_CONTROL", "TRANSPORT_DATA", "pgn_of", "source_of"]

NULL_ADDRESS = 0xFE  # sends no message of its own; databases write it where any sender is meant
GLOBAL_ADDRESS = 0xFF
TRANSPORT_CONTROL = 0xEC00  # TP.CM
TRANSPORT_DATA = 0xEB00  # TP.DT
FIRST_BROADCAST_FORMAT = 240


def pgn_of(identifier: int) -> int:
    """Parameter group number, 18 bits; the low byte is 0 where the identifier has a destination there."""
    pgn = identifier >> 8 & 0x3FFFF
    return pgn if pgn >> 8 & 0xFF >= FIRST_BROADCAST_FORMAT else pgn & 0x3FF00


def source_of(identifier: int) -> int:
    """Address of the sender."""
    return identifier & 0xFF
