"""What asammdf reads for us: MDF 3, and groups of MDF 4 that our own reader leaves to it."""

import struct

import numpy as np
import pyarrow as pa
import pytest
from asammdf import MDF, Signal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivelake.errors import LogDamaged
from drivelake.logs.findings import Findings
from drivelake.logs.mdf import asammdf_log
from drivelake.logs.mdf.asammdf_access import opened, read_samples, read_seconds
from drivelake.logs.mdf.reader import inspect_mdf, to_physical
from drivelake.logs.report import Leftovers
from tests.drivelake.logs.making import write_mdf
from tests.drivelake.logs.mdf.mdf_blocks import (
    START_NS,
    Block,
    channel,
    conversion,
    data_group,
    group,
    packed,
    plain,
    text,
    write_blocks,
)
from tests.drivelake.logs.mdf.reading import batches, tables, times


@pytest.fixture
def old(tmp_path):
    """Two groups of MDF 3."""
    t = times(300)
    first = [
        Signal(np.arange(300, dtype=np.int16), t, name="speed", unit="km/h", conversion={"a": 0.5, "b": 1.0}),
        Signal(np.arange(300, dtype=np.uint8), t, name="speed"),
        Signal(np.arange(300) % 2, t, name="gear", conversion={"val_0": 0, "text_0": b"P", "val_1": 1, "text_1": b"R"}),
    ]
    return write_mdf(tmp_path / "old.mdf", [("", first), ("", [Signal(np.arange(7.0), times(7), name="x")])], version="3.30")


def test_tables_of_mdf_3_are_like_those_of_mdf_4(old):
    findings = Findings(strict=True)
    found = tables(old, findings=findings)
    table = found["group_0"]
    assert table.column_names == ["t_ns", "speed", "speed#2", "gear"]
    assert table.column("t_ns").to_pylist() == [START_NS + i * 10_000_000 for i in range(300)]
    assert np.allclose(table.column("speed").to_numpy(), (np.arange(300) * 0.5 + 1) / 3.6)
    assert table.column("gear").to_pylist()[:3] == ["P", "R", "P"]
    assert table.schema.field("speed").metadata == {b"unit": b"m/s", b"source_unit": b"km/h"}
    assert found["group_1"].column("x").to_pylist() == list(range(7))
    assert findings.expected == {"group_0": 300, "group_1": 7}


def test_a_report_of_mdf_3_counts_its_records(old):
    form, reports = inspect_mdf(old, Findings(strict=True))
    assert (form, {report.name: report.messages for report in reports}) == ("mdf3", {"group_0": 300, "group_1": 7})


def test_tables_and_columns_of_mdf_3_are_chosen_by_name(old):
    found = tables(old, wanted=lambda name: name == "group_0", columns={"speed#2"})
    assert {name: table.column_names for name, table in found.items()} == {"group_0": ["t_ns", "speed#2"]}


@pytest.mark.parametrize("rows", [1, 33])
def test_values_of_mdf_3_do_not_depend_on_windows_and_batches(old, monkeypatch, rows):
    whole = tables(old)
    monkeypatch.setattr(asammdf_log, "WINDOW_BYTES", 700)
    found = batches(old, batch_rows=rows)
    assert [batch.last for batch in found if batch.channel == "group_1"].count(True) == 1
    assert found[-1].last
    assert max(len(batch.batch) for batch in found) <= rows
    assert tables(old, batch_rows=rows) == whole


def test_a_formula_of_mdf_3_is_evaluated_here_or_not_at_all(tmp_path, monkeypatch):
    t = times(4)
    signals = [
        Signal(np.arange(4, dtype=np.uint8), t, name="safe", conversion={"formula": "2 * X + 1"}),
        Signal(np.arange(4, dtype=np.uint8), t, name="evil", conversion={"formula": "__import__('os').mkdir('evil')"}),
    ]
    path = write_mdf(tmp_path / "log.mdf", [("", signals)], version="3.30")
    monkeypatch.chdir(tmp_path)
    findings = Findings(strict=True)
    table = tables(path, findings=findings)["group_0"]
    assert table.to_pydict() == {"t_ns": [START_NS + i * 10**7 for i in range(4)], "safe": [1.0, 3.0, 5.0, 7.0]}
    assert any("Channel 'evil' of group 0 is left out: it has a formula" in note for note in findings.notes)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("place", ["master", "value", "nested", "other group"])
