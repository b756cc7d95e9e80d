import subprocess
import sys

import pytest

from drivelake.errors import InputError
from drivelake.logs.buses.database import Databases, load_databases
from drivelake.logs.findings import Findings
from tests.drivelake.logs.buses.databases_of import HEAD
from tests.drivelake.logs.making import DATABASE

J1939 = (
    'BA_DEF_ BO_ "VFrameFormat" ENUM "StandardCAN","ExtendedCAN","reserved","J1939PG";\nBA_DEF_DEF_ "VFrameFormat" "J1939PG";\n'
)


def message(identifier, name="Message", signals=' SG_ Value : 0|8@1+ (1,0) [0|0] "" Car\n', length=8):
    return f"BO_ {identifier} {name}: {length} Car\n{signals}"


@pytest.fixture
def load(tmp_path):
    def loaded(*texts, kind="CAN", findings=None):
        paths = []
        for number, text in enumerate(texts):
            paths.append(tmp_path / f"{number}.dbc")
            paths[-1].write_text(text)
        return load_databases(paths, findings or Findings(), kind=kind)

    return loaded


def test_an_identifier_of_29_bits_is_not_the_same_of_11(load):
    databases = load(HEAD + message(256, "Short") + message(256 | 1 << 31, "Long"))
    assert databases.find(256, extended=False).name == "Short"
    assert databases.find(256, extended=True).name == "Long"
    assert databases.find(257, extended=False) is None


def test_a_j1939_message_is_found_whoever_sends_it_at_whatever_priority(load):
    databases = load(HEAD + message(0x0CF004FE | 1 << 31, "EEC1") + J1939)
    assert databases.find(0x18F00421, extended=True).name == "EEC1"
    assert databases.find(0x18F00521, extended=True) is None
    assert databases.find(0x18F00421 & 0x7FF, extended=False) is None


def test_a_j1939_message_to_one_address_is_found_whatever_the_address(load):
    databases = load(HEAD + message(0x18EAFFFE | 1 << 31, "Request") + J1939)
    assert databases.find(0x18EA0021, extended=True).name == "Request"


def test_a_message_that_is_not_of_j1939_needs_its_very_identifier(load):
    databases = load(HEAD + message(0x0CF004FE | 1 << 31, "Plain"))
    assert databases.find(0x18F00421, extended=True) is None
    assert not databases.has_j1939


def test_the_sender_chooses_between_messages_of_one_parameter_group(load):
    other = message(0x18FF1022 | 1 << 31, "Two", ' SG_ Other : 8|8@1+ (1,0) [0|0] "" Car\n')
    databases = load(HEAD + message(0x18FF1021 | 1 << 31, "One") + other + J1939)
    assert databases.find(0x0CFF1021, extended=True).name == "One"
    assert databases.find(0x0CFF1022, extended=True).name == "Two"
    assert databases.find(0x0CFF1023, extended=True) is None


def test_one_message_in_two_databases_is_one_message(load):
    assert load(HEAD + message(256), HEAD + message(256)).find(256, extended=False).origin == "0.dbc"


def test_two_databases_that_lay_a_message_out_differently_are_refused(load):
    other = message(256, signals=' SG_ Value : 0|9@1+ (1,0) [0|0] "" Car\n')
    with pytest.raises(InputError, match=r"CAN id 0x100 is 'Message' in 0.dbc and 'Message' in 1.dbc, laid out differently"):
        load(HEAD + message(256), HEAD + other)


def test_a_database_of_lin_says_nothing_about_can(load):
    lin = HEAD + message(16) + 'BA_DEF_ "BusType" STRING ;\nBA_DEF_DEF_ "BusType" "";\nBA_ "BusType" "LIN";\n'
    assert load(lin).find(16, extended=False) is None
    assert load(lin, kind="LIN").find(16, extended=False).name == "Message"
    assert load(HEAD + message(16), kind="LIN").find(16, extended=False) is None


