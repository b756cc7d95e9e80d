import struct
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from asammdf import Signal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivelake.errors import LogDamaged
from drivelake.logs.findings import Findings
from drivelake.logs.mdf import rows, streams
from drivelake.logs.mdf.bus import frames_of
from drivelake.logs.mdf.reader import inspect_mdf, to_physical
from drivelake.logs.report import Leftovers
from tests.drivelake.logs.making import DATABASE, write_can, write_mdf
from tests.drivelake.logs.mdf.mdf_blocks import (
    START_NS,
    channel,
    conversion,
    data_group,
    group,
    offset_list,
    packed,
    plain,
    text,
    write_blocks,
)
from tests.drivelake.logs.mdf.reading import batches, tables, times


@pytest.fixture
def log(tmp_path):
    """Two groups; the first with every kind of column."""
    t = times(500)
    modes = np.array([b"user" if i % 3 else b"pilot" for i in range(500)])
    first = [
        Signal(np.arange(500, dtype=np.float64), t, name="speed", unit="km/h"),
        Signal(np.arange(500, dtype=np.float64) / 7, t, name="angle", unit="deg"),
        Signal(np.arange(500, dtype=np.uint16), t, name="counter"),
        Signal(np.arange(500, dtype=np.int16), t, name="scaled", conversion={"a": 0.5, "b": -1.0}),
        Signal(modes, t, name="mode", encoding="utf-8"),
        Signal(np.arange(500, dtype=np.uint8), t, name="counter"),
        Signal(np.arange(500) % 2, t, name="gear", conversion={"val_0": 0, "text_0": b"P", "val_1": 1, "text_1": b"R"}),
        Signal(np.arange(1000, dtype=np.float32).reshape(500, 2), t, name="pair"),
        Signal(np.arange(500, dtype=np.float64), t, name="shaky", invalidation_bits=np.arange(500) % 5 == 0),
    ]
    second = [Signal(np.arange(7, dtype=np.float64), times(7), name="speed", unit="m/s")]
    return write_mdf(tmp_path / "log.mf4", [("first", first), ("", second)])


def test_values_times_and_types_of_a_group(log):
    table = tables(log)["first"]
    assert table.column("t_ns").to_pylist() == [START_NS + i * 10_000_000 for i in range(500)]
    assert np.allclose(table.column("speed").to_numpy(), np.arange(500) / 3.6)
    assert np.allclose(table.column("angle").to_numpy(), np.radians(np.arange(500) / 7))
    assert table.schema.field("counter").type == pa.uint16()
    assert table.column("scaled").to_pylist()[:3] == [-1.0, -0.5, 0.0]
    assert table.column("mode").to_pylist()[:4] == ["pilot", "user", "user", "pilot"]
    assert table.column("gear").to_pylist()[:3] == ["P", "R", "P"]
    assert table.column("shaky").to_pylist() == [None if i % 5 == 0 else float(i) for i in range(500)]


def test_units_are_si_and_the_recorded_unit_is_kept(log):
    schema = tables(log)["first"].schema
    assert schema.field("speed").metadata == {b"unit": b"m/s", b"source_unit": b"km/h"}
    assert schema.field("counter").metadata == {b"unit": b"", b"source_unit": b""}


def test_raw_values_carry_their_conversion_and_no_unit_that_they_do_not_have(log):
    field = tables(log, physical=False)["first"].schema.field("scaled")
    assert pa.types.is_int16(field.type)
    assert field.metadata[b"conversion"].startswith(b'{"kind":1,"values":[-1.0,0.5]')
    assert [field.metadata[key] for key in (b"unit", b"source_unit")] == [b"", b""]
    speed = tables(log, physical=False)["first"].schema.field("speed")
    assert speed.metadata == {b"unit": b"km/h", b"source_unit": b"km/h", b"conversion": b"null"}


def test_raw_batches_become_physical_ones_later(log):
    raw, whole = batches(log, physical=False), batches(log)
    assert [to_physical(batch.batch) for batch in raw] == [batch.batch for batch in whole]


