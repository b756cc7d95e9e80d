"""Recorder 1 of the generated drives: ``camera.mcap``. Belongs here: its topics, what its sensors see, its stamps.

Never here: the truth it is taken from, the other recorder. Its clock is the reference clock.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from mcap.writer import CompressionType, Writer
from numpy.typing import NDArray

from drivelake.demo import ros2
from drivelake.demo.camera import Renderer
from drivelake.demo.motion import Trajectory
from drivelake.demo.sampling import Samples, take_samples

__all__ = ["ORIGINS", "write_camera_log"]

# latitude and longitude in degrees, height above the ellipsoid in metres, of the ENU origin in each market
ORIGINS = {"de": (48.78, 9.18, 250.0), "us": (37.41, -122.08, 30.0), "kr": (37.56, 126.98, 60.0)}
GRAVITY_MPS2 = 9.80665
JPEG_QUALITY = 80
CHUNK_BYTES = 1024 * 1024

Encoder = Callable[[NDArray[np.int64], Trajectory, np.random.Generator], list[bytes]]


@dataclass(frozen=True)
class Topic:
    """One topic: its rate, and how long a sample takes to be published after it was taken."""

    name: str
    message: str
    rate_hz: float
    latency_s: float


CAMERA = Topic("/camera/front/image/compressed", "sensor_msgs/CompressedImage", 20.0, 0.012)
IMU = Topic("/imu/data", "sensor_msgs/Imu", 100.0, 0.0005)
GNSS = Topic("/gnss/fix", "sensor_msgs/NavSatFix", 10.0, 0.060)
ODOMETRY = Topic("/odometry", "nav_msgs/Odometry", 50.0, 0.002)


def write_camera_log(
    path: Path, rng: np.random.Generator, truth: Trajectory, renderer: Renderer, *, start_ns: int, market: str
) -> dict[str, Samples]:
    """Write the log; one picture is in memory at a time.

    Returns:
        What was recorded, by topic.

    """
    encoders: dict[Topic, Encoder] = {
        CAMERA: lambda stamps, _truth, _rng: ros2.compressed_image_heads(stamps, "camera_front"),
        IMU: _encode_imu,
        GNSS: lambda stamps, at, noise: _encode_gnss(stamps, at, noise, market),
        ODOMETRY: _encode_odometry,
    }
    recorded: dict[str, Samples] = {}
    messages: list[tuple[int, int, int, int, bytes]] = []  # receive, publish, topic, sequence, bytes
    for number, (topic, encode) in enumerate(encoders.items()):
        samples = take_samples(rng, topic.rate_hz, float(truth.t_s[-1]))
        stamps = start_ns + np.round(samples.t_s * 1e9).astype(np.int64)
        published = stamps + _as_ns(topic.latency_s * rng.uniform(0.9, 1.1, len(stamps)))
        # a receiver keeps the order of one publisher
        received = np.maximum.accumulate(published + _as_ns(0.0003 + rng.exponential(0.0005, len(stamps))))
        payloads = encode(stamps, truth.at(samples.t_s), rng)
        columns = (received.tolist(), published.tolist(), [number] * len(stamps), samples.sequence.tolist(), payloads)
        messages += zip(*columns, strict=True)
        recorded[topic.name] = samples
    messages.sort(key=lambda message: message[:3])
    poses = truth.at(recorded[CAMERA.name].t_s)
    pictures = zip(poses.x_m, poses.y_m, poses.yaw_rad, poses.arc_length_m, strict=True)
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
        writer.start(profile="ros2", library="drivelake.demo")
        channels = [_register(writer, topic) for topic in encoders]
        for receive_ns, publish_ns, number, sequence, payload in messages:
            data = payload
            if number == 0:
                jpeg = simplejpeg.encode_jpeg(renderer.render(*next(pictures)), JPEG_QUALITY, "RGB", "420")
                data = payload + struct.pack("<I", len(jpeg)) + jpeg
            writer.add_message(channels[number], receive_ns, data, publish_ns, sequence)
        writer.finish()  # type: ignore[no-untyped-call]  # mcap leaves its return type out
    return recorded


def _register(writer: Writer, topic: Topic) -> int:
    full_name = topic.message.replace("/", "/msg/")
    schema = writer.register_schema(full_name, "ros2msg", ros2.definition(topic.message).encode())
    return writer.register_channel(topic.name, "cdr", schema, {"offered_qos_profiles": ""})


def _encode_imu(stamps: NDArray[np.int64], truth: Trajectory, rng: np.random.Generator) -> list[bytes]:
    """Encode what an IMU in the vehicle frame measures; an accelerometer at rest shows gravity upwards."""
    count = len(stamps)
    columns = {
        **_yaw_quaternion("orientation", truth.yaw_rad),
        "angular_velocity.x": rng.normal(0, 0.002, count),
        "angular_velocity.y": rng.normal(0, 0.002, count),
        "angular_velocity.z": truth.yaw_rate_radps + 0.001 + rng.normal(0, 0.002, count),
        "angular_velocity_covariance": _diagonal(3, 0.002**2),
        "linear_acceleration.x": truth.acceleration_mps2 + rng.normal(0, 0.05, count),
        "linear_acceleration.y": truth.speed_mps * truth.yaw_rate_radps + rng.normal(0, 0.05, count),
        "linear_acceleration.z": GRAVITY_MPS2 + rng.normal(0, 0.05, count),
        "linear_acceleration_covariance": _diagonal(3, 0.05**2),
    }
    return ros2.imu(stamps, "imu_link", columns)


def _encode_gnss(stamps: NDArray[np.int64], truth: Trajectory, rng: np.random.Generator, market: str) -> list[bytes]:
    """ENU to WGS 84 with the radii of curvature at the origin (good to a centimetre over a kilometre)."""
    latitude, longitude, altitude = ORIGINS[market]
    semi_major_m, eccentricity2 = 6_378_137.0, 6.694_379_990_14e-3
    bulge = 1 - eccentricity2 * math.sin(math.radians(latitude)) ** 2
    meridian_m = semi_major_m * (1 - eccentricity2) / bulge**1.5 + altitude
    parallel_m = (semi_major_m / math.sqrt(bulge) + altitude) * math.cos(math.radians(latitude))
    count, deviation_m = len(stamps), 0.5
    columns = {
        "status.service": 1,
        "latitude": latitude + np.degrees((truth.y_m + rng.normal(0, deviation_m, count)) / meridian_m),
        "longitude": longitude + np.degrees((truth.x_m + rng.normal(0, deviation_m, count)) / parallel_m),
        "altitude": altitude + rng.normal(0, 2 * deviation_m, count),
        "position_covariance": np.diag([deviation_m**2, deviation_m**2, 4 * deviation_m**2]).ravel(),
        "position_covariance_type": 2,
    }
    return ros2.nav_sat_fix(stamps, "gnss_antenna", columns)


def _encode_odometry(stamps: NDArray[np.int64], truth: Trajectory, rng: np.random.Generator) -> list[bytes]:
    columns = {
        "pose.position.x": truth.x_m,
        "pose.position.y": truth.y_m,
        **_yaw_quaternion("pose.orientation", truth.yaw_rad),
        "pose.covariance": _diagonal(6, 0.01),
        "twist.linear.x": truth.speed_mps + rng.normal(0, 0.03, len(stamps)),
        "twist.angular.z": truth.yaw_rate_radps,
        "twist.covariance": _diagonal(6, 0.03**2),
    }
    return ros2.odometry(stamps, "odom", "base_link", columns)


def _yaw_quaternion(name: str, yaw_rad: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    return {f"{name}.z": np.sin(yaw_rad / 2), f"{name}.w": np.cos(yaw_rad / 2)}


def _diagonal(size: int, variance: float) -> NDArray[np.float64]:
    return (np.eye(size) * variance).ravel()


def _as_ns(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.round(seconds * 1e9).astype(np.int64)
