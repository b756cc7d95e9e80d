"""Roads, a driver and a vehicle that follows them. Belongs here: geometry and kinematics, in SI units, in reference time.

Never here: clocks, recorders, file formats, anything that a sensor adds to the truth.

Frames: the world is ENU (x east, y north, yaw from x towards y); the vehicle frame is ISO 8855 (x forward, y left, z up)
with its origin on the ground under the middle of the rear axle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["Road", "Trajectory", "Vehicle", "follow", "make_road", "smooth_noise"]

Floats = NDArray[np.float64]

RATE_HZ = 200
RUN_IN_S = 3.0  # driven before t = 0 and thrown away, so that a drive starts settled
CURVATURE_MAX = 0.045  # 1/m, a radius of 22 m
LOOKAHEAD_M = 70.0  # road beyond the last position, for the camera


@dataclass(frozen=True)
class Vehicle:
    """Constants of the vehicle and of its driver."""

    wheelbase_m: float = 2.7
    steering_max_rad: float = 0.35
    steering_lag_s: float = 0.15
    speed_cruise_mps: float = 11.0
    acceleration_max_mps2: float = 1.5
    deceleration_max_mps2: float = 3.5
    acceleration_lateral_max_mps2: float = 2.5
    wander_m: float = 0.2
    lane_width_m: float = 3.5


@dataclass(frozen=True)
class Road:
    """The centre line of a two-lane road, sampled every ``step_m`` of arc length; arrays of shape (N,), float64, ENU."""

    step_m: float
    x_m: Floats
    y_m: Floats
    heading_rad: Floats
    curvature_radpm: Floats


@dataclass(frozen=True)
class Trajectory:
    """The truth of one drive at 200 Hz; arrays of shape (N,), float64. ``yaw_rad`` is not wrapped."""

    t_s: Floats
    x_m: Floats
    y_m: Floats
    yaw_rad: Floats
    speed_mps: Floats
    steering_rad: Floats
    yaw_rate_radps: Floats
    acceleration_mps2: Floats
    lateral_error_m: Floats  # from the middle of the own lane, positive to the left
    arc_length_m: Floats  # along the road's centre line

    def at(self, t_s: Floats) -> Trajectory:
        """Interpolate all columns at times, linearly between the steps of the integration."""
        columns = {f.name: np.interp(t_s, self.t_s, getattr(self, f.name)) for f in fields(self) if f.name != "t_s"}
        return Trajectory(t_s=t_s, **columns)


def make_road(rng: np.random.Generator, length_m: float) -> Road:
    """Make a road whose curvature is a sum of sines over arc length, smooth and to both sides."""
    step_m = 0.5
    s_m = np.arange(0.0, length_m + LOOKAHEAD_M, step_m)
    curvature = smooth_noise(rng, s_m, shortest=30.0, longest=150.0)
    curvature *= CURVATURE_MAX / np.abs(curvature).max()
    heading = np.concatenate(([0.0], np.cumsum((curvature[1:] + curvature[:-1]) / 2 * step_m)))
    middle = (heading[1:] + heading[:-1]) / 2
    x_m = np.concatenate(([0.0], np.cumsum(np.cos(middle) * step_m)))
    y_m = np.concatenate(([0.0], np.cumsum(np.sin(middle) * step_m)))
    return Road(step_m, x_m, y_m, heading, curvature)


def follow(rng: np.random.Generator, seconds: float, vehicle: Vehicle, *, lane_offset_m: float) -> tuple[Road, Trajectory]:
    """Drive a new road for ``seconds`` in the lane whose middle lies ``lane_offset_m`` left of the centre line.

    The vehicle is the kinematic bicycle about its rear axle (LaValle, Planning Algorithms, 2006, eq. 13.15)::

        x' = v cos(yaw)    y' = v sin(yaw)    yaw' = v tan(steering) / wheelbase

    integrated with the midpoint rule. The driver steers by pure pursuit (Coulter, CMU-RI-TR-92-01, 1992) of a goal point
    that wanders about the middle of the lane, through a first-order lag.
    """
    steps = round((seconds + RUN_IN_S) * RATE_HZ) + 1
    t_s = np.arange(steps) / RATE_HZ - RUN_IN_S
    road = make_road(rng, (seconds + RUN_IN_S) * vehicle.speed_cruise_mps * 1.5)
    wander = (lane_offset_m + vehicle.wander_m * smooth_noise(rng, t_s, shortest=4.0, longest=15.0)).tolist()
    tremble = (0.003 * smooth_noise(rng, t_s, shortest=0.8, longest=4.0)).tolist()
    cruise = _cruise_speed(rng, t_s, seconds, vehicle).tolist()
    bend_limit = _bend_speed_limit(road, vehicle).tolist()
    x_road, y_road, heading_road = road.x_m.tolist(), road.y_m.tolist(), road.heading_rad.tolist()
    dt, s = 1.0 / RATE_HZ, 0.0
    x, y, yaw, steering = 0.0, lane_offset_m, 0.0, 0.0  # a road starts at the origin, towards x
    speed = min(cruise[0], bend_limit[0])
    rows = np.empty((steps, 9))
    for step in range(steps):
        at = int(s / road.step_m)
        along, heading = s - at * road.step_m, heading_road[at]
        dx = x - x_road[at] - along * math.cos(heading)
        dy = y - y_road[at] - along * math.sin(heading)
        s = max(0.0, s + dx * math.cos(heading) + dy * math.sin(heading))
        lateral = dy * math.cos(heading) - dx * math.sin(heading)
        target_speed = min(cruise[step], bend_limit[at])
        acceleration = min(max(target_speed - speed, -vehicle.deceleration_max_mps2), vehicle.acceleration_max_mps2)
        yaw_rate = speed * math.tan(steering) / vehicle.wheelbase_m
        rows[step] = (x, y, yaw, speed, steering, yaw_rate, acceleration, lateral - lane_offset_m, s)

        lookahead = 4.0 + 0.5 * speed
        goal = int((s + lookahead) / road.step_m)
        goal_dx = x_road[goal] - wander[step] * math.sin(heading_road[goal]) - x
        goal_dy = y_road[goal] + wander[step] * math.cos(heading_road[goal]) - y
        goal_left = goal_dy * math.cos(yaw) - goal_dx * math.sin(yaw)
        wanted = math.atan(2 * vehicle.wheelbase_m * goal_left / (goal_dx**2 + goal_dy**2)) + tremble[step]
        wanted = min(max(wanted, -vehicle.steering_max_rad), vehicle.steering_max_rad)

        middle_yaw = yaw + yaw_rate * dt / 2
        x += (speed + acceleration * dt / 2) * math.cos(middle_yaw) * dt
        y += (speed + acceleration * dt / 2) * math.sin(middle_yaw) * dt
        yaw += yaw_rate * dt
        speed += acceleration * dt
        steering += (wanted - steering) * dt / vehicle.steering_lag_s
    kept = t_s >= -1e-9
    return road, Trajectory(t_s[kept], *rows[kept].T.copy())


def smooth_noise(rng: np.random.Generator, at: Floats, *, shortest: float, longest: float) -> Floats:
    """Sum eight sines of random phase, periods spread evenly on a log scale; standard deviation near 1."""
    terms = 8
    edges = np.geomspace(shortest, longest, terms + 1)
    total = np.zeros_like(at)
    for low, high in pairwise(edges):
        total += np.sin(2 * math.pi * (at / rng.uniform(low, high) + rng.random()))
    return total * math.sqrt(2 / terms)


def _cruise_speed(rng: np.random.Generator, t_s: Floats, seconds: float, vehicle: Vehicle) -> Floats:
    """Speed that the driver would like, shape (N,), m/s, with a braking manoeuvre about every 15 s."""
    cruise = vehicle.speed_cruise_mps * (1 + 0.1 * np.clip(smooth_noise(rng, t_s, shortest=8.0, longest=40.0), -2, 2))
    for start in np.arange(rng.uniform(0.5, 2.0), seconds, 15.0) + rng.uniform(0.0, 1.0):
        cruise[(t_s > start) & (t_s < start + 2.5)] *= 0.5
    return cruise


def _bend_speed_limit(road: Road, vehicle: Vehicle) -> Floats:
    """Speed at which the sharpest bend within the next 25 m stays under the lateral acceleration limit; shape (N,), m/s."""
    ahead = round(25.0 / road.step_m)
    padded = np.concatenate((np.abs(road.curvature_radpm), np.zeros(ahead)))
    sharpest = np.lib.stride_tricks.sliding_window_view(padded, ahead + 1).max(axis=1)
    limit: Floats = np.sqrt(vehicle.acceleration_lateral_max_mps2 / np.maximum(sharpest, 1e-4))
    return limit
