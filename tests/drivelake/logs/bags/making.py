"""Small bags for the tests, written with rosbags, and what a bag holds and what is recovered of it as rows to compare."""

from collections import Counter
from functools import cache

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

from drivelake.errors import LogDamaged
from drivelake.logs.findings import Findings

START_NS = 1_700_000_000_000_000_123


@cache
def store(version=1):
    return get_typestore(Stores.ROS1_NOETIC if version == 1 else Stores.ROS2_HUMBLE)


def header(number, version=1):
    types = store(version).types
    seconds, nanoseconds = divmod(START_NS + number * 10**7 - 500, 10**9)
    stamp = types["builtin_interfaces/msg/Time"](sec=seconds, nanosec=nanoseconds)
    fields = {"seq": number} if version == 1 else {}
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id="base", **fields)


def twist(number, version=1):
    types = store(version).types
    vector = types["geometry_msgs/msg/Vector3"]
    inner = types["geometry_msgs/msg/Twist"](
        linear=vector(x=0.1 * number, y=-number / 3, z=float(number)), angular=vector(x=0.0, y=1.0, z=-2.0 * number)
    )
    return types["geometry_msgs/msg/TwistStamped"](header=header(number, version), twist=inner)


def picture(number, version=1):
    data = np.random.default_rng(number).integers(0, 256, 900 + number, np.uint8)
    kind = store(version).types["sensor_msgs/msg/CompressedImage"]
    return kind(header=header(number, version), format="jpeg", data=data)


def text(number, version=1):
    return store(version).types["std_msgs/msg/String"](data="x" * (number % 7) + str(number))


MAKERS = {
    "geometry_msgs/msg/TwistStamped": twist,
    "sensor_msgs/msg/CompressedImage": picture,
    "std_msgs/msg/String": text,
}
TOPICS = (
    ("/motion", "geometry_msgs/msg/TwistStamped"),
    ("/camera", "sensor_msgs/msg/CompressedImage"),
    ("/said", "std_msgs/msg/String"),
)


@cache
def rows(messages=60, topics=TOPICS, version=1):
    """(topic, type, stamp, encoded message), 10 ms apart, topics in turn."""
    encode = store(version).serialize_ros1 if version == 1 else store(version).serialize_cdr
    found = []
    for number in range(messages):
        topic, kind = topics[number % len(topics)]
        found.append((topic, kind, START_NS + number * 10**7, bytes(encode(MAKERS[kind](number, version), kind))))
    return tuple(found)


def write_ros1(path, messages=60, *, compression=None, chunk_bytes=4000, topics=TOPICS, callers=1):
    """A ROS 1 bag of several chunks, with a silent topic; ``callers`` publishers a topic, in turn."""
    writer = Writer1(path)
    if compression:
        writer.set_compression(Writer1.CompressionFormat[compression])
    writer.chunk_threshold = chunk_bytes
    with_types = store()
    writer.open()
    connections = {
        (topic, caller): writer.add_connection(topic, kind, typestore=with_types, callerid=f"/node{caller}", latching=0)
        for topic, kind in (*topics, ("/silent", "std_msgs/msg/String"))
        for caller in range(callers)
    }
    for number, (topic, _, stamp, data) in enumerate(rows(messages, topics)):
        writer.write(connections[topic, number // len(topics) % callers], stamp, data)
    writer.close()
    return path


def write_db3(folder, messages=60, *, compressed=False, topics=TOPICS):
    """A ROS 2 bag with definitions, a silent topic and metadata.yaml; the path of its database."""
    writer = Writer2(folder, version=9, storage_plugin=StoragePlugin.SQLITE3)
    if compressed:
        writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer:
        connections = {
            topic: writer.add_connection(topic, kind, typestore=store(2))
            for topic, kind in (*topics, ("/silent", "std_msgs/msg/String"))
        }
        for topic, _, stamp, data in rows(messages, topics, 2):
            writer.write(connections[topic], stamp, data)
    return folder / f"{folder.name}.db3"


def counted(messages):
    """What ``sound_messages`` gave, as a multiset."""
    return Counter((message.channel.name, message.log_ns, message.data) for message in messages)


def expected(messages=60, version=1):
    return Counter((topic, stamp, data) for topic, _, stamp, data in rows(messages, version=version))


def recovered(sound_messages, path):
    """What a reader recovers of a bag, and the findings; strict findings must raise where others tell."""
    findings = Findings()
    found = counted(sound_messages(path, findings))
    if findings.sentences:
        with pytest.raises(LogDamaged):
            list(sound_messages(path, Findings(strict=True)))
    return found, findings


def recovered_and_lost(found, findings):
    """Messages by channel, which must be what the bag promises."""
    counts = Counter(findings.lost)
    for (channel, _, _), number in found.items():
        counts[channel] += number
    return +counts
