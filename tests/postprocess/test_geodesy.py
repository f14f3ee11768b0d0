"""WGS84 against the worked examples of EPSG Guidance Note 7-2 (geographic/geocentric, geocentric/topocentric)."""

import numpy as np

from qvggt.postprocess.geodesy import ecef_from_geodetic, enu_from_geodetic

POINT = np.array([53 + 48 / 60 + 33.820 / 3600, 2 + 7 / 60 + 46.380 / 3600, 73.0])


def test_ecef_from_geodetic__published_example():
    np.testing.assert_allclose(ecef_from_geodetic(POINT), (3771793.968, 140253.342, 5124304.349), atol=1e-3)


def test_enu_from_geodetic__published_example():
    origin = np.array([55.0, 5.0, 200.0])
    np.testing.assert_allclose(enu_from_geodetic(POINT, origin), (-189013.869, -128642.040, -4220.171), atol=1e-3)


def test_enu_from_geodetic__an_arc_second_north_is_31_meters():
    origin = np.array([48.0, 11.0, 500.0])
    east, north, up = enu_from_geodetic(origin + np.array([1 / 3600, 0, 2]), origin)
    assert abs(north - 30.89) < 0.01
    assert abs(east) < 1e-9
    assert abs(up - 2) < 1e-3
