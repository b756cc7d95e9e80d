"""Unsorted data groups: whatever the order, the sizes and the cuts, every record comes out in its group."""

import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivelake.errors import LogDamaged
from drivelake.logs.findings import Findings
from drivelake.logs.mdf import demux, scan, walk
from drivelake.logs.mdf.reader import inspect_mdf, read_mdf
from tests.drivelake.logs.mdf.mdf_blocks import (
    START_NS,
    Block,
    chained,
    channel,
    data_group,
    offset_list,
    packed,
    plain,
    text,
    write_blocks,
)

VLSD = 1


def unsorted_group(number, name, channels=(), *, record_bytes=0, cycles=0, flags=0):
    chained(channels)
    fields = struct.pack("<QQHHIII", number, cycles, flags, ord("."), 0, record_bytes, 0)
    return Block("CG", [None, channels[0] if channels else None, text(name), None, None, None], fields)


def time(kind=2):
    return channel("t", kind=kind, sync=1, data_type=4, bits=64)


def stored(stream, cuts, packing):
    """The stream in pieces, plain or packed."""
    ends = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    parts = [stream[first:last] for first, last in pairwise(ends)]
    if not parts:
        return None
    blocks = [packed(part) if packing else plain(part) for part in parts]
    return offset_list(blocks, ends[:-1]) if len(blocks) > 1 or packing else blocks[0]


def read(path, **options):
    found, findings = {}, options.pop("findings", Findings(strict=True))
    options = {"batch_rows": 10, "leftovers": None, **options}
    for batch in read_mdf(path, wanted=lambda _: True, findings=findings, **options):
        assert not found.get(batch.channel, [None, False])[1], "a batch behind the last one"
        rows, _ = found.setdefault(batch.channel, [[], False])
        rows += batch.batch.to_pylist()
        found[batch.channel][1] = batch.last
    return {name: rows for name, (rows, _) in found.items()}


class Log:
    """A stream of records of three groups: two of fixed size, one with values of varying length."""

    def __init__(self, id_bytes, ids=(1, 2, 3, 4)):
        self.id_bytes, self.ids = id_bytes, ids
        self.stream, self.rows, self.values = bytearray(), {"a": [], "b": [], "v": []}, 0

    def record(self, number, data):
        self.stream += self.ids[number].to_bytes(self.id_bytes, "little") + data

    def a(self, value):
        seconds = len(self.rows["a"]) * 0.5
        self.record(0, struct.pack("<dh", seconds, value))
        self.rows["a"].append({"t_ns": START_NS + int(seconds * 10**9), "x": value})

    def b(self, value):
        seconds = len(self.rows["b"]) * 0.25
        self.record(1, struct.pack("<dI", seconds, value))
        self.rows["b"].append({"t_ns": START_NS + int(seconds * 10**9), "y": value})

    def pointer(self, value):
        """A record that points at a value, which is not there by that."""
        seconds = len(self.rows["v"]) * 0.125
        self.record(2, struct.pack("<dQ", seconds, self.values))
        self.values += 4 + len(value)
        self.rows["v"].append({"t_ns": START_NS + int(seconds * 10**9), "w": value})

    def value(self, value):
        self.record(3, struct.pack("<I", len(value)) + value)

    def write(self, path, cuts=(), packing=False, **options):
        final = not options.get("unfinalised")
        cycles = {name: len(rows) if final else 0 for name, rows in self.rows.items()}
        cycles |= options.pop("cycles", {})
        values = unsorted_group(self.ids[3], "", cycles=cycles["v"], flags=VLSD)
        pointer = channel("w", kind=1, data_type=10, at=8, bits=64, links={5: values})
        groups = [
            unsorted_group(
                self.ids[0], "a", [time(), channel("x", data_type=2, at=8, bits=16)], record_bytes=10, cycles=cycles["a"]
            ),
            unsorted_group(self.ids[1], "b", [time(), channel("y", at=8, bits=32)], record_bytes=12, cycles=cycles["b"]),
            unsorted_group(self.ids[2], "v", [time(), pointer], record_bytes=16, cycles=cycles["v"]),
            values,
        ]
        data = stored(bytes(self.stream), cuts, packing)
        last = [data] if options.get("unfinalised") and data is not None else []
        return write_blocks(path, data_group(groups, data, id_bytes=self.id_bytes), last=last, **options)