def test_a_name_that_repeats_survives_in_its_group_and_across_groups(log):
    found = tables(log)
    assert {"counter", "counter#2"} <= set(found["first"].column_names)
    assert found["first"].column("counter#2").to_pylist() == [i % 256 for i in range(500)]
    assert found["group_1"].column("speed").to_pylist() == list(range(7))


def test_only_the_columns_that_are_asked_for_are_read(log):
    found = tables(log, columns={"counter#2", "speed"})
    assert found["first"].column_names == ["t_ns", "speed", "counter#2"]
    assert found["first"].column("counter#2").to_pylist() == [i % 256 for i in range(500)]
    assert found["group_1"].column_names == ["t_ns", "speed"]


def test_tables_that_are_not_wanted_are_not_inflated(tmp_path):
    signals = [Signal(np.arange(3000.0), times(3000), name="x")]
    path = write_mdf(tmp_path / "log.mf4", [("bad", signals), ("good", signals)], compression=1)
    data = bytearray(path.read_bytes())
    data[data.index(b"##DZ") + 200] ^= 0xFF
    path.write_bytes(data)
    assert tables(path, wanted=lambda name: name == "good")["good"].num_rows == 3000
    with pytest.raises(LogDamaged, match="compressed data"):
        tables(path, wanted=lambda name: name == "bad")


def test_the_last_batch_of_a_group_says_so(log):
    found = [(b.channel, len(b.batch), b.last) for b in batches(log, batch_rows=200)]
    assert found == [("first", 200, False), ("first", 200, False), ("first", 100, True), ("group_1", 7, True)]


@pytest.mark.parametrize("window_bytes", [1, 1000, 20_000])
def test_values_do_not_depend_on_the_window(log, monkeypatch, window_bytes):
    whole = tables(log)
    monkeypatch.setattr(streams, "WINDOW_BYTES", window_bytes)
    monkeypatch.setattr(rows, "PART_BYTES", window_bytes)
    assert tables(log, batch_rows=33) == whole
    assert tables(log, batch_rows=33, threads=2) == whole


def test_a_group_without_records_is_a_table_without_rows(tmp_path):
    groups = [group([channel("t", kind=2, sync=1, data_type=4, bits=64), channel("x", at=8)], record_bytes=9)]
    (batch,) = batches(write_blocks(tmp_path / "log.mf4", data_group(groups)))
    assert (batch.channel, len(batch.batch), batch.last, batch.batch.schema.names) == ("group_0", 0, True, ["t_ns", "x"])


def test_stamps_keep_the_nanosecond_far_from_the_start(tmp_path):
    t = np.array([65785.327, 65785.327000001, 66084.343])
    path = write_mdf(tmp_path / "log.mf4", [("g", [Signal(np.zeros(3), t, name="x")])])
    stamps = tables(path)["g"].column("t_ns").to_pylist()
    assert [stamp - START_NS for stamp in stamps] == [65785327000000, 65785327000001, 66084343000000]


def test_a_stamp_before_the_start_is_kept(tmp_path):
    path = write_mdf(tmp_path / "log.mf4", [("g", [Signal(np.zeros(2), np.array([-0.25, 0.5]), name="x")])])
    assert tables(path)["g"].column("t_ns").to_pylist() == [START_NS - 250_000_000, START_NS + 500_000_000]


def test_a_time_that_is_no_number_costs_its_record(tmp_path):
    path = write_mdf(tmp_path / "log.mf4", [("g", [Signal(np.arange(3.0), np.array([0.0, 1.0, np.nan]), name="x")])])
    sentence = "Group 0 has the time nan s at record 2."
    for found in (Findings(), Findings()):
        assert tables(path, findings=found)["g"].column("x").to_pylist() == [0.0, 1.0]
        assert (found.sentences, found.lost, found.expected) == ((sentence,), {"g": 1}, {"g": 3})
    inspected = Findings()
    _, (report,) = inspect_mdf(path, inspected)
    assert (report.messages, inspected.sentences) == (2, (sentence,))
    with pytest.raises(LogDamaged, match="record 2"):
        tables(path)


