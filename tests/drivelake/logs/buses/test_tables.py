import struct
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.errors import InputError
from drivelake.logs import Leftovers, inspect_log, read_log
from drivelake.logs.buses import tables as tables_module
from drivelake.logs.buses.frames import Frames
from drivelake.logs.buses.tables import BusTables, frames_batch
from drivelake.logs.findings import Findings
from drivelake.logs.units import to_si
from tests.drivelake.logs.buses.databases_of import HEAD
from tests.drivelake.logs.buses.frames_of import counted, frames_from, recorded_frames, rows_from
from tests.drivelake.logs.buses.test_database import J1939, message
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


def decoded(databases, parts, batch_rows=8192, **options):
    """Batches by table, the frames that none holds, and the notes."""
    findings = Findings()
    buses = BusTables(
        databases, counted(parts), options.pop("taken", set()), options.pop("wanted", lambda _: True), findings, **options
    )
    found = {}
    for part in (*(batch for frames in parts for batch in buses.add(frames, batch_rows)), *buses.rest()):
        found.setdefault(part.channel, []).append(part.batch)
    assert buses.names >= set(found)
    return found, buses.undecoded, findings.notes


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
    assert leftovers.frames[0, "0x100", "Motion: Wrong data size: 1 instead of 8 bytes"] == 1
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


ROWS = st.lists(
    st.tuples(
        st.integers(0, 2**62),
        st.integers(0, 2),
        st.sampled_from((0x100, 0x200, 0x7FF)),
        st.booleans(),
        st.one_of(st.binary(min_size=8, max_size=8), st.binary(max_size=12)),
    ),
    max_size=60,
)


@given(ROWS)
def test_frames_come_back_out_of_their_table_as_they_were(rows):
    batch = frames_batch(frames_from(rows))
    columns = [batch.column(name).to_pylist() for name in ("t_ns", "bus", "id", "extended", "data")]
    assert list(zip(*columns, strict=True)) == rows


@settings(deadline=None, max_examples=30)
@given(ROWS, st.integers(1, 60), st.integers(1, 20))
def test_tables_do_not_depend_on_how_frames_are_split_and_every_frame_is_somewhere(tmp_path_factory, rows, split, batch_rows):
    database = tmp_path_factory.mktemp("car") / "car.dbc"
    database.write_text(DATABASE)
    whole, undecoded, _ = decoded([database], [frames_from(rows)], batch_rows)
    parts, same, _ = decoded([database], [frames_from(rows[i : i + split]) for i in range(0, len(rows), split)], batch_rows)
    assert {name: [len(b) for b in batches] for name, batches in whole.items()} == {
        n: [len(b) for b in bs] for n, bs in parts.items()
    }
    assert {n: pa.Table.from_batches(b) for n, b in whole.items()} == {n: pa.Table.from_batches(b) for n, b in parts.items()}
    assert undecoded == same
    assert sum(len(batch) for batches in whole.values() for batch in batches) + undecoded.total() == len(rows)


def test_what_is_pending_is_given_before_it_takes_too_much_memory(database, monkeypatch):
    monkeypatch.setattr(tables_module, "PENDING_BYTES_MAX", 100)
    parts = [frames_from([(n, 0, 0x100, False, motion(n, 0, 0)) for n in range(10 * k, 10 * k + 10)]) for k in range(3)]
    found, _, _ = decoded([database], parts)
    assert [len(batch) for batch in found["Motion"]] == [10, 10, 10]


