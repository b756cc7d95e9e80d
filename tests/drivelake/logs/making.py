"""Small logs for the tests of the log readers, written with the libraries that read them."""

from io import BytesIO
from types import SimpleNamespace

import numpy as np
from mcap.writer import CompressionType, IndexType, Writer
from mcap_ros2._dynamic import serialize_dynamic

HEADER = (
    "===\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"
    "===\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
)
IMU = (
    "std_msgs/Header header\ngeometry_msgs/Vector3 angular_velocity\nfloat64[9] angular_velocity_covariance\nfloat32[] extra\n"
    "===\nMSG: geometry_msgs/Vector3\nfloat64 x\nfloat64 y\nfloat64 z\n" + HEADER
)
COMPRESSED_IMAGE = "std_msgs/Header header\nstring format\nuint8[] data\n" + HEADER
IMAGE = (
    "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\nuint8 is_bigendian\nuint32 step\nuint8[] data\n"
    + HEADER
)
START_NS = 1_700_000_000_000_000_123


def header(stamp_ns, frame="base"):
    seconds, nanoseconds = divmod(stamp_ns, 10**9)
    return SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds), frame_id=frame)


def imu(number):
    return SimpleNamespace(
        header=header(START_NS + number * 10**7 - 500),
        angular_velocity=SimpleNamespace(x=0.1 * number, y=-number / 3, z=float(number)),
        angular_velocity_covariance=[number + i / 10 for i in range(9)],
        extra=[float(i) for i in range(number % 4)],
    )


def picture(number, size=2000):
    data = np.random.default_rng(number).bytes(size + number)
    return SimpleNamespace(header=header(START_NS + number * 5 * 10**7, "camera"), format="jpeg", data=data)


def raw_image(number):
    return SimpleNamespace(
        header=header(START_NS + number, "c"), height=2, width=3, encoding="rgb8", is_bigendian=0, step=9, data=bytes(range(18))
    )


def write_mcap(channels, *, attachment=b"", **options):
    """Bytes of an MCAP file. ``channels``: rows of (topic, type, definition, messages); stamped 10 ms apart, in turn.

    A fifth entry is the definition to encode with, where the file's own leaves something out.
    """
    output = BytesIO()
    options = {"chunk_size": 4096, "compression": CompressionType.ZSTD, "enable_data_crcs": True, **options}
    writer = Writer(output, **options)
    writer.start(profile="ros2", library="tests")
    rows = []
    for topic, kind, definition, messages, *encoding in channels:
        schema = writer.register_schema(name=kind, encoding="ros2msg", data=definition.encode())
        channel = writer.register_channel(topic=topic, message_encoding="cdr", schema_id=schema)
        encode = serialize_dynamic(kind, *(encoding or [definition]))[kind]
        rows += [(number, channel, encode(message)) for number, message in enumerate(messages)]
    for number, channel, data in sorted(rows, key=lambda row: row[0]):
        stamp = START_NS + number * 10**7
        writer.add_message(channel_id=channel, log_time=stamp, publish_time=stamp - 7, sequence=number, data=data)
    if attachment:
        writer.add_attachment(create_time=1, log_time=2, name="notes", media_type="text/plain", data=attachment)
    writer.finish()
    return output.getvalue()


