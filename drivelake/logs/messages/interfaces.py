"""What the standard interfaces mean beyond their definitions. Belongs here: units, payloads, names of columns.

Never here: definitions, bytes, units of a particular vehicle.

Units: REP 103 and the comments of the interfaces. Values are never converted: latitudes stay degrees.
"""

from __future__ import annotations

__all__ = ["UNITS", "column_name", "payload_field", "stamp_field"]

# By message and field; a unit holds for everything below its field.
UNITS = {
    ("sensor_msgs/Imu", "angular_velocity"): "rad/s",
    ("sensor_msgs/Imu", "linear_acceleration"): "m/s^2",
    ("sensor_msgs/Imu", "orientation"): "1",
    ("sensor_msgs/NavSatFix", "latitude"): "deg",
    ("sensor_msgs/NavSatFix", "longitude"): "deg",
    ("sensor_msgs/NavSatFix", "altitude"): "m",
    ("sensor_msgs/NavSatFix", "position_covariance"): "m^2",
    ("sensor_msgs/MagneticField", "magnetic_field"): "T",
    ("sensor_msgs/FluidPressure", "fluid_pressure"): "Pa",
    ("sensor_msgs/Temperature", "temperature"): "degC",
    ("geometry_msgs/Twist", "linear"): "m/s",
    ("geometry_msgs/Twist", "angular"): "rad/s",
    ("geometry_msgs/Accel", "linear"): "m/s^2",
    ("geometry_msgs/Accel", "angular"): "rad/s^2",
    ("geometry_msgs/Pose", "position"): "m",
    ("geometry_msgs/Pose", "orientation"): "1",
    ("geometry_msgs/PointStamped", "point"): "m",
    ("geometry_msgs/Transform", "translation"): "m",
    ("geometry_msgs/Transform", "rotation"): "1",
    ("geometry_msgs/Wrench", "force"): "N",
    ("geometry_msgs/Wrench", "torque"): "N.m",
    ("foxglove.LocationFix", "latitude"): "deg",
    ("foxglove.LocationFix", "longitude"): "deg",
    ("foxglove.LocationFix", "altitude"): "m",
    ("foxglove.LocationFix", "position_covariance"): "m^2",
    ("foxglove.Pose", "position"): "m",
    ("foxglove.Pose", "orientation"): "1",
}

PAYLOADS = {"sensor_msgs/CompressedImage", "sensor_msgs/Image", "sensor_msgs/PointCloud2"}
FOXGLOVE = ("foxglove.", "foxglove_msgs/")
RAW_PICTURES = {"sensor_msgs/Image", "foxglove.RawImage", "foxglove_msgs/RawImage"}


def payload_field(message: str) -> str:
    """The field of a picture, cloud or video message that stays in the log, if it is a sequence of bytes; or nothing.

    Args:
        message: short name, such as ``sensor_msgs/Image`` or ``foxglove.CompressedVideo``.
    """
    return "data" if message in PAYLOADS or message.startswith(FOXGLOVE) else ""


def stamp_field(message: str) -> str:
    """The field of a message without standard header that is the sensor's stamp, or nothing."""
    return "timestamp" if message.startswith(FOXGLOVE) else ""


def column_name(message: str, field: str) -> str:
    """What the column of a field is called: all pictures have their ``format``."""
    return "format" if field == "encoding" and message in RAW_PICTURES else field