@st.composite
def streams(draw):
    id_bytes = draw(st.sampled_from([1, 2, 4, 8]))
    ids = draw(st.lists(st.integers(0, min(256**id_bytes, 1 << 40) - 1), min_size=4, max_size=4, unique=True))
    log, waiting = Log(id_bytes, ids), []
    for kind in draw(st.lists(st.sampled_from("abvw"), max_size=40)):
        if kind == "a":
            log.a(draw(st.integers(-32768, 32767)))
        elif kind == "b":
            log.b(draw(st.integers(0, 2**32 - 1)))
        elif kind == "v":
            value = draw(st.binary(max_size=20))
            log.pointer(value)
            waiting.append(value)
        elif waiting:
            log.value(waiting.pop(0))
    for value in waiting:
        log.value(value)
    return log


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    log=streams(),
    cuts=st.lists(st.integers(1, 600), max_size=4),
    packing=st.booleans(),
    threads=st.sampled_from([1, 2]),
    waiting=st.sampled_from([1, 50, 1 << 20]),
    compiled=st.booleans(),
)
def test_every_record_and_every_value_comes_out_in_its_group(tmp_path_factory, log, cuts, packing, threads, waiting, compiled):
    path = log.write(tmp_path_factory.mktemp("log") / "log.mf4", cuts, packing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demux, "ROWS_BYTES", waiting)
        patch.setattr(demux, "COMPILED_BYTES", 0 if compiled else 1 << 40)
        assert read(path, threads=threads) == log.rows
    _, reports = inspect_mdf(path, Findings(strict=True))
    assert {report.name: report.messages for report in reports} == {name: len(rows) for name, rows in log.rows.items()}


@settings(max_examples=60, deadline=None)
@given(
    log=streams(),
    start=st.integers(0, 900),
    end=st.integers(0, 900),
    chosen=st.lists(st.booleans(), min_size=4, max_size=4),
    lane=st.sampled_from([16, 24, 100, 1 << 12]),
    stretch=st.sampled_from([33, 200, 1 << 22]),
)
def test_both_walks_find_the_same_in_any_bytes(log, start, end, chosen, lane, stretch):
    order = sorted(range(4), key=lambda place: log.ids[place])
    layout = walk.Layout(
        log.id_bytes,
        np.array([log.ids[place] for place in order], np.uint64),
        np.array([[10, 12, 16, -1][place] for place in order], np.int64),
        np.array(chosen),
    )
    data = np.frombuffer(bytes(log.stream[start:end]), np.uint8).copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "LANE_BYTES", lane)
        patch.setattr(walk, "APPROACH_BYTES", min(lane, 16))
        patch.setattr(walk, "STRETCH_BYTES", stretch)
        ours, compiled = walk.take_apart(data, layout), scan.take_apart(data, layout)
    agreed(ours, compiled)
    if start == 0 and end >= len(log.stream):
        assert (ours.end, ours.state, ours.counts.sum()) == (
            len(data),
            walk.COMPLETE,
            sum(map(len, log.rows.values())) + len(log.rows["v"]),
        )


@pytest.mark.parametrize("id_bytes", [1, 2, 4, 8])
@pytest.mark.parametrize("longest", [0, 9, 30_000])
@pytest.mark.parametrize("flips", [0, 3])
def test_both_walks_find_the_same_in_long_streams(id_bytes, longest, flips):
    rng = np.random.default_rng([id_bytes, longest, flips])
    ids, sizes = np.array([0, 1, 200], np.uint64), np.array([3, -1, 20])
    stream = bytearray()
    while len(stream) < 200_000:
        place = int(rng.integers(3))
        size = int(rng.integers(longest + 1)) if sizes[place] < 0 else int(sizes[place])
        stream += int(ids[place]).to_bytes(id_bytes, "little")
        # zeros and ones look like ids
        stream += (struct.pack("<I", size) if sizes[place] < 0 else b"") + rng.integers(0, 2, size, np.uint8).tobytes()
    data = np.frombuffer(stream, np.uint8)
    layout = walk.Layout(id_bytes, ids, sizes, np.array([True, True, True]))
    whole = walk.take_apart(data, layout)
    assert (whole.end, whole.state, whole.torn) == (len(data), walk.COMPLETE, -1)
    for place in rng.integers(0, len(data), flips).tolist():
        data[place] ^= 1 << int(rng.integers(8))
        agreed(walk.take_apart(data, layout), scan.take_apart(data, layout))
    agreed(walk.take_apart(data[: -1 - flips], layout), scan.take_apart(data[: -1 - flips], layout))


