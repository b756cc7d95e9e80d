"""ARXML, the databases of AUTOSAR: frames decode as cantools decodes them."""

import json
import random

import cantools
import pytest

from drivelake.errors import InputError
from drivelake.logs import read_log
from drivelake.logs.buses.database import load_databases
from drivelake.logs.findings import Findings
from tests.drivelake.logs.making import write_can


def named(kind, name, content):
    return f"<{kind}><SHORT-NAME>{name}</SHORT-NAME>{content}</{kind}>"


def nested(kinds, content):
    """Content inside of elements, the outermost first."""
    for kind in reversed(kinds.split()):
        content = f"<{kind}>{content}</{kind}>"
    return content


def reference(kind, to):
    return f'<{kind}-REF DEST="{to.split()[0]}">/P/{to.split()[1]}</{kind}-REF>'


def mapped(name, start, order):
    return named(
        "I-SIGNAL-TO-I-PDU-MAPPING",
        f"At{name}",
        reference("I-SIGNAL", f"I-SIGNAL {name}")
        + f"<PACKING-BYTE-ORDER>MOST-SIGNIFICANT-BYTE-{order}</PACKING-BYTE-ORDER><START-POSITION>{start}</START-POSITION>",
    )


def signal(name, bits, base):
    properties = reference("BASE-TYPE", f"SW-BASE-TYPE {base}") + reference("COMPU-METHOD", f"COMPU-METHOD {name}Method")
    variants = "SW-DATA-DEF-PROPS-VARIANTS SW-DATA-DEF-PROPS-CONDITIONAL"
    return named(
        "I-SIGNAL",
        name,
        f"<LENGTH>{bits}</LENGTH>"
        + nested(f"NETWORK-REPRESENTATION-PROPS {variants}", properties)
        + reference("SYSTEM-SIGNAL", f"SYSTEM-SIGNAL {name}Physical"),
    ) + named(
        "SYSTEM-SIGNAL",
        f"{name}Physical",
        nested(f"PHYSICAL-PROPS {variants}", reference("COMPU-METHOD", f"COMPU-METHOD {name}Method")),
    )


def linear(offset, factor):
    above, below = nested("COMPU-NUMERATOR", f"<V>{offset}</V><V>{factor}</V>"), nested("COMPU-DENOMINATOR", "<V>1</V>")
    return nested("COMPU-SCALE", nested("COMPU-RATIONAL-COEFFS", above + below))


def text_at(value, text):
    limits = "".join(f'<{end}-LIMIT INTERVAL-TYPE="CLOSED">{value}</{end}-LIMIT>' for end in ("LOWER", "UPPER"))
    return nested("COMPU-SCALE", limits + nested("COMPU-CONST VT", text))


def method(name, category, scales, unit=""):
    return named(
        "COMPU-METHOD",
        f"{name}Method",
        f"<CATEGORY>{category}</CATEGORY>{unit}" + nested("COMPU-INTERNAL-TO-PHYS COMPU-SCALES", scales),
    )


def base_type(name, bits, encoding):
    size = f"<CATEGORY>FIXED_LENGTH</CATEGORY><BASE-TYPE-SIZE>{bits}</BASE-TYPE-SIZE>"
    return named("SW-BASE-TYPE", name, f"{size}<BASE-TYPE-ENCODING>{encoding}</BASE-TYPE-ENCODING>")


