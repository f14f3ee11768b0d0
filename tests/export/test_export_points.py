from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt.export.points import has_points, select_points
from qvggt.types import FrameMap, QvggtError

ALL = {"max_points": 10**9, "drop_percent": 0.0}


def test_points_from_depth_are_the_true_surface(room):
    cloud = select_points(room, "depth", **ALL)
    np.testing.assert_allclose(cloud.points, room.world_points.reshape(-1, 3), atol=1e-4)
    np.testing.assert_array_equal(cloud.confidence, room.depth_conf.reshape(-1))
    colors = np.rint(room.images.transpose(0, 2, 3, 1).reshape(-1, 3) * 255)
    np.testing.assert_array_equal(cloud.colors, colors)
    assert (cloud.points.dtype, cloud.colors.dtype, cloud.confidence.dtype) == (np.float32, np.uint8, np.float32)


def test_both_sources_agree_on_a_perfect_prediction(room):
    options = {"max_points": 500, "drop_percent": 30.0, "seed": 3}
    depth, head = select_points(room, "depth", **options), select_points(room, "head", **options)
    np.testing.assert_allclose(depth.points, head.points, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(max_points=st.integers(1, 12_000), drop=st.floats(0, 100), seed=st.integers(0, 2**32))
def test_thinning_keeps_the_count_the_order_and_the_seed(room, max_points, drop, seed):
    cloud = select_points(room, "depth", max_points=max_points, drop_percent=drop, seed=seed)
    again = select_points(room, "depth", max_points=max_points, drop_percent=drop, seed=seed)
    assert 1 <= len(cloud) <= max_points
    np.testing.assert_array_equal(cloud.points, again.points)
    whole = select_points(room, "depth", max_points=10**9, drop_percent=drop).points
    assert len(cloud) == min(max_points, len(whole))
    index = {point.tobytes(): i for i, point in enumerate(whole)}
    order = [index[point.tobytes()] for point in cloud.points]
    assert order == sorted(order)


@settings(max_examples=30, deadline=None)
@given(drop=st.floats(0, 100))
def test_the_least_confident_go(room, drop):
    cloud = select_points(room, "depth", max_points=10**9, drop_percent=drop)
    total = room.depth.size
    assert len(cloud) >= total * (1 - drop / 100) - 1
    dropped = np.sort(room.depth_conf.reshape(-1))[: total - len(cloud)]
    assert not len(dropped) or dropped.max() < cloud.confidence.min()


def test_equal_confidences_lose_nothing(room):
    flat = replace(room, depth_conf=np.ones_like(room.depth_conf))
    assert len(select_points(flat, "depth", max_points=10**9, drop_percent=90)) == room.depth.size
    without = select_points(replace(room, depth_conf=None), "depth", max_points=10**9, drop_percent=90)
    assert len(without) == room.depth.size
    assert (without.confidence == 1).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_left_out(room, bad):
    depth, points = room.depth.copy(), room.world_points.copy()
    depth[1, 5, 7], points[1, 5, 7, 2] = bad, bad
    broken = replace(room, depth=depth, world_points=points)
    for source in ("depth", "head"):
        cloud = select_points(broken, source, **ALL)
        assert len(cloud) == room.depth.size - 1
        assert np.isfinite(cloud.points).all()
    with pytest.raises(QvggtError, match="no finite points"):
        select_points(replace(room, depth=np.full_like(depth, bad)), "depth", **ALL)


def test_padding_gives_no_points(room):
    maps = (FrameMap((20, 10), (1.0, 1.0), (4.0, 3.0)), *room.maps[1:])
    cloud = select_points(replace(room, maps=maps), "depth", **ALL)
    assert len(cloud) == 20 * 10 + room.depth[1:].size


def test_a_missing_head_is_named(room):
    without = replace(room, world_points=None, world_points_conf=None)
    assert has_points(without, "depth")
    assert not has_points(without, "head")
    with pytest.raises(QvggtError, match="point head"):
        select_points(without, "head", **ALL)
    with pytest.raises(QvggtError, match="depth head"):
        select_points(replace(room, depth=None), "depth", **ALL)
    with pytest.raises(QvggtError, match="camera head"):
        select_points(replace(room, cam_from_world=None), "depth", **ALL)


@pytest.mark.parametrize("options", [{"max_points": 0, "drop_percent": 0}, {"max_points": 1, "drop_percent": 101}])
def test_options_out_of_range_are_refused(room, options):
    with pytest.raises(ValueError, match="expected"):
        select_points(room, "depth", **options)
