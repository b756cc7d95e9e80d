"""Frame transforms of a rig's calibration. Belongs here: the file, its checks, and the transform between any two frames.

Never here: estimating a calibration, ego motion, publishing (calibration).

    frames:
      vehicle: {}                           # the root: ISO 8855, x forward, y left, z up, on the ground below the rear axle
      camera_front:
        parent: vehicle
        translation_m: [1.9, 0.0, 1.4]      # of this frame's origin, in the parent's axes
        rotation_xyzw: [-0.5, 0.5, -0.5, 0.5]   # turns this frame's axes into the parent's
        source: checkerboard, hall 3
        date: 2026-03-14
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from drivelake.errors import DeclarationError
from drivelake.rig import Rig
from drivelake.strict import Strict, nearest

__all__ = ["QUATERNION_TOLERANCE", "ROOT", "TRANSLATION_MAX_M", "Calibration", "Frame", "Transforms", "parse_calibration"]

FloatArray = NDArray[np.float64]

ROOT = "vehicle"
# Six decimals a component leave a unit quaternion within 2e-6 of length 1; what is further off is a mistake.
QUATERNION_TOLERANCE = 1e-5
# Longer than any road vehicle with its trailer: what is further away was written in millimetres.
TRANSLATION_MAX_M = 30.0


class Frame(Strict):
    """One frame: where it stands in its parent's."""

    parent: str | None = Field(default=None, description="the frame that it is given in; only the root vehicle has none")
    translation_m: tuple[float, float, float] = Field(default=(0.0, 0.0, 0.0), description="its origin in the parent's axes, m")
    rotation_xyzw: tuple[float, float, float, float] = Field(
        default=(0.0, 0.0, 0.0, 1.0), description="unit quaternion that turns its axes into the parent's"
    )
    source: str = Field(default="", description="how it was found: a method, a report, a drawing; every frame but the root")
    date: dt.date | None = Field(default=None, description="when it was found; every frame but the root")

    @model_validator(mode="after")
    def _sound(self) -> Frame:
        length = math.sqrt(sum(part * part for part in self.rotation_xyzw))
        if abs(length - 1) > QUATERNION_TOLERANCE:
            raise ValueError(f"rotation_xyzw has length {length:.7g}, expected 1 within {QUATERNION_TOLERANCE:g}")
        distance = math.sqrt(sum(part * part for part in self.translation_m))
        if distance > TRANSLATION_MAX_M:
            raise ValueError(
                f"translation_m is {distance:.6g} m long, expected at most {TRANSLATION_MAX_M:g} m; is it in millimetres?"
            )
        if self.parent is not None and (not self.source or self.date is None):
            raise ValueError("source and date are needed: how and when was it found")
        return self


class Calibration(Strict):
    """The file of a rig's calibration: a tree of frames whose root is ``vehicle``."""

    frames: dict[str, Frame] = Field(min_length=1, max_length=500)

    @model_validator(mode="after")
    def _tree(self) -> Calibration:
        if ROOT not in self.frames:
            raise ValueError(f"there is no frame {ROOT!r}, the root of all; {nearest(ROOT, self.frames)}")
        root = self.frames[ROOT]
        if root != Frame(source=root.source, date=root.date):
            raise ValueError(f"frame {ROOT!r} is the root: it takes no parent, no translation and no rotation")
        for name, frame in self.frames.items():
            if name != ROOT and frame.parent is None:
                raise ValueError(f"frame {name!r} has no parent; only {ROOT!r} has none")
            if frame.parent is not None and frame.parent not in self.frames:
                raise ValueError(f"frame {name!r}: parent {frame.parent!r} is no frame; {nearest(frame.parent, self.frames)}")
            self._reaches_root(name)
        return self

    def _reaches_root(self, name: str) -> None:
        way = [name]
        while way[-1] != ROOT:
            parent = self.frames[way[-1]].parent
            if parent is None or parent not in self.frames:
                return  # told of that frame itself
            if parent in way:
                raise ValueError(f"frames stand in a circle: {' in '.join([*way[way.index(parent) :], parent])}")
            way.append(parent)