def drive_mcap(messages=60, **options):
    """A telemetry topic, a picture topic, and a topic that says nothing."""
    return write_mcap(
        [
            ("/imu", "sensor_msgs/msg/Imu", IMU, [imu(i) for i in range(messages)]),
            ("/camera", "sensor_msgs/msg/CompressedImage", COMPRESSED_IMAGE, [picture(i) for i in range(messages // 2)]),
            ("/silent", "sensor_msgs/msg/Imu", IMU, []),
        ],
        **options,
    )


def rechunk(path, chunk_size=8192):
    """Write an MCAP file again in smaller chunks, so that damage to one of them leaves the others."""
    from mcap.reader import make_reader

    output, schemas, channels = BytesIO(), {}, {}
    writer = Writer(output, chunk_size=chunk_size, compression=CompressionType.ZSTD)
    writer.start(profile="ros2", library="tests")
    with path.open("rb") as stream:
        for schema, channel, message in make_reader(stream).iter_messages(log_time_order=False):
            if schema.id not in schemas:
                schemas[schema.id] = writer.register_schema(schema.name, schema.encoding, schema.data)
            if channel.id not in channels:
                channels[channel.id] = writer.register_channel(channel.topic, channel.message_encoding, schemas[schema.id])
            number = channels[channel.id]
            writer.add_message(number, message.log_time, message.data, message.publish_time, message.sequence)
    writer.finish()
    path.write_bytes(output.getvalue())


LAYOUTS = {
    "zstd": {},
    "lz4": {"compression": CompressionType.LZ4},
    "uncompressed chunks": {"compression": CompressionType.NONE},
    "no chunks": {"use_chunking": False},
    "no summary": {
        "use_chunking": False,
        "index_types": IndexType.NONE,
        "repeat_channels": False,
        "repeat_schemas": False,
        "use_statistics": False,
        "use_summary_offsets": False,
    },
}

DATABASE = """VERSION ""
NS_ :
BS_:
BU_: Car
BO_ 256 Motion: 8 Car
 SG_ Speed : 0|16@1+ (0.01,0) [0|655.35] "km/h" Car
 SG_ Turn : 16|8@1- (1,0) [-128|127] "" Car
 SG_ Heat : 24|8@1+ (1,-40) [-40|215] "degC" Car
BO_ 2147484160 Modes: 8 Car
 SG_ Mode M : 0|8@1+ (1,0) [0|1] "" Car
 SG_ Torque m0 : 8|16@1- (0.5,0) [-16384|16383] "N.m" Car
 SG_ Rate m1 : 8|16@1+ (1,0) [0|65535] "rpm" Car
"""
FRAME = np.dtype(
    [
        ("CAN_DataFrame.BusChannel", "u1"),
        ("CAN_DataFrame.ID", "<u4"),
        ("CAN_DataFrame.IDE", "u1"),
        ("CAN_DataFrame.DLC", "u1"),
        ("CAN_DataFrame.DataLength", "u1"),
        ("CAN_DataFrame.DataBytes", "u1", (8,)),
    ]
)


def write_can(path, frames):
    """A bus logging file of ``(seconds, bus, id, extended, data)`` rows, starting at second 1,700,000,000."""
    from datetime import UTC, datetime

    from asammdf import MDF, Signal, Source

    records = np.zeros(len(frames), FRAME)
    for record, (_, bus, number, extended, data) in zip(records, frames, strict=True):
        payload = list(data) + [0] * (8 - len(data))
        for field, value in zip(FRAME.names, (bus, number, extended, len(data), len(data), payload), strict=True):
            record[field] = value
    with MDF(version="4.10") as log:
        log.header.start_time = datetime.fromtimestamp(1_700_000_000, UTC)
        source = Source("CAN", "CAN", "", 2, 2)
        times = np.array([row[0] for row in frames])
        log.append(Signal(records, times, name="CAN_DataFrame", source=source), acq_name="CAN", acq_source=source, comment="")
        log.groups[-1].channel_group.flags |= 6
        log.groups[-1].channels[1].flags |= 1 << 10
        log.save(path, compression=2)
    return path


def mdf_signals(count):
    """A number, a scaled one, words from a table, and text of varying length; 10 ms apart."""
    from asammdf import Signal

    t, rows = np.arange(count) * 0.01, np.arange(count)
    words = {"val_0": 0, "text_0": b"P", "val_1": 1, "text_1": b"R"}
    return [
        Signal(rows.astype(np.uint16), t, name="counter", unit="1"),
        Signal(rows.astype(np.int16), t, name="scaled", unit="km/h", conversion={"a": 0.5, "b": -1.0}, comment="c"),
        Signal(rows % 2, t, name="gear", conversion=words),
        Signal(np.array([b"a" * (i % 5) for i in range(count)]), t, name="text", encoding="utf-8"),
    ]


def write_mdf(path, signals, *, version="4.10", **options):
    """A file with one group a row of ``signals``."""
    from datetime import UTC, datetime

    from asammdf import MDF

    with MDF(version=version) as log:
        log.header.start_time = datetime.fromtimestamp(1_700_000_000, UTC)
        for name, group in signals:
            log.append(group, acq_name=name, comment="")
        log.save(path, **options)
    return path
