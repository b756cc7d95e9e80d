"""The MCAP file. Belongs here: topics, schemas and channels of what is shown, written with the format's own library.

Never here: what is shown, fields of Foxglove's schemas.

Chunks are packed with zstd and carry checksums and indexes; the same scene gives the same bytes. ``log_time`` is aligned time,
``publish_time`` the native stamp.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import BinaryIO

from mcap.well_known import MessageEncoding, SchemaEncoding
from mcap.writer import CompressionType, Writer

from drivelake.viewer import foxglove
from drivelake.viewer.layout import foxglove_layout
from drivelake.viewer.scene import EgoPose, Fix, Mount, Path2D, Payload, Stamp

__all__ = ["McapSink"]

LIBRARY = "drivelake look"
CHUNK_BYTES = 1 << 20
EGO_POSE, EGO_PATH, EGO_TRANSFORM, MOUNTS, FIX = "/ego/pose", "/ego/path", "/tf", "/tf_static", "/gnss/fix"
VALUE, ATTITUDE = ("value",), ("x", "y", "z", "w")


class McapSink:
    """Writes one MCAP file; see :class:`~drivelake.viewer.scene.Sink`.

    Args:
        file: where to write, from its start.
        about: what the file was made from, as its metadata.
    """

    def __init__(self, file: BinaryIO, about: Mapping[str, str]) -> None:
        self._writer = Writer(file, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD, enable_data_crcs=True)
        self._writer.start(profile="", library=LIBRARY)
        self._writer.add_metadata("drivelake", dict(sorted(about.items())))
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._messages: Counter[str] = Counter()
        self._shown: dict[str, str] = {}
        self._frame_ids: dict[str, str] = {}
        self._mounted: frozenset[str] = frozenset()
        self._plots: defaultdict[str, list[str]] = defaultdict(list)

    def signal(self, sensor: str, unit: str, at: Stamp, values: tuple[float, ...]) -> None:
        """A JSON object with its values."""
        name = f"/signals/{sensor}"
        members = VALUE if len(values) == 1 else ATTITUDE
        if name not in self._channels:
            schema = self._writer.register_schema(
                f"drivelake.{sensor}", SchemaEncoding.JSONSchema, foxglove.signal_schema(sensor, unit, members)
            )
            self._open(name, f"drivelake.{sensor}", MessageEncoding.JSON, schema, {"unit": unit})
            self._plots[unit] += [f"{name}.{member}" for member in members]
        # repr of a finite float is JSON, and reads back as the same float
        said = ",".join(f'"{member}":{value!r}' for member, value in zip(members, values, strict=True))
        self._write(name, at, f"{{{said}}}".encode())

    def payload(self, sensor: str, at: Stamp, shown: Payload) -> str:
        """A picture, cloud or video in Foxglove's schema; its header's frame is kept."""
        made = foxglove.payload_message(at.aligned_ns, shown)
        if isinstance(made, str):
            return made
        name = f"/sensors/{sensor}"
        self._frame_ids.setdefault(name, shown.frame_id)
        self._foxglove(name, at, made)
        return ""

    def mounts(self, at: Stamp, mounts: tuple[Mount, ...]) -> None:
        """All frames in one message."""
        self._mounted = frozenset(mount.frame for mount in mounts)
        self._foxglove(MOUNTS, at, foxglove.mounts_message(at.aligned_ns, mounts))

    def path(self, at: Stamp, poses: Path2D) -> None:
        """All poses in one message."""
        self._foxglove(EGO_PATH, at, foxglove.path_message(at.aligned_ns, poses))

    def ego(self, at: Stamp, pose: EgoPose) -> None:
        """A pose and a transform."""
        shown, transform = foxglove.ego_messages(at.aligned_ns, pose)
        self._foxglove(EGO_POSE, at, shown)
        self._foxglove(EGO_TRANSFORM, at, transform)

    def fix(self, at: Stamp, fix: Fix) -> None:
        """A position for maps."""
        self._foxglove(FIX, at, foxglove.fix_message(at.aligned_ns, fix))

    def finish(self) -> bytes:
        """The last chunk, indexes and statistics; the layout names the topics that were written."""
        self._writer.finish()  # type: ignore[no-untyped-call]  # the library leaves it without types
        return foxglove_layout(self._shown, self._plots, self._frame_ids, self._mounted)

    def _foxglove(self, name: str, at: Stamp, made: tuple[str, bytes]) -> None:
        schema, data = made
        if self._shown.get(name, schema) != schema:
            name = f"{name}/{schema.rsplit('.', 1)[-1]}"  # a sensor that changes what it sends gets a topic for each
        if name not in self._channels:
            if schema not in self._schemas:
                self._schemas[schema] = self._writer.register_schema(schema, SchemaEncoding.Protobuf, foxglove.descriptors())
            self._open(name, schema, MessageEncoding.Protobuf, self._schemas[schema], {})
        self._write(name, at, data)

    def _open(self, name: str, schema: str, encoding: str, number: int, metadata: dict[str, str]) -> None:
        self._channels[name] = self._writer.register_channel(name, encoding, number, metadata)
        self._shown[name] = schema

    def _write(self, name: str, at: Stamp, data: bytes) -> None:
        self._writer.add_message(self._channels[name], at.aligned_ns, data, at.native_ns, self._messages[name])
        self._messages[name] += 1