def test_utf_16_text_is_read(tmp_path):
    words = ["Grüße", "a", "", "車"]
    raw = np.array([word.encode("utf-16-le") for word in words])
    path = write_mdf(tmp_path / "log.mf4", [("g", [Signal(raw, times(4), name="w", encoding="utf-16-le")])])
    assert tables(path)["g"].column("w").to_pylist() == words


# records in pieces of any size and packing


RECORD = struct.Struct("<dHb")


def stored(stream, cuts, packings):
    """A stream in pieces: plain, packed, or packed and transposed with rows of so many bytes."""
    ends = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    blocks = []
    for number, (first, last) in enumerate(pairwise(ends)):
        part, packing = stream[first:last], packings[number % len(packings)]
        if packing > 0 and len(part) >= packing:
            whole = len(part) // packing * packing
            matrix = np.frombuffer(part[:whole], np.uint8).reshape(-1, packing)
            blocks.append(packed(matrix.T.tobytes() + part[whole:], method=1, columns=packing))
        else:
            blocks.append(plain(part) if packing < 0 else packed(part))
    return offset_list(blocks, ends[:-1])


def record_file(path, count, data, *, cycles=None, **options):
    channels = [
        channel("t", kind=2, sync=1, data_type=4, bits=64),
        channel("x", at=8, bits=16),
        channel("y", data_type=2, at=10, bits=8, links={4: conversion(1, (1.0, 2.0))}),
    ]
    found = group(channels, record_bytes=RECORD.size, cycles=count if cycles is None else cycles, name=text("g"))
    return write_blocks(path, data_group([found], data), **options)


def rows_of(count):
    return [{"t_ns": START_NS + i * 5 * 10**8, "x": i, "y": 1.0 + 2 * (i % 100)} for i in range(count)]


def stream_of(count):
    return b"".join(RECORD.pack(i * 0.5, i, i % 100) for i in range(count))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    count=st.integers(0, 200),
    cuts=st.lists(st.integers(1, 2200), max_size=6),
    packings=st.lists(st.sampled_from([-1, 0, RECORD.size, 4, 30]), min_size=1, max_size=3),
    run=st.sampled_from([1, 100, 4 << 20]),
    threads=st.sampled_from([1, 2, 4]),
)
def test_records_do_not_depend_on_how_their_stream_is_stored(tmp_path_factory, count, cuts, packings, run, threads):
    data = stored(stream_of(count), cuts, packings)
    path = record_file(tmp_path_factory.mktemp("log") / "log.mf4", count, data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "PART_BYTES", run)
        assert tables(path, threads=threads)["g"].to_pylist() == rows_of(count)
    _, (report,) = inspect_mdf(path, Findings(strict=True))
    assert report.messages == count


