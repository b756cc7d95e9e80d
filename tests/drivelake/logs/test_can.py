import struct

import numpy as np
import pyarrow as pa
import pytest

from drivelake.errors import InputError
from drivelake.logs import Leftovers, inspect_log, read_log
from tests.drivelake.logs.making import DATABASE, write_can

START_NS = 1_700_000_000 * 10**9


def motion(speed_counts, turn, heat):
    return struct.pack("<HbB", speed_counts, turn, heat) + bytes(4)


FRAMES = [
    (0.00, 0, 0x100, False, motion(3600, -128, 60)),
    (0.01, 0, 0x200, True, struct.pack("<Bh", 0, -3) + bytes(5)),
    (0.02, 0, 0x200, True, struct.pack("<BH", 1, 60) + bytes(5)),
    (0.03, 0, 0x7FF, False, b"\x01\x02"),
    (0.04, 0, 0x100, False, motion(1, 127, 0)),
    (0.05, 0, 0x100, True, motion(1, 1, 1)),
    (0.06, 0, 0x100, False, b"\x01"),
]


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "car.dbc"
    path.write_text(DATABASE)
    return path


@pytest.fixture
def log(tmp_path):
    return write_can(tmp_path / "can.mf4", FRAMES)


def tables(path, **options):
    batches = {}
    for batch in read_log(path, **options):
        batches.setdefault(batch.channel, []).append(batch.batch)
    return {channel: pa.Table.from_batches(parts) for channel, parts in batches.items()}


def test_without_a_database_the_frames_are_a_table(log):
    rows = tables(log)["CAN"].to_pylist()
    assert [(r["bus"], r["id"], r["extended"], r["data"]) for r in rows] == [(b, i, e, d) for _, b, i, e, d in FRAMES]
    assert rows[3]["t_ns"] == START_NS + 30_000_000
    assert rows[3]["dlc"] == 2


def test_messages_become_tables_of_physical_values_in_si_units(log, database):
    table = tables(log, databases=[database])["Motion"]
    assert table.column("t_ns").to_pylist() == [START_NS, START_NS + 40_000_000]
    assert table.column("Speed").to_pylist() == pytest.approx([10.0, 0.01 / 3.6])
    assert table.column("Turn").to_pylist() == [-128, 127]
    assert table.column("Heat").to_pylist() == pytest.approx([293.15, 233.15])
    assert table.schema.field("Turn").type == pa.int64()
    assert table.schema.field("Speed").metadata == {b"unit": b"m/s", b"source_unit": b"km/h"}


def test_a_multiplexed_signal_that_a_frame_does_not_carry_is_null(log, database):
    table = tables(log, databases=[database])["Modes"]
    assert table.column("Torque").to_pylist() == [-1.5, None]
    assert table.column("Rate").to_pylist() == [None, pytest.approx(2 * np.pi)]


def test_frames_that_nothing_decodes_are_counted_and_every_frame_is_somewhere(log, database):
    leftovers = Leftovers()
    found = tables(log, databases=[database], leftovers=leftovers)
    assert leftovers.frames[0, "0x7ff", "unknown id"] == 1
    assert leftovers.frames[0, "0x100", "unknown id"] == 1  # extended, another id than the standard one
    assert sum(count for (_, _, reason), count in leftovers.frames.items() if reason.startswith("Motion: ")) == 1
    assert sum(t.num_rows for t in found.values()) + leftovers.frames.total() == len(FRAMES)


def test_the_same_message_on_two_buses_is_two_tables(tmp_path, database):
    frames = [(i / 100, i % 2, 0x100, False, motion(100 * (i % 2), 0, 0)) for i in range(10)]
    found = tables(write_can(tmp_path / "two.mf4", frames), databases=[database])
    assert set(found) == {"Motion@bus0", "Motion@bus1"}
    assert set(found["Motion@bus0"].column("Speed").to_pylist()) == {0.0}


def test_batches_of_messages_have_at_most_the_rows_asked_for(tmp_path, database):
    path = write_can(tmp_path / "long.mf4", [(i / 100, 0, 0x100, False, motion(i, 0, 0)) for i in range(25)])
    assert [b.batch.num_rows for b in read_log(path, databases=[database], batch_rows=10)] == [10, 10, 5]


def test_two_databases_that_disagree_are_refused(log, database, tmp_path):
    other = tmp_path / "other.dbc"
    other.write_text(DATABASE.replace("Motion", "Locomotion"))
    with pytest.raises(InputError, match=r"CAN id 0x100 is 'Motion' in car.dbc and 'Locomotion' in other.dbc"):
        tables(log, databases=[database, other])


def test_a_database_that_is_none_is_refused(log, tmp_path):
    other = tmp_path / "broken.dbc"
    other.write_text("BO_ nonsense")
    with pytest.raises(InputError, match=r"broken.dbc cannot be read"):
        tables(log, databases=[other])


def test_a_report_counts_frames(log):
    (channel,) = inspect_log(log).channels
    assert (channel.name, channel.type, channel.messages) == ("CAN", "can.frames", 7)


def test_a_recorded_bus_decodes_as_asammdf_decodes_what_it_decodes_well(shared_data):
    from asammdf import MDF

    folder = shared_data / "drive_comma2k19_rav4"
    databases = sorted(folder.glob("*.dbc"))
    if not databases:
        pytest.skip("recorded data is absent: drive_comma2k19_rav4")
    leftovers = Leftovers()
    found = tables(folder / "can.mf4", databases=databases, leftovers=leftovers)
    frames = tables(folder / "can.mf4", channels=["group_0"])["group_0"].num_rows
    assert sum(t.num_rows for t in found.values()) + leftovers.frames.total() == frames == 90_261
    with MDF(folder / "can.mf4") as mdf:
        for signal, message, factor in (("WHEEL_SPEED_FL", "WHEEL_SPEEDS", 1 / 3.6), ("YAW_RATE", "KINEMATICS", np.pi / 180)):
            expected = mdf.get(signal)
            table = found[message]
            assert np.allclose(table.column(signal).to_numpy(), expected.samples * factor)
            assert np.allclose((table.column("t_ns").to_numpy() - mdf.header.abs_time) / 1e9, expected.timestamps, atol=1e-9)
