import json
import math
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.logs.buses.tables import BusTables
from drivelake.logs.findings import Findings
from tests.drivelake.logs.buses.databases_of import HEAD, DatabaseMaker
from tests.drivelake.logs.buses.frames_of import counted, frames_from


def decoded(database, rows, batch_rows=8192):
    """Rows of each table, and the frames that none holds."""
    frames = frames_from(rows)
    tables = BusTables([database], counted([frames]), set(), lambda _: True, Findings())
    found = {}
    for part in (*tables.add(frames, batch_rows), *tables.rest()):
        found.setdefault(part.channel, []).extend(part.batch.to_pylist())
    return found, tables.undecoded


def expected(database, rows):
    """The same by cantools, of one message."""
    import cantools

    (message,) = cantools.database.load_file(database, strict=False).messages
    found, refused = [], 0
    for t_ns, _, _, _, data in rows:
        try:
            values = message.decode(data, decode_choices=False)
        except cantools.database.DecodeError:
            refused += 1
        else:
            found.append({"t_ns": t_ns, **{signal.name: values.get(signal.name) for signal in message.signals}})
    return found, refused


def bit_for_bit(value):
    """Something that is equal only where every bit is; all NaN are one."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    return value


def agree(ours, theirs):
    """Whether rows agree to the last bit; where a column holds fractions, an integer counts as the float next to it."""
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert list(our) == list(their)
        for name, value in their.items():
            same_kind = float(value) if isinstance(our[name], float) and isinstance(value, int) else value
            assert bit_for_bit(our[name]) == bit_for_bit(same_kind), name


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**40))
def test_any_message_decodes_as_cantools_decodes_it_bit_for_bit(tmp_path_factory, seed):
    maker = DatabaseMaker(random.Random(seed))
    database = tmp_path_factory.mktemp("any") / "any.dbc"
    database.write_text(maker.text)
    dice = random.Random(seed + 1)
    sizes = [maker.length] * 40 + [dice.randint(0, 64) for _ in range(6)]
    payloads = [bytes(dice.choice((0, 0, 1, 2, 3, 22, 255, dice.randrange(256))) for _ in range(size)) for size in sizes]
    rows = [(t_ns, 1, 256, False, payload) for t_ns, payload in enumerate(payloads)]
    found, undecoded = decoded(database, rows, batch_rows=dice.choice((7, 8192)))
    theirs, refused = expected(database, rows)
    agree(found["Message"], theirs)
    assert undecoded.total() == refused


@pytest.mark.parametrize("motorola", [0, 1])
@pytest.mark.parametrize("bits", [1, 8, 13, 33, 63, 64])
def test_a_signal_across_words_of_a_long_frame_is_whole(tmp_path, bits, motorola):
    database = tmp_path / "fd.dbc"
    for start in (60, 64, 71, 120, 300):
        database.write_text(HEAD + f'BO_ 256 Message: 64 Car\n SG_ Value : {start}|{bits}@{1 - motorola}- (1,0) [0|0] "" Car\n')
        rows = [(n, 0, 256, False, np.random.default_rng(n).bytes(64)) for n in range(20)]
        found, _ = decoded(database, rows)
        agree(found["Message"], expected(database, rows)[0])


def test_integers_that_float64_cannot_hold_are_scaled_as_integers(tmp_path):
    database = tmp_path / "large.dbc"
    database.write_text(HEAD + 'BO_ 256 Message: 8 Car\n SG_ Value : 0|64@1+ (3,1) [0|0] "" Car\n')
    raw = [2**53 + 1, 2**64 - 1, 6148914691236517205, 0]
    found, _ = decoded(database, [(0, 0, 256, False, value.to_bytes(8, "little")) for value in raw])
    assert [row["Value"] for row in found["Message"]] == [float(value * 3 + 1) for value in raw]


def test_unsigned_integers_of_64_bits_keep_their_type(tmp_path):
    database = tmp_path / "large.dbc"
    database.write_text(HEAD + 'BO_ 256 Message: 8 Car\n SG_ Value : 0|64@1+ (1,0) [0|0] "" Car\n')
    assert decoded(database, [(0, 0, 256, False, b"\xff" * 8)])[0]["Message"] == [{"t_ns": 0, "Value": 2**64 - 1}]


def test_overlapping_signals_are_decoded_where_the_database_places_them(tmp_path):
    database = tmp_path / "overlap.dbc"
    signals = ' SG_ Whole : 0|16@1+ (1,0) [0|0] "" Car\n SG_ Low : 4|8@1+ (1,0) [0|0] "" Car\n'
    database.write_text(HEAD + "BO_ 256 Message: 2 Car\n" + signals)
    assert decoded(database, [(0, 0, 256, False, b"\x34\x12")])[0]["Message"] == [{"t_ns": 0, "Whole": 0x1234, "Low": 0x23}]


def test_a_signal_that_does_not_fit_refuses_the_frames_that_carry_it(tmp_path):
    database = tmp_path / "misfit.dbc"
    signals = (
        ' SG_ S M : 0|8@1+ (1,0) [0|0] "" Car\n SG_ A m0 : 8|8@1+ (1,0) [0|0] "" Car\n SG_ B m1 : 12|8@1+ (1,0) [0|0] "" Car\n'
    )
    database.write_text(HEAD + "BO_ 256 Message: 2 Car\n" + signals)
    found, undecoded = decoded(database, [(0, 0, 256, False, b"\0\7"), (1, 0, 256, False, b"\1\7")])
    assert found["Message"] == [{"t_ns": 0, "S": 0, "A": 7, "B": None}]
    assert undecoded == {(0, "0x100", "Message: signal B does not fit into 2 bytes"): 1}


def test_a_multiplexer_at_a_value_that_the_database_does_not_have_refuses_the_frame(tmp_path):
    database = tmp_path / "mux.dbc"
    database.write_text(
        HEAD + 'BO_ 256 Message: 2 Car\n SG_ S M : 0|8@1+ (1,0) [0|0] "" Car\n SG_ A m3 : 8|8@1+ (1,0) [0|0] "" Car\n'
    )
    found, undecoded = decoded(database, [(0, 0, 256, False, b"\2\7"), (1, 0, 256, False, b"\3\7")])
    assert [row["A"] for row in found["Message"]] == [7]
    assert undecoded == {(0, "0x100", "Message: multiplexer S is at a value that the database does not have"): 1}


def test_value_tables_stand_beside_the_numbers_of_the_column(tmp_path):
    database = tmp_path / "values.dbc"
    signals = ' SG_ Gear : 0|8@1- (1,0) [0|0] "" Car\n SG_ Speed : 8|8@1+ (0.5,0) [0|0] "km/h" Car\n'
    values = 'VAL_ 256 Gear -1 "reverse" 0 "neutral" ;\nVAL_ 256 Speed 254 "error" 255 "unknown" ;\n'
    database.write_text(HEAD + "BO_ 256 Message: 2 Car\n" + signals + values)
    frames = frames_from([(0, 0, 256, False, b"\xff\xff")])
    tables = BusTables([database], counted([frames]), set(), lambda _: True, Findings())
    ((*_, batch, _),) = (*tables.add(frames, 10), *tables.rest())
    gear, speed = (json.loads(batch.schema.field(name).metadata[b"values"]) for name in ("Gear", "Speed"))
    assert gear == {"-1": "reverse", "0": "neutral"}
    assert gear[str(batch.column("Gear")[0])] == "reverse"
    assert speed[repr(batch.column("Speed")[0].as_py())] == "unknown"
    assert batch.schema.field("Speed").metadata[b"source_unit"] == b"km/h"


def test_a_signal_named_like_the_stamp_keeps_its_values(tmp_path):
    database = tmp_path / "stamp.dbc"
    database.write_text(HEAD + 'BO_ 256 Message: 1 Car\n SG_ t_ns : 0|8@1+ (1,0) [0|0] "" Car\n')
    assert decoded(database, [(5, 0, 256, False, b"\7")])[0]["Message"] == [{"t_ns": 5, "t_ns#2": 7}]
