import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from drivelake.logs.bags import tables
from drivelake.logs.bags.tables import BagTables, Names, rows_by_name
from drivelake.logs.findings import Findings
from drivelake.logs.messages.block import Channel, MessageBlock

TEXTS = Channel("/a", "ros1", "std_msgs/String", "ros1msg", b"string data")


@given(st.lists(st.tuples(st.sampled_from(("/a", "/a#2", "/a#3", "/b")), st.binary(max_size=1)), max_size=12))
def test_two_channels_never_share_a_name_and_one_keeps_its_own(declared):
    names = Names()
    given_names = {key: names.name(key[0], "cdr", "T", key[1]) for key in declared}
    assert len(set(given_names.values())) == len(given_names)
    assert all(names.name(topic, "cdr", "T", definition) == name for (topic, definition), name in given_names.items())


@given(st.lists(st.integers(0, 5)))
def test_rows_by_name_are_each_row_once_in_order(numbers):
    shared = {0: "x", 1: "y", 2: "x", 3: "z", 4: "y", 5: "x"}
    found = {name: rows.tolist() for name, rows in rows_by_name(np.array(numbers, np.int64), shared.__getitem__)}
    assert found == {
        name: [row for row, number in enumerate(numbers) if shared[number] == name] for name in {shared[n] for n in numbers}
    }


def test_long_messages_end_a_batch_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(tables, "BATCH_BYTES", 1000)
    bag = BagTables(wanted=lambda _: True, batch_rows=100, leftovers=None, findings=Findings(strict=True))
    messages = [(length - 4).to_bytes(4, "little") + b"x" * (length - 4) for length in (300, 300, 300, 300, 2000, 10, 10)]
    lengths = np.array([len(message) for message in messages], np.int64)
    stamps = np.arange(len(messages), dtype=np.int64)
    block = MessageBlock(np.frombuffer(b"".join(messages), np.uint8), np.cumsum(lengths) - lengths, lengths, stamps, stamps, 0, 0)
    found = [batch.batch for batch in (*bag.add(bag.declare(TEXTS), block), *bag.rest())]
    assert max(batch.nbytes for batch in found) < 2500
    assert [stamp for batch in found for stamp in batch["t_ns"].to_pylist()] == stamps.tolist()
    assert len(found) > 2
