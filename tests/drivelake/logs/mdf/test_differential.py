"""Everything MDF that was recorded, and generated files: our tables beside what asammdf gets channel by channel."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from asammdf import MDF, Signal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from drivelake.logs.findings import Findings
from drivelake.logs.mdf.reader import inspect_mdf, read_mdf, to_physical
from drivelake.logs.units import to_si

DATA = Path(__file__).parents[5] / "shared" / "data"
FRAMES = {"CAN_DataFrame", "LIN_Frame"}
ENCODINGS = {6: "latin-1", 7: "utf-8", 8: "utf-16-le", 9: "utf-16-be"}


def tables(path, **options):
    found = {}
    options = {"batch_rows": 1000, "leftovers": None, "findings": Findings(strict=True), **options}
    for batch in read_mdf(path, wanted=lambda _: True, **options):
        found.setdefault(batch.channel, []).append(batch.batch)
    return {name: pa.Table.from_batches(batches) for name, batches in found.items()}


def text(value, encoding):
    if not isinstance(value, bytes):
        return str(value)
    whole = value + b"\0" * (len(value) % 2) if encoding.startswith("utf-16") else value
    return whole.decode(encoding, errors="backslashreplace").rstrip("\0")


def is_structure(group, index):
    members = group.channel_dependencies[index]
    return bool(members) and any(isinstance(member, tuple) for member in members)


def names_of(mdf):
    """Table name by index of the group, for groups that have a table."""
    acquired = [group.channel_group.acq_name or "" for group in mdf.groups]
    uses = Counter(acquired)
    return {
        index: name if name and uses[name] == 1 else f"group_{index}"
        for index, (group, name) in enumerate(zip(mdf.groups, acquired, strict=True))
        if not group.channel_group.flags & 1 and group.channels and index in mdf.masters_db
    }


def stamps(mdf, index):
    seconds = np.asarray(mdf.get_master(index), np.float64)
    whole = np.floor(seconds)
    return mdf.header.abs_time + whole.astype(np.int64) * 10**9 + np.rint((seconds - whole) * 1e9).astype(np.int64)


def columns(mdf, index):
    """Name, unit and values of every channel that is a column, invalid ones None."""
    group, seen = mdf.groups[index], Counter({"t_ns": 1})
    for place, channel in enumerate(group.channels):
        if place == mdf.masters_db[index] or is_structure(group, place):
            continue
        seen[channel.name] += 1
        name = channel.name if seen[channel.name] == 1 else f"{channel.name}#{seen[channel.name]}"
        samples, invalid = mdf.get(group=index, index=place, samples_only=True, ignore_invalidation_bits=True)
        conversion, encoding = channel.conversion, ENCODINGS.get(channel.data_type)
        if conversion is not None and conversion.conversion_type in (7, 8):
            # asammdf gives other texts for many values at once than for each of them alone, and is right with the latter
            raw, _ = mdf.get(group=index, index=place, samples_only=True, raw=True, ignore_invalidation_bits=True)
            alone = {value: conversion.convert(np.array([value], raw.dtype))[0] for value in set(raw.tolist())}
            samples, encoding = np.array([alone[value] for value in raw.tolist()], object), "utf-8"
        unit = mdf.get_channel_unit(group=index, index=place) or ""
        # asammdf gives the whole XML of a unit that stands in a metadata block
        yield name, re.sub(r"(?s)<CNunit>.*<TX>(.*)</TX>.*", r"\1", unit), samples, invalid, encoding


def expected(samples, unit, encoding):
    """A list of what the column has to hold."""
    if samples.dtype.kind in "SO" or (encoding and samples.ndim == 1):
        return [text(value, encoding or "latin-1") for value in samples.tolist()]
    if samples.dtype.kind == "V" or (samples.dtype == np.uint8 and samples.ndim > 1):
        return [row.tobytes() for row in samples]
    si = to_si(unit)
    return samples.astype(np.float64) * si.factor + si.offset if si.changes else samples


def assert_column(column, unit, samples, invalid, encoding):
    wanted = expected(samples, unit, encoding)
    count = len(samples)
    invalid = np.zeros(count, bool) if invalid is None else np.asarray(invalid, bool)
    assert np.array_equal(np.array(column.is_null().to_pylist(), bool), invalid)
    found = column.to_pylist()
    if isinstance(wanted, list):
        if wanted and isinstance(wanted[0], bytes):
            # asammdf fills values of varying length up to the longest
            found = [None if value is None else value.ljust(len(wanted[0]), b"\0") for value in found]
        assert [value for value, gone in zip(found, invalid, strict=True) if not gone] == [
            value for value, gone in zip(wanted, invalid, strict=True) if not gone
        ]
        return
    shape = (count, -1) if wanted.ndim > 1 else (count,)
    sound = np.array([value for value in found if value is not None], wanted.dtype.newbyteorder("="))
    wanted = wanted.reshape(shape)[~invalid]
    assert np.array_equal(sound.reshape(wanted.shape), wanted, equal_nan=wanted.dtype.kind == "f")
    assert column.type.equals(pa.list_(column.type.value_type, wanted.shape[1])) if wanted.ndim > 1 else True


def assert_same(path):
    found = tables(path)
    with MDF(path, process_bus_logging=False) as mdf:
        mdf.configure(read_fragment_size=1 << 24)
        names = names_of(mdf)
        assert set(found) == set(names.values())
        for index, name in names.items():
            table = found[name]
            assert np.array_equal(table.column("t_ns").to_numpy(), stamps(mdf, index))
            if kind := frames_in(mdf.groups[index]):
                assert_frames(table, mdf, index, kind)
                continue
            used = ["t_ns"]
            for column, unit, samples, invalid, encoding in columns(mdf, index):
                parts = list(flat(column, samples))
                for part, values in parts:
                    assert_column(table.column(part), unit, values, invalid, encoding)
                    field = table.schema.field(part)
                    assert field.metadata[b"source_unit"].decode() == unit
                    numeric = not (pa.types.is_string(field.type) or pa.types.is_binary(field.type))
                    assert field.metadata[b"unit"].decode() == (to_si(unit).unit if numeric else unit)
                used += [part for part, _ in parts]
            assert table.column_names == used


def flat(name, samples):
    if samples.dtype.names:
        for part in samples.dtype.names:
            yield from flat(name if part == name else f"{name}.{part}", np.asarray(samples.view(np.ndarray)[part]))
    elif np.iscomplexobj(samples):
        yield f"{name}.real", np.real(samples)
        yield f"{name}.imag", np.imag(samples)
    else:
        yield name, samples


def frames_in(group):
    names = {channel.name for channel in group.channels}
    kinds = [kind for kind in FRAMES if {f"{kind}.ID", f"{kind}.DataBytes"} <= names]
    return kinds[0] if kinds and group.channel_group.flags & 2 else None


def assert_frames(table, mdf, index, kind):
    members = {channel.name.rsplit(".", 1)[-1]: place for place, channel in enumerate(mdf.groups[index].channels)}

    def member(name):
        return mdf.get(group=index, index=members[name], samples_only=True)[0] if table.num_rows else np.zeros((0, 8), np.uint8)

    raw = member("ID").astype(np.int64)
    assert table.column("id").to_pylist() == (raw & (0x3F if kind == "LIN_Frame" else 0x1FFF_FFFF)).tolist()
    marked = member("IDE").astype(bool) if "IDE" in members else False
    assert table.column("extended").to_pylist() == (marked | (raw >> 31 == 1)).tolist()
    lengths = member("DataLength" if "DataLength" in members else "DLC").astype(int)
    assert table.column("dlc").to_pylist() == (member("DLC") if "DLC" in members else lengths).tolist()
    data = [row.tobytes()[:length] for row, length in zip(member("DataBytes"), lengths.tolist(), strict=True)]
    assert table.column("data").to_pylist() == data
    if "BusChannel" in members:
        assert table.column("bus").to_pylist() == member("BusChannel").tolist()


RECORDED = sorted(
    str(path.relative_to(DATA))
    for path in DATA.rglob("*")
    if path.suffix.lower() == ".mf4" and path.name not in {"zero_bytes.mf4", "only_id_block.mf4", "truncated_unfinalised.MF4"}
)


COUNTS = st.integers(0, 60)
NUMBERS = [np.dtype(kind) for kind in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8")]


@st.composite
def signals(draw, count, name):
    """A channel of any kind that asammdf writes."""
    t = np.arange(count) * 0.01
    kind = draw(st.sampled_from(["numbers", "linear", "words", "bytes", "list", "table", "structure"]))
    options = {"name": name, "unit": draw(st.sampled_from(["", "km/h", "degC", "furlong", "%"]))}
    if draw(st.booleans()) and count:
        options["invalidation_bits"] = draw(hnp.arrays(bool, count))
    dtype = draw(st.sampled_from(NUMBERS))
    if kind == "words":
        encoding = draw(st.sampled_from(["utf-8", "latin-1"]))
        letters = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_categories=["Cc"]), max_size=9)
        words = np.array([draw(letters).encode(encoding) for _ in range(count)] or [b""])[:count]
        return Signal(words, t, encoding=encoding, **options)
    if kind == "bytes":
        return Signal(draw(hnp.arrays(np.uint8, (count, draw(st.integers(1, 9))))), t, **options)
    if kind == "list":
        return Signal(draw(hnp.arrays(draw(st.sampled_from(NUMBERS[1:])), (count, draw(st.integers(1, 4))))), t, **options)
    if kind == "structure":
        parts = np.dtype([(f"{name}_a", draw(st.sampled_from(NUMBERS[:8]))), (f"{name}_b", "<f4")])
        return Signal(draw(hnp.arrays(np.uint8, (count, parts.itemsize))).view(parts)[:, 0], t, name=name)
    if kind == "linear":
        options["conversion"] = {"a": draw(st.sampled_from([0.5, -3.0, 1.0])), "b": draw(st.sampled_from([0.0, 7.25]))}
        dtype = draw(st.sampled_from(NUMBERS[:8]))
    if kind == "table":
        options["conversion"] = {"val_0": 0, "text_0": b"off", "val_1": 1, "text_1": b"on", "default": b"?"}
        dtype = draw(st.sampled_from(NUMBERS[:6]))
    return Signal(draw(hnp.arrays(dtype, count)), t, **options)


@st.composite
def logs(draw):
    groups = []
    for number in range(draw(st.integers(1, 3))):
        count = draw(COUNTS)
        group = [draw(signals(count, f"c{i % 3}")) for i in range(draw(st.integers(1, 5)))]
        groups.append((draw(st.sampled_from(["", "first", f"group {number}"])), group))
    return groups


def write(path, groups, *, compression, fragment):
    with MDF(version="4.10") as log:
        log.configure(write_fragment_size=fragment)
        for name, group in groups:
            log.append(group, acq_name=name, comment="", common_timebase=True)
        log.save(path, compression=compression)
    return path


def wide_enough(found):
    """asammdf cannot write a file in which all groups are empty."""
    return any(len(signal) for _, group in found for signal in group)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(log=logs().filter(wide_enough), compression=st.integers(0, 2), fragment=st.sampled_from([64, 1000, 1 << 22]))
def test_generated_files_are_what_asammdf_gets_channel_by_channel(tmp_path_factory, log, compression, fragment):
    path = write(tmp_path_factory.mktemp("log") / "log.mf4", log, compression=compression, fragment=fragment)
    assert_same(path)
    assert_steps_do_not_matter(path)


def assert_steps_do_not_matter(path, batch_rows=7):
    """Raw columns made physical later, and several threads, give the same batches."""
    options = {"wanted": lambda _: True, "batch_rows": batch_rows, "leftovers": None, "findings": Findings(strict=True)}
    whole = [(b.channel, b.batch, b.last) for b in read_mdf(path, **options)]
    raw = [(b.channel, to_physical(b.batch), b.last) for b in read_mdf(path, physical=False, **options)]
    threads = [(b.channel, b.batch, b.last) for b in read_mdf(path, threads=3, **options)]
    for other in (raw, threads):
        assert [(name, batch.schema.to_string(show_schema_metadata=True), last) for name, batch, last in other] == [
            (name, batch.schema.to_string(show_schema_metadata=True), last) for name, batch, last in whole
        ]
        assert all(same(ours, theirs) for (_, ours, _), (_, theirs, _) in zip(whole, other, strict=True))
    _, reports = inspect_mdf(path, Findings(strict=True))
    assert {report.name: report.messages for report in reports} == {
        name: sum(len(batch) for other, batch, _ in whole if other == name) for name, _, _ in whole
    }


def same(one, other):
    """Equal, NaN and NaN too."""
    pairs = zip(one.columns, other.columns, strict=True)
    return all(ours.equals(theirs) or str(ours.to_pylist()) == str(theirs.to_pylist()) for ours, theirs in pairs)


@pytest.mark.parametrize("name", RECORDED)
def test_every_recorded_table_is_what_asammdf_gets_channel_by_channel(shared_data, name):
    assert_same(shared_data / name)


@pytest.mark.parametrize(
    "name",
    [
        "mdf4/measurement/ASAP2_Demo_V171.mf4",
        "mdf4/measurement/peak_dimensional_demo.mf4",
        "mdf4/canedge_ev_uds_2F6913DB/00000004_00000001.MF4",
        "corner_derived/mdf/dz_transposed_small_fragments.mf4",
        "corner_derived/mdf/strings_and_bytes.mf4",
        "corner_derived/mdf/invalidation_bits.mf4",
    ],
)
def test_raw_batches_and_threads_give_the_same_tables_for_recorded_files(shared_data, name):
    assert_steps_do_not_matter(shared_data / name, 500)