def test_wide_rows_make_small_batches(tmp_path):
    database = tmp_path / "wide.dbc"
    signals = "".join(f' SG_ S{n} : {n % 504}|8@1+ (1,0) [0|0] "" Car\n' for n in range(600))
    database.write_text(HEAD + message(256, "Wide", signals, length=64))
    part = frames_from([(n, 0, 256, False, bytes(64)) for n in range(4000)])
    found, _, _ = decoded([database], [part])
    assert [len(batch) for batch in found["Wide"]] == [(16 << 20) // (8 * 601), 4000 - (16 << 20) // (8 * 601)]


def test_a_table_that_is_not_wanted_is_neither_filled_nor_counted(database):
    asked = []
    found, undecoded, _ = decoded(
        [database],
        [frames_from([(int(t * 1e9), *rest) for t, *rest in FRAMES])],
        wanted=lambda n: asked.append(n) or n == "Modes",
    )
    assert set(found) == {"Modes"}
    assert asked == ["Motion", "Modes"]
    assert {reason for *_, reason in undecoded} == {"unknown id"}


def test_only_the_columns_asked_for_are_decoded(database):
    found, _, _ = decoded([database], [frames_from([(0, 0, 0x100, False, motion(1, 2, 3))])], columns={"Turn"})
    assert found["Motion"][0].to_pylist() == [{"t_ns": 0, "Turn": 2}]


def test_a_message_of_which_no_frame_can_be_decoded_is_an_empty_table(database):
    found, undecoded, _ = decoded([database], [frames_from([(0, 0, 0x100, False, b"\1")])])
    assert [len(batch) for batch in found["Motion"]] == [0]
    assert undecoded.total() == 1


def test_names_that_other_tables_have_are_left_to_them(database):
    part = frames_from([(0, 0, 0x100, False, motion(1, 2, 3))])
    assert set(decoded([database], [part], taken={"Motion"})[0]) == {"Motion#2"}


def test_one_name_for_two_identifiers_is_two_tables(tmp_path):
    database = tmp_path / "twice.dbc"
    database.write_text(HEAD + message(3, "Position", length=1) + message(0x65, "Position", length=1))
    both = frames_from([(0, 0, 3, False, b"\1"), (1, 0, 0x65, False, b"\2")])
    assert set(decoded([database], [both])[0]) == {"Position@0x3", "Position@0x65"}
    assert set(decoded([database], [Frames(*(column[1:] for column in both))])[0]) == {"Position"}


def test_senders_of_a_j1939_message_are_tables_whatever_their_priority(tmp_path):
    database = tmp_path / "truck.dbc"
    database.write_text(HEAD + message(0x0CF004FE | 1 << 31, "EEC1", length=1) + J1939)
    rows = [(0, 0, 0x0CF00400, True, b"\1"), (1, 0, 0x18F00400, True, b"\2"), (2, 0, 0x0CF00421, True, b"\3")]
    one, _, _ = decoded([database], [frames_from(rows[:2])])
    two, _, _ = decoded([database], [frames_from(rows)])
    buses, _, _ = decoded([database], [frames_from([*rows, (3, 1, 0x0CF00400, True, b"\4")])])
    assert [row["Value"] for row in one["EEC1"][0].to_pylist()] == [1, 2]
    assert {name: [row["Value"] for row in batch.to_pylist()] for name, (batch,) in two.items()} == {
        "EEC1@sa0x00": [1, 2],
        "EEC1@sa0x21": [3],
    }
    assert set(buses) == {"EEC1@sa0x00@bus0", "EEC1@sa0x21@bus0", "EEC1@sa0x00@bus1"}


def test_lin_frames_are_decoded_by_databases_of_lin_only(tmp_path):
    can, lin = tmp_path / "can.dbc", tmp_path / "lin.dbc"
    can.write_text(HEAD + message(16, "Wrong", length=1))
    lin.write_text(HEAD + message(16, "Wiper", length=1) + 'BA_DEF_ "BusType" STRING ;\nBA_DEF_DEF_ "BusType" "LIN";\n')
    assert set(decoded([can, lin], [frames_from([(0, 0, 16, False, b"\1")])], kind="LIN")[0]) == {"Wiper"}


def test_signals_too_long_for_a_number_are_noted(tmp_path):
    database = tmp_path / "vin.dbc"
    database.write_text(
        HEAD + message(16, "Vin", ' SG_ Text : 0|80@1+ (1,0) [0|0] "" Car\n SG_ End : 80|8@1+ (1,0) [0|0] "" Car\n', 11)
    )
    found, _, notes = decoded([database], [frames_from([(0, 0, 16, False, bytes(range(11)))])])
    assert found["Vin"][0].to_pylist() == [{"t_ns": 0, "End": 10}]
    assert notes == ["Vin has no column for signal Text, which is longer than a number of 64 bits."]


RECORDED = [
    ("canedge_gnss_obd2_3BA199E2_00000165", "00000006-60FFE42F.MF4"),
    ("canedge_obd2_7512BE4D", "00000001.MF4"),
    ("canedge_truck_j1939", "00000001.MF4"),
    ("canedge_ev_uds_2F6913DB", "00000001-63BEF5CD.MF4"),
    ("canedge_ev_uds_2F6913DB", "00000004_00000001.MF4"),
]


def by_cantools(database, rows):
    """Decoded rows by (bus, message name), and how many frames of its messages cantools refuses."""
    import cantools

    messages, groups = {}, {}
    for plan in cantools.database.load_file(database, strict=False).messages:
        messages[plan.frame_id, plan.is_extended_frame] = plan
        if plan.protocol == "j1939":
            groups[plan.frame_id >> 8 & 0x3FFFF] = plan
    found, refused = {}, 0
    for t_ns, bus, identifier, extended, payload in rows:
        plan = messages.get((identifier, extended)) or (groups.get(identifier >> 8 & 0x3FFFF) if extended else None)
        if plan is None:
            continue
        try:
            values = plan.decode(payload, decode_choices=False)
        except cantools.database.DecodeError:
            refused += 1
            continue
        si = {signal.name: to_si(signal.unit or "") for signal in plan.signals}
        row = {
            name: None if (value := values.get(name)) is None else value * unit.factor + unit.offset if unit.changes else value
            for name, unit in si.items()
        }
        found.setdefault((bus, plan.name), []).append({"t_ns": t_ns, **row})
    return found, refused


@pytest.mark.parametrize(("folder", "name"), RECORDED)
def test_recorded_buses_decode_as_cantools_decodes_them(shared_data, folder, name):
    parts = recorded_frames(shared_data / "mdf4" / folder / name)
    rows = [row for part in parts for row in rows_from(part)][:20_000]
    for database in sorted((shared_data / "mdf4" / folder).glob("*.dbc")):
        found, undecoded, _ = decoded([database], [frames_from(rows)])
        expected, refused = by_cantools(database, rows)
        ours = {name: [row for batch in batches for row in batch.to_pylist()] for name, batches in found.items()}
        assert Counter(map(len, expected.values())) == Counter(len(table) for table in ours.values() if table)
        for (bus, message_name), table in expected.items():
            assert next(ours[key] for key in (message_name, f"{message_name}@bus{bus}") if key in ours) == table
        assert sum(n for (*_, reason), n in undecoded.items() if "unknown id" not in reason) == refused


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
        for signal, table, factor in (("WHEEL_SPEED_FL", "WHEEL_SPEEDS", 1 / 3.6), ("YAW_RATE", "KINEMATICS", np.pi / 180)):
            expected = mdf.get(signal)
            assert np.allclose(found[table].column(signal).to_numpy(), expected.samples * factor)
            stamps = (found[table].column("t_ns").to_numpy() - mdf.header.abs_time) / 1e9
            assert np.allclose(stamps, expected.timestamps, atol=1e-9)
