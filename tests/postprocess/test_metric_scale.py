"""Metric scale: exact rooms, shrunk by a known factor, grow back to meters."""

from dataclasses import replace

import numpy as np
import pytest

from qvggt.postprocess.metric_scale import scaled
from qvggt.types import QvggtError


def test_scaled__lengths_grow_and_nothing_else(room):
    big = scaled(room, 2.5)
    np.testing.assert_allclose(big.depth, room.depth * 2.5, rtol=1e-6)
    np.testing.assert_allclose(big.world_points, room.world_points * 2.5, rtol=1e-6)
    np.testing.assert_allclose(big.cam_from_world[:, :, 3], room.cam_from_world[:, :, 3] * 2.5, rtol=1e-6)
    np.testing.assert_array_equal(big.cam_from_world[:, :, :3], room.cam_from_world[:, :, :3])
    np.testing.assert_array_equal(big.pose_enc[:, 3:], room.pose_enc[:, 3:])
    for name in ("images", "intrinsics", "depth_conf", "world_points_conf", "names", "maps"):
        assert getattr(big, name) is getattr(room, name)


def test_scaled__missing_outputs_stay_missing(room):
    cameras = replace(room, depth=None, world_points=None, pose_enc=None)
    assert scaled(cameras, 2).depth is None


@pytest.mark.parametrize("factor", [0, -1, float("nan"), float("inf"), 1e39])
def test_scaled__impossible_factors_are_refused(room, factor):
    with pytest.raises(QvggtError, match="scale"):
        scaled(room, factor)
