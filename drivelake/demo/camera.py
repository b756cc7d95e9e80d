"""The front camera of the generated drives. Belongs here: projecting a marked road through a pinhole, weather and light.

Never here: compression, stamps, messages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from drivelake.demo.motion import Road, Vehicle, smooth_noise

__all__ = ["LIGHTS", "WEATHERS", "Camera", "Light", "Renderer", "Weather"]

Weather = Literal["clear", "rain", "fog"]
Light = Literal["day", "dusk", "night"]
WEATHERS: tuple[Weather, ...] = get_args(Weather)
LIGHTS: tuple[Light, ...] = get_args(Light)

Floats = NDArray[np.float32]

MARKING_HALF_WIDTH_M = 0.08
SHOULDER_M = 0.4
DASH_M, DASH_PERIOD_M = 4.0, 10.0
# beyond this angle from straight ahead the road leaves the picture sideways: follow its tangent instead
TURN_MAX_RAD = math.radians(70)
VISIBILITY_M: dict[Weather, float] = {"clear": 400.0, "rain": 90.0, "fog": 22.0}
NOISE_STD: dict[Light, float] = {"day": 3.0, "dusk": 5.0, "night": 7.0}
TINT: dict[Light, tuple[float, float, float]] = {"day": (1.0, 1.0, 1.0), "dusk": (0.72, 0.62, 0.56), "night": (0.34, 0.34, 0.4)}
GREEN, DRY = (70.0, 98.0, 52.0), (172.0, 152.0, 104.0)
HAZE: dict[Weather, tuple[float, float, float]] = {
    "clear": (165.0, 195.0, 225.0),
    "rain": (135.0, 140.0, 148.0),
    "fog": (190.0, 192.0, 195.0),
}


@dataclass(frozen=True)
class Camera:
    """A pinhole without distortion, looking along the vehicle's x axis and down by ``pitch_down_deg``."""

    width: int = 160
    height: int = 120
    horizontal_fov_deg: float = 80.0
    height_m: float = 1.4
    forward_m: float = 1.8  # ahead of the rear axle
    pitch_down_deg: float = 8.0

    @property
    def focal_px(self) -> float:
        """Focal length in pixels, the same for both axes."""
        return self.width / 2 / math.tan(math.radians(self.horizontal_fov_deg) / 2)

    def ground(self) -> tuple[int, Floats, Floats]:
        """Where the pixels meet the ground plane, in the vehicle frame.

        Returns:
            The first row that shows ground nearer than the road is known; forward distance of each such row, float32 of
            shape (R, 1), m; distance to the left of each such pixel, float32 of shape (R, width), m. Without roll all
            pixels of a row are equally far ahead.

        """
        pitch = math.radians(self.pitch_down_deg)
        down = (np.arange(self.height) + 0.5 - self.height / 2) / self.focal_px
        right = (np.arange(self.width) + 0.5 - self.width / 2) / self.focal_px
        fall = math.sin(pitch) + down * math.cos(pitch)
        first = int(np.argmax(self.height_m < 60.0 * fall))
        scale = self.height_m / fall[first:, None]
        forward = self.forward_m + scale * (math.cos(pitch) - down[first:, None] * math.sin(pitch))
        return first, forward.astype(np.float32), (-scale * right[None, :]).astype(np.float32)


