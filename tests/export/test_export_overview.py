import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from qvggt.export.overview import shown_frames, write_overview
from qvggt.export.points import select_points

pytestmark = pytest.mark.render


def draw(path, prediction, with_points=True, **words):
    cloud = select_points(prediction, "depth", max_points=5000, drop_percent=20) if with_points else None
    write_overview(path, prediction, cloud, **words)
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


@pytest.mark.parametrize("frames", [1, 11])
def test_any_number_of_frames_gives_a_sheet_with_colors(room_factory, tmp_path, frames):
    sheet = draw(tmp_path / "overview.png", room_factory(28, 42, frames), title="nano", caption="4 bits")
    assert 600 < sheet.shape[0] < 2000
    assert 700 < sheet.shape[1] < 3200
    assert (np.ptp(sheet, axis=2) > 60).mean() > 0.05


def test_two_panoramas_fit(room_factory, tmp_path):
    assert draw(tmp_path / "overview.png", room_factory(280, 28, 2)).shape[1] < 2400


@pytest.mark.usefixtures("coarse_pages")
def test_what_the_prediction_lacks_is_left_out(room, tmp_path):
    whole = draw(tmp_path / "a.png", room)
    images = replace(room, cam_from_world=None, depth=None, depth_conf=None, world_points_conf=None)
    alone = draw(tmp_path / "b.png", images, with_points=False)
    assert alone.shape[1] < whole.shape[1]
    draw(tmp_path / "c.png", replace(room, depth=None, depth_conf=None), with_points=False)
    write_overview(tmp_path / "d.png", images, select_points(room, "head", max_points=99, drop_percent=0))


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("coarse_pages")
def test_odd_names_and_words_do_no_harm(room, tmp_path):
    names = ("$x^{", "日本\n語.jpg", "\\frac" + "y" * 500, "tab\there")
    draw(tmp_path / "overview.png", replace(room, names=names), title="$\\alpha" * 99, caption="50% \\ {")


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("coarse_pages")
def test_broken_depth_and_flat_confidence_do_no_harm(room, tmp_path):
    depth = room.depth.copy()
    depth[0] = np.nan
    depth[1, :5] = np.inf
    draw(tmp_path / "overview.png", replace(room, depth=depth, depth_conf=np.ones_like(depth)))


@pytest.mark.usefixtures("coarse_pages")
def test_the_same_prediction_gives_the_same_sheet(room_factory, tmp_path):
    room = room_factory(28, 28, 1)
    np.testing.assert_array_equal(draw(tmp_path / "a.png", room), draw(tmp_path / "b.png", room))


def test_frames_are_chosen_evenly_with_both_ends():
    assert shown_frames(3).tolist() == [0, 1, 2]
    assert shown_frames(1).tolist() == [0]
    chosen = shown_frames(100, 8)
    assert (chosen[0], chosen[-1], len(chosen)) == (0, 99, 8)
    assert np.ptp(np.diff(chosen)) <= 1


@pytest.mark.process
def test_no_window_system_is_touched():
    code = "import sys, qvggt.export; print('matplotlib.pyplot' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