def test_no_way_to_asammdf_runs_what_a_file_says(tmp_path, monkeypatch, place):
    """The group is read by asammdf for its complex channel."""
    evil = conversion(3, (), [text("__import__('os').mkdir('evil')")])
    nested = conversion(8, (0.0, 100.0), [evil, None])
    links = {"value": {4: evil}, "nested": {4: nested}}.get(place, {})

    def one(name, evil_master, evil_value):
        master = channel("t", kind=2, sync=1, data_type=4, bits=64, links={4: evil} if evil_master else {})
        complex_one = channel("z", data_type=15, at=8, bits=64, links={4: conversion(1, (1.0, 2.0))})
        channels = [master, complex_one, channel("x", at=16, links=evil_value)]
        records = b"".join(struct.pack("<dffB", i, i, i, i) for i in range(5))
        return data_group([group(channels, record_bytes=17, cycles=5, name=text(name))], plain(records))

    first = one("first", place == "master", links)
    first.links[0] = one("second", evil_master=False, evil_value={4: evil} if place == "other group" else {})
    path, findings = write_blocks(tmp_path / "log.mf4", first), Findings(strict=True)
    monkeypatch.chdir(tmp_path)
    inspect_mdf(path, Findings(strict=True))
    found = tables(path, findings=findings)
    assert not (tmp_path / "evil").exists()
    assert ("first" in found) == (place != "master")
    assert "x" not in found["second" if place == "other group" else "first"].column_names if place != "master" else True
    assert any("formula that cannot be read" in note for note in findings.notes)
    # and if a caller of asammdf asked for it all the same
    with opened(path) as mdf:
        at = 1 if place == "other group" else 0
        with pytest.raises(LogDamaged):
            read_seconds(mdf, at, 0, 5) if place == "master" else read_samples(mdf, at, 2, 0, 5)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("method", [2, 3, 4, 5, 9])
def test_packed_data_that_no_library_unpacks_are_damage(tmp_path, method):
    master = channel("t", kind=2, sync=1, data_type=4, bits=64)
    one = group([master], record_bytes=8, cycles=5, name=text("one"))
    path = write_blocks(tmp_path / "log.mf4", data_group([one], packed(bytes(40), method=method, columns=8)))
    with pytest.raises(LogDamaged):
        tables(path)


def test_a_time_of_mdf_3_that_is_a_formula_is_no_time(tmp_path, monkeypatch):
    path = write_mdf(tmp_path / "log.mdf", [("", [Signal(np.arange(4.0), times(4), name="x")])], version="3.30")
    real = asammdf_log.formula_of
    monkeypatch.setattr(asammdf_log, "formula_of", lambda mdf, one: "open('x')" if one.name == "time" else real(mdf, one))
    leftovers, findings = Leftovers(), Findings(strict=True)
    assert tables(path, leftovers=leftovers, findings=findings) == {}
    assert "its time has a formula" in leftovers.unsupported["group_0"]


def test_the_shape_of_arrays_is_kept_whoever_reads_them(tmp_path):
    def array(shape):
        return Block("CA", [None], struct.pack(f"<BBHIiI{len(shape)}Q", 0, 0, len(shape), 0, 2, 0, *shape))

    def channels():
        master = channel("t", kind=2, sync=1, data_type=4, bits=64)
        grid = channel(
            "grid", data_type=2, at=8, bits=16, links={1: array((2, 3)), 4: conversion(1, (0.0, 2.0)), 6: text("km/h")}
        )
        return [master, grid, channel("row", data_type=2, at=8, bits=16, links={1: array((6,))})]

    strange = channel("z", data_type=15, at=20, bits=64, links={4: conversion(1, (1.0, 2.0))})
    records = b"".join(struct.pack("<d6h2f", i, *range(i, i + 6), 0, 0) for i in range(4))
    first = data_group([group(channels(), record_bytes=28, cycles=4, name=text("own"))], plain(records))
    other = data_group([group([*channels(), strange], record_bytes=28, cycles=4, name=text("foreign"))], plain(records))
    first.links[0] = other
    path = write_blocks(tmp_path / "log.mf4", first)
    found = tables(path)
    for name in ("own", "foreign"):
        field = found[name].schema.field("grid")
        assert field.metadata == {b"unit": b"m/s", b"source_unit": b"km/h", b"shape": b"2,3"}
        assert pa.types.is_fixed_size_list(field.type)
        assert b"shape" not in found[name].schema.field("row").metadata
    assert found["own"].column("grid").to_pylist() == found["foreign"].column("grid").to_pylist()
    raw = [batch.batch for batch in batches(path, physical=False) if batch.channel == "own"]
    assert raw[0].schema.field("grid").metadata[b"shape"] == b"2,3"
    assert to_physical(raw[0]).schema.equals(found["own"].schema, check_metadata=True)


