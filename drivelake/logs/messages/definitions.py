"""ROS message definitions as data. Belongs here: the text of ros1msg, ros2msg and ros2idl schemas, how names resolve.

Never here: bytes of messages, columns.

Sources: https://docs.ros.org, "Interfaces", https://wiki.ros.org/msg; MCAP's registry for how definitions are concatenated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from drivelake.errors import UnsupportedLog

__all__ = ["Definitions", "Dialect", "Field", "FieldType", "parse_definitions", "short_name"]

Dialect = Literal["ros1msg", "ros2msg", "ros2idl"]


class FieldType(NamedTuple):
    """Type of a field.

    Attributes:
        base: a primitive (``bool``, ``int8`` to ``uint64``, ``float32``, ``float64``, ``string``, ``wstring``), or the short
            name of a message such as ``geometry_msgs/Vector3``.
        shape: one value, a fixed number of them, or a sequence with its length in front.
        size: the fixed number, or the most that a sequence may have; None without bound.
    """

    base: str
    shape: Literal["one", "array", "sequence"] = "one"
    size: int | None = None


class Field(NamedTuple):
    """One field of a message."""

    name: str
    type: FieldType


# Fields in the order in which they are written, by short name of the message.
Definitions = dict[str, tuple[Field, ...]]

NUMBERS = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
PRIMITIVES = frozenset((*NUMBERS, "string", "wstring", "time", "duration"))
# ROS 2 defines `byte` and `char` as octets; in ROS 1 `byte` is a deprecated name of int8 and `char` one of uint8.
ROS1_ALIASES = {"byte": "int8", "char": "uint8", "Header": "std_msgs/Header"}
ROS2_ALIASES = {"byte": "uint8", "char": "uint8", "Header": "std_msgs/Header"}

SEPARATOR = re.compile(r"^={3,}[ \t]*$", re.MULTILINE)
SECTION_NAME = re.compile(r"\A\s*(MSG|IDL):[ \t]*(\S+)[ \t]*$", re.MULTILINE)
SERVICE_PARTS = re.compile(r"^---[ \t]*$", re.MULTILINE)
EVENT = re.compile(r"_Event$")
FIELD = re.compile(
    r"(?P<base>[A-Za-z]\w*(?:/\w+){0,2})(?:<=\d+)?(?P<brackets>\[(?P<bound><=)?(?P<size>\d*)\])?\s+(?P<name>[A-Za-z_]\w*)(?P<rest>.*)"
)


def short_name(name: str) -> str:
    """``sensor_msgs/msg/Imu`` -> ``sensor_msgs/Imu``, as definitions refer to each other."""
    parts = name.split("/")
    return f"{parts[0]}/{parts[-1]}" if len(parts) > 1 else name


def parse_definitions(text: str, root: str, dialect: Dialect) -> Definitions:
    """Every message that a schema defines, by short name, and the two that recorders leave out.

    Args:
        text: the definition of ``root``, then one section for each message that it needs.
        root: name of the message that the schema is for.
        dialect: of the definitions.

    Raises:
        UnsupportedLog: the text is no list of definitions.
    """
    found: Definitions = {}
    for kind, name, body in _sections(text, root, "IDL" if dialect == "ros2idl" else "MSG"):
        if kind == "IDL":
            for owner, fields in _idl_messages(body, name):
                found.setdefault(owner, fields)
        elif EVENT.search(name) and len(parts := SERVICE_PARTS.split(body)) == 2:
            found |= _service_event(short_name(name), parts, dialect)
        else:
            found.setdefault(short_name(name), tuple(_fields(body, short_name(name), dialect)))
    return _resolved(found | _builtins(dialect, found))


def _sections(text: str, root: str, kind: str) -> Iterator[tuple[str, str, str]]:
    """(``MSG`` or ``IDL``, name, definition); the first section may leave both to the schema."""
    sections = SEPARATOR.split(text.replace("\r\n", "\n"))
    if len(sections) > 1 and not sections[0].strip() and SECTION_NAME.match(sections[1]):
        del sections[0]
    for place, section in enumerate(sections):
        match = SECTION_NAME.match(section)
        if match:
            yield match.group(1), match.group(2), section[match.end() :]
        elif not place:
            yield kind, root, section
        else:
            raise UnsupportedLog(
                f"Section {place + 1} of the schema of {root!r} does not name its message.",
                next_step="record the log again with a complete schema",
            )


def _service_event(name: str, parts: list[str], dialect: Dialect) -> Definitions:
    """What ROS 2 records of a service, whose text defines request and response only (``service_msgs``, from Iron on)."""
    service = EVENT.sub("", name)
    request, response = f"{service}_Request", f"{service}_Response"
    information = (
        Field("event_type", FieldType("uint8")),
        Field("stamp", FieldType("builtin_interfaces/Time")),
        Field("client_gid", FieldType("uint8", "array", 16)),
        Field("sequence_number", FieldType("int64")),
    )
    return {
        request: tuple(_fields(parts[0], request, dialect)),
        response: tuple(_fields(parts[1], response, dialect)),
        "service_msgs/ServiceEventInfo": information,
        name: (
            Field("info", FieldType("service_msgs/ServiceEventInfo")),
            Field("request", FieldType(request, "sequence", 1)),
            Field("response", FieldType(response, "sequence", 1)),
        ),
    }


def _builtins(dialect: Dialect, found: Definitions) -> Definitions:
    """Stamps: primitives of ROS 1, messages of ROS 2 that some recorders do not write down."""

    def stamp(seconds: str, nanoseconds: str) -> tuple[Field, ...]:
        return Field("sec", FieldType(seconds)), Field("nanosec", FieldType(nanoseconds))

    if dialect == "ros1msg":
        return {"time": stamp("uint32", "uint32"), "duration": stamp("int32", "int32")}
    signed = stamp("int32", "uint32")
    names = ("builtin_interfaces/Time", "builtin_interfaces/Duration", "time", "duration")
    return {name: signed for name in names if name not in found}


def _fields(body: str, owner: str, dialect: Dialect) -> Iterator[Field]:
    names: set[str] = set()
    for raw in body.splitlines():
        line = raw.split("#", 1)[0].strip()
        if not line:
            continue
        match = FIELD.fullmatch(line)
        if not match:
            raise UnsupportedLog(
                f"The definition of {owner!r} has the line {line!r}, expected a type and a name.",
                next_step="record the log again with a complete schema",
            )
        if match["rest"].lstrip().startswith("="):
            continue
        if match["name"] in names:
            raise UnsupportedLog(f"The definition of {owner!r} has two fields {match['name']!r}.", next_step="leave it out")
        names.add(match["name"])
        yield Field(match["name"], _type(match, owner, dialect))


def _type(match: re.Match[str], owner: str, dialect: Dialect) -> FieldType:
    base = (ROS1_ALIASES if dialect == "ros1msg" else ROS2_ALIASES).get(match["base"], match["base"])
    if base not in PRIMITIVES:
        package = owner.split("/", maxsplit=1)[0]
        base = short_name(base) if "/" in base else f"{package}/{base}"
    if not match["brackets"]:
        return FieldType(base)
    size = int(match["size"]) if match["size"] else None
    if size is None or match["bound"]:
        return FieldType(base, "sequence", size)
    if not size:
        raise UnsupportedLog(
            f"The definition of {owner!r} has the array {match['name']!r} of no values.", next_step="leave it out"
        )
    return FieldType(base, "array", size)


def _idl_messages(body: str, name: str) -> Iterator[tuple[str, tuple[Field, ...]]]:
    """The structures of an IDL file; its includes stand in sections of their own."""
    from rosbags.interfaces import Nodetype
    from rosbags.typesys import TypesysError, get_types_from_idl

    def field_type(description: object) -> FieldType:
        match description:
            case (Nodetype.BASE, (str(base), _)):
                return FieldType(ROS2_ALIASES.get(base, base))
            case (Nodetype.NAME, str(message)):
                return FieldType(short_name(message))
            case (Nodetype.ARRAY, ((Nodetype.BASE | Nodetype.NAME, _) as item, int(size))):
                return FieldType(field_type(item).base, "array", size)
            case (Nodetype.SEQUENCE, ((Nodetype.BASE | Nodetype.NAME, _) as item, int(bound))):
                return FieldType(field_type(item).base, "sequence", bound or None)
        raise UnsupportedLog(f"The IDL of {name!r} has a field of type {description!r}.", next_step="leave it out")

    try:
        types = get_types_from_idl(re.sub(r"^[ \t]*#.*$", "", body, flags=re.MULTILINE))
    except (TypesysError, RecursionError, ValueError, KeyError, IndexError) as error:
        raise UnsupportedLog(
            f"The IDL of {name!r} cannot be parsed: {type(error).__name__}.",
            next_step="record the log again with ros2msg schemas",
        ) from None
    for message, (_, fields) in types.items():
        yield short_name(message), tuple(Field(field, field_type(description)) for field, description in fields)


def _resolved(found: Definitions) -> Definitions:
    """Bare names of other packages, as some writers leave them, where only one message has that name."""
    by_name: dict[str, list[str]] = {}
    for name in found:
        by_name.setdefault(name.rsplit("/", 1)[-1], []).append(name)

    def resolve(kind: FieldType) -> FieldType:
        if kind.base in found or "/" not in kind.base:
            return kind
        near = by_name.get(kind.base.rsplit("/", 1)[-1], [])
        return kind._replace(base=near[0]) if len(near) == 1 else kind

    return {name: tuple(Field(field.name, resolve(field.type)) for field in fields) for name, fields in found.items()}
