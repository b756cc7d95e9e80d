import re
import shutil
import sqlite3
from collections import Counter
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.errors import InputError
from drivelake.logs.bags.sqlite import inspect_sqlite, read_sqlite, sound_messages
from drivelake.logs.findings import Findings
from tests.drivelake.logs.bags.making import counted, expected, recovered, recovered_and_lost, write_db3

PAGE = 4096
MESSAGES = 600
salvage = partial(recovered, sound_messages)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_db3(tmp_path_factory.mktemp("bags") / "bag", MESSAGES)


@pytest.fixture
def bag(written, tmp_path):
    for name in (written.name, "metadata.yaml"):
        (tmp_path / name).write_bytes((written.parent / name).read_bytes())
    return tmp_path / written.name


def leaves_by_kind(path, kind):
    data = path.read_bytes()
    return [number for number in range(1, len(data) // PAGE) if data[number * PAGE] == kind]


def test_an_intact_bag_has_no_damage(bag):
    found, findings = salvage(bag)
    assert found == expected(MESSAGES, 2)
    assert not findings.sentences


def test_a_page_of_zeros_costs_its_rows_only(bag):
    whole = expected(MESSAGES, 2)
    data = bytearray(bag.read_bytes())
    leaf = leaves_by_kind(bag, 13)[20]  # table leaf pages, in the order they were filled
    data[leaf * PAGE : leaf * PAGE + PAGE] = bytes(PAGE)
    bag.write_bytes(data)
    found, findings = salvage(bag)
    assert found < whole
    assert found.total() > MESSAGES - 60
    assert any("left out" in sentence for sentence in findings.sentences)
    assert recovered_and_lost(found, findings) == +Counter(findings.expected)


def test_a_damaged_page_of_one_long_message_costs_that_message(tmp_path):
    from tests.drivelake.logs.bags.making import rows  # the fourth message is a picture

    path = write_db3(tmp_path / "bag", 12)
    with sqlite3.connect(path) as bag:
        bag.execute("UPDATE messages SET data = zeroblob(60000) WHERE id = 5")
    data = path.read_bytes()
    overflow = [number for number in range(1, len(data) // PAGE) if not any(data[number * PAGE + 4 : number * PAGE + PAGE])]
    assert len(overflow) > 10
    broken = bytearray(data)
    broken[overflow[3] * PAGE : overflow[3] * PAGE + 4] = (1 << 24).to_bytes(4, "big")
    path.write_bytes(broken)
    found, findings = salvage(path)
    others = Counter((topic, stamp, content) for topic, _, stamp, content in rows(12, version=2))
    assert found == Counter({message: 1 for message in others if message[1] != sorted(others, key=lambda m: m[1])[4][1]})
    assert any("rows 5 to 5 are left out" in sentence for sentence in findings.sentences)
    assert findings.lost["/camera"] == 1


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_cut_bag_gives_what_can_still_be_reached(bag, share):
    data = bag.read_bytes()
    bag.write_bytes(data[: int(len(data) * share)])
    found, findings = salvage(bag)
    assert found < expected(MESSAGES, 2)
    assert found.total() > MESSAGES * share / 2
    assert any("The header counts" in sentence for sentence in findings.sentences)
    assert recovered_and_lost(found, findings) == +Counter(findings.expected)


def test_a_changed_stamp_costs_that_message(bag):
    data = bytearray(bag.read_bytes())
    stamp = sorted(stamp for _, stamp, _ in expected(MESSAGES, 2))[300]
    places = [at for at in range(len(data)) if data.startswith(stamp.to_bytes(8, "big"), at)]
    assert len(places) == 2  # in the table and in the index over the stamps
    table = next(at for at in places if data[at // PAGE * PAGE] == 13)
    data[table + 7] ^= 1
    bag.write_bytes(data)
    found, findings = salvage(bag)
    assert [key[1] for key in expected(MESSAGES, 2) - found] == [stamp]
    assert not found - expected(MESSAGES, 2)
    assert sum(findings.lost.values()) == 1


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("UPDATE messages SET timestamp = 'soon' WHERE id = 7", "is stamped b'soon'"),
        ("UPDATE messages SET timestamp = -1 WHERE id = 7", "is stamped -1"),
        ("UPDATE messages SET data = 7 WHERE id = 7", "data of type int"),
        ("UPDATE messages SET topic_id = 99 WHERE id = 7", "topic 99"),
        ("UPDATE messages SET topic_id = 'x' WHERE id = 7", "topic b'x'"),
    ],
)
def test_rows_that_are_no_messages_are_told(bag, statement, word):
    with sqlite3.connect(bag) as database:
        database.execute(statement)
    found, findings = salvage(bag)
    assert (expected(MESSAGES, 2) - found).total() == 1
    assert any(word in sentence for sentence in findings.sentences)
    assert recovered_and_lost(found, findings) == +Counter(findings.expected)


def test_deleted_rows_contradict_the_metadata_and_are_noted(bag):
    with sqlite3.connect(bag) as database:
        database.execute("DELETE FROM messages WHERE id BETWEEN 10 AND 15")
    found, findings = salvage(bag)
    assert sum(findings.lost.values()) == 6
    assert any("6 row numbers" in note for note in findings.notes)
    (bag.parent / "metadata.yaml").unlink()
    _, without = salvage(bag)
    assert not without.sentences
    assert found.total() == MESSAGES - 6


def test_metadata_that_promise_another_type_or_topic_are_told(bag):
    beside = bag.parent / "metadata.yaml"
    beside.write_text(beside.read_text().replace("std_msgs/msg/String", "std_msgs/msg/Char").replace("/camera", "/front"))
    _, findings = salvage(bag)
    assert any("'std_msgs/msg/Char'" in sentence for sentence in findings.sentences)
    assert any("['/front']" in sentence for sentence in findings.sentences)


@pytest.mark.parametrize("ending", ["-wal", "-journal"])
def test_a_journal_beside_a_bag_is_told(bag, ending):
    beside = bag.with_name(bag.name + ending)
    beside.write_bytes(b"")
    assert not salvage(bag)[1].sentences
    beside.write_bytes(b"x" * 100)
    found, findings = salvage(bag)
    assert found == expected(MESSAGES, 2)
    assert beside.name in findings.sentences[0]


def test_topics_whose_names_are_no_text_cost_their_messages(bag):
    data = bag.read_bytes()
    for name in (b"motion", b"camera"):
        data = data.replace(b"/" + name, b"\xff" + name)
    bag.write_bytes(data)
    found, findings = salvage(bag)
    assert {channel for channel, _, _ in found} == {"/said"}
    assert findings.sentences


def test_a_compressed_message_that_does_not_open_is_lost(tmp_path):
    path = write_db3(tmp_path / "bag", compressed=True)
    bomb = zstandard.compress(bytes(300 << 20))
    streamed = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(300 << 20))
    with sqlite3.connect(path) as bag:
        for number, data in ((4, bomb), (5, streamed), (6, zstandard.compress(b"x" * 99)[:-3]), (7, bytes(5))):
            bag.execute("UPDATE messages SET data = ? WHERE id = ?", (data, number))
    found, findings = salvage(path)
    assert (expected(version=2) - found).total() == 4
    assert sum(findings.lost.values()) == 3  # five zeros are no message of that type, which only its table can tell
    batches = list(read_sqlite(path, wanted=lambda _: True, batch_rows=99, leftovers=None, findings=Findings()))
    assert sum(batch.batch.num_rows for batch in batches) == 56


def test_files_that_are_no_database_are_damaged(tmp_path):
    for number, content in enumerate((b"", b"SQLite format 3\x00", b"SQLite format 3\x00" + bytes(200), b"x" * 5000)):
        path = tmp_path / f"{number}.db3"
        path.write_bytes(content)
        found, findings = salvage(path)
        assert not found
        assert findings.sentences


@settings(max_examples=60, deadline=None)
@given(
    cut=st.none() | st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=64)), max_size=4),
)
def test_cut_and_overwritten_bags_never_raise_and_stamps_never_change(tmp_path_factory, written, cut, changes):
    folder = tmp_path_factory.mktemp("bag")
    path = folder / written.name
    data = bytearray(written.read_bytes())
    for share, content in changes:
        at = 100 + int(share * (len(data) - 100))
        data[at : at + len(content)] = content[: len(data) - at]
    path.write_bytes(data if cut is None else data[: int(cut * len(data))])
    found, findings = salvage(path)
    assert {stamp for _, stamp, _ in found} <= {stamp for _, stamp, _ in expected(MESSAGES, 2)}
    assert sum(channel.messages for channel in inspect_sqlite(path, Findings())[1]) >= found.total()
    assert counted(sound_messages(path, Findings())) == found
    if found.total() < MESSAGES:
        assert findings.sentences