@dataclass(frozen=True)
class Transforms:
    """Transforms between the frames of one calibration.

    Attributes:
        in_vehicle: by name of the frame, (4, 4) float64 that takes its homogeneous points, m, into the frame ``vehicle``.
    """

    in_vehicle: Mapping[str, FloatArray]

    @classmethod
    def of(cls, calibration: Calibration) -> Transforms:
        """Follow every frame to the root."""
        found: dict[str, FloatArray] = {}

        def into_vehicle(name: str) -> FloatArray:
            if name not in found:
                frame = calibration.frames[name]
                found[name] = np.eye(4) if frame.parent is None else into_vehicle(frame.parent) @ _matrix(frame)
            return found[name]

        for name in calibration.frames:
            into_vehicle(name)
        return cls(found)

    def between(self, a: str, b: str) -> FloatArray:
        """The transform that takes points of frame ``a`` into frame ``b``.

        Args:
            a: the frame that points are given in.
            b: the frame that they are wanted in.

        Returns:
            (4, 4) float64: for a homogeneous column p of metres, ``between(a, b) @ p``.

        Raises:
            DeclarationError: no such frame; names the nearest.
        """
        for name in (a, b):
            if name not in self.in_vehicle:
                raise DeclarationError(
                    f"The calibration has no frame {name!r}; {nearest(name, self.in_vehicle)}.",
                    next_step="correct the name, or add the frame",
                )
        return _inverse(self.in_vehicle[b]) @ self.in_vehicle[a]


def parse_calibration(text: str, *, where: str, rig: Rig | None = None) -> Calibration:
    """Check the text of a calibration file, and that every frame that a sensor of the rig names is in it.

    Raises:
        DeclarationError: not YAML, an unknown key, no tree, a rotation that is none, metres that are none, a sensor whose
            frame is absent.
    """
    try:
        loaded = yaml.safe_load(text)
        calibration = Calibration.model_validate(loaded)
    except yaml.YAMLError as error:
        raise DeclarationError(f"{where} is not YAML: {error}.", next_step="correct the line it names") from None
    except ValidationError as error:
        told = "; ".join(_told(e["type"], e["loc"], e["msg"]) for e in error.errors())
        raise DeclarationError(f"{where}: {told}.", next_step="correct it; docs/declaration.md says what it holds") from None
    for name, sensor in rig.sensors.items() if rig else ():
        if sensor.frame is not None and sensor.frame not in calibration.frames:
            raise DeclarationError(
                f"{where}: sensor {name!r} stands in frame {sensor.frame!r}, which is not there; "
                f"{nearest(sensor.frame, calibration.frames)}.",
                next_step="add the frame, or correct the sensor",
            )
    return calibration


def _told(kind: str, loc: tuple[int | str, ...], message: str) -> str:
    at = ".".join(str(part) for part in loc) or "the file"
    if kind == "extra_forbidden":
        known = Frame.model_fields if len(loc) > 1 else Calibration.model_fields
        return f"unknown key {at!r}; {nearest(str(loc[-1]), known)}"
    return f"{at}: {message.removeprefix('Value error, ')}"


def _matrix(frame: Frame) -> FloatArray:
    """(4, 4) of a frame in its parent; Shuster, A Survey of Attitude Representations (1993), eq. 93, for active rotation."""
    x, y, z, w = np.array(frame.rotation_xyzw) / np.linalg.norm(frame.rotation_xyzw)
    matrix = np.eye(4)
    matrix[:3, :3] = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    matrix[:3, 3] = frame.translation_m
    return matrix


def _inverse(transform: FloatArray) -> FloatArray:
    """Of a rotation and translation: exact, unlike the inverse of any matrix."""
    inverse = np.eye(4)
    inverse[:3, :3] = transform[:3, :3].T
    inverse[:3, 3] = -transform[:3, :3].T @ transform[:3, 3]
    return inverse
