import numpy as np
import pytest

from qvggt.app.cloud import BINS, LEVELS, confidence_bins, detail_levels, display_cloud, level_count, needed_level
from qvggt.export.points import select_points
from qvggt.types import QvggtError


def test_display_cloud_has_the_points_colors_and_depths_of_the_exact_room(room):
    cloud = display_cloud(room, "depth", 10**6)
    exported = select_points(room, "depth", max_points=10**6, drop_percent=0)
    np.testing.assert_array_equal(cloud.points, exported.points)
    np.testing.assert_array_equal(cloud.colors, exported.colors)
    np.testing.assert_allclose(cloud.depth, room.depth.reshape(-1)[cloud.pixel], rtol=1e-5)
    np.testing.assert_array_equal(cloud.frame, np.repeat(np.arange(4), room.depth[0].size))


def test_bins_hide_the_points_that_an_export_drops(room):
    cloud = display_cloud(room, "depth", 10**6)
    for drop in (0, 5, 25, 50, 95):
        exported = select_points(room, "depth", max_points=10**6, drop_percent=drop)
        shown = (cloud.bin >= drop // 5).sum()
        assert shown == pytest.approx(len(exported), abs=0.002 * len(cloud))


def test_equal_confidences_share_the_highest_bin():
    assert confidence_bins(np.ones(100)).tolist() == [BINS - 1] * 100
    assert np.bincount(confidence_bins(np.arange(200.0))).tolist() == [10] * BINS


def test_levels_double_the_points():
    counts = np.cumsum(np.bincount(detail_levels(16_000)))
    assert counts.tolist() == pytest.approx([1000, 2000, 4000, 8000, 16_000], abs=1)
    assert [level_count(16_000, level) for level in range(LEVELS)] == [1000, 2000, 4000, 8000, 16_000]
    assert detail_levels(1).shape == (1,)


def test_levels_are_spread_over_frames(room):
    cloud = display_cloud(room, "depth", 10**6)
    coarse = np.bincount(cloud.frame[cloud.level == 0], minlength=4)
    assert coarse.min() > 0.7 * coarse.mean()


def test_fewer_points_are_needed_for_a_scene_that_is_small_on_the_screen():
    count = 1_000_000
    levels = [needed_level(count, radius) for radius in (1000, 500, 250, 130, 60)]
    assert levels[0] == levels[1] == LEVELS - 1
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == 0
    assert needed_level(count, np.inf) == LEVELS - 1
    assert level_count(count, needed_level(count, 130)) >= 2 * np.pi * 130**2


def test_parts_hold_every_point_once(room):
    cloud = display_cloud(room, "depth", 5000)
    assert len(cloud) == 5000
    parts = cloud.parts()
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(5000))
    for (bin_, level), part in parts.items():
        assert set(cloud.bin[part]) == {bin_}
        assert set(cloud.level[part]) == {level}


def test_a_prediction_without_points_is_refused(room):
    from dataclasses import replace

    with pytest.raises(QvggtError, match="no depth"):
        display_cloud(replace(room, depth=None), "depth", 100)
