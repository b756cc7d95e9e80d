import zlib

import numpy as np
import pyarrow as pa
import pytest
from asammdf import MDF, Signal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivelake.errors import LogDamaged
from drivelake.logs import inspect_log, mdf_log, read_log
from tests.drivelake.logs.making import write_mdf

START_NS = 1_700_000_000 * 10**9
UNFINISHED = "The logger did not finalise the file (flags 0x0025, custom 0x0000)"


def tables(path, **options):
    batches = {}
    for batch in read_log(path, **options):
        batches.setdefault(batch.channel, []).append(batch.batch)
    return {channel: pa.Table.from_batches(parts) for channel, parts in batches.items()}


def times(count):
    return np.arange(count) * 0.01


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


def test_units_are_si_and_the_recorded_unit_is_kept(log):
    schema = tables(log)["first"].schema
    assert schema.field("speed").metadata == {b"unit": b"m/s", b"source_unit": b"km/h"}
    assert schema.field("counter").metadata == {b"unit": b"", b"source_unit": b""}


def test_a_name_that_repeats_survives_in_its_group_and_across_groups(log):
    found = tables(log)
    assert {"counter", "counter#2"} <= set(found["first"].column_names)
    assert found["first"].column("counter#2").to_pylist() == [i % 256 for i in range(500)]
    assert found["group_1"].column("speed").to_pylist() == list(range(7))


def test_invalid_samples_are_null_and_no_others(log):
    values = tables(log)["first"].column("shaky").to_pylist()
    assert values == [None if i % 5 == 0 else float(i) for i in range(500)]


@pytest.mark.parametrize("window_bytes", [1, 1000, 20_000])
def test_values_do_not_depend_on_the_window(log, monkeypatch, window_bytes):
    whole = tables(log)
    monkeypatch.setattr(mdf_log, "WINDOW_BYTES", window_bytes)
    assert tables(log, batch_rows=33) == whole


def test_the_last_batch_of_a_group_says_so(log):
    batches = [(b.channel, b.last) for b in read_log(log, batch_rows=200)]
    assert batches == [("first", False), ("first", False), ("first", True), ("group_1", True)]


def test_stamps_keep_the_nanosecond_far_from_the_start(tmp_path):
    t = np.array([65785.327, 65785.327000001, 66084.343])
    path = write_mdf(tmp_path / "log.mf4", [("g", [Signal(np.zeros(3), t, name="x")])])
    stamps = tables(path)["g"].column("t_ns").to_pylist()
    assert [stamp - START_NS for stamp in stamps] == [65785327000000, 65785327000001, 66084343000000]


def test_a_stamp_before_the_start_is_kept(tmp_path):
    path = write_mdf(tmp_path / "log.mf4", [("g", [Signal(np.zeros(2), np.array([-0.25, 0.5]), name="x")])])
    assert tables(path)["g"].column("t_ns").to_pylist() == [START_NS - 250_000_000, START_NS + 500_000_000]


def test_a_time_that_is_no_number_is_damage(tmp_path):
    path = write_mdf(tmp_path / "log.mf4", [("g", [Signal(np.zeros(3), np.array([0.0, 1.0, np.nan]), name="x")])])
    assert "Group 0 has the time nan s at record 2." in inspect_log(path).damage
    with pytest.raises(LogDamaged, match="record 2"):
        tables(path)


def test_utf_16_and_latin_1_text_is_read(tmp_path):
    words = ["Grüße", "a", "", "車"]
    raw = np.array([word.encode("utf-16-le") for word in words])
    path = write_mdf(tmp_path / "log.mf4", [("g", [Signal(raw, times(4), name="w", encoding="utf-16-le")])])
    assert tables(path)["g"].column("w").to_pylist() == words


def _oracle(path, group, index):
    with MDF(path) as mdf:
        found = mdf.get(group=group, index=index, ignore_invalidation_bits=True)
        return found.samples, found.timestamps


@pytest.mark.parametrize(
    ("name", "channel", "group", "index", "factor"),
    [
        ("dz_transposed_small_fragments.mf4", "group_1", 1, 1, np.pi / 180),
        ("duplicate_names_unicode_conversions.mf4", "b", 2, 1, 1.0),
        ("duplicate_names_unicode_conversions.mf4", "Grüppe", 0, 1, 1.0),
        ("version_3.30.mdf", "group_0", 0, 1, 1.0),
        ("version_4.20.mf4", "group_0", 0, 1, 1.0),
        ("invalidation_bits.mf4", "group_0", 0, 2, 1 / 3.6),
        ("time_trouble.mf4", "group_0", 0, 1, 1.0),
        ("time_trouble.mf4", "group_2", 2, 1, 1.0),
        ("attachments.mf4", "group_0", 0, 1, 1.0),
    ],
)
def test_recorded_values_are_those_that_asammdf_gets_in_one_piece(shared_data, name, channel, group, index, factor):
    path = shared_data / "corner_derived" / "mdf" / name
    samples, seconds = _oracle(path, group, index)
    table = tables(path, batch_rows=1000)[channel]
    column = table.column_names[index]
    found = table.column(column).to_pandas().to_numpy(np.float64)
    valid = ~np.isnan(found) | np.isnan(samples)
    assert np.allclose(found[valid], samples[valid] * factor, equal_nan=True)
    with MDF(path) as mdf:
        start = mdf.header.abs_time
    assert np.allclose((table.column("t_ns").to_numpy() - start) / 1e9, seconds, atol=1e-9)


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
    path = shared_data / "corner_derived" / "mdf" / name
    report = inspect_log(path)
    assert report.readable
    assert {channel.name: channel.messages for channel in report.channels} == messages
    assert {channel: table.num_rows for channel, table in tables(path).items()} == messages


