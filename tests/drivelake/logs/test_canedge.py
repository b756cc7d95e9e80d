"""A recorded drive in six files, and the decoding of the last one that its publisher made."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from drivelake.logs import Leftovers, read_log
from drivelake.logs.units import to_si

MS = 1_000_000


@pytest.fixture(scope="module")
def folder(shared_data):
    found = shared_data / "mdf4" / "canedge_gnss_obd2_3BA199E2_00000165"
    if not found.is_dir():
        pytest.skip("recorded data is absent: canedge_gnss_obd2_3BA199E2_00000165")
    return found


def read(path, database, leftovers=None, channels=None):
    batches = {}
    for part in read_log(path, databases=[database], leftovers=leftovers, channels=channels):
        batches.setdefault(part.channel, []).append(part.batch)
    return {name: pa.Table.from_batches(parts) for name, parts in batches.items()}


def test_a_file_decodes_to_what_its_publisher_decoded(folder):
    from asammdf import MDF

    leftovers = Leftovers()
    ours = read(folder / "00000006-60FFE42F.MF4", folder / "canmod-gps.dbc", leftovers)
    messages = {frozenset(table.column_names[1:]): table for name, table in ours.items() if name.startswith("gnss_")}
    decoded = 0
    with MDF(folder / "decoded_by_upstream" / "00000006-60FFE42F.mf4") as mdf:
        for index, group in enumerate(mdf.groups):
            signals = [channel.name for channel in group.channels if channel.name != "time"]
            table = messages.pop(frozenset(signals))
            stamps = mdf.header.abs_time + np.rint(mdf.get_master(index) * 1e9).astype(np.int64)
            assert (table.column("t_ns").to_numpy() == stamps).all()
            for signal in signals:
                theirs = mdf.get(signal, group=index)
                unit = to_si(theirs.unit)
                values = theirs.samples * unit.factor + unit.offset
                assert table.column(signal).null_count == 0
                assert np.allclose(table.column(signal).to_numpy(), values, rtol=1e-12, atol=1e-12), signal
            decoded += table.num_rows
    assert not messages
    assert decoded == 6_731
    assert {reason for *_, reason in leftovers.frames} == {"unknown id"}
    assert decoded + leftovers.frames.total() == 7_601


def test_six_files_join_into_one_drive_without_gap_or_overlap(folder):
    parts = [
        read(path, folder / "canmod-gps.dbc", channels={"gnss_imu"})["gnss_imu"].column("t_ns").to_numpy()
        for path in sorted(folder.glob("*.MF4"))
    ]
    steps = [int(after[0] - before[-1]) for before, after in pairwise(parts)]
    whole = np.concatenate(parts)
    assert len(parts) == 6
    # the sensor sends every 10 ms, and its jitter inside a file reaches 22.35 ms
    assert all(9.8 * MS <= step <= 10 * MS for step in steps)
    assert np.diff(whole).min() > 0
    assert np.diff(whole).max() < 22.4 * MS
    assert len(whole) == 286_221
    assert (whole[-1] - whole[0]) / 60e9 == pytest.approx(47.1, abs=0.01)