def test_an_ldf_is_refused_with_a_way_out(tmp_path):
    with pytest.raises(InputError, match=r"car.ldf is an LDF file.*BusType LIN"):
        load_databases([tmp_path / "car.ldf"], Findings())


@pytest.mark.parametrize("suffix", ["kcd", "sym"])
def test_other_formats_give_the_same_messages(tmp_path, suffix):
    import cantools

    database = tmp_path / "car.dbc"
    database.write_text(DATABASE)
    cantools.database.dump_file(cantools.database.load_file(database), tmp_path / f"car.{suffix}")
    ours, theirs = (load_databases([path], Findings()) for path in (database, tmp_path / f"car.{suffix}"))
    for key in ((256, False), (512, True)):
        one, other = (databases.find(key[0], extended=key[1]) for databases in (ours, theirs))
        assert (one.name, one.length, one.signals, one.selectors) == (other.name, other.length, other.signals, other.selectors)


def test_containers_are_unreadable_for_a_reason():
    from cantools.database.can import Message

    from drivelake.logs.buses.database import _message

    inner = Message(frame_id=1, name="Inner", length=2, signals=[], header_id=5)
    container = Message(frame_id=256, name="Outer", length=64, signals=[], contained_messages=[inner])
    plan = _message(container, "a.arxml", in_j1939=False)
    assert plan.unreadable == "a container of other messages"
    assert Databases([plan]).find(256, extended=False) is plan


def test_a_database_that_changed_is_read_again(tmp_path):
    path = tmp_path / "car.dbc"
    for name in ("Before", "After"):
        path.write_text(HEAD + message(256, name))
        assert load_databases([path], Findings()).find(256, extended=False).name == name


def test_a_diagnostics_database_is_noted(tmp_path, monkeypatch):
    from drivelake.logs.buses import database

    monkeypatch.setattr(database, "_load", lambda _: object())
    findings = Findings()
    (tmp_path / "ecu.cdd").touch()
    load_databases([tmp_path / "ecu.cdd"], findings)
    assert findings.notes == ["ecu.cdd describes diagnostics and no frames of a bus."]


def test_reading_a_database_imports_neither_asammdf_nor_pandas(tmp_path):
    path = tmp_path / "car.dbc"
    path.write_text(DATABASE)
    script = (
        "import sys, pathlib; from drivelake.logs.buses.database import load_databases;"
        "from drivelake.logs.findings import Findings;"
        f"found = load_databases([pathlib.Path({str(path)!r})], Findings()).find(256, extended=False);"
        "import_names = sorted({'asammdf', 'pandas', 'can'} & set(sys.modules));"
        "import cantools; print(found.name, import_names, cantools.database is sys.modules['cantools.database'])"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "Motion [] True\n"


@pytest.mark.parametrize(
    ("signal", "reason"),
    [
        ("0|8@1+ (1e308,0)", "a scale or an offset beyond"),
        ("0|8@1+ (1e400,0)", "a scale or an offset beyond"),
        (f"0|8@1+ (1{'0' * 400},0)", "a scale or an offset beyond"),
        (f"0|32@1- (1,-1{'0' * 400})", "a scale or an offset beyond"),
        ("0|24@1+ (1,0)", "a float of 24 bits"),
    ],
)
def test_a_signal_that_no_float_holds_makes_its_message_unreadable(load, signal, reason):
    is_float = "SIG_VALTYPE_ 256 Value : 1;\n" if "|24@" in signal else ""
    found = load(HEAD + message(256, signals=f' SG_ Value : {signal} [0|0] "" Car\n') + is_float).find(256, extended=False)
    assert reason in found.unreadable
    assert not found.signals


def test_names_of_numbers_that_no_signal_reaches_are_left_out(load):
    named = f'VAL_ 256 Value {"9" * 400} "never" 2 "two" ;\n'
    scaled = ' SG_ Value : 0|8@1+ (0.5,0) [0|0] "" Car\n'
    assert load(HEAD + message(256, signals=scaled) + named).find(256, extended=False).signals[0].values == ((2, "two"),)