def test_rows_of_another_length_than_the_records_are_noted(tmp_path):
    for length, noted in ((RECORD.size, False), (30, True)):
        findings = Findings(strict=True)
        tables(record_file(tmp_path / "log.mf4", 9, stored(stream_of(9), [], [length])), findings=findings)
        told = [note for note in findings.notes if f"rows of {length} bytes, its records have {RECORD.size}" in note]
        assert bool(told) == noted


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    cuts=st.lists(st.integers(1, 1090), min_size=2, max_size=6, unique=True),
    bad=st.lists(st.integers(0, 6), min_size=1, max_size=3),
    run=st.sampled_from([1, 100, 4 << 20]),
    threads=st.sampled_from([1, 3]),
)
def test_behind_a_lost_piece_reading_goes_on_at_the_next_whole_record(tmp_path_factory, cuts, bad, run, threads):
    stream = stream_of(100)
    data = stored(stream, cuts, [0])
    path = record_file(tmp_path_factory.mktemp("log") / "log.mf4", 100, data)
    content, ends = bytearray(path.read_bytes()), sorted({0, len(stream), *cuts})
    lost = set()
    for number in {number for number in bad if number < len(ends) - 1}:
        content[data.links[number + 1].offset + 24 + 24 + 1] ^= 0x5F
        first, last = ends[number], ends[number + 1]
        lost.update(range(first // RECORD.size, -(-last // RECORD.size)))
    path.write_bytes(content)
    findings = Findings()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "PART_BYTES", run)
        found = tables(path, findings=findings, threads=threads)["g"].to_pylist()
    assert found == [row for i, row in enumerate(rows_of(100)) if i not in lost]
    assert (findings.expected, findings.lost["g"]) == ({"g": 100}, len(lost))
    assert bool(findings.sentences) == bool(lost)
    inspected = Findings()
    _, (report,) = inspect_mdf(path, inspected)
    assert (report.messages, inspected.lost["g"]) == (100 - len(lost), len(lost))


@pytest.mark.parametrize(("cycles", "lost"), [(101, 1), (1 << 40, (1 << 40) - 100), (99, 0)])
def test_a_count_that_does_not_fit_the_data_is_damage(tmp_path, cycles, lost):
    path = record_file(tmp_path / "log.mf4", 100, plain(stream_of(100)), cycles=cycles)
    with pytest.raises(LogDamaged, match=rf"promises {cycles} records of 11 bytes, its data hold 1100 bytes"):
        tables(path)
    findings = Findings()
    assert tables(path, findings=findings)["g"].to_pylist() == rows_of(min(100, cycles))
    assert (findings.expected["g"], findings.lost["g"]) == (cycles, lost)


def test_an_unfinalised_file_is_counted_and_its_torn_record_is_no_damage(tmp_path):
    data = plain(stream_of(100) + bytes(4), length=24)
    path = record_file(tmp_path / "log.mf4", 0, data, last=[data], unfinalised=0x25)
    findings = Findings(strict=True)
    assert tables(path, findings=findings)["g"].to_pylist() == rows_of(100)
    assert findings.expected == {}
    assert findings.lost == {"g": 1}
    assert any("end inside a record: 4 of its 11 bytes are there" in note for note in findings.notes)


# values of varying length


def values_file(path, words, *, broken=None, data_type=7):
    """One group whose channel has its values in signal data of several packed pieces."""
    stream = b"".join(struct.pack("<I", len(word)) + word for word in words)
    offsets = np.cumsum([0, *(4 + len(word) for word in words)])[:-1].tolist()
    cuts = [len(stream) // 3, 2 * len(stream) // 3]
    ends = sorted({0, *cuts, len(stream)})
    blocks = [packed(stream[first:last], "SD") for first, last in pairwise(ends)]
    records = b"".join(struct.pack("<dQ", i * 0.5, offset) for i, offset in enumerate(offsets))
    word = channel("w", kind=1, data_type=data_type, at=8, bits=64, links={5: offset_list(blocks, ends[:-1])})
    channels = [channel("t", kind=2, sync=1, data_type=4, bits=64), word]
    write_blocks(path, data_group([group(channels, record_bytes=16, cycles=len(words), name=text("g"))], plain(records)))
    if broken is not None:
        content = bytearray(path.read_bytes())
        content[blocks[broken].offset + 24 + 24 + 1] ^= 0x5F
        path.write_bytes(content)
    first, last = (0, 0) if broken is None else (ends[broken], ends[broken + 1])
    gone = [i for i, (at, word) in enumerate(zip(offsets, words, strict=True)) if at < last and at + 4 + len(word) > first]
    return path, gone


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(words=st.lists(st.binary(max_size=30), min_size=1, max_size=40), threads=st.sampled_from([1, 2]))
def test_values_of_varying_length_are_whole_wherever_their_pieces_end(tmp_path_factory, words, threads):
    path, _ = values_file(tmp_path_factory.mktemp("log") / "log.mf4", words, data_type=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drivelake.logs.mdf.decoding.VALUES_BYTES", 40)
        patch.setattr("drivelake.logs.mdf.values.CHUNK_BYTES", 25)
        assert tables(path, threads=threads)["g"].column("w").to_pylist() == words


def test_text_of_varying_length_ends_at_its_first_zero(tmp_path):
    path, _ = values_file(tmp_path / "log.mf4", [b"one\0", b"\0", b"", b"t\0wo", b"three"])
    assert tables(path)["g"].column("w").to_pylist() == ["one", "", "", "t", "three"]
    words = [word.encode("utf-16-be") for word in ("ā\0", "", "Ā", "a\0Ā", "三Ā三")]
    path, _ = values_file(tmp_path / "wide.mf4", words, data_type=9)
    assert tables(path)["g"].column("w").to_pylist() == ["ā", "", "Ā", "a", "三Ā三"]


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_lost_piece_of_values_costs_the_records_that_point_into_it(tmp_path, broken):
    words = [b"word %d" % i for i in range(90)]
    path, gone = values_file(tmp_path / "log.mf4", words, broken=broken)
    findings = Findings()
    found = tables(path, findings=findings)["g"].column("w").to_pylist()
    assert found == [word.decode() for i, word in enumerate(words) if i not in gone]
    assert findings.lost["g"] == len(gone) > 25
    _, (report,) = inspect_mdf(path, Findings())
    assert report.messages == 90 - len(gone)
    with pytest.raises(LogDamaged, match="compressed data"):
        tables(path)


# what nobody reads


def test_a_group_without_time_has_no_table_and_the_reason_is_kept(tmp_path):
    groups = [group([channel("x")], record_bytes=1, cycles=3)]
    path = write_blocks(tmp_path / "log.mf4", data_group(groups, plain(b"abc")))
    leftovers, findings = Leftovers(), Findings(strict=True)
    assert batches(path, leftovers=leftovers, findings=findings) == []
    assert leftovers.unsupported == {"group_0": "it has no master channel, so its records have no time"}
    assert any("Group 0 ('group_0') has no table" in note for note in findings.notes)


@pytest.mark.parametrize("data_type", [6, 10, 13, 15], ids=["text", "bytes", "date", "complex"])
def test_a_time_that_is_no_real_number_gives_no_table(tmp_path, data_type):
    channels = [channel("t", kind=2, sync=1, data_type=data_type, bits=64), channel("x", at=8)]
    groups = [group(channels, record_bytes=9, cycles=2)]
    path = write_blocks(tmp_path / "log.mf4", data_group(groups, plain(bytes(18))))
    leftovers = Leftovers()
    assert batches(path, leftovers=leftovers, findings=Findings(strict=True)) == []
    assert leftovers.unsupported == {"group_0": f"its time is of data type {data_type}, expected a number"}


@pytest.mark.parametrize("data_type", [0, 10], ids=["payload is a number", "payload is bytes"])
def test_a_bus_group_is_a_table_of_frames_only_if_its_payload_is_bytes(tmp_path, data_type):
    channels = [
        channel("t", kind=2, sync=1, data_type=4, bits=64),
        channel("CAN_DataFrame.ID", at=8, bits=32),
        channel("CAN_DataFrame.DataBytes", at=12, data_type=data_type, bits=64),
    ]
    groups = [group(channels, record_bytes=20, cycles=1, flags=2)]
    path = write_blocks(tmp_path / "log.mf4", data_group(groups, plain(struct.pack("<dI8s", 0.5, 7, b"12345678"))))
    (table,) = tables(path, findings=Findings(strict=True)).values()
    assert ("id" in table.column_names) == (data_type == 10)
    assert table.num_rows == 1


def test_a_formula_that_is_not_known_is_never_evaluated(tmp_path, monkeypatch):
    evil = conversion(3, (), [text("__import__('os').mkdir('evil')")])
    channels = [channel("t", kind=2, sync=1, data_type=4, bits=64), channel("x", at=8, links={4: evil}), channel("y", at=9)]
    records = struct.pack("<dBB", 0.5, 1, 2)
    groups = [group(channels, record_bytes=10, cycles=1)]
    path = write_blocks(tmp_path / "log.mf4", data_group(groups, plain(records)))
    monkeypatch.chdir(tmp_path)
    findings = Findings(strict=True)
    assert tables(path, findings=findings)["group_0"].column_names == ["t_ns", "y"]
    assert any("Channel 'x' of group 0 is left out: it has a formula that cannot be read" in note for note in findings.notes)
    assert not (tmp_path / "evil").exists()


# bus logging


def motion(speed_counts, turn, heat):
    return struct.pack("<HbB", speed_counts, turn, heat) + bytes(4)


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "car.dbc"
    path.write_text(DATABASE)
    return path


@pytest.mark.parametrize("kept", [0, 1 << 30])
def test_frames_become_messages_whether_or_not_they_are_kept_between_the_passes(tmp_path, database, monkeypatch, kept):
    monkeypatch.setattr("drivelake.logs.mdf.bus.FRAMES_KEPT_BYTES", kept)
    frames = [(i / 100, i % 2, 0x100, False, motion(3600 + i, -1, 60)) for i in range(50)]
    frames.append((0.6, 0, 0x7FF, False, b"\1\2"))
    leftovers = Leftovers()
    found = tables(write_can(tmp_path / "can.mf4", frames), databases=[database], leftovers=leftovers, batch_rows=7)
    assert {name: table.num_rows for name, table in found.items()} == {"Motion@bus0": 25, "Motion@bus1": 25}
    assert found["Motion@bus1"].column("Speed").to_pylist() == pytest.approx([(3601 + i) / 360 for i in range(0, 50, 2)])
    assert leftovers.frames == {(0, "0x7ff", "unknown id"): 1}


def test_columns_of_messages_are_chosen_by_name(tmp_path, database):
    path = write_can(tmp_path / "can.mf4", [(0.0, 0, 0x100, False, motion(1, 2, 3))])
    assert tables(path, databases=[database], columns={"Turn"})["Motion"].column_names == ["t_ns", "Turn"]
    assert tables(path, columns={"id", "data"})["CAN"].column_names == ["t_ns", "id", "data"]


def member_batch(**members):
    """Rows of a bus logging group, physical."""
    count = len(members["DataBytes"])
    members = {"ID": [1] * count, **members}
    arrays = [pa.array(range(count), pa.int64())]
    arrays += [pa.array(v, pa.binary()) if n == "DataBytes" else pa.array(v) for n, v in members.items()]
    return pa.RecordBatch.from_arrays(arrays, names=["t_ns", *(f"CAN_DataFrame.{name}" for name in members)])


def test_bytes_behind_a_payload_are_zero_and_payloads_are_8_or_64_bytes_wide():
    frames, wrong = frames_of(member_batch(DataBytes=[b"12345678", b"ABCDEFGH"], DataLength=[8, 3]), "can.frames")
    assert (frames.data.tolist(), frames.length.tolist(), wrong) == ([list(b"12345678"), [*b"ABC", 0, 0, 0, 0, 0]], [8, 3], 0)
    frames, _ = frames_of(member_batch(DataBytes=[b"123456789", b"A"], DataLength=[9, 1]), "can.frames")
    assert (frames.data.shape, frames.data[1].tolist()) == ((2, 64), [65, *[0] * 63])


def test_an_extended_id_is_told_by_either_mark():
    batch = member_batch(DataBytes=[b"", b"", b""], ID=[0x8000_0123, 0x123, 0x123], IDE=[0, 1, 0], DataLength=[0, 0, 0])
    frames, _ = frames_of(batch, "can.frames")
    assert (frames.id.tolist(), frames.extended.tolist()) == ([0x123] * 3, [True, True, False])


def test_a_length_that_the_log_does_not_say_comes_from_the_code():
    frames, _ = frames_of(member_batch(DataBytes=[bytes(64), bytes(64)], DLC=[9, 15]), "can.frames")
    assert frames.length.tolist() == [12, 64]
    frames, _ = frames_of(member_batch(DataBytes=[bytes(8), bytes(8)], DLC=[9, 2]), "can.frames")
    assert frames.length.tolist() == [8, 2]


def test_a_frame_that_declares_more_than_it_holds_is_left_out_and_counted():
    frames, wrong = frames_of(member_batch(DataBytes=[b"12", b"34"], DataLength=[2, 3], ID=[5, 6]), "can.frames")
    assert (frames.id.tolist(), wrong) == ([5], 1)


def lin_file(path):
    names = ("LIN_Frame.BusChannel", "LIN_Frame.ID", "LIN_Frame.DataLength")
    members = [channel(name, at=8 + place) for place, name in enumerate(names)]
    members.append(channel("LIN_Frame.DataBytes", data_type=10, at=11, bits=64))
    frame = channel("LIN_Frame", data_type=10, at=8, bits=88)
    frame.links[1] = members[0]
    for one, following in pairwise(members):
        one.links[0] = following
    channels = [channel("t", kind=2, sync=1, data_type=4, bits=64), frame]
    records = b"".join(struct.pack("<dBBB8s", i * 0.5, 1, 0x3C, 2, b"ab") for i in range(3))
    return write_blocks(path, data_group([group(channels, record_bytes=19, cycles=3, flags=2, name=text("L"))], plain(records)))


def test_lin_frames_are_a_table_where_no_database_describes_them(tmp_path, database):
    path = lin_file(tmp_path / "log.mf4")
    for databases in ([], [database]):
        (batch,) = batches(path, databases=databases)
        assert (batch.channel, batch.type, len(batch.batch)) == ("L", "lin.frames", 3)
        assert batch.batch.to_pylist()[1] == {
            "t_ns": START_NS + 5 * 10**8, "bus": 1, "id": 0x3C, "extended": False, "dlc": 2, "data": b"ab",
        }  # fmt: skip


def test_lin_frames_are_messages_where_a_database_describes_them(tmp_path, database):
    lin = tmp_path / "lin.dbc"
    lin.write_text(
        'VERSION ""\nNS_ :\nBS_:\nBU_: Car\nBO_ 60 Door: 2 Car\n SG_ Handle : 0|8@1+ (1,0) [0|255] "" Car\n'
        'BA_DEF_ "BusType" STRING ;\nBA_DEF_DEF_ "BusType" "";\nBA_ "BusType" "LIN";\n'
    )
    found = tables(lin_file(tmp_path / "log.mf4"), databases=[lin, database])
    assert found["Door"].column("Handle").to_pylist() == [ord("a")] * 3


# recorded corner cases


SOUND = {
    "attachments.mf4": {"group_0": 3313},
    "duplicate_names_unicode_conversions.mf4": {"Grüppe": 3313, "a": 3313, "b": 3313, "group_3": 3313},
    "dz_transposed_small_fragments.mf4": {"group_0": 3313, "group_1": 3314, "group_2": 3313},
    "invalidation_bits.mf4": {"group_0": 3313},
    "strings_and_bytes.mf4": {"group_0": 200},
    "time_trouble.mf4": {"group_0": 3313, "group_1": 3313, "group_2": 3313, "group_3": 0, "group_4": 3313},
    "version_3.30.mdf": {"group_0": 3313, "group_1": 3314, "group_2": 3313},
    "version_4.20.mf4": {"group_0": 3313},
}


@pytest.mark.parametrize(("name", "messages"), SOUND.items(), ids=SOUND)
def test_each_sound_corner_case_is_sound_and_read_to_its_end(shared_data, name, messages):
    path, findings = shared_data / "corner_derived" / "mdf" / name, Findings(strict=True)
    _, reports = inspect_mdf(path, findings)
    assert {channel.name: channel.messages for channel in reports} == findings.expected == messages
    assert {channel: table.num_rows for channel, table in tables(path).items()} == messages


def test_a_log_that_lost_its_power_is_read_to_its_last_whole_frame(shared_data):
    path, findings = shared_data / "corner_derived" / "mdf" / "truncated_unfinalised.MF4", Findings(strict=True)
    _, reports = inspect_mdf(path, findings)
    assert sum(report.messages for report in reports) == sum(table.num_rows for table in tables(path).values()) == 3189
    assert findings.lost == {"CAN_DataFrame": 1}


@pytest.mark.parametrize("name", ["zero_bytes.mf4", "only_id_block.mf4"])
def test_a_file_without_a_header_is_damaged(shared_data, name):
    for read in (tables, lambda path: inspect_mdf(path, Findings())):
        with pytest.raises(LogDamaged, match="file"):
            read(shared_data / "corner_derived" / "mdf" / name)


def test_time_trouble_is_measured(shared_data):
    _, reports = inspect_mdf(shared_data / "corner_derived" / "mdf" / "time_trouble.mf4", Findings())
    channels = {report.name: report for report in reports}
    assert [channels[f"group_{i}"].backward_steps for i in range(5)] == [1, 0, 0, 0, 0]
    assert channels["group_4"].gap_ms_max > 3_599_000


def test_text_bytes_and_invalid_samples_of_recorded_corner_cases(shared_data):
    folder = shared_data / "corner_derived" / "mdf"
    rows = tables(folder / "strings_and_bytes.mf4")["group_0"].to_pylist()
    assert rows[2]["vlsd_text"] == "frame_2" * 3
    assert len(rows[0]["blob16"]) == 16
    speed = tables(folder / "invalidation_bits.mf4")["group_0"]
    assert (speed.column("car_speed").null_count, speed.column("car_speed_kmh").null_count) == (115, 0)


# damage


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.95])
def test_a_file_that_was_cut_short_is_named(log, kept):
    data = log.read_bytes()
    log.write_bytes(data[: int(kept * len(data))])
    findings = Findings()
    try:
        inspect_mdf(log, findings)
    except LogDamaged:
        assert kept < 0.3
    else:
        assert findings.sentences
    with pytest.raises(LogDamaged):
        tables(log)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), strict=st.booleans())
