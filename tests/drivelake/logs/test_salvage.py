"""Salvaging: what is sound is kept as it was, what is written is sound, and nothing is ever replaced."""

import errno
import os
import shutil
import struct
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from asammdf import MDF, Signal
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader

from bench.mdf_files import Column, MdfWriter
from drivelake.errors import InputError, LogDamaged, UnsupportedLog
from drivelake.logs import Findings, Leftovers, inspect_log, read_log
from drivelake.logs.mdf import recopy
from drivelake.logs.salvage import publish, salvage_log, salvaged_name
from tests.drivelake.logs.making import IMU, LAYOUTS, drive_mcap, imu, write_mcap, write_mdf
from tests.fuzz.corpus import corpus

MCAP_LAYOUTS = ["zstd", "lz4", "uncompressed chunks", "no chunks", "no summary"]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """One small sound log of every format."""
    return {seed.name: seed.data for seed in corpus(tmp_path_factory.mktemp("seeds"))}


def tables(path):
    """Every table of a log, without pointers into the file."""
    rows = {}
    for found in read_log(path, findings=Findings(), leftovers=Leftovers()):
        kept = [name for name in found.batch.schema.names if name not in {"payload_chunk", "payload_offset"}]
        rows.setdefault(found.channel, []).append(found.batch.select(kept))
    return {name: pa.Table.from_batches(batches) for name, batches in sorted(rows.items())}


def messages(data):
    """Everything that an official reader says about each message, in file order."""
    with BytesIO(data) as file:
        return [
            (schema and (schema.id, schema.name, schema.data), channel, message)
            for schema, channel, message in make_reader(file, validate_crcs=True).iter_messages(log_time_order=False)
        ]


