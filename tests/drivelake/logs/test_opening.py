from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from asammdf import Signal

from drivelake.errors import LogDamaged, MissingChannel, UnsupportedLog
from drivelake.logs import DATABASE_SUFFIXES, Findings, Leftovers, inspect_log, is_log, read_log, to_physical
from drivelake.logs.mcap import log as mcap_log
from drivelake.logs.report import LogBatch
from drivelake.logs.stamps import Stamps
from tests.drivelake.logs.bags.making import write_db3, write_ros1
from tests.drivelake.logs.making import IMU, drive_mcap, imu, write_can, write_mcap, write_mdf

MCAP_START = b"\x89MCAP0\r\n"


@pytest.mark.parametrize("name", ["a.mcap", "A.MCAP", "b.mf4", "b.MF4", "c.mdf", "sub/d.Mf4", "e.bag", "f.db3"])
def test_logs_are_known_by_the_end_of_their_name(name):
    assert is_log(Path(name))


@pytest.mark.parametrize("name", ["vehicle.dbc", "drive.yaml", "mcap", "a.mcap.part"])
def test_other_files_of_a_drive_are_no_logs(name):
    assert not is_log(Path(name))
    assert Path("vehicle.dbc").suffix in DATABASE_SUFFIXES
    assert ".ldf" not in DATABASE_SUFFIXES, "no reader here knows it"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("empty.mcap", b"", "The file is empty: 0 bytes."),
        ("text.mcap", b"no log at all", "The file begins with b'no log a', expected b'\\x89MCAP0\\r\\n'."),
        ("text.mf4", b"no log at all", "The file begins with b'no log a', expected b'MDF     ' or b'UnFinMF '."),
        ("short.mcap", b"\x89MCA", "The file begins with b'\\x89MCA', expected b'\\x89MCAP0\\r\\n'."),
        ("text.bag", b"no log at all", "The file begins with b'no log a', expected b'#ROSBAG V'."),
        ("text.db3", b"no log at all", "The file begins with b'no log a', expected b'SQLite format 3\\x00'."),
        ("a.db3", b"\x28\xb5\x2f\xfd....", "The file is no log that is read here, but a zstd stream: unpack it first."),
        ("a.mf4", b"LOGG\0\0\0\0", "The file is no log that is read here, but a Vector BLF file: convert it to MF4 first."),
    ],
)
def test_a_file_that_is_no_log_is_told_and_never_raises_in_a_report(tmp_path, name, content, sentence):
    path = tmp_path / name
    path.write_bytes(content)
    report = inspect_log(path)
    assert (report.damage, report.format, report.bytes) == ((sentence,), "unknown", len(content))
    with pytest.raises(LogDamaged, match=name):
        next(read_log(path))
    findings = Findings()
    assert list(read_log(path, findings=findings)) == []
    assert findings.sentences == (sentence,)


def test_a_log_under_a_wrong_name_is_damage_and_is_still_counted(tmp_path):
    path = tmp_path / "camera.mf4"
    path.write_bytes(drive_mcap())
    report = inspect_log(path)
    assert report.damage == ("The name ends in '.mf4', the content is mcap.",)
    assert (report.format, report.messages, report.verdict) == ("mcap", 90, "salvaged")
    assert [c.lost for c in report.channels] == [0, 0, 0], "a name costs no message"
    with pytest.raises(LogDamaged, match=r"the content is mcap"):
        next(read_log(path))
    findings = Findings()
    assert sum(len(batch.batch) for batch in read_log(path, findings=findings)) == 90
    assert findings.sentences == report.damage


def test_the_report_carries_the_name_inside_the_drive(tmp_path):
    path = tmp_path / "abc123"
    path.write_bytes(drive_mcap())
    report = inspect_log(path, name="front/camera.mcap")
    assert report.readable
    assert (report.name, report.format) == ("front/camera.mcap", "mcap")


def test_a_file_of_an_unknown_kind_has_no_reader(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"hello, world")
    with pytest.raises(UnsupportedLog, match=r"notes.txt"):
        next(read_log(path))