def test_no_flipped_bit_makes_a_reader_raise_anything_but_damage(log, tmp_path, place, bit, strict):
    data = bytearray(log.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path = tmp_path / "flipped.mf4"
    path.write_bytes(data)
    try:
        inspect_mdf(path, Findings(strict=strict))
        found = batches(path, findings=Findings(strict=strict), leftovers=Leftovers())
    except LogDamaged:
        return
    assert all(len(batch.batch) <= 1000 for batch in found)


# memory


BOUNDED = """
import resource, sys
from pathlib import Path
from drivelake.logs.findings import Findings
from drivelake.logs.mdf.reader import inspect_mdf, read_mdf
resource.setrlimit(resource.RLIMIT_DATA, (400 << 20, 400 << 20))
path, rows = Path(sys.argv[1]), 0
for batch in read_mdf(path, wanted=lambda _: True, batch_rows=8192, leftovers=None, findings=Findings(strict=True), threads=2):
    rows += len(batch.batch)
_, (report,) = inspect_mdf(path, Findings(strict=True))
print(rows, report.messages)
"""


@pytest.mark.slow
def test_500_megabytes_in_one_plain_block_are_read_in_less_memory_than_that(tmp_path):
    count = 500_000_000 // RECORD.size
    path = record_file(tmp_path / "log.mf4", 0, None, cycles=count)
    content = bytearray(path.read_bytes())
    content += bytes(-len(content) % 8)
    at = content.index(b"##DG")
    content[at + 24 + 16 : at + 24 + 24] = len(content).to_bytes(8, "little")
    content += struct.pack("<4s4xQQ", b"##DT", 24 + count * RECORD.size, 0)
    with path.open("wb") as file:
        file.write(content)
        file.truncate(len(content) + count * RECORD.size)  # zeros that take no disk
    done = subprocess.run([sys.executable, "-c", BOUNDED, str(path)], capture_output=True, text=True, timeout=300, check=False)
    assert done.stderr == ""
    assert done.stdout.split() == [str(count), str(count)]
