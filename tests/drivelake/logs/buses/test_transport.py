import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.logs.buses.tables import BusTables
from drivelake.logs.buses.transport import TransportSessions
from drivelake.logs.findings import Findings
from tests.drivelake.logs.buses.databases_of import HEAD
from tests.drivelake.logs.buses.frames_of import counted, frames_from, recorded_frames, rows_from
from tests.drivelake.logs.buses.test_database import J1939

MS = 1_000_000


def session(payload, source=0x21, target=0xFF, pgn=0xFEE3):
    """Frames (id, payload) of one message: its announcement and its packets."""
    count = -(-len(payload) // 7)
    head = bytes([32 if target == 0xFF else 16, *len(payload).to_bytes(2, "little"), count, 255, *pgn.to_bytes(3, "little")])
    packets = [bytes([n + 1]) + payload[7 * n : 7 * n + 7].ljust(7, b"\xff") for n in range(count)]
    control, data = (0x1C000000 | kind << 16 | target << 8 | source for kind in (0xEC, 0xEB))
    return [(control, head), *((data, packet) for packet in packets)]


def rows_of(frames, step_ns=10 * MS):
    return [(number * step_ns, 1, identifier, True, payload) for number, (identifier, payload) in enumerate(frames)]


def ended(rows, split=None):
    """Sessions of the frames, which come in parts of ``split``."""
    sessions, found = TransportSessions(), []
    for start in range(0, len(rows), split or len(rows)):
        part = rows[start : start + (split or len(rows))]
        found.extend(sessions.add(frames_from(part), frames_from(part).t_ns.argsort()))
    return [*found, *sessions.rest()]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.binary(min_size=9, max_size=200), min_size=1, max_size=4), st.randoms(use_true_random=False), st.integers(1, 50)
)
def test_messages_of_several_senders_at_once_arrive_whole_however_the_frames_are_split(payloads, random, split):
    waiting = [session(payload, source=source) for source, payload in enumerate(payloads)]
    frames = []
    while waiting := [frames_left for frames_left in waiting if frames_left]:
        frames.append(random.choice(waiting).pop(0))
    found = ended(rows_of(frames, step_ns=MS), split)
    assert {s.source: s.payload for s in found} == dict(enumerate(payloads))
    assert all(s.pgn == 0xFEE3 and not s.broken for s in found)


@settings(deadline=None, max_examples=40)
@given(st.binary(min_size=15, max_size=1785), st.data())
def test_a_session_that_lost_any_frame_gives_no_message_and_every_frame_is_told(payload, data):
    frames = session(payload)
    del frames[data.draw(st.integers(0, len(frames) - 1))]
    found = ended(rows_of(frames, step_ns=MS))
    assert not any(s.payload for s in found)
    assert all(s.broken for s in found)
    assert sum((s.frames for s in found), Counter()).total() == len(frames)


def test_a_packet_lost_with_the_next_announcement_does_not_mix_two_messages():
    first, second = session(b"a" * 20), session(b"b" * 20)
    identifier, last = second[-1]
    rows = [*rows_of(first[:3]), (2_000 * MS, 1, identifier, True, last)]
    (only,) = ended(rows)
    assert (only.payload, only.broken) == (b"", "silence of more than 1.25 s between packets")


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        (session(b"a" * 20)[:2] + session(b"b" * 20)[:1], "the next session begins before the last packet"),
        (session(b"a" * 20)[1:2], "a packet outside any session"),
        ([(0x1CECFF21, bytes([32, 20, 0, 9, 255, 0xE3, 0xFE, 0]))], "an announcement that contradicts itself"),
        ([(0x1CEC0021, bytes([32, 20, 0, 3, 255, 0xE3, 0xFE, 0]))], "an announcement that contradicts itself"),
        ([(0x1CECFF21, b"\x20\x14")], "an announcement that contradicts itself"),
        ([(0x1CECFF21, b"")], "an unknown control frame"),
        ([*session(b"a" * 20)[:1], (0x1CEBFF21, b"")], "a packet has a number that was not announced"),
        ([*session(b"a" * 20)[:1], (0x1CEBFF21, b"\1abc")], "a packet is too short"),
        ([*session(b"a" * 20, target=3)[:2], (0x1CEC2103, bytes([255, 1, 255, 255, 255, 0xE3, 0xFE, 0]))], "aborted"),
        ([*session(b"a" * 20, target=3)[:2], (0x1CEB0321, b"\1different")], "a repeated packet differs"),
    ],
)
def test_what_breaks_a_session_is_said(frames, why):
    found = ended(rows_of([(identifier, payload[:8]) for identifier, payload in frames]))
    assert found[0].broken == why
    assert not any(s.payload for s in found)


