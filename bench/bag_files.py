"""ROS bags for the bench. Belongs here: the telemetry of mcap_files as a ROS 1 bag and as a ROS 2 SQLite bag.

Never here: reading, timing, what the messages say (mcap_files). Same arguments, same bytes of messages.
"""

from __future__ import annotations

from pathlib import Path

from bench.mcap_files import telemetry_messages

__all__ = ["write_db3", "write_ros1"]


def write_ros1(path: Path, seconds: float) -> None:
    """A ROS 1 bag with lz4 chunks."""
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    ros1, ros2 = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.ROS2_HUMBLE)
    writer = Writer(path)
    writer.set_compression(Writer.CompressionFormat.LZ4)
    with writer:
        connections = {}
        for topic, kind, stamp_ns, number, data in telemetry_messages(seconds):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=ros1)
            message = ros2.deserialize_cdr(data, kind)
            if hasattr(message, "header"):
                header = ros1.types["std_msgs/msg/Header"]
                message.header = header(seq=number, stamp=message.header.stamp, frame_id=message.header.frame_id)
            writer.write(connections[topic], stamp_ns, ros1.serialize_ros1(message, kind))


def write_db3(path: Path, seconds: float) -> None:
    """A ROS 2 bag: a folder with a SQLite file and its metadata."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    types = get_typestore(Stores.ROS2_HUMBLE)
    with Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connections = {}
        for topic, kind, stamp_ns, _, data in telemetry_messages(seconds):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=types)
            writer.write(connections[topic], stamp_ns, data)