def test_a_frame_without_a_size_is_refused_however_it_ends(tmp_path):
    path = write_db3(tmp_path / "bag", compressed=True)
    content = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes()
    streamed = zstandard.ZstdCompressor(write_content_size=False).compress(content)
    with sqlite3.connect(path) as bag:
        for number, data in ((2, streamed), (5, streamed[:-1000]), (8, streamed + streamed)):
            bag.execute("UPDATE messages SET data = ? WHERE id = ?", (data, number))
    found, findings = salvage(path)
    assert found < expected(version=2)
    assert findings.lost == {"/camera": 3}


def test_rows_with_numbers_that_no_recorder_gives_are_told(bag):
    (bag.parent / "metadata.yaml").unlink()
    with sqlite3.connect(bag) as database:
        database.execute("UPDATE messages SET id = id - 3 WHERE id <= 3")
    found, findings = salvage(bag)
    assert found.total() == MESSAGES - 3
    assert findings.sentences[0].startswith("3 rows of the table of messages have numbers below 1")


def test_numbers_that_run_backwards_at_their_end_do_not_stop_the_reader(bag):
    highest = [b"\xbf" + b"\xff" * 7 + bytes([last]) for last in (0xFD, 0xFE, 0xFF)]
    with sqlite3.connect(bag) as database:
        for number in (0, 1, 2):
            database.execute("UPDATE messages SET id = ? WHERE id = ?", (2**63 - 1 - number, MESSAGES - number))
    data = bytearray(bag.read_bytes())
    (page,) = (page * PAGE for page in leaves_by_kind(bag, 13) if highest[2] in data[page * PAGE : page * PAGE + PAGE])
    places = [data.index(number, page) for number in highest]
    for place, number in zip(places, (1, 2, 0), strict=True):
        data[place : place + 9] = highest[number]
    bag.write_bytes(data)
    found, findings = salvage(bag)
    assert found.total() == MESSAGES - 3  # the index over the stamps has them under other numbers
    assert any("stands behind row" in sentence for sentence in findings.sentences)
    assert recovered_and_lost(found, findings) == +Counter(findings.expected)