def test_a_receiver_may_ask_for_packets_again():
    head, *packets = session(bytes(range(30)), target=3)
    clear_to_send = (0x1CEC2103, bytes([17, 5, 1, 255, 255, 0xE3, 0xFE, 0]))
    frames = [head, clear_to_send, packets[0], packets[2], clear_to_send, packets[0], packets[1], *packets[3:]]
    found = ended(rows_of(frames))
    assert [s.payload for s in found if s.payload] == [bytes(range(30))]
    assert [s.broken for s in found if s.broken] == ["a control frame without data"] * 2


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "truck.dbc"
    early = ' SG_ Early : 0|8@1+ (1,0) [0|0] "" Car\n'
    late = ' SG_ Late : 152|8@1+ (1,0) [0|0] "" Car\n'
    path.write_text(HEAD + f"BO_ {0x98FEE3FE} Long: 20 Car\n{early}{late}BO_ {0x98FECAFE} Faults: 8 Car\n{early}" + J1939)
    return path


def read(database, rows):
    frames = frames_from(rows)
    tables = BusTables([database], counted([frames]), set(), lambda _: True, Findings())
    found = {}
    for part in (*tables.add(frames, 100), *tables.rest()):
        found.setdefault(part.channel, []).extend(part.batch.to_pylist())
    return found, tables.undecoded


def test_a_transported_message_is_a_row_stamped_with_its_last_packet(database):
    found, undecoded = read(database, rows_of(session(bytes(range(20)))))
    assert found == {"Long": [{"t_ns": 30 * MS, "Early": 0, "Late": 19}]}
    assert not undecoded


def test_a_transported_message_of_an_older_edition_gives_the_signals_that_it_holds(database):
    found, _ = read(database, rows_of(session(bytes(range(5, 20)))))
    assert found == {"Long": [{"t_ns": 30 * MS, "Early": 5, "Late": None}]}


def test_short_and_long_messages_of_one_group_stay_in_the_order_of_the_log(database):
    single = (0x18FECA21, b"\x63" + bytes(7))
    frames = [single, *session(b"\x07" * 10, pgn=0xFECA), single, *session(b"\x08" * 10, pgn=0xFECA)]
    found, _ = read(database, rows_of(frames))
    assert [row["Early"] for row in found["Faults"]] == [0x63, 7, 0x63, 8]


def test_several_senders_of_long_messages_are_tables_of_their_own(database):
    frames = session(b"\1" * 20, source=0x21) + session(b"\2" * 20, source=0x22)
    found, _ = read(database, rows_of(frames))
    assert {name: rows[0]["Early"] for name, rows in found.items()} == {"Long@sa0x21": 1, "Long@sa0x22": 2}


def test_frames_of_sessions_that_give_no_row_are_counted(database):
    frames = session(b"\1" * 20)[:-1] + session(b"\1" * 20, pgn=0xFEDA)
    found, undecoded = read(database, rows_of(frames))
    broken, unknown = "Long: the next session begins before the last packet (J1939 transport)", "unknown id (J1939 transport)"
    assert undecoded == {
        (1, "0x1cecff21", broken): 1,
        (1, "0x1cebff21", broken): 2,
        (1, "0x1cecff21", unknown): 1,
        (1, "0x1cebff21", unknown): 3,
    }
    assert not found


def test_recorded_transport_sessions_decode_as_cantools_decodes_their_bytes(shared_data):
    import cantools

    folder = shared_data / "mdf4" / "canedge_j1939_tp"
    (frames,) = recorded_frames(folder / "00000001-60B621D9.MF4")
    rows = rows_from(frames)
    found, undecoded = read(folder / "tp_j1939.dbc", rows)
    (message,) = cantools.database.load_file(folder / "tp_j1939.dbc", strict=False).messages
    expected, size, collected = [], 0, b""
    for t_ns, _, identifier, _, payload in rows:
        if identifier == 0x1CECFF00:
            size, collected = (payload[1], b"") if payload[5:8] == b"\xe3\xfe\0" else (0, b"")
        elif identifier == 0x1CEBFF00 and size:
            collected += payload[1:]
            if len(collected) >= size:
                rpm = message.decode(collected[:size], allow_truncated=True)["EngineSpeedAtPoint5"]
                expected.append((t_ns, rpm * 2 * math.pi / 60))
                size = 0
    assert len(expected) == 13
    assert [row["t_ns"] for row in found["EC1"]] == [t_ns for t_ns, _ in expected]
    assert [row["EngineSpeedAtPoint5"] for row in found["EC1"]] == pytest.approx([value for _, value in expected], rel=1e-14)
    transported = sum(n for (_, identifier, _), n in undecoded.items() if identifier in {"0x1cecff00", "0x1cebff00"})
    assert sum(1 for row in rows if row[2] in {0x1CECFF00, 0x1CEBFF00}) == transported + 13 * 5


def test_a_receiver_may_let_the_sender_wait():
    head, *packets = session(bytes(range(20)), target=3)
    hold, clear_to_send = ((0x1CEC2103, bytes([17, number, 1, 255, 255, 0xE3, 0xFE, 0])) for number in (0, 3))
    waiting = ended(rows_of([head, hold, hold, clear_to_send, *packets], step_ns=1_000 * MS))
    assert [s.payload for s in waiting if s.payload] == [bytes(range(20))]
    (silent, *_) = ended(rows_of([head, *packets], step_ns=1_300 * MS))
    assert "silence" in silent.broken
