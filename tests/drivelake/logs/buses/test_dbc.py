"""Plain DBC files mean what cantools says they mean; what is not plain is left to it."""

import logging
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.errors import InputError
from drivelake.logs.buses import database
from drivelake.logs.buses.database import load_databases
from drivelake.logs.buses.dbc import plain_messages
from drivelake.logs.findings import Findings
from tests.drivelake.logs.buses.databases_of import FACTORS, HEAD, SIZES

PLAIN = (
    'VERSION "1.0"\n\nNS_ :\n\tNS_DESC_\n\tCM_\n\tBA_DEF_\n\nBS_:\n\nBU_: Car ECU_2\n\n\n'
    "BO_ 256 Motion: 8 Car\n"
    ' SG_ Speed : 7|16@0+ (0.01,-40) [0|250] "km/h" ECU_2,Car\n'
    ' SG_ Steer: 16|12@1- (1.0,0) [-1e3|1E+3] "" Vector__XXX\n'
    ' SG_ Gear : 40|3@1+ (2,-1) [0|0] "" ECU_2 , Car\n'
    "\nBO_ 2566844926 Far: 3 Vector__XXX\n"
    ' SG_ Door : 0|2@1+ (1,0) [0|3] "\u00b0" Car\n\n'
    'CM_ "a bus; of // everything";\nCM_ BU_ Car "two\nlines";\nCM_ BO_ 256 "m";\nCM_ SG_ 256 Speed "s" ;\n'
    'VAL_ 256 Gear -1 "R" 0 "N" 7 "D" ;\nVAL_ 2566844926 Door 3 "open" 0 "shut";\n'
)


def by_cantools(path):
    """The messages of a file as cantools gives them; None if it refuses it."""
    try:
        found = database._load(path)
    except InputError:
        return None
    attributes = database._attributes(found)
    in_j1939 = "J1939" in (attributes.get("ProtocolType", "") + attributes.get("BusType", "")).upper()
    return tuple(database._message(message, path.name, in_j1939=in_j1939) for message in found.messages)


def agree(path):
    """Whether the file is plain; if so, its messages are those of cantools to the type of each number."""
    plain = database._plain(path)
    if plain is not None:
        assert repr(plain) == repr(by_cantools(path))
    return plain is not None


@pytest.fixture
def written(tmp_path):
    def write(text, name="car.dbc"):
        path = tmp_path / name
        path.write_bytes(text.encode("cp1252"))
        return path

    return write


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_plain_file_is_read_as_cantools_reads_it_whatever_ends_its_lines(written, line_end):
    assert agree(written(PLAIN.replace("\n", line_end)))


def test_a_plain_file_needs_no_cantools(written, monkeypatch):
    monkeypatch.setattr(database, "_load", None)
    found = load_databases([written(PLAIN, "CAR.DBC")], Findings())
    assert [signal.name for signal in found.find(256, extended=False).signals] == ["Speed", "Steer", "Gear"]
    assert found.find(2566844926 & 0x1FFF_FFFF, extended=True).signals[0].values == ((0, "shut"), (3, "open"))
    assert found.longest == 8


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Gear : 40", "Gear M : 40"),
        ("Gear : 40", "Gear m1 : 40"),
        ("Gear : 40", "Speed : 40"),
        ("40|3@1+", "62|3@1+"),
        ("40|3@1+", "40|0@1+"),
        ("40|3@1+", "40|65@1+"),
        ("40|3@1+ (2,", "40|3@1+ (1e201,"),
        ("7|16@0", "57|16@0"),
        ('"km/h"', '"\\""'),
        ("Motion: 8", "Motion: 08"),
        ("Motion: 8", "Motion: 1786"),
        ("Motion: 8", "BO_: 8"),
        ("Motion: 8", "VECTOR__INDEPENDENT_SIG_MSG: 8"),
        ("2566844926", "256"),
        ("2566844926", "2048"),
        ("2566844926", "4294967295"),
        ("Far: 3", "Motion: 3"),
        ("VAL_ 256 Gear", "VAL_ 256 Brake"),
        ("VAL_ 256 Gear -1", "VAL_ 256 Gear 1.0"),
        ("BS_:", "BS_: 500 : 1,2"),
        ("BU_: Car", "BU_: FILTER"),
        ('CM_ "a', '// a\nCM_ "a'),
        ('CM_ "a', 'BA_DEF_ "BusType" STRING ;\nBA_DEF_DEF_ "BusType" "LIN";\nCM_ "a'),
        ('CM_ "a', 'SIG_VALTYPE_ 256 Speed : 0;\nCM_ "a'),
        ('CM_ "a', 'VAL_ 256 Gear 5 "E" ;\nCM_ "a'),
        (PLAIN, ""),
        (PLAIN, HEAD),
    ],
)
def test_what_is_not_plain_is_left_to_cantools(written, old, new):
    text = PLAIN.replace(old, new)
    assert text != PLAIN
    assert database._plain(written(text)) is None


def random_text(seed):
    """Messages whose signals may overlap, in any order, with blanks where they may be."""
    chance, lines = random.Random(seed), [HEAD]
    for identifier in chance.sample(range(2048), 3):
        length = chance.choice((1, 2, 5, 8, 8, 20, 64))
        lines.append(f"BO_ {identifier} M{identifier} : {length}  Car\n")
        for number in range(chance.randint(0, 6)):
            start, size, order = chance.randrange(8 * length), chance.choice(SIZES), chance.choice("01")
            unit, blank = chance.choice(("", "km/h", "\u00b0C", "// m")), chance.choice(("", " ", "\t"))
            scale = chance.choice((*FACTORS, "1.0,0.0", "+2,-0", "1.,1E2", "0,0", "-0.0,007", "1e22,0"))
            lines.append(
                f" SG_ S{number}{blank}:{blank}{start}|{size}@{order}{chance.choice('+-')}{blank}({scale}){blank}"
                f'[{chance.choice(("0|0", "-1|1e3"))}]{blank}"{unit}" Car{chance.choice(("", ",Bus", " , Bus"))}\n'
            )
            if chance.random() < 0.3:
                lines.append(f"\n{blank}")
    return "".join(lines)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_signals_wherever_they_are_mean_what_cantools_says(tmp_path_factory, seed):
    path = tmp_path_factory.mktemp("dbc") / "car.dbc"
    path.write_bytes(random_text(seed).encode("cp1252"))
    agree(path)


@given(data=st.data(), into=st.sampled_from(' \t\n";:,|@+-()[]_/\\.0159eMmBSVG\u00e9\x00'))
@settings(max_examples=150, deadline=None)
def test_a_file_that_is_a_character_away_from_a_plain_one_is_plain_as_cantools_reads_it_or_not_plain(
    tmp_path_factory, data, into
):
    at, left_out = data.draw(st.integers(0, len(PLAIN))), data.draw(st.integers(0, 2))
    path = tmp_path_factory.mktemp("dbc") / "car.dbc"
    path.write_bytes((PLAIN[:at] + into + PLAIN[at + left_out :]).encode("cp1252"))
    agree(path)


def test_recorded_databases_are_read_as_cantools_reads_them(shared_data):
    logging.getLogger("cantools").setLevel(logging.ERROR)
    plain = {path.name for path in sorted(shared_data.rglob("*.dbc")) if agree(path)}
    assert {"canmod-gps.dbc", "toyota_rav4_2017_pt_generated.dbc"} <= plain


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_make_the_fast_way_fail(data):
    assert plain_messages(data) is None