def agreed(ours, compiled):
    """Whether two ways to take a stream apart gave the same."""
    assert (ours.end, ours.state, ours.torn) == (compiled.end, compiled.state, compiled.torn)
    assert ours.counts.tolist() == compiled.counts.tolist()
    assert [part.tobytes() for part in ours.parts] == [part.tobytes() for part in compiled.parts]


def test_a_length_that_cannot_be_ends_the_stream(tmp_path):
    log = some()
    log.record(3, struct.pack("<I", 0xFFFF_FFF0))
    for compiled in (0, 1 << 40):
        findings = Findings()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(demux, "COMPILED_BYTES", compiled)
            # the value before it may have been the one whose length is wrong
            expected = {**log.rows, "v": log.rows["v"][:-1]}
            assert read(log.write(tmp_path / "log.mf4"), findings=findings) == expected
        assert any("whose value is longer than 64 MiB" in sentence for sentence in findings.sentences)


def some(id_bytes=1):
    log = Log(id_bytes)
    for number in range(20):
        log.a(number)
        log.pointer(b"value %d" % number)
        log.value(b"value %d" % number)
        log.b(number)
    return log


def test_one_table_of_many_is_read_without_the_others(tmp_path):
    log = some()
    path = log.write(tmp_path / "log.mf4")
    batches = list(read_mdf(path, wanted=lambda name: name == "v", batch_rows=8, leftovers=None, findings=Findings(strict=True)))
    assert [(batch.channel, len(batch.batch), batch.last) for batch in batches] == [
        ("v", 8, False),
        ("v", 8, False),
        ("v", 4, True),
    ]


def test_counters_that_were_never_written_are_counted(tmp_path):
    log = some()
    findings = Findings(strict=True)
    assert read(log.write(tmp_path / "log.mf4", unfinalised=0x25), findings=findings) == log.rows
    assert findings.expected == {}


@pytest.mark.parametrize("kept", [1, 5, 8, 13, 15, 26, 29, 43, 44])
def test_a_record_that_an_unfinalised_file_cuts_is_lost_and_no_damage(tmp_path, kept):
    log = some()
    path = log.write(tmp_path / "log.mf4", unfinalised=0x25)
    path.write_bytes(path.read_bytes()[:-kept])
    findings = Findings(strict=True)
    found = read(path, findings=findings)
    assert sum(map(len, found.values())) < 60
    for name, rows in found.items():
        assert rows == log.rows[name][: len(rows)]
    assert findings.sentences == ()
    told = any("end inside a record" in note or "end before the values" in note for note in findings.notes)
    # the last records take 13, 13 and 17 bytes; the one of 17 points at the one before
    assert told == (kept not in (13, 43))
    _, reports = inspect_mdf(path, Findings(strict=True))
    assert {report.name: report.messages for report in reports} == {name: len(rows) for name, rows in found.items()}