def test_a_row_whose_number_is_too_high_costs_itself_and_not_those_behind_it(bag):
    data = bytearray(bag.read_bytes())
    (cell,) = re.finditer(rb"\x82\x2c[\x05-\x07]\x00[\x01\x09]\x06", data)  # row 300, and the types of its columns
    data[cell.start()] += 1
    bag.write_bytes(data)
    found, findings = salvage(bag)
    assert found.total() == MESSAGES - 1
    assert findings.lost.total() == 1
    assert sum(channel.messages for channel in inspect_sqlite(bag, Findings())[1]) == found.total()


def test_a_column_that_hides_the_numbers_of_rows_is_told(bag):
    with sqlite3.connect(bag) as database:
        database.executescript("ALTER TABLE messages ADD COLUMN RowId TEXT; UPDATE messages SET RowId = 'x'")
    found, findings = salvage(bag)
    assert not found
    assert "none named rowid" in findings.sentences[0]


def test_a_cut_bag_without_room_for_its_copy_says_so(bag, monkeypatch):
    bag.write_bytes(bag.read_bytes()[: -3 * PAGE])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match="1000 are free in the temporary folder") as told:
        salvage(bag)
    assert "TMPDIR" in told.value.next_step


def test_a_schema_that_is_no_text_is_damage(bag):
    bag.write_bytes(bag.read_bytes().replace(b"CREATE TABLE messages", b"CREATE TABLE \xc2>ssages"))
    found, findings = salvage(bag)
    assert not found
    assert findings.sentences[0].startswith("SQLite's integrity check ends")
