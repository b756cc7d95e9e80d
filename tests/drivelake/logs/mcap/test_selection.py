"""Channels read alone, and chunks opened by several threads: the same rows, in the same order."""

import struct
from io import BytesIO

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, Writer

from drivelake.errors import LogDamaged
from drivelake.logs.findings import Findings
from drivelake.logs.mcap.log import read_mcap
from tests.drivelake.logs.making import LAYOUTS, drive_mcap
from tests.drivelake.logs.mcap import surgery
from tests.drivelake.logs.mcap.surgery import of, overwritten

TEXT = "uint32 value\n"


def read(path, names=None, *, batch_rows=50, threads=1, findings=None):
    """Batches in the order in which they come, and every name that was asked for."""
    asked = set()

    def wanted(name):
        asked.add(name)
        return names is None or name in names

    findings = findings or Findings(strict=True)
    batches = list(read_mcap(path, wanted=wanted, batch_rows=batch_rows, leftovers=None, findings=findings, threads=threads))
    return batches, asked


def table(batches, name):
    return pa.Table.from_batches([batch.batch for batch in batches if batch.channel == name])


def phases(**options):
    """A file whose first half holds channel /a only, and whose second half /b only; chunks of some ten messages."""
    output = BytesIO()
    writer = Writer(output, chunk_size=600, **{"compression": CompressionType.ZSTD, "enable_data_crcs": True, **options})
    writer.start()
    schema = writer.register_schema("pkg/msg/One", "ros2msg", TEXT.encode())
    for topic in ("/a", "/b"):
        channel = writer.register_channel(topic, "cdr", schema)
        for number in range(100):
            data = b"\x00\x01\x00\x00" + struct.pack("<I", number)
            writer.add_message(channel, 1000 * channel + number, data, 5, sequence=number)
    writer.finish()
    return output.getvalue()


@pytest.fixture
def write(tmp_path):
    def put(data, name="log.mcap"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return put


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("name", ["/imu", "/camera", "/silent"])
def test_a_channel_read_alone_is_the_channel_of_the_whole(write, layout, name):
    path = write(drive_mcap(**layout))
    batches, asked = read(path, {name})
    assert {batch.channel for batch in batches} == {name}
    assert asked == {"/imu", "/camera", "/silent"}
    assert table(batches, name) == table(read(path)[0], name)


def test_chunks_without_a_wanted_channel_stay_closed_and_all_others_are_verified(write):
    sound = phases()
    chunks = of(sound, surgery.CHUNK)
    rotten = overwritten(sound, chunks[1].end - 4, b"\xff\x00\xff\x00")
    path = write(rotten)
    assert table(read(path, {"/b"})[0], "/b").column("value").to_pylist() == list(range(100))
    with pytest.raises(LogDamaged, match=f"The chunk at offset {chunks[1].offset} "):
        read(path, {"/a"})
    with pytest.raises(LogDamaged, match=f"The chunk at offset {chunks[1].offset} "):
        read(path)


def test_a_channel_whose_declaration_stands_in_a_closed_chunk_is_known_from_the_summary(write):
    path = write(phases())
    batches, asked = read(path, {"/b"})
    assert asked == {"/a", "/b"}
    assert table(batches, "/b").num_rows == 100


def test_without_a_checksum_of_the_summary_no_chunk_stays_closed(write):
    data = phases(enable_data_crcs=False)
    footer = of(data, surgery.FOOTER)[0]
    data = overwritten(data, footer.start + 16, bytes(4))
    chunks = of(data, surgery.CHUNK)
    path = write(overwritten(data, chunks[1].end - 4, b"\xff\x00\xff\x00"))
    with pytest.raises(LogDamaged, match=f"The chunk at offset {chunks[1].offset} "):
        read(path, {"/b"})


@settings(max_examples=12, deadline=None)
@given(messages=st.integers(0, 80), batch_rows=st.integers(1, 40), threads=st.integers(2, 4))
def test_batches_do_not_depend_on_the_number_of_threads(tmp_path_factory, messages, batch_rows, threads):
    path = tmp_path_factory.mktemp("threads") / "log.mcap"
    path.write_bytes(drive_mcap(messages, chunk_size=1500))
    one, several = read(path, batch_rows=batch_rows)[0], read(path, batch_rows=batch_rows, threads=threads)[0]
    assert [(b.channel, b.type, b.last) for b in one] == [(b.channel, b.type, b.last) for b in several]
    assert all(a.batch.equals(b.batch) for a, b in zip(one, several, strict=True))


@pytest.mark.parametrize("threads", [1, 3])
def test_damage_is_told_in_file_order_whatever_the_number_of_threads(write, threads):
    sound = drive_mcap(chunk_size=1500)
    chunks = of(sound, surgery.CHUNK)
    data = sound
    for chunk in (chunks[8], chunks[3]):
        data = overwritten(data, chunk.end - 20, b"\xff\x00\xff\x00")
    findings = Findings()
    read(write(data), threads=threads, findings=findings)
    found = [s for s in findings.sentences if s.startswith("The chunk at offset")]
    assert [s.split()[4] for s in found] == [str(chunks[3].offset), str(chunks[8].offset)]


def test_a_reader_that_is_left_early_leaves_no_thread_behind(write):
    import threading

    path = write(drive_mcap(chunk_size=1500))
    before = threading.active_count()
    batches = read_mcap(path, wanted=lambda _: True, batch_rows=5, leftovers=None, findings=Findings(strict=True), threads=3)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_channels_of_one_topic_and_type_are_one_table_in_file_order(write):
    output = BytesIO()
    writer = Writer(output, chunk_size=300)
    writer.start()
    schema = writer.register_schema("pkg/msg/One", "ros2msg", TEXT.encode())
    channels = [writer.register_channel("/t", "cdr", schema, {"publisher": name}) for name in ("one", "two")]
    for number in range(40):
        data = b"\x00\x01\x00\x00" + struct.pack("<I", number)
        writer.add_message(channels[number * 7 % 3 % 2], 10 + number, data, 5)
    writer.finish()
    batches, asked = read(write(output.getvalue()))
    assert asked == {"/t"}
    assert table(batches, "/t").column("value").to_pylist() == list(range(40))
