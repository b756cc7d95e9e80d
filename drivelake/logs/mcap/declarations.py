"""The schemas and channels of an MCAP file, and what their tables are called.

Belongs here: ids, names, contradictions between declarations. Never here: messages, encodings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from mcap.opcode import Opcode
from mcap.records import Channel, Schema

from drivelake.logs.mcap.records import parse
from drivelake.logs.messages.block import Channel as MessageChannel
from drivelake.logs.messages.names import Names

__all__ = ["Declarations"]

NO_SCHEMA = Schema(0, b"", "", "")


class Declarations:
    """What was declared so far.

    Args:
        damaged: told every contradiction, one sentence each.
        schemas: repeated where a checksum vouches for them, by id.
        channels: likewise.
        incomplete: whether declarations may be missing, because something was left out; those of the checksum are believed.

    Attributes:
        schemas: by id.
        channels: by id, in the order they were declared.
        names: table name by channel id: the topic, with ``#2`` and so on where a topic is declared again with another
            schema or encoding.
    """

    def __init__(
        self,
        damaged: Callable[[str], None],
        schemas: Mapping[int, Schema],
        channels: Mapping[int, Channel],
        incomplete: Callable[[], bool],
    ) -> None:
        self.schemas: dict[int, Schema] = {}
        self.channels: dict[int, Channel] = {}
        self.names: dict[int, str] = {}
        self._damaged = damaged
        self._vouched_schemas = schemas
        self._vouched_channels = channels
        self._incomplete = incomplete
        self._names = Names()

    def read(self, opcode: int, body: memoryview, offset: int, *, verified: bool) -> Iterator[Schema | Channel]:
        """Take in a schema or a channel, which is given back if it is new.

        Args:
            opcode: of the record.
            body: of the record.
            offset: for sentences.
            verified: a checksum covers the record. Without one, the copy that a checksum does cover is believed.

        Raises:
            LogDamaged: the record does not hold its fields.
        """
        if opcode == Opcode.SCHEMA:
            schema = parse(Schema, body, offset)
            vouched = self._vouched_schemas.get(schema.id, schema)
            if not verified and vouched != schema:
                self._damaged(f"The schema {schema.id} at offset {offset} differs from the summary, whose CRC-32 is right.")
                schema = vouched
            yield from self._schema(schema, offset)
        elif opcode == Opcode.CHANNEL:
            channel = parse(Channel, body, offset)
            repeated = self._vouched_channels.get(channel.id, channel)
            if not verified and repeated != channel:
                self._damaged(f"The channel {channel.id} at offset {offset} differs from the summary, whose CRC-32 is right.")
                channel = repeated
            yield from self._channel(channel, offset)

    def adopt(self, number: int) -> Iterator[Schema | Channel]:
        """Take in a channel from where it is repeated, if declarations may be missing and it is repeated."""
        if self._incomplete() and number in self._vouched_channels:
            yield from self._channel(self._vouched_channels[number], 0)

    def described(self, number: int) -> MessageChannel:
        """What a table is made from."""
        channel = self.channels[number]
        schema = self.schemas.get(channel.schema_id) or NO_SCHEMA
        return MessageChannel(self.names[number], channel.message_encoding, schema.name, schema.encoding, schema.data)

    def _schema(self, schema: Schema, offset: int) -> Iterator[Schema]:
        if (known := self.schemas.setdefault(schema.id, schema)) is schema:
            yield schema
        elif known != schema:
            self._damaged(
                f"The schema record at offset {offset} declares id {schema.id} again: {schema.name!r} after {known.name!r}"
                " with another definition."
            )

    def _channel(self, channel: Channel, offset: int) -> Iterator[Schema | Channel]:
        if self._incomplete() and channel.schema_id not in self.schemas and channel.schema_id in self._vouched_schemas:
            yield from self._schema(self._vouched_schemas[channel.schema_id], offset)
        if channel.schema_id and channel.schema_id not in self.schemas:
            self._damaged(
                f"The channel {channel.topic!r} at offset {offset} names schema {channel.schema_id}, which is not declared."
            )
        elif (known := self.channels.setdefault(channel.id, channel)) is channel:
            self.names[channel.id] = self._name(channel)
            yield channel
        elif known != channel:
            self._damaged(
                f"The channel record at offset {offset} declares id {channel.id} again: {channel.topic!r} after {known.topic!r}."
            )

    def _name(self, channel: Channel) -> str:
        schema = self.schemas.get(channel.schema_id) or NO_SCHEMA
        return self._names.name(channel.topic, f"{channel.message_encoding} {schema.encoding}", schema.name, schema.data)