class Renderer:
    """Renders one drive; what stays the same from picture to picture is computed once."""

    def __init__(
        self, rng: np.random.Generator, road: Road, camera: Camera, vehicle: Vehicle, *, weather: Weather, light: Light
    ) -> None:
        self._rng, self._road, self._weather, self._half_road_m = rng, road, weather, vehicle.lane_width_m
        self._shape = (camera.height, camera.width)
        self._first, self._forward_m, self._left_m = camera.ground()
        # metres that one pixel covers sideways: edges are blended over it, so that far markings fade as they do in a lens
        self._pixel_m = (self._forward_m - camera.forward_m) / camera.focal_px
        self._noise_std = NOISE_STD[light] * (1.6 if weather == "rain" else 1.0)
        tint = np.array(TINT[light], np.float32) * np.float32(rng.uniform(0.9, 1.1))
        self._haze = np.array(HAZE[weather], np.float32) * tint
        clear_view = np.exp(-self._forward_m / VISIBILITY_M[weather]).astype(np.float32)[..., None]
        lit = np.ones_like(clear_view) * tint
        if light == "night":
            beam = np.exp(-self._forward_m / 16.0 - (self._left_m / (2.0 + 0.35 * self._forward_m)) ** 2)
            lit = lit + 0.6 * beam[..., None]
        self._gain = (lit * clear_view).astype(np.float32)
        self._veil = (self._haze * (1 - clear_view)).astype(np.float32)
        self._green = np.array(GREEN, np.float32) * rng.uniform(0.9, 1.1, 3).astype(np.float32)
        self._dry = np.array(DRY, np.float32) * np.float32(rng.uniform(0.9, 1.1))
        self._asphalt = np.float32(rng.uniform(80.0, 100.0) * (0.8 if weather == "rain" else 1.0))
        self._paint = np.float32(rng.uniform(205.0, 235.0))
        arc_m = np.arange(len(road.x_m), dtype=np.float64) * road.step_m
        # fields beside the road change from green to dry, shadows lie on it, the exposure of the whole picture follows slowly
        self._dryness = np.clip(0.4 + 0.5 * smooth_noise(rng, arc_m, shortest=20.0, longest=150.0), 0, 1)
        self._shadow = 1 - 0.25 * np.clip(smooth_noise(rng, arc_m, shortest=6.0, longest=60.0), 0, 2)
        self._exposure = np.exp(0.3 * smooth_noise(rng, arc_m, shortest=20.0, longest=200.0))
        self._sky = self._haze * np.linspace(0.8, 1.0, self._first, dtype=np.float32)[:, None, None]

    def render(self, x_m: float, y_m: float, yaw_rad: float, arc_length_m: float) -> NDArray[np.uint8]:
        """Render the picture from one pose of the vehicle (ENU, rear axle); RGB uint8 of shape (height, width, 3)."""
        centre_left, slant, arc = self._centre_line(x_m, y_m, yaw_rad, arc_length_m)
        offset = (self._left_m - centre_left) * slant  # metres left of the road's centre line
        beside = np.abs(offset)
        asphalt = self._cover(beside, self._half_road_m + SHOULDER_M)
        distance_to_paint = np.abs(beside - self._half_road_m)
        dashed = (arc % DASH_PERIOD_M) < DASH_M
        distance_to_paint = np.where(dashed, np.minimum(distance_to_paint, beside), distance_to_paint)
        paint = self._cover(distance_to_paint, MARKING_HALF_WIDTH_M) * np.minimum(1, 2 * MARKING_HALF_WIDTH_M / self._pixel_m)

        ground = self._green + (self._dry - self._green) * self._at(self._dryness, arc)[..., None]
        ground = ground * (1 + 0.08 * np.sin(0.9 * arc) * np.sin(0.7 * offset))[..., None]
        ground += (self._asphalt - ground) * asphalt[..., None]
        ground += (self._paint - ground) * paint[..., None]
        ground *= self._at(self._shadow, arc)[..., None]
        picture = np.empty((*self._shape, 3), np.float32)
        picture[: self._first] = self._sky
        picture[self._first :] = ground * self._gain + self._veil
        if self._weather == "rain":
            self._add_streaks(picture)
        picture *= self._at(self._exposure, np.float32(arc_length_m))
        noise = self._rng.standard_normal(picture.shape, dtype=np.float32)
        noise *= np.float32(self._noise_std)
        picture += noise
        return np.clip(picture, 0, 255, out=picture).astype(np.uint8)

    def _centre_line(self, x_m: float, y_m: float, yaw_rad: float, arc_length_m: float) -> tuple[Floats, Floats, Floats]:
        """Per ground row, shape (R, 1): metres left to the centre line, cosine of its angle to the vehicle, arc length."""
        road = self._road
        start = max(0, int(arc_length_m / road.step_m) - 4)
        part = slice(start, start + round(66.0 / road.step_m))
        turn = road.heading_rad[part] - yaw_rad
        turned = np.abs(turn) > TURN_MAX_RAD
        stop = int(np.argmax(turned)) if turned.any() else len(turn)
        turn = turn[:stop]
        dx, dy = road.x_m[part][:stop] - x_m, road.y_m[part][:stop] - y_m
        forward = dx * math.cos(yaw_rad) + dy * math.sin(yaw_rad)
        left = dy * math.cos(yaw_rad) - dx * math.sin(yaw_rad)
        rows = self._forward_m[:, 0].astype(np.float64)
        beyond = np.maximum(rows - forward[-1], 0)
        angle = np.interp(rows, forward, turn)
        centre = np.interp(rows, forward, left) + beyond * math.tan(turn[-1])
        arc = np.interp(rows, forward, (start + np.arange(stop)) * road.step_m) + beyond
        columns = (centre, np.cos(angle), arc)
        centre32, slant32, arc32 = (column.astype(np.float32)[:, None] for column in columns)
        return centre32, slant32, arc32

    def _at(self, along_road: NDArray[np.float64], arc_length_m: Floats | np.float32) -> Floats:
        """Values kept per step of the road, at these arc lengths."""
        steps = np.clip(np.asarray(arc_length_m) / self._road.step_m, 0, len(along_road) - 1).astype(np.intp)
        picked: Floats = along_road[steps].astype(np.float32)
        return picked

    def _cover(self, distance_m: Floats, half_width_m: float) -> Floats:
        """Share of each pixel covered by what lies within ``half_width_m``; shape (R, width)."""
        return np.clip((np.float32(half_width_m) - distance_m) / self._pixel_m + np.float32(0.5), 0, 1)

    def _add_streaks(self, picture: Floats) -> None:
        """Brighten short vertical lines, as drops leave them within one exposure."""
        height, width = self._shape
        count, length = 40, 9
        top = self._rng.integers(0, height - length, count)
        column = self._rng.integers(0, width, count)
        rows = top[:, None] + np.arange(length)
        picture[rows, column[:, None]] += 0.2 * self._haze.mean()
