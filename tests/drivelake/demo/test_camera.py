import math

import numpy as np
import pytest

from drivelake.demo.camera import LIGHTS, VISIBILITY_M, WEATHERS, Camera, Renderer
from drivelake.demo.motion import Road, Vehicle

STEPS = 400


def straight_road():
    return Road(0.5, np.arange(STEPS) * 0.5, np.zeros(STEPS), np.zeros(STEPS), np.zeros(STEPS))


def right_line_column(picture, row):
    """Sub-pixel column of the brightest paint in the right half of a row."""
    grey = picture[row].mean(axis=1)
    half = len(grey) // 2
    paint = np.clip(grey[half:] - 150, 0, None)
    return half + (paint * np.arange(half)).sum() / paint.sum() + 0.5


def renderer(weather="clear", light="day"):
    return Renderer(np.random.default_rng(1), straight_road(), Camera(), Vehicle(), weather=weather, light=light)


def test_ground_points_project_back_onto_their_pixels():
    camera = Camera()
    first, forward_m, left_m = camera.ground()
    pitch = math.radians(camera.pitch_down_deg)
    along = (forward_m - camera.forward_m) * math.cos(pitch) + camera.height_m * math.sin(pitch)  # depth on the optical axis
    below = camera.height_m * math.cos(pitch) - (forward_m - camera.forward_m) * math.sin(pitch)
    rows = below / along * camera.focal_px + camera.height / 2
    columns = -left_m / along * camera.focal_px + camera.width / 2
    np.testing.assert_allclose(rows[:, 0], np.arange(first, camera.height) + 0.5, atol=1e-3)
    np.testing.assert_allclose(columns, np.broadcast_to(np.arange(camera.width) + 0.5, columns.shape), atol=1e-3)
    assert (np.diff(forward_m[:, 0]) < 0).all()


@pytest.mark.parametrize("lateral_m", [-0.4, 0.0, 0.4])
def test_the_right_line_stands_where_the_pinhole_puts_it(lateral_m):
    camera, row = Camera(), 75
    first, forward_m, _ = camera.ground()
    depth = (forward_m[row - first, 0] - camera.forward_m) * math.cos(math.radians(camera.pitch_down_deg))
    depth += camera.height_m * math.sin(math.radians(camera.pitch_down_deg))
    picture = renderer().render(10.0, -1.75 + lateral_m, 0.0, 10.0)
    expected = camera.width / 2 + camera.focal_px * (3.5 - 1.75 + lateral_m) / depth
    assert right_line_column(picture, row) == pytest.approx(expected, abs=0.7)


def test_turning_the_vehicle_left_moves_the_road_right():
    ahead, turned = (renderer().render(10.0, -1.75, yaw, 10.0) for yaw in (0.0, 0.05))
    assert right_line_column(turned, 75) > right_line_column(ahead, 75) + 2


def test_light_orders_brightness():
    day, dusk, night = (renderer(light=light).render(10.0, -1.75, 0.0, 10.0).mean() for light in LIGHTS)
    assert day > dusk > night


@pytest.mark.parametrize("row", [60, 75, 90])
def test_contrast_fades_in_fog_with_distance(row):
    def contrast(weather):
        grey = renderer(weather=weather).render(10.0, -1.75, 0.0, 10.0)[row, 80:].mean(axis=1)
        return grey.max() - np.median(grey)

    first, forward_m, _ = Camera().ground()
    fade = math.exp(-forward_m[row - first, 0] * (1 / VISIBILITY_M["fog"] - 1 / VISIBILITY_M["clear"]))
    assert contrast("fog") / contrast("clear") == pytest.approx(fade, abs=0.06)


@pytest.mark.parametrize("weather", WEATHERS)
@pytest.mark.parametrize("light", LIGHTS)
def test_every_weather_and_light_shows_paint_brighter_than_asphalt(weather, light):
    grey = renderer(weather=weather, light=light).render(10.0, -1.75, 0.0, 10.0)[90].mean(axis=1)
    assert grey.max() > 1.4 * np.median(grey)


@pytest.mark.parametrize("curvature_radpm", [-0.03, 0.03])
def test_a_bend_moves_the_far_road_to_its_side(curvature_radpm):
    heading = np.arange(STEPS) * 0.5 * curvature_radpm
    x_m, y_m = np.sin(heading) / curvature_radpm, (1 - np.cos(heading)) / curvature_radpm
    bend = Road(0.5, x_m, y_m, heading, np.full(STEPS, curvature_radpm))
    view = Renderer(np.random.default_rng(1), bend, Camera(), Vehicle(), weather="clear", light="day")
    columns = []
    for picture in (view.render(0.0, 0.0, 0.0, 0.0), renderer().render(10.0, 0.0, 0.0, 10.0)):
        far = picture[58:62].astype(float)
        columns.append((np.ptp(far, axis=2) < 0.15 * far.max(axis=2)).nonzero()[1].mean())
    assert np.sign(columns[0] - columns[1]) == -np.sign(curvature_radpm)  # positive curvature is to the left
    assert abs(columns[0] - columns[1]) > 10