def test_a_time_of_mdf_3_that_is_no_number_costs_its_record(tmp_path):
    signals = [Signal(np.arange(3.0), np.array([0.0, np.nan, 2.0]), name="x")]
    path, findings = write_mdf(tmp_path / "log.mdf", [("", signals)], version="3.30"), Findings()
    assert tables(path, findings=findings)["group_0"].column("x").to_pylist() == [0.0, 2.0]
    assert findings.sentences == ("Group 0 has the time nan s at record 1.",)
    assert findings.lost == {"group_0": 1}
    with pytest.raises(LogDamaged, match="record 1"):
        tables(path)


def test_more_records_than_the_data_of_mdf_3_hold_are_damage(old):
    with MDF(old) as mdf:
        address = mdf.groups[1].channel_group.address
    data = bytearray(old.read_bytes())
    # number of records, behind the size of a record
    at = address + 4 + 3 * 4 + 2 + 2 + 2
    assert int.from_bytes(data[at : at + 4], "little") == 7
    data[at : at + 4] = (1 << 30).to_bytes(4, "little")
    old.write_bytes(data)
    findings = Findings()
    found = tables(old, findings=findings)
    assert found["group_0"].num_rows == 300
    assert findings.reasons["group_1"]
    assert findings.expected["group_1"] == 1 << 30
    with pytest.raises(LogDamaged, match="group 1"):
        tables(old)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_of_mdf_3_makes_a_reader_raise_anything_but_damage(old, tmp_path, place, bit):
    data = bytearray(old.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path = tmp_path / "flipped.mdf"
    path.write_bytes(data)
    if data[8:9] not in b"23":
        return
    for read in (lambda: inspect_mdf(path, Findings()), lambda: batches(path, findings=Findings(), leftovers=Leftovers())):
        try:
            read()
        except LogDamaged:
            continue


def mixed_file(path):
    """Two groups; one has complex numbers with a conversion, which our own reader leaves to asammdf."""
    time = [channel("t", kind=2, sync=1, data_type=4, bits=64) for _ in range(2)]
    records = b"".join(struct.pack("<dffB", i * 0.5, i, -i, i) for i in range(5))
    foreign = [
        time[0],
        channel("z", data_type=15, at=8, bits=64, links={4: conversion(1, (1.0, 2.0))}),
        channel("n", at=16),
        channel("f", at=16, links={4: conversion(3, (), [text("__import__('os').mkdir('evil')")])}),
    ]
    own = [time[1], channel("z", data_type=4, at=8, bits=32)]
    first = data_group([group(foreign, record_bytes=17, cycles=5, name=text("foreign"))], plain(records))
    first.links[0] = data_group([group(own, record_bytes=17, cycles=5, name=text("own"))], plain(records))
    return write_blocks(path, first)


def test_only_the_group_that_needs_it_is_read_by_asammdf_and_that_is_noted(tmp_path, monkeypatch):
    path, findings = mixed_file(tmp_path / "log.mf4"), Findings(strict=True)
    monkeypatch.chdir(tmp_path)
    found = tables(path, findings=findings)
    assert list(found) == ["foreign", "own"]
    assert found["own"].column("z").to_pylist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert found["foreign"].column("t_ns").to_pylist() == found["own"].column("t_ns").to_pylist()
    assert found["foreign"].column("z.real").to_pylist() == [2.0 * i + 1 for i in range(5)]
    assert found["foreign"].column("z.imag").to_pylist() == [-2.0 * i for i in range(5)]
    assert found["foreign"].column("n").to_pylist() == list(range(5))
    (note,) = [note for note in findings.notes if "asammdf" in note]
    assert note.startswith("Group 0 ('foreign') was read by asammdf: channel 'z': ")
    # asammdf would hand the formula of the file to `eval`
    assert "f" not in found["foreign"].column_names
    assert not (tmp_path / "evil").exists()


def test_raw_batches_of_what_asammdf_reads_are_physical_already(tmp_path):
    path = mixed_file(tmp_path / "log.mf4")
    raw = batches(path, physical=False)
    assert [to_physical(batch.batch) for batch in raw] == [batch.batch for batch in batches(path)]


def test_a_group_is_read_here_where_the_odd_channel_is_not_asked_for(tmp_path):
    findings = Findings(strict=True)
    found = tables(mixed_file(tmp_path / "log.mf4"), columns={"n"}, findings=findings)
    assert found["foreign"].column("n").to_pylist() == list(range(5))
    assert not [note for note in findings.notes if "asammdf" in note]


def test_asammdf_is_not_given_a_file_that_is_damaged_elsewhere(tmp_path):
    path = mixed_file(tmp_path / "log.mf4")
    content = bytearray(path.read_bytes())
    content[48 + 64 : 56 + 64] = (1 << 50).to_bytes(8, "little")
    path.write_bytes(content)
    findings = Findings()
    assert list(tables(path, findings=findings)) == ["own"]
    assert findings.reasons["foreign"]
    with pytest.raises(LogDamaged):
        tables(path)