@pytest.mark.parametrize("unfinalised", [0, 0x25])
@pytest.mark.parametrize("bit", range(32))
def test_a_length_that_changes_is_never_taken_for_a_torn_end(tmp_path, bit, unfinalised):
    """It moves or swallows what follows; what is given all the same is what was logged."""
    log = some()
    path = log.write(tmp_path / "log.mf4", unfinalised=unfinalised)
    data = bytearray(path.read_bytes())
    at = data.index(b"\4" + struct.pack("<I", 8), data.index(log.stream) + len(log.stream) // 2) + 1
    data[at + bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    with pytest.raises(LogDamaged):
        read(path)
    findings = Findings()
    found = read(path, findings=findings)
    assert findings.sentences
    for name, rows in found.items():
        assert all(row in log.rows[name] for row in rows)


@pytest.mark.parametrize("written", [0, 1, 2])
def test_an_end_that_leaves_more_than_one_record_without_value_is_damage(tmp_path, written):
    log = some()
    for _ in range(2):
        log.pointer(b"12345678")
    for _ in range(written):
        log.value(b"12345678")
    path, findings = log.write(tmp_path / "log.mf4", unfinalised=0x25), Findings()
    found = read(path, findings=findings)
    assert found["v"] == log.rows["v"][: 20 + written]
    assert findings.lost["v"] == 2 - written
    assert len(findings.sentences) == (1 if written == 0 else 0)
    if not written:
        with pytest.raises(LogDamaged, match="before the values of the last 2 records of 'v'"):
            read(path)


def test_a_record_that_points_between_two_values_costs_itself_alone(tmp_path):
    log = some()
    log.values += 2
    log.pointer(b"")
    log.values -= 6
    log.pointer(b"after")
    log.value(b"after")
    findings = Findings()
    found = read(log.write(tmp_path / "log.mf4"), findings=findings)
    assert found["v"] == [*log.rows["v"][:20], log.rows["v"][21]]
    assert findings.lost == {"v": 1}


def test_a_record_that_a_finalised_file_cuts_is_damage(tmp_path):
    log = some()
    log.stream += b"\1" + bytes(4)
    path = log.write(tmp_path / "log.mf4")
    with pytest.raises(LogDamaged, match="end inside a record of group 0: 5 bytes of it are there"):
        read(path)
    findings = Findings()
    assert read(path, findings=findings) == log.rows
    assert findings.lost == {"a": 1}


def test_an_id_of_no_group_ends_the_stream_and_is_told_with_its_place(tmp_path):
    log = some()
    place = len(log.stream)
    log.stream += b"\x63" + bytes(50)
    # the last value may have ended elsewhere
    sound = {**{name: list(rows) for name, rows in log.rows.items()}, "v": log.rows["v"][:-1]}
    for _ in range(5):
        log.a(1)
    path = log.write(tmp_path / "log.mf4")
    findings = Findings()
    assert read(path, findings=findings) == sound
    assert any(f"At byte {place} of the data" in told and "record id 99" in told for told in findings.sentences)
    assert any(f"{len(log.stream) - place} bytes are lost" in told for told in findings.sentences)
    assert findings.lost["a"] == 5
    with pytest.raises(LogDamaged, match="record id 99"):
        read(path)


@pytest.mark.parametrize("threads", [1, 2])
def test_behind_a_lost_piece_of_an_unsorted_stream_nothing_is_read(tmp_path, threads):
    log = some()
    cuts = [400, 800]
    path = log.write(tmp_path / "log.mf4", cuts, packing=True)
    data = bytearray(path.read_bytes())
    second = data.index(b"##DZ", data.index(b"##DZ") + 1)
    data[second + 60] ^= 0xFF
    path.write_bytes(data)
    findings = Findings()
    found = read(path, findings=findings, threads=threads)
    assert all(rows == log.rows[name][: len(rows)] for name, rows in found.items())
    assert 0 < len(found["a"]) < 20
    assert any(f"{len(log.stream) - 400} bytes are lost" in told for told in findings.sentences)
    assert {name: len(rows) + findings.lost[name] for name, rows in found.items()} == dict.fromkeys("abv", 20)


def test_fewer_records_than_promised_are_damage(tmp_path):
    log = some()
    path = log.write(tmp_path / "log.mf4", cycles={"b": 23})
    with pytest.raises(LogDamaged, match=r"Group 1 \('b'\) promises 23 records, 20 are there"):
        read(path)
    findings = Findings()
    assert read(path, findings=findings) == log.rows
    assert (findings.expected["b"], findings.lost["b"]) == (23, 3)


def test_a_value_that_is_not_where_its_record_says_costs_that_record(tmp_path):
    log = some()
    log.values += 7
    log.pointer(b"gone")
    path = log.write(tmp_path / "log.mf4")
    findings = Findings()
    found = read(path, findings=findings)
    assert found["v"] == log.rows["v"][:-1]
    assert findings.lost == {"v": 1}
    assert "Channel 'w' of group 2 has no value where record 20 says that it is." in findings.sentences


def test_two_groups_of_one_id_cannot_be_told_apart(tmp_path):
    log = some()
    log.ids = (1, 1, 3, 4)
    with pytest.raises(LogDamaged, match=r"Several groups .* have the record ids \[1\]"):
        read(log.write(tmp_path / "log.mf4"))


def test_values_are_kept_while_records_may_ask_for_them():
    stored_values = demux._Stored()
    rng = np.random.default_rng(0)
    words = [rng.bytes(int(size)) for size in rng.integers(0, 3000, 300)]
    offsets = np.cumsum([0, *(4 + len(word) for word in words)])[:-1].astype(np.uint64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demux, "WAITING_BYTES", 50_000)
        for word in words:
            stored_values.add(np.frombuffer(struct.pack("<I", len(word)) + word, np.uint8))
    data, lengths, missing = stored_values.take(offsets)
    kept = ~missing
    assert data.tobytes() == b"".join(word for word, there in zip(words, kept, strict=True) if there)
    assert kept.tolist() == sorted(kept.tolist())
    assert 50_000 <= lengths.sum() < 200_000
    assert not stored_values.behind(offsets).any()
    assert stored_values.behind(offsets[-1:] + np.uint64(4 + len(words[-1]))).all()
