"""Finding pairs. Belongs here: which sensors fit each other by unit and name. Never: samples, estimation."""

import pytest

from drivelake.frames.pairs import PAIRS_MAX, NoPair, find_pairs
from drivelake.frames.sources import Absent, Source, SourceColumn, Table
from drivelake.rig import Pair, Rig, Sensor

CAMERA = {"log": "camera.mcap", "channel": "/camera/front/compressed", "kind": "payload"}


def own(channel, unit="", **more):
    return Sensor(log="can.mf4", channel=channel, unit=unit, clock="can", **more)


def ref(channel, unit="", **more):
    return Sensor(log="camera.mcap", channel=channel, unit=unit, **more)


def find(recorded_units=None, absent=(), **sensors):
    """Pairs of a rig of these sensors; ``recorded_units`` are those that the logs give."""
    rig = Rig(reference="tick", clocks={"can": {}}, sensors={"tick": ref("/tick", kind="payload"), **sensors})
    found = {}
    for name, sensor in rig.sensors.items():
        unit = (recorded_units or {}).get(name, "")
        column = SourceColumn(Table(log=sensor.log, channel=sensor.channel, table="t"), ("v",), unit)
        found[name] = Absent("not there") if name in absent else Source((column,), ())
    return find_pairs(rig, "can", found)


def only(chosen):
    assert len(chosen) == 1
    return chosen[0].pair


@pytest.mark.parametrize(
    ("ours", "theirs", "sign"),
    [
        (own("WheelSpeed", "m/s"), ref("/odometry", "m/s", field="twist.twist.linear.x"), "same"),
        (own("VehSpd", "km/h"), ref("/gnss", "m/s", field="speed"), "same"),
        (own("YawRate", "rad/s"), ref("/imu/data", "rad/s", field="angular_velocity.z"), "either"),
        (own("ESP.yaw_rate", "deg/s"), ref("/imu", "rad/s", field="gyro.z"), "either"),
        (own("LatAcc", "m/s^2"), ref("/imu/data", "m/s^2", field="linear_acceleration.y"), "either"),
        (own("LongitudinalAcceleration", "g"), ref("/imu/data", "m/s2", field="linear_acceleration.x"), "same"),
    ],
)
def test_one_quantity_on_both_sides_is_a_pair_in_either_direction(ours, theirs, sign):
    assert only(find(a=ours, b=theirs)) == Pair(own="a", reference="b", sign=sign)
    swapped = find(b=theirs.model_copy(update={"clock": "can"}), a=ours.model_copy(update={"clock": "reference"}))
    assert only(swapped) == Pair(own="b", reference="a", sign=sign)


@pytest.mark.parametrize(
    ("ours", "theirs", "how"),
    [
        (own("Speed", "m/s"), ref("/imu", "m/s^2", field="acceleration.x"), ("derivative", "value", "same")),
        (own("AccelX", "m/s^2"), ref("/gnss", "m/s", field="speed"), ("value", "derivative", "same")),
        (own("BrakePressure", "bar"), ref("/gnss", "m/s", field="speed"), ("value", "derivative", "opposite")),
        (own("BrakePressure", "Pa"), ref("/imu", "m/s^2", field="acceleration.x"), ("value", "value", "opposite")),
        (own("Speed", "m/s"), ref("/brake/pressure", "Pa"), ("derivative", "value", "opposite")),
        (own("SteeringAngle", "rad"), Sensor(**CAMERA), ("value", "optical_flow", "either")),
        (own("YawRate", "rad/s"), Sensor(**CAMERA), ("value", "optical_flow", "either")),
    ],
)
def test_quantities_that_show_one_motion_are_a_pair_in_either_direction(ours, theirs, how):
    own_as, reference_as, sign = how
    assert only(find(a=ours, b=theirs)) == Pair(own="a", own_as=own_as, reference="b", reference_as=reference_as, sign=sign)
    swapped = find(b=theirs.model_copy(update={"clock": "can"}), a=ours.model_copy(update={"clock": "reference"}))
    assert only(swapped) == Pair(own="b", own_as=reference_as, reference="a", reference_as=own_as, sign=sign)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (own("EngineSpeed", "rpm"), ref("/imu", "rad/s", field="angular_velocity.z")),
        (own("TyrePressure", "bar"), ref("/gnss", "m/s", field="speed")),
        (own("LateralSpeed", "m/s"), ref("/gnss", "m/s", field="speed")),
        (own("WheelSpeed", "m/s"), ref("/gnss", "m/s", field="velocity.z")),
        (own("SetSpeed", "m/s"), ref("/gnss", "m/s", field="speed")),
        (own("ACCEL_CMD_X", "m/s^2"), ref("/gnss", "m/s", field="speed")),
        (own("WheelSpeed", "m/s"), ref("/gnss/vel", "m/s", field="twist.linear.x")),
        (own("WheelSpeed", "m/s"), ref("/camera/velocity_ecef", "m/s", field="twist.linear.x")),
        (own("Yaw", "rad"), ref("/imu", "rad/s", field="angular_velocity.z")),
        (own("AccX", "m/s^2"), ref("/imu", "m/s^2", field="linear_acceleration.y")),
        (own("SteeringRate", "rad/s"), Sensor(**CAMERA)),
        (own("SteeringAngle", "rad"), Sensor(log="camera.mcap", channel="/lidar/points", kind="payload")),
        (own("Speed", ""), ref("/gnss", "", field="speed")),
    ],
)
def test_what_only_looks_alike_is_no_pair(ours, theirs):
    assert isinstance(find(a=ours, b=theirs), NoPair)