@pytest.mark.parametrize(
    ("name", "damage", "messages"),
    [
        ("zero_bytes.mf4", ["The file is empty: 0 bytes."], 0),
        ("only_id_block.mf4", [UNFINISHED, "A block should stand at offset 64, the file ends at 64."], 0),
        ("truncated_unfinalised.MF4", [UNFINISHED], 3190),
    ],
)
def test_each_damaged_corner_case_is_told_as_it_is(shared_data, name, damage, messages):
    path = shared_data / "corner_derived" / "mdf" / name
    report = inspect_log(path)
    assert [found[: len(told)] for found, told in zip(report.damage, damage, strict=True)] == damage
    assert sum(channel.messages for channel in report.channels) == messages
    with pytest.raises(LogDamaged, match=name):
        tables(path)


def test_time_trouble_is_measured(shared_data):
    channels = {c.name: c for c in inspect_log(shared_data / "corner_derived" / "mdf" / "time_trouble.mf4").channels}
    assert [channels[f"group_{i}"].backward_steps for i in range(5)] == [1, 0, 0, 0, 0]
    assert channels["group_4"].gap_ms_max > 3_599_000


def test_text_bytes_and_invalid_samples_of_recorded_corner_cases(shared_data):
    folder = shared_data / "corner_derived" / "mdf"
    rows = tables(folder / "strings_and_bytes.mf4")["group_0"].to_pylist()
    assert rows[2]["vlsd_text"] == "frame_2" * 3
    assert len(rows[0]["blob16"]) == 16
    speed = tables(folder / "invalidation_bits.mf4")["group_0"]
    assert (speed.column("car_speed").null_count, speed.column("car_speed_kmh").null_count) == (115, 0)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.95])
def test_a_file_that_was_cut_short_is_named(log, kept):
    data = log.read_bytes()
    log.write_bytes(data[: int(kept * len(data))])
    assert inspect_log(log).damage
    with pytest.raises(LogDamaged):
        tables(log)


def test_a_flipped_bit_in_a_compressed_block_is_named(tmp_path):
    path = write_mdf(tmp_path / "log.mf4", [("g", [Signal(np.arange(5000.0), times(5000), name="x")])], compression=2)
    data = bytearray(path.read_bytes())
    start = data.index(b"##DZ")
    (packed,) = np.frombuffer(data[start + 40 : start + 48], np.uint64)
    data[start + 48 + int(packed) // 2] ^= 4
    path.write_bytes(data)
    (sentence,) = inspect_log(path).damage
    assert f"offset {start} " in sentence
    with pytest.raises(LogDamaged, match=r"compressed|inflates"):
        tables(path)


def test_a_block_that_swells_is_refused_before_it_fills_the_memory(tmp_path):
    path = write_mdf(tmp_path / "log.mf4", [("g", [Signal(np.zeros(200_000), times(200_000), name="x")])], compression=1)
    data = bytearray(path.read_bytes())
    start = data.index(b"##DZ")
    data[start + 32 : start + 40] = (1000).to_bytes(8, "little")
    path.write_bytes(data)
    assert any("inflates to more than the 1000 bytes it declares" in sentence for sentence in inspect_log(path).damage)


def test_compressed_blocks_of_every_size_around_a_piece_are_sound(tmp_path):
    from drivelake.logs.mdf.check import DZ_HEAD, READ_BYTES, BlockReport, _Walk

    for original in (0, 1, READ_BYTES - 1, READ_BYTES, READ_BYTES + 1, 3 * READ_BYTES):
        packed = zlib.compress(bytes(original))
        path = tmp_path / "block"
        path.write_bytes(DZ_HEAD.pack(b"DT", 0, 0, original, len(packed)) + packed)
        report = BlockReport()
        with path.open("rb") as file:
            _Walk(file, path.stat().st_size, report)._compressed(0, path.stat().st_size)
        assert report.compressed == 1


def test_an_attachment_that_does_not_match_its_md5_is_named(tmp_path):
    path = tmp_path / "log.mf4"
    with MDF(version="4.10") as mdf:
        mdf.append([Signal(np.zeros(3), times(3), name="x")])
        mdf.attach(b"a calibration sheet", file_name="sheet.txt", compression=False, embedded=True)
        mdf.save(path)
    assert inspect_log(path).readable
    path.write_bytes(path.read_bytes().replace(b"a calibration sheet", b"a calibration shout"))
    assert any("MD5" in sentence for sentence in inspect_log(path).damage)


def test_a_list_of_blocks_that_runs_in_a_circle_ends(log):
    data = bytearray(log.read_bytes())
    first = data.index(b"##CN")
    data[first + 24 : first + 32] = first.to_bytes(8, "little")
    log.write_bytes(data)
    assert f"The list that passes offset {first} runs in a circle." in inspect_log(log).damage
    with pytest.raises(LogDamaged, match="circle"):
        tables(log)


def test_more_records_than_the_data_holds_is_damage_and_not_a_shorter_table(log):
    with MDF(log) as mdf:
        address = mdf.groups[0].channel_group.address
    data = bytearray(log.read_bytes())
    # cg_cycle_count stands behind the block header, six links and the record id
    at = address + 24 + 6 * 8 + 8
    assert int.from_bytes(data[at : at + 8], "little") == 500
    data[at : at + 8] = (1 << 40).to_bytes(8, "little")
    log.write_bytes(data)
    assert any(f"promises {1 << 40} records" in sentence for sentence in inspect_log(log).damage)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_makes_a_reader_raise_anything_but_damage(log, tmp_path, place, bit):
    data = bytearray(log.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path = tmp_path / "flipped.mf4"
    path.write_bytes(data)
    report, refused = inspect_log(path), False
    try:
        tables(path)
    except LogDamaged:
        refused = True
    assert refused or report.readable