def test_mdf_3_is_named_as_such(tmp_path):
    signal = Signal(np.arange(4.0), np.arange(4.0), name="x", unit="km/h")
    path = write_mdf(tmp_path / "old.mdf", [("g", [signal])], version="3.30")
    report = inspect_log(path)
    assert report.readable
    assert report.format == "mdf3"
    (batch,) = read_log(path)
    assert batch.batch.column("x").to_pylist() == pytest.approx([0, 1 / 3.6, 2 / 3.6, 3 / 3.6])


@pytest.mark.parametrize("name", ["single_can_bus_1.MFC", "single_can_bus_1.MFE"])
def test_a_container_of_a_logger_is_told_as_what_it_is(shared_data, name):
    report = inspect_log(shared_data / "mdf4" / "corner" / name)
    assert (report.format, report.verdict, report.channels) == ("unknown", "lost", ())
    assert "turn it into MF4 first" in report.damage[0]


def silent_reader(promised, given):
    """Readers of MCAP that promise messages and give fewer, without a word."""

    def inspect(path, findings):
        findings.promise("/imu", promised)
        channel = Stamps()
        channel.extend(np.arange(given))
        return "mcap", (channel.report("/imu", "t"),) if given else ()

    def read(path, *, wanted, findings, **more):
        findings.promise("/imu", promised)
        if wanted("/imu"):
            yield LogBatch("/imu", "t", pa.record_batch({"t_ns": np.arange(given)}))

    return inspect, read


@pytest.mark.parametrize(("promised", "given"), [(5, 0), (5, 3), (5, 5), (0, 0)])
def test_promised_messages_that_are_not_there_are_damage_even_if_no_reader_says_so(tmp_path, monkeypatch, promised, given):
    path = tmp_path / "a.mcap"
    path.write_bytes(MCAP_START)
    inspect, read = silent_reader(promised, given)
    monkeypatch.setattr(mcap_log, "inspect_mcap", inspect)
    monkeypatch.setattr(mcap_log, "read_mcap", read)
    sentences = (f"Channel '/imu' promises {promised} messages, {given} can be read.",) if promised > given else ()
    report, findings = inspect_log(path), Findings()
    assert report.damage == sentences
    assert [(c.messages, c.expected, c.lost, c.why) for c in report.channels] == [(given, promised, promised - given, sentences)]
    assert sum(len(batch.batch) for batch in read_log(path, findings=findings)) == given
    assert findings.sentences == sentences
    if sentences:
        with pytest.raises(LogDamaged, match=r"a\.mcap: Channel '/imu' promises"):
            list(read_log(path))


def test_promised_messages_add_to_what_is_told_to_be_lost(tmp_path, monkeypatch):
    path = tmp_path / "a.mcap"
    path.write_bytes(MCAP_START)

    def inspect(path, findings):
        findings.promise("/imu", 10)
        findings.damaged("A chunk is gone.", channel="/imu", lost=3)
        channel = Stamps()
        channel.extend(np.arange(5))
        return "mcap", (channel.report("/imu", "t"),)

    monkeypatch.setattr(mcap_log, "inspect_mcap", inspect)
    (channel,) = inspect_log(path).channels
    assert (channel.messages, channel.expected, channel.lost) == (5, 10, 5)
    assert channel.why == ("A chunk is gone.", "Channel '/imu' promises 10 messages, 5 can be read.")


def test_a_channel_that_was_not_asked_for_owes_nothing(tmp_path):
    path = tmp_path / "a.mcap"
    path.write_bytes(drive_mcap())
    rows = {batch.channel: len(batch.batch) for batch in read_log(path, channels=["/silent"])}
    assert rows == {"/silent": 0}
    with pytest.raises(MissingChannel, match=r"no channel '/imy'; the nearest is '/imu'"):
        list(read_log(path, channels=["/imy"]))