@pytest.fixture
def database(tmp_path):
    """AUTOSAR 4.2: one cluster, frame and PDU; a speed (Intel), a temperature (Motorola, signed), a gear with texts."""
    trigger = named(
        "CAN-FRAME-TRIGGERING",
        "Trigger",
        reference("FRAME", "CAN-FRAME Motion")
        + "<CAN-ADDRESSING-MODE>STANDARD</CAN-ADDRESSING-MODE><IDENTIFIER>291</IDENTIFIER>",
    )
    channel = nested("PHYSICAL-CHANNELS", named("CAN-PHYSICAL-CHANNEL", "Channel", nested("FRAME-TRIGGERINGS", trigger)))
    pdu = named(
        "PDU-TO-FRAME-MAPPING",
        "AtPdu",
        "<PACKING-BYTE-ORDER>MOST-SIGNIFICANT-BYTE-LAST</PACKING-BYTE-ORDER>"
        + reference("PDU", "I-SIGNAL-I-PDU Pdu")
        + "<START-POSITION>0</START-POSITION>",
    )
    signals = mapped("Speed", 8, "LAST") + mapped("Heat", 31, "FIRST") + mapped("Gear", 40, "LAST")
    elements = (
        named("CAN-CLUSTER", "Cluster", nested("CAN-CLUSTER-VARIANTS CAN-CLUSTER-CONDITIONAL", channel)),
        named("CAN-FRAME", "Motion", "<FRAME-LENGTH>8</FRAME-LENGTH>" + nested("PDU-TO-FRAME-MAPPINGS", pdu)),
        named("I-SIGNAL-I-PDU", "Pdu", "<LENGTH>8</LENGTH>" + nested("I-SIGNAL-TO-PDU-MAPPINGS", signals)),
        signal("Speed", 16, "Unsigned"),
        signal("Heat", 12, "Signed"),
        signal("Gear", 4, "Unsigned"),
        base_type("Unsigned", 16, "NONE"),
        base_type("Signed", 16, "2C"),
        named("UNIT", "Kmh", "<DISPLAY-NAME>km/h</DISPLAY-NAME>"),
        method("Speed", "LINEAR", linear(0, 0.01), reference("UNIT", "UNIT Kmh")),
        method("Heat", "LINEAR", linear(-40, 0.25)),
        method("Gear", "TEXTTABLE", text_at(0, "neutral") + text_at(1, "first") + text_at(15, "reverse")),
    )
    path = tmp_path / "car.arxml"
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<AUTOSAR xmlns="http://autosar.org/schema/r4.0"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' xsi:schemaLocation="http://autosar.org/schema/r4.0 AUTOSAR_4-2-2.xsd">'
        + nested("AR-PACKAGES", named("AR-PACKAGE", "P", nested("ELEMENTS", "".join(elements))))
        + "</AUTOSAR>\n"
    )
    return path


def test_frames_decode_as_cantools_decodes_them(database, tmp_path):
    dice = random.Random(3)
    payloads = [bytes(8), b"\xff" * 8, *(dice.randbytes(8) for _ in range(40))]
    log = write_can(tmp_path / "log.mf4", [(i / 8, 1, 291, False, payload) for i, payload in enumerate(payloads)])
    (motion,) = read_log(log, databases=[database])
    (message,) = cantools.database.load_file(database).messages
    theirs = [message.decode(payload, decode_choices=False) for payload in payloads]
    ours = motion.batch.to_pydict()
    assert (motion.channel, set(ours)) == ("Motion", {"t_ns", "Speed", "Heat", "Gear"})
    assert ours["Heat"] == [row["Heat"] for row in theirs]
    assert ours["Gear"] == [row["Gear"] for row in theirs]
    assert min(ours["Heat"]) < -40, "a negative raw value is among them"
    assert ours["Speed"] == pytest.approx([row["Speed"] / 3.6 for row in theirs], rel=1e-15)
    field = motion.batch.schema.field("Speed")
    assert (field.metadata[b"unit"], field.metadata[b"source_unit"]) == (b"m/s", b"km/h")
    texts = json.loads(motion.batch.schema.field("Gear").metadata[b"values"])
    assert texts == {"0": "neutral", "1": "first", "15": "reverse"}


def test_a_frame_that_nothing_triggers_has_no_identifier(database):
    database.write_text(database.read_text().replace("CAN-FRAME-TRIGGERING", "CAN-FRAME-TRIGGER"))
    assert load_databases([database], Findings()).find(291, extended=False) is None


def test_xml_that_is_not_whole_is_refused(database):
    database.write_text(database.read_text()[:-30])
    with pytest.raises(InputError, match=r"car\.arxml cannot be read"):
        load_databases([database], Findings())
