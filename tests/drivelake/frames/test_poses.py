"""Laws of ego motion: known drives come back within the stated uncertainty, turning the world turns the result."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.demo.motion import Vehicle, follow
from drivelake.errors import DeclarationError
from drivelake.frames.poses import Track, ego_batch, ego_motion, ego_schema
from drivelake.frames.wgs84 import to_enu
from drivelake.logs import read_log
from drivelake.rig import Poses

START_NS = 1_700_000_000_000_000_000
ORIGIN = (48.1, 11.5)
RECKONED = Poses(speed="v", yaw_rate="w", horizons_s=(1.0, 0.5))
FUSED = Poses(latitude="lat", longitude="lon", speed="v", yaw_rate="w", horizons_s=(1.0, 0.5))
ODOMETRY = Poses(odometry_position=("x", "y"), odometry_attitude="q", horizons_s=(1.0,))


def stamps(t_s):
    return START_NS + np.round(np.asarray(t_s) * 1e9).astype(np.int64)


@cache
def driven(seed, seconds):
    return follow(np.random.default_rng(seed), seconds, Vehicle(), lane_offset_m=-1.75)[1]


def place(truth, t_ns, turn=1.0):
    """Position and unwrapped yaw of the truth, the world turned by ``turn``."""
    at = truth.at((np.asarray(t_ns) - START_NS) / 1e9)
    return (at.x_m + 1j * at.y_m) * turn, at.yaw_rad + np.angle(turn)


def geodetic(position):
    """Degrees of points in the plane at ORIGIN: ``to_enu`` turned round by iteration."""
    latitude, longitude = np.full(position.size, ORIGIN[0]), np.full(position.size, ORIGIN[1])
    for _ in range(8):
        east, north = to_enu(latitude, longitude, ORIGIN)
        latitude = latitude + (position.imag - north) / 111_000
        longitude = longitude + (position.real - east) / (111_000 * np.cos(np.radians(ORIGIN[0])))
    return latitude, longitude


def sensed(truth, seconds, seed, *, fix_m=1.5, fix_hz=5.0, without=(0.0, 0.0), outliers=0.0, bias=0.003, scale=1.01, turn=1.0):
    """Tracks of a drive: speed and yaw rate at 50 Hz with a scale, a bias and noise, and GNSS fixes with noise."""
    rng = np.random.default_rng(seed)
    t_s = np.arange(0.0, seconds, 0.02)
    at = truth.at(t_s)
    fix_s = np.arange(0.03, seconds, 1 / fix_hz)
    fix_s = fix_s[(fix_s < without[0]) | (fix_s >= without[1])]
    fix = place(truth, stamps(fix_s))[0]
    noise = fix_m * (rng.normal(size=fix.size) + 1j * rng.normal(size=fix.size))
    noise[rng.random(fix.size) < outliers] += 60.0
    latitude, longitude = geodetic((fix + noise) * turn)
    return {
        "v": Track(stamps(t_s), at.speed_mps * scale + 0.05 * rng.normal(size=t_s.size)),
        "w": Track(stamps(t_s), at.yaw_rate_radps + bias + 0.003 * rng.normal(size=t_s.size)),
        "lat": Track(stamps(fix_s), latitude),
        "lon": Track(stamps(fix_s), longitude),
    }


def columns(motion, ticks_ns, declared):
    batch = ego_batch(motion, ticks_ns, declared)
    assert batch.schema.equals(ego_schema(declared), check_metadata=True)
    return {name: batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names}


def world_errors(motion, found, truth, ticks_ns, turn=1.0):
    """(T,) complex128 m, in the plane at ORIGIN."""
    east, north = to_enu(np.array([motion.origin_deg[0]]), np.array([motion.origin_deg[1]]), ORIGIN)
    return found["ego_x_m"] + 1j * found["ego_y_m"] + (east + 1j * north)[0] - place(truth, ticks_ns, turn)[0]


@pytest.mark.parametrize("seed", range(3))
def test_without_noise_dead_reckoning_is_the_truth_to_a_millimetre_over_a_minute(seed):
    truth = driven(seed, 62.0)
    t_ns = stamps(np.arange(0.0, 61.0, 0.005))
    at = truth.at((t_ns - START_NS) / 1e9)
    # the truth turns by this rate from one of its steps, 5 ms apart, to the next: the rate of the middle
    motion = ego_motion({"v": Track(t_ns, at.speed_mps), "w": Track(t_ns + 2_500_000, at.yaw_rate_radps)}, RECKONED)
    ticks = stamps(np.linspace(0.01, 60.0, 777))
    found = columns(motion, ticks, RECKONED)
    begin, yaw = place(truth, motion.t_ns[:1])
    expected, heading = place(truth, ticks)
    expected = (expected - begin) * np.exp(-1j * yaw)
    assert motion.method == "dead reckoning"
    assert np.abs(found["ego_x_m"] + 1j * found["ego_y_m"] - expected).max() < 2e-3
    assert np.abs(found["ego_yaw_rad"] - (heading - yaw)).max() < 3e-4  # a line between knots 50 ms apart


def test_the_uncertainty_of_dead_reckoning_covers_a_usual_scale_and_bias():
    inside = []
    for seed in range(6):
        rng, truth = np.random.default_rng(seed), driven(seed % 3, 62.0)
        tracks = sensed(truth, 60.0, seed, bias=0.002 * rng.normal(), scale=1 + 0.01 * rng.normal())
        motion = ego_motion(tracks, RECKONED)
        position, yaw = place(truth, motion.t_ns)
        truth_here = (position - position[0]) * np.exp(-1j * yaw[0])
        inside.append(np.abs(motion.position_m - truth_here) <= 2.45 * motion.sigma_m + 1e-9)
    assert np.mean(inside) >= 0.9


@pytest.mark.parametrize("how", [{}, {"fix_hz": 1.0}, {"without": (40.0, 70.0)}, {"outliers": 0.05, "bias": 0.01}])
def test_a_known_drive_is_recovered_within_the_stated_uncertainty(how):
    inside, squares, sigmas = [], [], []
    turn = np.exp(1.9j)
    for seed in range(3):
        truth = driven(seed, 102.0)
        motion = ego_motion(sensed(truth, 90.0, seed, turn=turn, **how), FUSED)
        ticks = stamps(np.linspace(0.5, 89.0, 1000))
        found = columns(motion, ticks, FUSED)
        errors = np.abs(world_errors(motion, found, truth, ticks, turn))
        assert motion.method == "gnss"
        inside.append(errors <= 2.45 * found["ego_sigma_m"])
        squares.append(errors**2)
        sigmas.append(found["ego_sigma_m"])
        heading = place(truth, ticks, turn)[1]
        assert np.abs(np.angle(np.exp(1j * (found["ego_yaw_rad"] - heading)))).max() < 0.1
    assert np.mean(inside) >= 0.9
    assert np.sqrt(np.mean(squares)) < 1.5
    assert np.median(sigmas) < 1.5  # a stated uncertainty that is always right by being huge would be no use


def test_precise_fixes_give_a_precise_motion():
    truth = driven(0, 62.0)
    motion = ego_motion(sensed(truth, 60.0, 0, fix_m=0.02, fix_hz=10.0), FUSED)
    ticks = stamps(np.linspace(0.5, 59.0, 500))
    assert np.abs(world_errors(motion, columns(motion, ticks, FUSED), truth, ticks)).max() < 0.1


def test_a_gap_in_gnss_is_bridged_and_the_uncertainty_grows_in_it():
    truth = driven(1, 102.0)
    motion = ego_motion(sensed(truth, 100.0, 1, without=(30.0, 80.0)), FUSED)
    sigma = columns(motion, stamps([10.0, 32.0, 55.0, 78.0, 90.0]), FUSED)["ego_sigma_m"]
    assert sigma[2] > sigma[1] > sigma[0]
    assert sigma[2] > sigma[3] > sigma[4]


def test_a_gap_in_speed_and_yaw_rate_makes_dead_reckoning_uncertain():
    truth = driven(1, 62.0)
    tracks = sensed(truth, 60.0, 1)
    kept = (tracks["w"].t_ns < stamps(20.0)) | (tracks["w"].t_ns > stamps(25.0))
    gappy = {**tracks, "w": Track(tracks["w"].t_ns[kept], tracks["w"].values[kept])}
    whole, holed = (ego_motion(each, RECKONED).sigma_m for each in (tracks, gappy))
    assert np.allclose(whole[:400], holed[:400])
    assert (holed[501:] > whole[501:] + 10).all()


@settings(max_examples=3, deadline=None)
@given(angle=st.floats(-3.1, 3.1))
def test_turning_the_world_turns_the_motion(angle):
    truth = driven(2, 42.0)
    turn = np.exp(1j * angle)
    plain, turned = (ego_motion(sensed(truth, 40.0, 2, turn=each), FUSED) for each in (1.0, turn))
    # the ellipsoid is no plane: the same points turned are the same to a millimetre or so
    assert np.abs(turned.position_m - plain.position_m * turn).max() < 0.01
    assert np.abs(np.exp(1j * turned.yaw_rad) - np.exp(1j * plain.yaw_rad) * turn).max() < 1e-3
    assert np.allclose(turned.sigma_m, plain.sigma_m, rtol=1e-3)


def test_single_fixes_far_off_are_left_out_and_counted():
    truth = driven(0, 62.0)
    tracks = sensed(truth, 60.0, 0)
    for sensor, far in (("lat", 0.001), ("lon", -0.001)):
        tracks[sensor].values[[0, 50, 51, 200]] += far
    motion = ego_motion(tracks, FUSED)
    ticks = stamps(np.linspace(1.0, 59.0, 500))
    assert motion.rejected >= 4
    assert np.abs(world_errors(motion, columns(motion, ticks, FUSED), truth, ticks)).max() < 2.5


def test_fixes_that_jump_for_good_are_followed():
    truth = driven(0, 102.0)
    tracks = sensed(truth, 100.0, 0)
    jumped = tracks["lat"].t_ns > stamps(40.0)
    tracks["lat"].values[jumped] += 30 / 111_000
    motion = ego_motion(tracks, FUSED)
    ticks = stamps(np.linspace(60.0, 98.0, 200))
    off = world_errors(motion, columns(motion, ticks, FUSED), truth, ticks)
    assert np.abs(off - 30j).max() < 3


def circle(turns=3.0, seconds=60.0):
    """A drive round and round: speed and yaw rate are constant."""
    t_ns = stamps(np.arange(0.0, seconds, 0.02))
    rate = 2 * np.pi * turns / seconds
    return {"v": Track(t_ns, np.full(t_ns.size, 5.0)), "w": Track(t_ns, np.full(t_ns.size, rate))}, rate


def test_yaw_goes_on_over_half_a_turn():
    tracks, rate = circle()
    yaw = columns(ego_motion(tracks, RECKONED), stamps(np.arange(0.0, 59.0, 0.013)), RECKONED)["ego_yaw_rad"]
    assert np.abs(np.diff(yaw) - rate * 0.013).max() < 1e-9


def test_a_horizon_is_where_the_vehicle_will_be_in_its_own_axes():
    tracks, rate = circle()
    motion = ego_motion(tracks, RECKONED)
    found = columns(motion, stamps(np.linspace(0.0, motion.t_ns.size * 0.05, 300)), RECKONED)
    radius = 5.0 / rate
    for name, seconds in (("1s", 1.0), ("0_5s", 0.5)):
        there = np.isfinite(found[f"ego_x_m_{name}"])
        assert np.allclose(found[f"ego_x_m_{name}"][there], radius * np.sin(rate * seconds), atol=1e-4)
        assert np.allclose(found[f"ego_y_m_{name}"][there], radius * (1 - np.cos(rate * seconds)), atol=1e-4)
        assert np.allclose(found[f"ego_yaw_rad_{name}"][there], rate * seconds)
        assert 0.9 < np.mean(there) < 1


def test_what_lies_outside_of_the_motion_is_null():
    tracks, _ = circle()
    motion = ego_motion(tracks, RECKONED)
    end = motion.last_ns
    batch = ego_batch(motion, np.array([START_NS - 1, START_NS, end - 999_999_999, end, end + 1]), RECKONED)
    assert batch.column("ego_x_m").is_valid().to_pylist() == [False, True, True, True, False]
    assert batch.column("ego_y_m").is_valid().to_pylist() == [False, True, True, True, False]
    assert batch.column("ego_x_m_1s").is_valid().to_pylist() == [False, True, False, False, False]
    assert batch.column("ego_y_m_0_5s").is_valid().to_pylist() == [False, True, True, False, False]


def test_a_vehicle_that_never_moves_has_a_position_and_no_heading():
    rng = np.random.default_rng(0)
    t_ns, fix_ns = stamps(np.arange(0.0, 30.0, 0.02)), stamps(np.arange(0.0, 30.0, 0.2))
    latitude, longitude = geodetic(rng.normal(size=fix_ns.size) + 1j * rng.normal(size=fix_ns.size))
    still = {name: Track(t_ns, np.zeros(t_ns.size)) for name in ("v", "w")}
    motion = ego_motion({**still, "lat": Track(fix_ns, latitude), "lon": Track(fix_ns, longitude)}, FUSED)
    batch = ego_batch(motion, t_ns[10:20], FUSED)
    assert batch.column("ego_x_m").null_count == 0
    assert batch.column("ego_yaw_rad").null_count == 10
    assert batch.column("ego_x_m_1s").null_count == 10


def as_odometry(truth, seconds, turn=1.0):
    t_ns = stamps(np.arange(0.0, seconds, 0.1))
    position, yaw = place(truth, t_ns, turn)
    attitude = np.stack([np.zeros(t_ns.size), np.zeros(t_ns.size), np.sin(yaw / 2), np.cos(yaw / 2)], axis=1)
    return {"x": Track(t_ns, position.real), "y": Track(t_ns, position.imag), "q": Track(t_ns, attitude)}


def test_an_odometry_is_taken_as_it_is_from_its_first_position():
    truth = driven(0, 42.0)
    motion = ego_motion(as_odometry(truth, 40.0, np.exp(2.5j)), ODOMETRY)
    ticks = stamps(np.linspace(0.0, 39.0, 300))
    found = columns(motion, ticks, ODOMETRY)
    position, yaw = place(truth, ticks, np.exp(2.5j))
    assert (motion.method, motion.reason) == ("odometry", "")
    # a line between samples 0.1 s apart cuts a bend by some millimetres
    assert np.abs(found["ego_x_m"] + 1j * found["ego_y_m"] - (position - position[0])).max() < 0.02
    assert np.abs(np.angle(np.exp(1j * (found["ego_yaw_rad"] - yaw)))).max() < 0.01
    assert np.abs(np.diff(found["ego_yaw_rad"])).max() < 0.2
    assert np.abs(found["ego_speed_mps"] - truth.at((ticks - START_NS) / 1e9).speed_mps).max() < 0.3


def test_what_is_declared_and_absent_is_passed_over_and_named():
    truth = driven(0, 42.0)
    tracks = sensed(truth, 40.0, 0)
    both = FUSED.model_copy(update={"odometry_position": ("x", "y"), "odometry_attitude": "q"})
    assert ego_motion({**tracks, **as_odometry(truth, 40.0)}, both).method == "odometry"
    second = ego_motion(tracks, both)
    assert (second.method, second.reason) == ("gnss", "the odometry has too few samples")
    third = ego_motion({name: tracks[name] for name in ("v", "w")}, both)
    assert third.method == "dead reckoning"
    assert "fewer than two GNSS fixes" in third.reason
    none = ego_motion({"v": tracks["v"]}, both)
    assert none.method == "none"
    batch = ego_batch(none, stamps([0.0, 1.0]), both)
    assert [batch.column(name).null_count for name in batch.schema.names] == [2] * batch.num_columns


def test_samples_that_are_none_change_nothing():
    truth = driven(0, 42.0)
    tracks = sensed(truth, 40.0, 0)
    holed = {name: Track(t.t_ns, t.values.copy()) for name, t in tracks.items()}
    for name in ("lat", "lon"):
        holed[name].values[20] = 0.0  # a receiver without a fix
        holed[name].values[40] = np.nan
    holed["v"].values[100] = np.inf
    a, b = ego_motion(tracks, FUSED), ego_motion(holed, FUSED)
    assert np.abs(a.position_m - b.position_m).max() < 1.0


def test_the_same_tracks_give_the_same_bytes():
    tracks = sensed(driven(0, 42.0), 40.0, 0, outliers=0.05)
    ticks = stamps(np.linspace(0.0, 40.0, 100))
    assert ego_batch(ego_motion(tracks, FUSED), ticks, FUSED).equals(ego_batch(ego_motion(tracks, FUSED), ticks, FUSED))


def test_a_horizon_named_twice_is_refused():
    with pytest.raises(DeclarationError, match="twice: 1s, 1s"):
        ego_schema(RECKONED.model_copy(update={"horizons_s": (1, 1.0)}))


def test_metres_on_the_ellipsoid_are_those_of_its_radii_of_curvature():
    """A degree of WGS 84 at 45 degrees north is 111.132 km by 78.847 km (a table of any atlas)."""
    second = 1 / 3600
    east, north = to_enu(np.array([45.0, 45.0 + second]), np.array([9.0 + second, 9.0]), (45.0, 9.0))
    assert east[0] == pytest.approx(78_847 / 3600, abs=0.001)
    assert north[1] == pytest.approx(111_132 / 3600, abs=0.001)
    assert np.abs([east[1], north[0]]).max() < 0.001


def recorded(path, channel):
    """Columns of one channel of a log."""
    found = {}
    for batch in read_log(path):
        if batch.channel == channel:
            for name in batch.batch.schema.names:
                found.setdefault(name, []).append(batch.batch.column(name).to_numpy(zero_copy_only=False))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def track(table, column, sign=1.0):
    t_ns, rows = np.unique(table["t_ns"], return_index=True)
    return Track(t_ns, sign * table[column][rows].astype(np.float64))


def test_a_real_drive_agrees_with_the_pose_of_its_camera(shared_data):
    """RAV4 on a motorway: GNSS receiver, CAN speed and gyro against a camera pose that was computed with all of them."""
    folder = shared_data / "drive_comma2k19_rav4"
    if not folder.is_dir():
        pytest.skip("recorded data is absent: drive_comma2k19_rav4")
    sensors = folder / "sensors.mcap"
    fix, imu, pose = (recorded(sensors, name) for name in ("/gnss/ublox/fix", "/imu/data", "/camera/pose_ecef"))
    speed = recorded(folder / "signals.mf4", "speed")
    tracks = {
        "lat": track(fix, "latitude"),
        "lon": track(fix, "longitude"),
        "v": track(speed, "car_speed"),
        "w": track(imu, "angular_velocity.z", -1.0),  # its z axis points down
    }
    motion = ego_motion(tracks, FUSED)
    ticks, rows = np.unique(pose["t_ns"], return_index=True)
    found = columns(motion, ticks, FUSED)
    earth = np.stack([pose[f"pose.position.{axis}"][rows] for axis in "xyz"])
    latitude, longitude = on_ellipsoid(earth)
    east, north = to_enu(latitude, longitude, motion.origin_deg)
    off = found["ego_x_m"] + 1j * found["ego_y_m"] - (east + 1j * north)
    off = off[np.isfinite(off)]
    assert off.size > 700
    assert np.median(np.abs(off)) < 2.5  # the receiver and the camera's pose differ by this much from the beginning
    shape = np.abs(off - off.mean())
    sigma = found["ego_sigma_m"][np.isfinite(found["ego_x_m"])]
    assert np.mean(shape <= 2.45 * sigma) >= 0.9
    way = np.unwrap(np.angle(np.gradient(east + 1j * north)))
    there = np.isfinite(found["ego_yaw_rad"])
    there[:20] = there[-20:] = False
    assert np.median(np.abs(np.angle(np.exp(1j * (found["ego_yaw_rad"] - way))))[there]) < 0.02


def on_ellipsoid(earth):
    """Degrees of Earth-centred points, by iteration."""
    flat = 1 / 298.257223563 * (2 - 1 / 298.257223563)
    across = np.hypot(earth[0], earth[1])
    latitude = np.arctan2(earth[2], across * (1 - flat))
    for _ in range(6):
        normal = 6378137.0 / np.sqrt(1 - flat * np.sin(latitude) ** 2)
        latitude = np.arctan2(earth[2] + flat * normal * np.sin(latitude), across)
    return np.degrees(latitude), np.degrees(np.arctan2(earth[1], earth[0]))
