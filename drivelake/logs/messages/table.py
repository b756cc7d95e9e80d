"""Messages of one channel as a table. Belongs here: what containers use, and which encoding is read by what.

Never here: an encoding, a container.
"""

from __future__ import annotations

from collections.abc import Callable

from drivelake.logs.findings import Findings
from drivelake.logs.messages.block import Channel
from drivelake.logs.messages.rows import Table, unsupported

__all__ = ["Table", "open_table", "unsupported_reason"]

# Schema encodings that go with an encoding of messages; an empty one is a channel without schema.
SCHEMAS = {
    "cdr": ("ros2msg", "ros2idl"),
    "ros1": ("ros1msg",),
    "protobuf": ("protobuf",),
    "json": ("jsonschema", ""),
    "flatbuffer": ("flatbuffer",),
}


def unsupported_reason(channel: Channel) -> str:
    """Why the messages of a channel cannot become a table, or nothing; schemas are looked at by :func:`open_table` only."""
    if channel.encoding not in SCHEMAS:
        return f"its messages are encoded as {channel.encoding!r}, only {_listed(tuple(SCHEMAS))} are read"
    expected = SCHEMAS[channel.encoding]
    if not channel.schema_name and "" not in expected:
        return "it has no schema"
    if channel.schema_encoding not in expected:
        return (
            f"its messages are encoded as {channel.encoding!r} and its schema {channel.schema_name!r} is written in"
            f" {channel.schema_encoding!r}, only {_listed(expected)} is read with them"
        )
    return ""


def open_table(channel: Channel, findings: Findings) -> Table:
    """The table of a channel, empty.

    Raises:
        UnsupportedLog: an encoding that is not read, a schema that cannot be parsed, or a type without a column type.
    """
    if reason := unsupported_reason(channel):
        raise unsupported(channel.name, reason)
    return _kind(channel.encoding)(channel, findings)


def _kind(encoding: str) -> Callable[[Channel, Findings], Table]:
    """Each encoding is imported when the first channel needs it."""
    if encoding == "protobuf":
        from drivelake.logs.messages.protobuf import ProtobufTable

        return ProtobufTable
    if encoding == "json":
        from drivelake.logs.messages.json_text import JsonTable

        return JsonTable
    if encoding == "flatbuffer":
        from drivelake.logs.messages.flatbuffer import FlatbufferTable

        return FlatbufferTable
    from drivelake.logs.messages.ros import RosTable

    return RosTable


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(repr(name) for name in names if name)
