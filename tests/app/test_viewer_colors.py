import base64

import numpy as np
import pytest

from qvggt.app.cloud import display_cloud
from qvggt.app.colors import NO_VALUE_COLOR, heat_colors, heat_legend, point_colors
from qvggt.export.page import _color_maps
from qvggt.postprocess.frames import frame_colors


def test_heat_colors_run_from_purple_to_yellow_and_are_gray_where_unknown():
    colors = heat_colors(np.array([0.0, 0.05, 0.1, 9.0, np.nan]), 0.1).astype(int)
    assert colors[0][2] > colors[0][0] > colors[0][1]
    assert colors[1][0] > 200 > colors[1][1]  # red in the middle
    assert colors[2].tolist() == colors[3].tolist()
    assert colors[2][:2].min() > 240 > colors[2][2]
    assert (np.diff(heat_colors(np.linspace(0, 1, 9), 1.0).sum(1, dtype=int)) > 0).all()  # ever brighter
    assert colors[4].tolist() == list(NO_VALUE_COLOR)
    with pytest.raises(ValueError, match="positive"):
        heat_colors(np.zeros(1), 0.0)


def test_the_legend_has_the_colors_of_the_heat_map():
    legend = heat_legend(0.2, (420, 64))
    assert legend.shape == (64, 420, 3)
    np.testing.assert_array_equal(legend[10, 28], heat_colors(np.zeros(1), 1.0)[0])
    np.testing.assert_array_equal(legend[10, 420 - 29], heat_colors(np.ones(1), 1.0)[0])
    assert (legend[30:] < 100).any()  # labels


def test_each_mode_colors_points_by_its_own_value(room):
    cloud = display_cloud(room, "depth", 10**6)
    np.testing.assert_array_equal(point_colors(cloud, "photograph"), cloud.colors)
    by_frame = point_colors(cloud, "frame")
    np.testing.assert_array_equal(by_frame[cloud.frame == 2][0], np.rint(255 * frame_colors(4)[2]))
    near, far = cloud.depth.argmin(), cloud.depth.argmax()
    by_depth = point_colors(cloud, "depth").astype(int)
    assert by_depth[near, 0] > by_depth[near, 2]  # warm colors are near
    assert by_depth[far, 2] > by_depth[far, 0]
    by_confidence = point_colors(cloud, "confidence")
    assert (by_confidence[cloud.confidence.argmax()] != by_confidence[cloud.confidence.argmin()]).any()
    heat = np.zeros(room.depth.shape, np.float32)
    heat[1] = 0.1
    by_heat = point_colors(cloud, "difference", heat, 0.1)
    np.testing.assert_array_equal(by_heat[cloud.frame == 1][0], heat_colors(np.ones(1), 1.0)[0])
    np.testing.assert_array_equal(by_heat[cloud.frame == 0][0], heat_colors(np.zeros(1), 1.0)[0])


def test_viewer_and_page_color_alike(room):
    maps = _color_maps()
    steps = np.frombuffer(base64.b64decode(maps["difference"]), np.uint8).reshape(256, 3)
    np.testing.assert_array_equal(heat_colors(np.linspace(0, 0.1, 256), 0.1), steps)
    sure = np.frombuffer(base64.b64decode(maps["confidence"]), np.uint8).reshape(256, 3)
    cloud = display_cloud(room, "depth", 10**6)
    np.testing.assert_array_equal(point_colors(cloud, "confidence")[cloud.bin == 19][0], sure[255])
