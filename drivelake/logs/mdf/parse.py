"""The metadata of an MDF 4 file. Belongs here: groups, channels, conversions and sources as their blocks describe them.

Never here: data, samples, applying a conversion.

Every link and every length is checked before it is followed, and lists end even where they run in circles. A block that
contradicts the format costs what it describes and no more: a conversion its channel, a channel itself, a group itself; a
list whose link to the next block is damaged ends there. A name, a unit or a source that is damaged costs no samples: the
reader goes on without it. All of it is told.

Format: ASAM MDF 4.1 and 4.2, HD, DG, CG, CN, CC, CA and SI blocks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from math import prod

from drivelake.errors import LogDamaged
from drivelake.logs.findings import RESTORE, Findings
from drivelake.logs.mdf.blocks import FIELD_BYTES, Block, MdfFile
from drivelake.logs.mdf.model import ALL_INVALID, Channel, Conversion, DataGroup, Group, Mdf
from drivelake.logs.mdf.pieces import DEFLATE_KINDS, packed_piece

__all__ = ["ALL_INVALID", "parse"]

HD = struct.Struct("<QhhB")
DG = struct.Struct("<B")
CG = struct.Struct("<QQHHIII")
CN = struct.Struct("<BBBBIIII")
CC = struct.Struct("<BBHHHdd")
CA = struct.Struct("<BBHIiI")
SI = struct.Struct("<BB")

LOCAL_TIME = 1  # hd_time_flags
VLSD_GROUP, REMOTE_MASTER = 1, 8  # cg_flags
CN_ALL_INVALID, CN_INVALID_BIT = 1, 2  # cn_flags
VLSD, VIRTUAL, KINDS = 1, (3, 6), 7  # cn_type
ID_SIZES = (0, 1, 2, 4, 8)
CA_IN_RECORD = 0  # ca_storage
CA_PLAIN = (0, 1)  # ca_type: values alone, and values of an axis
CA_DYNAMIC, CA_COLUMNS_FIRST = 1, 1 << 6  # ca_flags

CHANNELS_MAX = 1_000_000
NESTED_MAX = 8  # conversions in conversions, structures in structures
DIMENSIONS_MAX = 8
RECORD_MAX = (1 << 32) - 1  # cg_data_bytes has 32 bits
NS_MAX = (1 << 63) - 1

# cn_data_type: the sizes in bits that it may have
INTEGERS, NUMBERS, TEXTS, BYTES = range(4), range(6), range(6, 10), 10
WHOLE = (8, 16, 32, 64)
SIZES: dict[int, tuple[int, ...]] = {4: (16, 32, 64), 5: (16, 32, 64), 13: (56,), 14: (48,), 15: (32, 64, 128), 16: (32, 64, 128)}

# cc_type
LINEAR, RATIONAL, FORMULA, BITS = 1, 2, 3, 11
TEXT_KEYS = (9, 10)


def parse(file: MdfFile, findings: Findings) -> Mdf:
    """What the file says about its records.

    Conversions that change nothing are left out. Where the file says that all samples of a channel are invalid, its
    ``invalid_bit`` is :data:`ALL_INVALID`.

    Args:
        file: the file.
        findings: takes what is wrong; notes that the start is local time or that the logger did not finalise the file.

    Raises:
        LogDamaged: the header is damaged, so that nothing can be read; or from strict findings.
    """
    block = file.block(64, "HD")
    first, *_ = _links(block, 6)
    start_ns, _, _, time_flags = _fields(HD, block)
    if start_ns > NS_MAX:
        raise LogDamaged(f"The measurement starts {start_ns} ns after 1970, expected at most {NS_MAX}.", next_step=RESTORE)
    if time_flags & LOCAL_TIME:
        findings.note("The start time is local time of an unknown zone; it was taken as UTC.")
    if file.unfinalised or file.custom_unfinalised:
        findings.note(
            f"The logger did not finalise the file (flags 0x{file.unfinalised:04x}, custom 0x{file.custom_unfinalised:04x}): "
            "what it left open was read from the data."
        )
    groups = tuple(_Parser(file, findings).data_groups(first))
    if file.odd_texts:
        findings.note(f"{file.odd_texts} texts are not UTF-8; they were taken as Latin-1.")
    return Mdf(file.version, start_ns, file.unfinalised, file.custom_unfinalised, groups)


class _Parser:
    def __init__(self, file: MdfFile, findings: Findings) -> None:
        self._file = file
        self._findings = findings
        self._seen: set[int] = set()
        self._conversions: dict[int, Conversion] = {}
        self._buses: dict[int, int] = {0: 0}
        self._channel_count = 0
        self._group_count = 0

    def data_groups(self, link: int) -> Iterator[DataGroup]:
        for block in self._list(link, "DG", "The list of data groups"):
            try:
                yield self._data_group(block)
            except LogDamaged as error:
                self._findings.damaged(f"The data group at offset {block.offset} is left out: {error.message}")

    def _list(self, link: int, name: str, what: str) -> Iterator[Block]:
        """The blocks of a list; it ends where a block is damaged or comes a second time."""
        while link:
            if link in self._seen:
                self._findings.damaged(f"{what} comes to offset {link} a second time; it ends there.")
                return
            self._seen.add(link)
            try:
                block = self._file.block(link, name)
            except LogDamaged as error:
                self._findings.damaged(f"{what} ends early: {error.message}")
                return
            yield block
            link = block.links[0] if block.links else 0

    def _data_group(self, block: Block) -> DataGroup:
        _, first, data, *_ = _links(block, 4)
        (id_bytes,) = self._fields(DG, block)
        if id_bytes not in ID_SIZES:
            raise LogDamaged(f"Its record ids have {id_bytes} bytes, expected one of {ID_SIZES}.")
        groups = []
        for found in self._list(first, "CG", f"The list of groups of the data group at offset {block.offset}"):
            index = self._group_count
            self._group_count += 1
            try:
                groups.append(self._group(found, index))
            except LogDamaged as error:
                self._findings.damaged(f"Group {index} is left out: {error.message}")
        if not id_bytes and len(groups) > 1:
            raise LogDamaged(f"It has {len(groups)} groups, and records without ids.")
        return DataGroup(block.offset, id_bytes, data, tuple(groups), self._unread_groups(data, groups))

    def _unread_groups(self, data: int, groups: list[Group]) -> str:
        if any(group.flags & REMOTE_MASTER for group in groups):
            return "the time of its records stands in another group (column storage)"
        kind, packing = self._first_data(data)
        if packing not in DEFLATE_KINDS:
            return f"its data are packed by method {packing}"
        if kind == "DV" and any(group.invalid_bytes for group in groups):
            return "its invalidation bytes stand apart from its records (column storage)"
        return ""

    def _first_data(self, link: int) -> tuple[str, int]:
        """Kind and zip type of the first data block of a stream; damage is told where the stream is read."""
        try:
            while link:
                head = self._file.head(link)
                if head.id == "DZ":
                    piece = packed_piece(self._file, head)
                    return piece.kind, piece.packing
                if head.id not in ("HL", "DL", "LD"):
                    return head.id, DEFLATE_KINDS[0]
                link = head.links[0 if head.id == "HL" else 1] if len(head.links) > (head.id != "HL") else 0
        except LogDamaged:
            return "", DEFLATE_KINDS[0]
        return "", DEFLATE_KINDS[0]

    def _group(self, block: Block, index: int) -> Group:
        _, first, name, source, *_ = _links(block, 6)
        record_id, cycles, flags, _, _, data_bytes, invalid_bytes = self._fields(CG, block)
        is_vlsd = bool(flags & VLSD_GROUP)
        # the two sizes of a VLSD group are the halves of one
        record_bytes, spare = (0, 0) if is_vlsd else (data_bytes, invalid_bytes)
        group = Group(
            index=index,
            name=self._label(name, f"The name of group {index}"),
            record_id=record_id,
            record_bytes=record_bytes,
            invalid_bytes=spare,
            cycles=cycles,
            flags=flags,
            vlsd_bytes=data_bytes | invalid_bytes << 32 if is_vlsd else 0,
            bus=self._bus(source, index),
            channels=(),
            offset=block.offset,
        )
        return replace(group, channels=self._channels(first, group, 0))

    def _fields(self, layout: struct.Struct, block: Block, more: int = 0) -> tuple[int, ...]:
        """The fields of a block; ``more`` bytes belong to it behind them. A block that reaches into another one is told."""
        expected = FIELD_BYTES[block.id] + more
        if len(block.data) > expected and block.offset + block.length > (following := self._file.next_block(block.offset)):
            self._findings.damaged(
                f"The {block.id} block at offset {block.offset} has {len(block.data)} bytes of content, expected {expected}:"
                f" the next block stands at offset {following}."
            )
        return _fields(layout, block)

    def _label(self, link: int, what: str, stand_in: str = "") -> str:
        """A text that labels samples and does not change them; another one where it is damaged."""
        try:
            return self._file.text(link)
        except LogDamaged as error:
            instead = f", {stand_in!r} stands in" if stand_in else ""
            self._findings.damaged(f"{what} is damaged{instead}: {error.message}")
            return stand_in

    def _bus(self, link: int, index: int) -> int:
        if link not in self._buses:
            try:
                _, self._buses[link] = self._fields(SI, self._file.block(link, "SI"))
            except LogDamaged as error:
                self._findings.damaged(f"The source of group {index} is damaged: {error.message}")
                self._buses[link] = 0
        return self._buses[link]

    def _channels(self, link: int, group: Group, depth: int) -> tuple[Channel, ...]:
        if depth > NESTED_MAX:
            raise LogDamaged(f"Its structures are nested more than {NESTED_MAX} deep.")
        channels = []
        found = self._list(link, "CN", f"The list of channels of group {group.index}")
        for number, block in enumerate(found):
            self._channel_count += 1
            if self._channel_count > CHANNELS_MAX:
                self._findings.damaged(f"The file has more than {CHANNELS_MAX} channels; the rest is left out.")
                break
            try:
                channels.append(self._channel(block, group, depth, number))
            except LogDamaged as error:
                self._findings.damaged(
                    f"The channel at offset {block.offset} of group {group.index} is left out: {error.message}"
                )
        return tuple(channels)

    def _channel(self, block: Block, group: Group, depth: int, number: int) -> Channel:
        _, composition, name, _, conversion_link, data, unit, *_ = _links(block, 8)
        kind, sync, data_type, bit_offset, byte_offset, bit_count, flags, invalid_at = self._fields(CN, block)
        conversion = self._conversion(conversion_link, 0) if conversion_link else None
        what = f"of channel {number} of group {group.index}"
        shape: tuple[int, ...] = ()
        strides: tuple[int, ...] = ()
        members: tuple[Channel, ...] = ()
        unread = ""
        if composition and self._file.head(composition, "CN", "CA").id == "CN":
            members = self._channels(composition, group, depth + 1)
        else:
            if composition:
                shape, strides, unread = self._array(composition)
            unread = unread or _unread(kind, data_type, bit_offset, bit_count, conversion)
            if shape and not unread and not (data_type in NUMBERS and bit_offset == 0 and bit_count in WHOLE):
                unread = f"an array of data of type {data_type} with {bit_count} bits at bit {bit_offset}"
        channel = Channel(
            name=self._label(name, f"The name {what}", f"channel_{number}"),
            kind=kind,
            sync=sync,
            data_type=data_type,
            byte_offset=byte_offset,
            bit_offset=bit_offset,
            bit_count=bit_count,
            invalid_bit=ALL_INVALID if flags & CN_ALL_INVALID else invalid_at if flags & CN_INVALID_BIT else None,
            conversion=None if conversion is None or _is_identity(conversion) else conversion,
            unit=(conversion.unit if conversion else "") or self._label(unit, f"The unit {what}"),
            data=data,
            shape=shape,
            strides=strides,
            members=members,
            offset=block.offset,
            unread=unread,
        )
        _check_place(channel, group)
        return channel

    def _array(self, link: int) -> tuple[tuple[int, ...], tuple[int, ...], str]:
        """Shape and strides of an array, and why our own reader cannot read it."""
        block = self._file.block(link, "CA")
        nested, *_ = _links(block, 1)
        kind, storage, dimensions, flags, step, _ = _fields(CA, block)
        if not 0 < dimensions <= DIMENSIONS_MAX or len(block.data) < CA.size + 8 * dimensions:
            raise LogDamaged(f"The CA block at offset {link} has {dimensions} dimensions in {len(block.data)} bytes.")
        shape = struct.unpack_from(f"<{dimensions}Q", block.data, CA.size)
        if prod(shape) > RECORD_MAX:
            raise LogDamaged(f"The CA block at offset {link} has the shape {shape}, no record holds it.")
        if nested:
            return shape, (), "an array of arrays or structures"
        if storage != CA_IN_RECORD or kind not in CA_PLAIN or flags & CA_DYNAMIC:
            return shape, (), f"an array of type {kind} with storage {storage} and flags {flags}"
        order = range(dimensions) if flags & CA_COLUMNS_FIRST else range(dimensions - 1, -1, -1)
        strides = [0] * dimensions
        for dimension in order:
            strides[dimension] = step
            step *= shape[dimension]
        return shape, tuple(strides), ""

    def _conversion(self, link: int, depth: int) -> Conversion:
        if (known := self._conversions.get(link)) is not None:
            return known
        if depth > NESTED_MAX:
            raise LogDamaged(f"Its conversions are nested more than {NESTED_MAX} deep.")
        block = self._file.block(link, "CC")
        links = _links(block, 4)
        kind, _, _, reference_count, value_count, _, _ = _fields(CC, block)
        if reference_count != len(links) - 4 or 8 * value_count > len(block.data) - CC.size:
            raise LogDamaged(
                f"The CC block at offset {link} promises {reference_count} references and {value_count} values, "
                f"it has {len(links) - 4} and {len(block.data) - CC.size} bytes."
            )
        self._fields(CC, block, 8 * value_count)
        if not _counts_fit(kind, value_count, reference_count):
            raise LogDamaged(
                f"The CC block at offset {link} is of type {kind}, which {value_count} values "
                f"and {reference_count} references do not fit."
            )
        values = struct.unpack_from(f"<{value_count}{'Q' if kind == BITS else 'd'}", block.data, CC.size)
        texts = tuple(self._reference(reference, depth) for reference in links[4 : 4 + reference_count])
        nested = next((text.unit for text in texts if isinstance(text, Conversion) and text.unit), "")
        unit = self._label(links[1], f"The unit of the CC block at offset {link}") or nested
        conversion = Conversion(kind, values, texts, unit)
        self._conversions[link] = conversion
        return conversion

    def _reference(self, link: int, depth: int) -> str | Conversion | None:
        if not link:
            return None
        if self._file.head(link, "TX", "MD", "CC").id == "CC":
            return self._conversion(link, depth + 1)
        return self._file.text(link)


def _links(block: Block, count: int) -> tuple[int, ...]:
    if len(block.links) < count:
        raise LogDamaged(
            f"The {block.id} block at offset {block.offset} has {len(block.links)} links, expected {count} at least.",
            next_step=RESTORE,
        )
    return block.links


def _fields(layout: struct.Struct, block: Block) -> tuple[int, ...]:
    needed = FIELD_BYTES[block.id]
    if len(block.data) < needed:
        raise LogDamaged(
            f"The {block.id} block at offset {block.offset} has {len(block.data)} bytes of content, its fields need {needed}.",
            next_step=RESTORE,
        )
    return layout.unpack_from(block.data)


def _is_identity(conversion: Conversion) -> bool:
    """Whether a conversion leaves every value and its type as they are."""
    kind, values = conversion.kind, conversion.values
    if kind == RATIONAL:
        p1, p2, p3, p4, p5, p6 = values
        return p3 == p4 == 0 and ((p1 == p5 == 0 and p2 == p6 != 0) or (p2 == p6 == 0 and p1 == p5 != 0))
    return kind == 0 or (kind == LINEAR and values == (0.0, 1.0))


def _counts_fit(kind: int, values: int, references: int) -> bool:
    """Whether a conversion has the numbers and references that its type needs (ASAM MDF 4.1, CCBLOCK)."""
    fits = {
        LINEAR: values == 2,
        RATIONAL: values == 6,
        FORMULA: references == 1,
        4: values >= 2 and values % 2 == 0,
        5: values >= 2 and values % 2 == 0,
        6: values % 3 == 1,
        7: references == values + 1,
        8: values % 2 == 0 and references == values // 2 + 1,
        9: values == references + 1,
        10: references % 2 == 1,
        BITS: values == references,
    }
    return fits.get(kind, True)


def _unread(kind: int, data_type: int, bit_offset: int, bit_count: int, conversion: Conversion | None) -> str:
    """Why our own reader cannot read a channel, or nothing."""
    if kind >= KINDS:
        return f"a channel of type {kind}"
    plain = kind != VLSD and data_type in NUMBERS
    if conversion is not None and not _is_identity(conversion):
        fits = data_type in TEXTS if conversion.kind in TEXT_KEYS else plain
        if not fits:
            return f"data of type {data_type} with a conversion of type {conversion.kind}"
    if kind in VIRTUAL or (kind == VLSD and 0 < bit_count <= 64):
        return ""
    if data_type in INTEGERS:
        fits = 0 < bit_count <= 64
    elif data_type in TEXTS or data_type == BYTES:
        fits = bit_count % 8 == bit_offset == 0
    else:
        fits = bit_count in SIZES.get(data_type, ()) and bit_offset == 0
    return "" if fits else f"data of type {data_type} with {bit_count} bits at bit {bit_offset}"


def _check_place(channel: Channel, group: Group) -> None:
    """A channel stands inside its record, and so does its invalidation bit.

    Raises:
        LogDamaged: it does not.
    """
    if channel.kind not in VIRTUAL:
        if channel.bit_offset > 7:
            raise LogDamaged(f"{channel.name!r} begins at bit {channel.bit_offset} of a byte.")
        first = 8 * channel.byte_offset + channel.bit_offset
        reach = 0
        if channel.strides and 0 not in channel.shape:
            reach = sum((size - 1) * stride for size, stride in zip(channel.shape, channel.strides, strict=True))
        end = first + channel.bit_count + 8 * reach
        if end > 8 * group.record_bytes or reach < 0:
            raise LogDamaged(f"{channel.name!r} takes the bits {first} to {end} of a record of {8 * group.record_bytes}.")
    if channel.invalid_bit is not None and channel.invalid_bit >= 8 * group.invalid_bytes:
        raise LogDamaged(
            f"{channel.name!r} has its invalidation bit at {channel.invalid_bit}, its records have {8 * group.invalid_bytes}."
        )
