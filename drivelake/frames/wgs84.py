"""Geodetic positions to metres. Belongs here: the ellipsoid and a local tangent plane on it. Never here: filters, tracks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["to_enu"]

FloatArray = NDArray[np.float64]

SEMI_MAJOR_M = 6378137.0
FLATTENING = 1 / 298.257223563
ECCENTRICITY_SQUARED = FLATTENING * (2 - FLATTENING)


def to_enu(latitude_deg: FloatArray, longitude_deg: FloatArray, origin_deg: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    """East and north of points on the ellipsoid, in the plane that touches it at the origin.

    Geodetic to Earth-centred coordinates: EPSG Guidance Note 7-2, section 4.1.1 (method 9602), WGS 84, height 0;
    Earth-centred to local: the same, section 4.1.2 (method 9836). A height of 1 km would stretch distances by 1.6e-4.

    Args:
        latitude_deg: (N,) float64.
        longitude_deg: (N,) float64.
        origin_deg: latitude and longitude of the plane's origin.

    Returns:
        Two (N,) float64 in m.
    """
    latitude, longitude = np.radians(origin_deg)
    away = _earth_centred(np.radians(latitude_deg), np.radians(longitude_deg)) - _earth_centred(latitude, longitude)[:, None]
    east = -np.sin(longitude) * away[0] + np.cos(longitude) * away[1]
    outwards = np.cos(longitude) * away[0] + np.sin(longitude) * away[1]
    north = np.cos(latitude) * away[2] - np.sin(latitude) * outwards
    return east, north


def _earth_centred(latitude: FloatArray, longitude: FloatArray) -> FloatArray:
    """(3,) or (3, N) m, of radians, on the ellipsoid."""
    normal = SEMI_MAJOR_M / np.sqrt(1 - ECCENTRICITY_SQUARED * np.sin(latitude) ** 2)
    return np.array(
        [
            normal * np.cos(latitude) * np.cos(longitude),
            normal * np.cos(latitude) * np.sin(longitude),
            normal * (1 - ECCENTRICITY_SQUARED) * np.sin(latitude),
        ]
    )