def salvaged(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    out = tmp_path / "out" / salvaged_name(path)
    out.parent.mkdir(exist_ok=True)
    return path, out, salvage_log(path, out)


# ---------------------------------------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize("layout", MCAP_LAYOUTS)
def test_a_sound_mcap_keeps_every_message_byte_for_byte(layout, tmp_path):
    data = drive_mcap(40, attachment=b"a note", **LAYOUTS[layout])
    _, out, report = salvaged(tmp_path, "camera.mcap", data)
    sound = drive_mcap(40, attachment=b"a note")  # the library cannot read files without summary in their order
    assert messages(out.read_bytes()) == messages(sound)
    assert report.damage == ()
    assert {c.channel: (c.recovered, c.lost, c.why) for c in report.channels} == {
        "/camera": (20, 0, ()),
        "/imu": (40, 0, ()),
        "/silent": (0, 0, ()),
    }
    with out.open("rb") as file:
        (attachment,) = make_reader(file, validate_crcs=True).iter_attachments()
    assert (attachment.name, attachment.data, attachment.create_time, attachment.log_time) == ("notes", b"a note", 1, 2)


def test_what_is_written_is_compressed_checked_indexed_and_summed_up(tmp_path):
    _, out, _ = salvaged(tmp_path, "camera.mcap", drive_mcap(300, **LAYOUTS["no summary"]))
    with out.open("rb") as file:
        kinds = Counter(type(record).__name__ for record in StreamReader(file, emit_chunks=True, validate_crcs=True).records)
        file.seek(0)
        reader = make_reader(file)
        summary = reader.get_summary()
        header = reader.get_header()
    assert kinds["Chunk"] == kinds["ChunkIndex"] == summary.statistics.chunk_count
    assert {index.compression for index in summary.chunk_indexes} == {"zstd"}
    assert summary.statistics.message_count == 450
    assert summary.statistics.channel_message_counts == {1: 300, 2: 150, 3: 0}
    assert summary.statistics.message_start_time == min(index.message_start_time for index in summary.chunk_indexes)
    assert header.profile == "ros2"
    with out.open("rb") as file:
        late = list(make_reader(file).iter_messages(topics=["/imu"], start_time=summary.statistics.message_end_time))
    assert len(late) == 1


FINALISED = ["plain.mf4", "deflated.mf4", "transposed.mf4", "can.mf4", "unsorted.mf4", "unfinalised.mf4"]


@pytest.mark.parametrize("name", FINALISED)
def test_an_mdf_keeps_every_value_and_asammdf_reads_the_same(name, seeds, tmp_path):
    path, out, report = salvaged(tmp_path, name, seeds[name])
    before, after = tables(path), tables(out)
    assert {table: rows.num_rows for table, rows in before.items()} == {c.channel: c.recovered for c in report.channels}
    assert before.keys() == after.keys()
    for table, rows in before.items():
        assert rows.equals(after[table], check_metadata=True), table
    assert out.read_bytes()[:8] == b"MDF     "
    assert out.read_bytes()[60:64] == bytes(4)
    with MDF(out) as log:
        assert sum(group.channel_group.cycles_nr for group in log.groups) == sum(rows.num_rows for rows in before.values())
        assert "Salvaged" in log.file_history[-1].comment
        for group, found in enumerate(log.groups):
            assert found.data_group.record_id_len == 0
            for place in range(len(found.channels)):
                assert len(log.get(group=group, index=place, ignore_invalidation_bits=True)) == found.channel_group.cycles_nr


@pytest.mark.parametrize("name", ["lz4.bag", "none.bag", "bz2.bag", "bag.db3"])
def test_a_bag_becomes_an_mcap_with_the_same_tables(name, seeds, tmp_path):
    path, out, report = salvaged(tmp_path, name, seeds[name])
    assert out.suffix == ".mcap"
    before, after = tables(path), tables(out)
    assert before.keys() == after.keys()
    for table, rows in before.items():
        assert rows.equals(after[table]), table
    assert sum(c.recovered for c in report.channels) == sum(rows.num_rows for rows in before.values())
    with out.open("rb") as file:
        assert make_reader(file).get_header().profile == ("ros2" if name.endswith("db3") else "ros1")


# --------------------------------------------------------------------------------------------------------------- damage


def flipped(data, place):
    changed = bytearray(data)
    changed[place] ^= 0x10
    return bytes(changed)


def in_chunk(data, number):
    """A place inside the packed bytes of a chunk."""
    offset = 8
    while True:
        opcode, length = struct.unpack_from("<BQ", data, offset)
        if opcode == 6:
            number -= 1
            if number < 0:
                return offset + 9 + length // 2
        offset += 9 + length


def test_a_chunk_with_a_flipped_bit_costs_its_messages_only(tmp_path):
    data = drive_mcap(120)
    path, out, report = salvaged(tmp_path, "camera.mcap", flipped(data, in_chunk(data, 2)))
    sound = messages(data)
    kept = messages(out.read_bytes())
    assert 0 < len(kept) < len(sound)
    assert [message for message in sound if message in kept] == kept
    assert {c.channel: c.recovered for c in report.channels} == {c.name: c.messages for c in inspect_log(path).channels}
    assert sum(c.lost for c in report.channels) == len(sound) - len(kept)
    assert all("CRC" in " ".join(c.why) or "decompress" in " ".join(c.why) for c in report.channels if c.lost)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_cut_mcap_keeps_what_comes_before_the_cut(share, tmp_path):
    data = drive_mcap(120)
    _, out, report = salvaged(tmp_path, "camera.mcap", data[: int(len(data) * share)])
    kept = messages(out.read_bytes())
    assert messages(data)[: len(kept)] == kept
    assert sum(c.recovered for c in report.channels) == len(kept)
    assert report.damage


def test_a_damaged_block_of_an_mdf_costs_its_records_only(seeds, tmp_path):
    data = seeds["transposed.mf4"]
    place = data.index(b"##DZ") + 48 + 60
    path, out, report = salvaged(tmp_path, "signals.mf4", flipped(data, place))
    (lost,) = [c for c in report.channels if c.lost]
    assert (lost.expected, lost.recovered, lost.lost) == (120, 0, 120)
    assert {c.channel: c.recovered for c in report.channels} == {c.name: c.messages for c in inspect_log(path).channels}
    sound = tmp_path / "sound.mf4"
    sound.write_bytes(data)
    for table, rows in tables(out).items():
        if table != lost.channel:
            assert rows.equals(tables(sound)[table])


def test_a_cut_unfinalised_log_keeps_its_whole_records(seeds, tmp_path):
    data = seeds["unfinalised.mf4"]
    _, out, report = salvaged(tmp_path, "motion.mf4", data[: len(data) - 10 * 15 - 3])
    (channel,) = report.channels
    assert channel.recovered == tables(out)["motion"].num_rows == 104
    assert tables(out)["motion"]["speed"].to_pylist() == pytest.approx([i * 7 * 0.01 / 3.6 for i in range(104)])


def test_impossible_times_are_left_out(tmp_path):
    t = np.arange(50) / 10
    t[20] = np.nan
    path = write_mdf(tmp_path / "nan.mf4", [("motion", [Signal(np.arange(50.0), t, name="speed")])])
    report = salvage_log(path, tmp_path / "out.mf4")
    assert [(c.channel, c.recovered, c.lost) for c in report.channels] == [("motion", 49, 1)]
    assert 20.0 not in tables(tmp_path / "out.mf4")["motion"]["speed"].to_pylist()


def test_values_of_varying_length_stay_with_their_records_and_come_in_their_order(tmp_path):
    """In the source records share a value, and stand in another order than their values, which asammdf cannot read."""
    texts = [b"red", b"", b"a longer one \xc3\xa4", b"x" * 5000]
    places, stream = [], b""
    for text in texts:
        places.append(len(stream))
        stream += struct.pack("<I", len(text)) + text
    layout = np.dtype([("t", "<f8"), ("text", "<u8")])
    order = [3, 0, 0, 2, 1, 3, 0]
    records = np.zeros(len(order), layout)
    records["t"], records["text"] = np.arange(len(order)), [places[i] for i in order]
    writer = MdfWriter(tmp_path / "texts.mf4")
    values = writer.block(b"SD", [], stream)
    columns = [Column("t", layout["t"], 0, "s", kind=2), Column("text", np.dtype("V8"), 8, kind=1, data=values)]
    group = writer.group("texts", columns, record_bytes=16, cycles=len(order))
    writer.data_group(group, writer.block(b"DT", [], records.tobytes()))
    writer.close()
    report = salvage_log(tmp_path / "texts.mf4", tmp_path / "out.mf4")
    assert tables(tmp_path / "out.mf4")["texts"]["text"].to_pylist() == [texts[i] for i in order]
    assert report.damage == ()
    with MDF(tmp_path / "out.mf4") as log:
        assert [bytes(row).rstrip(b"\0") for row in log.get("text", raw=True).samples] == [texts[i] for i in order]


def test_a_value_that_too_many_records_share_is_no_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr(recopy, "ALL_PIECES_BYTES", 1 << 20)
    count, text = 300, b"x" * 20_000
    layout = np.dtype([("t", "<f8"), ("text", "<u8")])
    records = np.zeros(count, layout)
    records["t"] = np.arange(count)
    writer = MdfWriter(tmp_path / "texts.mf4")
    values = writer.block(b"SD", [], struct.pack("<I", len(text)) + text)
    columns = [Column("t", layout["t"], 0, "s", kind=2), Column("text", np.dtype("V8"), 8, kind=1, data=values)]
    writer.data_group(writer.group("texts", columns, record_bytes=16, cycles=count), writer.block(b"DT", [], records.tobytes()))
    writer.close()
    with pytest.raises(LogDamaged, match="shared by so many records"):
        salvage_log(tmp_path / "texts.mf4", tmp_path / "out.mf4")
    assert [path.name for path in tmp_path.iterdir()] == ["texts.mf4"]


# ----------------------------------------------------------------------------------------------------------------- laws

DAMAGED = {
    "a flip": lambda data: flipped(data, len(data) // 2),
    "a cut": lambda data: data[: len(data) * 2 // 3],
    "zeros": lambda data: data[: len(data) // 3] + bytes(64) + data[len(data) // 3 + 64 :],
    "nothing": lambda data: data,
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("name", ["zstd.mcap", "no_chunks.mcap", "deflated.mf4", "unsorted.mf4", "bz2.bag", "bag.db3"])
def test_salvaging_what_was_salvaged_changes_nothing(name, damage, seeds, tmp_path):
    try:
        _, out, report = salvaged(tmp_path, name, DAMAGED[damage](seeds[name]))
    except LogDamaged as error:
        assert "can be recovered" in error.message  # noqa: PT017 - either is right, both are checked
        return
    again = salvage_log(out, tmp_path / f"again{out.suffix}")
    assert again.damage == ()
    assert inspect_log(out).damage == ()
    assert [(c.channel, c.recovered) for c in again.channels] == [(c.channel, c.recovered) for c in report.channels]
    first, second = tables(out), tables(tmp_path / f"again{out.suffix}")
    assert all(rows.equals(second[table]) for table, rows in first.items())
    if out.suffix == ".mcap":
        assert messages(out.read_bytes()) == messages((tmp_path / f"again{out.suffix}").read_bytes())


@pytest.mark.parametrize("name", ["zstd.mcap", "transposed.mf4", "unsorted.mf4", "lz4.bag"])
def test_the_same_log_gives_the_same_bytes(name, seeds, tmp_path):
    path, out, _ = salvaged(tmp_path, name, flipped(seeds[name], len(seeds[name]) - 40))
    salvage_log(path, tmp_path / f"again{out.suffix}")
    assert (tmp_path / f"again{out.suffix}").read_bytes() == out.read_bytes()


# ------------------------------------------------------------------------------------------------------------- refusals


def test_a_file_that_is_there_is_never_replaced(tmp_path):
    path, out = tmp_path / "camera.mcap", tmp_path / "out.mcap"
    path.write_bytes(drive_mcap(10))
    out.write_bytes(b"mine")
    for there in (out, path):
        with pytest.raises(InputError, match="is there already"):
            salvage_log(path, there)
    assert out.read_bytes() == b"mine"
    assert path.read_bytes() == drive_mcap(10)


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    path, out = tmp_path / "camera.mcap", tmp_path / "out.mcap"
    path.write_bytes(drive_mcap(10))
    monkeypatch.setattr(os.path, "lexists", lambda _: out.write_bytes(b"mine") and False)
    with pytest.raises(InputError, match="is there already"):
        salvage_log(path, out)
    assert out.read_bytes() == b"mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["camera.mcap", "out.mcap"]


@pytest.mark.parametrize(
    ("name", "data"), [("a.mcap", b""), ("a.mcap", b"\x89MCAP0\r\n"), ("a.mf4", b"MDF     "), ("a.bag", b"x" * 99)]
)
def test_nothing_to_recover_is_said_and_nothing_is_written(name, data, tmp_path):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(LogDamaged, match="Nothing can be recovered"):
        salvage_log(path, tmp_path / "out.mcap")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_format_that_is_not_written_is_refused(seeds, tmp_path):
    path = tmp_path / "old.mdf"
    path.write_bytes(seeds["old.mdf"])
    with pytest.raises(UnsupportedLog, match="format mdf3"):
        salvage_log(path, tmp_path / "out.mf4")


def test_the_name_must_be_that_of_the_format(tmp_path):
    path = tmp_path / "camera.mcap"
    path.write_bytes(drive_mcap(10))
    with pytest.raises(InputError, match=r"is \.mcap, out\.mf4 is not"):
        salvage_log(path, tmp_path / "out.mf4")


def test_the_name_follows_the_content(seeds, tmp_path):
    shutil.copy(__file__, tmp_path / "x.py")
    for name, data in seeds.items():
        (tmp_path / name).write_bytes(data)
        expected = ".mf4" if name.endswith((".mf4", ".mdf")) else ".mcap"
        assert salvaged_name(tmp_path / name) == f"{Path(name).stem}.salvaged{expected}"


@pytest.fixture(params=[errno.EPERM, errno.EOPNOTSUPP])
def no_hard_links(request, monkeypatch):
    """A file system as exFAT is, or a share of SMB."""

    def refuse(source, target):
        raise OSError(request.param, os.strerror(request.param), source, None, target)

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("no_hard_links")
def test_without_hard_links_a_log_is_written_all_the_same_and_never_over_another(tmp_path):
    _, out, _ = salvaged(tmp_path, "camera.mcap", drive_mcap(40)[:-30])
    assert inspect_log(out).damage == ()
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    (tmp_path / "mine").write_bytes(b"mine")
    with pytest.raises(InputError, match="mine is there already"):
        publish(out, tmp_path / "mine")
    assert (tmp_path / "mine").read_bytes() == b"mine"


@pytest.mark.usefixtures("no_hard_links")
def test_a_copy_that_fails_leaves_nothing_under_the_name(tmp_path, monkeypatch):
    def full(source, target):
        target.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "made").write_bytes(b"made")
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        publish(tmp_path / "made", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_writing_less_than_was_read_is_not_published(tmp_path, monkeypatch):
    from drivelake.logs.mcap import sound

    whole = sound.sound_records
    path = tmp_path / "camera.mcap"
    path.write_bytes(write_mcap([("/imu", "sensor_msgs/msg/Imu", IMU, [imu(i) for i in range(9)])]))

    def less(path, findings):
        yield from list(whole(path, findings))[:-1]

    monkeypatch.setattr(sound, "sound_records", less)
    with pytest.raises(LogDamaged, match="9 messages of '/imu' could be read, 8 of them were written"):
        salvage_log(path, tmp_path / "out.mcap")
    assert [p.name for p in tmp_path.iterdir()] == ["camera.mcap"]


# --------------------------------------------------------------------------------------------------------- recorded logs

RECORDED = [
    ("corner_derived/mcap/one_bit_rot_in_chunk.mcap", 866, 34),
    ("corner_derived/mcap/truncated_no_footer.mcap", 519, None),
    ("corner_derived/mcap/trailing_garbage.mcap", 900, 0),
    ("corner_derived/mdf/truncated_unfinalised.MF4", 3189, 1),
    ("ros1_bag/example-lz4.bag", 8647, 0),
    ("ros2_db3_mcity/start_position_A/rosbag2_2024_02_24-17_46_54_0.db3", 3168, 0),
]


@pytest.mark.parametrize(("name", "recovered", "lost"), RECORDED)
def test_recorded_logs_are_salvaged(name, recovered, lost, shared_data, tmp_path):
    out = tmp_path / salvaged_name(shared_data / name)
    report = salvage_log(shared_data / name, out)
    assert sum(c.recovered for c in report.channels) == recovered
    known = [c.lost for c in report.channels]
    assert (None if None in known else sum(known)) == lost
    for table, rows in tables(shared_data / name).items():
        assert rows.equals(tables(out)[table]), table