def test_the_unit_of_the_log_counts_before_the_declared_one_and_the_name_last():
    sensors = {"speed_mps": own("Spd"), "v": ref("/gnss", field="speed")}
    assert only(find({"v": "m/s"}, **sensors)) == Pair(own="speed_mps", reference="v")
    assert isinstance(find({"v": "m/s", "speed_mps": "1"}, **sensors), NoPair)


def test_pairs_of_one_quantity_come_first_and_leave_the_others_out():
    chosen = find(
        steering=own("SteeringAngle", "rad"),
        brake=own("BrakePressure", "Pa"),
        speed=own("WheelSpeed", "m/s"),
        yaw=own("YawRate", "rad/s"),
        camera=Sensor(**CAMERA),
        gyro=ref("/imu", "rad/s", field="angular_velocity.z"),
        acceleration=ref("/imu", "m/s^2", field="linear_acceleration.x"),
        odometry=ref("/odometry", "m/s", field="twist.linear.x"),
    )
    assert [(c.pair.own, c.pair.reference) for c in chosen] == [("yaw", "gyro"), ("speed", "odometry")]
    assert "yaw (yaw rate) was compared with gyro (yaw rate)" in chosen[0].why


def test_no_sensor_stands_twice_in_one_quantity_and_no_more_than_four_pairs_are_used():
    wheels = {f"wheel_{at}": own(f"WheelSpeed{at}", "m/s") for at in range(6)}
    assert [c.pair.own for c in find(**wheels, gnss=ref("/gnss", "m/s", field="speed"))] == ["wheel_0"]
    speeds = {f"v_{at}": ref(f"/gnss/{at}", "m/s", field="speed") for at in range(6)}
    chosen = find(**wheels, **speeds)
    assert [(c.pair.own, c.pair.reference) for c in chosen] == [(f"wheel_{at}", f"v_{at}") for at in range(PAIRS_MAX)]


def test_a_sensor_that_the_drive_lacks_is_passed_over():
    sensors = {"a": own("SpeedA", "m/s"), "b": own("SpeedB", "m/s"), "v": ref("/gnss", "m/s", field="speed")}
    assert only(find(absent=("a",), **sensors)).own == "b"


def test_where_nothing_fits_it_is_said_what_was_looked_for_and_what_is_there():
    reason = find(
        absent=("v",), rpm=own("Engine", "rpm"), steer=own("Steering", "rad"), v=ref("/gnss", "m/s", field="speed")
    ).reason
    for part in (
        "yaw rate with yaw rate",
        "brake pressure with speed",
        "pictures with steering angle",
        "clock 'can' has steer (steering angle)",
        "'reference' has none of these",
        "absent in this drive: v",
        "declare align.pairs",
    ):
        assert part in reason