def test_columns_are_given_beside_the_stamps(tmp_path):
    mcap = tmp_path / "a.mcap"
    mcap.write_bytes(drive_mcap())
    signals = [Signal(np.arange(4.0) + i, np.arange(4.0), name=name) for i, name in enumerate("xyz")]
    mdf = write_mdf(tmp_path / "b.mf4", [("g", signals)])
    (imu,) = read_log(mcap, channels=["/imu"], columns=["angular_velocity.z"])
    assert imu.batch.schema.names == ["t_ns", "publish_ns", "sensor_ns", "angular_velocity.z"]
    (group,) = read_log(mdf, columns=["y"])
    assert group.batch.schema.names == ["t_ns", "y"]
    assert group.batch.column("y").to_pylist() == [1, 2, 3, 4]


@pytest.mark.parametrize("findings", [None, Findings()])
def test_a_column_that_no_table_has_names_the_nearest(tmp_path, findings):
    mcap = tmp_path / "a.mcap"
    mcap.write_bytes(drive_mcap())
    signals = [Signal(np.arange(4.0), np.arange(4.0), name=name) for name in ("speed", "brake")]
    mdf = write_mdf(tmp_path / "b.mf4", [("g", signals)])
    mdf3 = write_mdf(tmp_path / "c.mdf", [("g", signals)], version="3.30")
    bag = write_ros1(tmp_path / "d.bag")
    database = write_db3(tmp_path / "e")
    for path, wrong, nearest in (
        (mcap, "angular_velocity.w", "angular_velocity.[xyz]"),
        (mdf, "sped", "speed"),
        (mdf3, "sped", "speed"),
        (bag, "frame_di", "frame_id"),
        (database, "frame_di", "frame_id"),
    ):
        given = []
        with pytest.raises(MissingChannel, match=rf"{path.name} has no column '{wrong}'; the nearest is '{nearest}'"):
            given.extend(read_log(path, columns=[wrong, "t_ns"], findings=findings, leftovers=Leftovers()))
        assert given, "what is there is given before"
    assert list(read_log(mcap, columns=["angular_velocity.x", "payload_bytes"])), "each is in one of the tables"


def test_raw_values_become_physical_later(tmp_path):
    path = write_can(tmp_path / "can.mf4", [(i / 10, 1, 256, False, bytes([i] * 8)) for i in range(5)])
    for raw, whole in zip(read_log(path, physical=False), read_log(path), strict=True):
        assert to_physical(raw.batch).equals(whole.batch, check_metadata=True)


def test_a_channel_that_dies_is_told_and_costs_no_verdict(tmp_path):
    path = tmp_path / "a.mcap"
    rows = [("/imu", 2000), ("/gone", 600)]
    path.write_bytes(write_mcap([(topic, "sensor_msgs/msg/Imu", IMU, [imu(i) for i in range(n)]) for topic, n in rows]))
    report = inspect_log(path)
    assert report.verdict == "sound"
    assert [note for note in report.notes if "steady" in note] == [
        "Channel '/gone', steady at 100 Hz, ends 14.0 s before the log does."
    ]


def test_damage_inside_a_log_costs_what_stands_there_and_both_functions_say_the_same(tmp_path):
    data = bytearray(drive_mcap())
    data[len(data) // 3] ^= 1
    path = tmp_path / "a.mcap"
    path.write_bytes(data)
    report, findings, rows = inspect_log(path), Findings(), Counter()
    for batch in read_log(path, findings=findings):
        rows[batch.channel] += len(batch.batch)
    assert report.verdict == "salvaged"
    assert 0 < sum(rows.values()) < 90
    assert rows == {c.name: c.messages for c in report.channels}
    assert {c.name: c.expected - c.messages for c in report.channels} == {c.name: c.lost for c in report.channels}
    assert 0 < report.recovered_share < 1
    with pytest.raises(LogDamaged, match=r"a\.mcap"):
        list(read_log(path))


def test_a_log_that_is_not_there_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        inspect_log(tmp_path / "absent.mcap")
