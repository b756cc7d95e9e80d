"""What an MDF 4 file says about its records. Belongs here: the types between reading blocks and reading samples.

Never here: bytes, files. Format: ASAM MDF 4.1 and 4.2; names in comments are those of the standard.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ALL_INVALID", "Channel", "Conversion", "DataGroup", "Group", "Mdf", "Piece"]

ALL_INVALID = -1  # Channel.invalid_bit of a channel without one valid sample


@dataclass(frozen=True)
class Conversion:
    """How raw values become physical ones (CC block).

    Attributes:
        kind: cc_type, 0 to 11.
        values: cc_val.
        texts: cc_ref: a text, a further conversion, or None; range and value tables end with their default.
        unit: cc_md_unit.
    """

    kind: int
    values: tuple[float, ...]
    texts: tuple[str | Conversion | None, ...]
    unit: str


@dataclass(frozen=True)
class Channel:
    """One channel of a group (CN block).

    Attributes:
        name: cn_tx_name.
        kind: cn_type: 0 fixed length, 1 VLSD, 2 master, 3 virtual master, 4 sync, 5 maximum length data, 6 virtual.
        sync: cn_sync_type: 0 none, 1 time, 2 angle, 3 distance, 4 index.
        data_type: cn_data_type, 0 to 16.
        byte_offset: in the record, behind the record id.
        bit_offset: 0 to 7.
        bit_count: of the value; of the offset for VLSD.
        invalid_bit: position of the invalidation bit behind the data bytes; None where none is used; :data:`ALL_INVALID`
            (-1) where the file says that all samples are invalid.
        conversion: None for none or identity.
        unit: cn_md_unit, or the unit of the conversion.
        data: file offset of the signal data (cn_data), or 0.
        shape: dimensions of an array channel; empty for a scalar.
        strides: bytes between neighbours in each dimension of ``shape``.
        members: of a structure (cn_composition).
        offset: of the CN block.
        unread: why our own reader cannot read it, or nothing.
    """

    name: str
    kind: int
    sync: int
    data_type: int
    byte_offset: int
    bit_offset: int
    bit_count: int
    invalid_bit: int | None
    conversion: Conversion | None
    unit: str
    data: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    members: tuple[Channel, ...]
    offset: int
    unread: str


@dataclass(frozen=True)
class Group:
    """A channel group (CG block).

    Attributes:
        index: among all groups of the file, in file order, VLSD groups included; asammdf counts the same.
        name: cg_tx_acq_name.
        record_id: cg_record_id.
        record_bytes: cg_data_bytes, without record id and invalidation bytes.
        invalid_bytes: cg_inval_bytes.
        cycles: cg_cycle_count.
        flags: cg_flags: 1 VLSD, 2 bus event, 4 plain bus event.
        vlsd_bytes: of a VLSD group, all its values with their lengths.
        bus: si_bus_type of its source, 0 without: 2 CAN, 3 LIN, 4 MOST, 5 FlexRay, 6 K-line, 7 Ethernet, 8 USB.
        channels: as listed, members of structures inside their structure.
        offset: of the CG block.
    """

    index: int
    name: str
    record_id: int
    record_bytes: int
    invalid_bytes: int
    cycles: int
    flags: int
    vlsd_bytes: int
    bus: int
    channels: tuple[Channel, ...]
    offset: int


@dataclass(frozen=True)
class DataGroup:
    """Groups whose records share one stream (DG block).

    Attributes:
        offset: of the DG block.
        id_bytes: dg_rec_id_size: 0 for sorted data, else 1, 2, 4 or 8.
        data: file offset of its data, or 0.
        groups: one if sorted.
        unread: why our own reader cannot read its data, or nothing.
    """

    offset: int
    id_bytes: int
    data: int
    groups: tuple[Group, ...]
    unread: str


@dataclass(frozen=True)
class Mdf:
    """A file's metadata.

    Attributes:
        version: 400 to 420.
        start_ns: of the measurement, UTC ns.
        unfinalised: id_unfin_flags, 0 for a finalised file.
        custom_unfinalised: id_custom_unfin_flags.
        data_groups: in file order.
    """

    version: int
    start_ns: int
    unfinalised: int
    custom_unfinalised: int
    data_groups: tuple[DataGroup, ...]


@dataclass(frozen=True)
class Piece:
    """A stretch of a data stream as it stands in the file.

    Attributes:
        kind: of the data: ``DT``, ``SD``, ``RD``, ``DV``, ``DI``.
        offset: of the stored bytes.
        stored: their number.
        size: bytes of the stream that they hold.
        packing: -1 plain, 0 deflate, 1 transposed and deflate.
        columns: of a transposed piece, bytes of a row (dz_zip_parameter).
        place: where the piece begins in the stream.
    """

    kind: str
    offset: int
    stored: int
    size: int
    packing: int
    columns: int
    place: int
