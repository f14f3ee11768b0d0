from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from qvggt.export.colors import difference_color_map
from qvggt.export.turntable import draw_panels, orbit_views, turning, turntable_panels, write_turntable
from qvggt.geometry import Similarity
from qvggt.options import ExportOptions, TurntableOptions
from qvggt.postprocess.similarity import transformed
from qvggt.types import QvggtError

ALL = ExportOptions(drop_percent=0)
SMALL = TurntableOptions(seconds=0.5, size=(96, 72))


def deeper(prediction, factor, frame):
    """Return a prediction in which one frame's depth is wrong."""
    depth = prediction.depth.copy()
    depth[frame] *= factor
    return replace(prediction, depth=depth)


def test_a_full_turn_is_even_and_a_swing_comes_back():
    np.testing.assert_allclose(np.degrees(turning(TurntableOptions(), 8)), np.arange(8) * 45)
    swing = np.degrees(turning(TurntableOptions(turn_deg=60), 8))
    np.testing.assert_allclose(swing[[0, 2, 4, 6]], [0, 30, 0, -30], atol=1e-9)


def test_all_points_stay_in_the_picture_from_every_angle(room):
    panels, centers = turntable_panels({"room": room}, ALL)
    views = orbit_views(panels, centers, turning(TurntableOptions(), 24), (96, 72))
    middle = (panels[0].points.min(0) + panels[0].points.max(0)) / 2
    distances = [np.linalg.norm(view.eye - middle) for view in views]
    assert max(distances) == pytest.approx(min(distances), rel=0.05)
    reach = 0
    for view in views:
        pixels, distance = view.project(panels[0].points)
        assert (distance > 0).all()
        reach = max(reach, *np.abs(pixels / (96, 72) - 0.5).max(0))
    assert 0.43 < reach < 0.52  # and they fill it; outliers are not fitted


def test_two_results_have_a_panel_each_and_one_of_their_difference(room):
    moved = transformed(deeper(room, 1.1, 2), Similarity(3.0, np.eye(3), np.ones(3)))
    panels, _ = turntable_panels({"a": room, "b": moved}, ALL)
    assert [panel.title for panel in panels] == ["a", "b", "difference"]
    assert panels[2].note == "0 to 20 % of depth"  # rays are longer than depths
    np.testing.assert_array_equal(panels[1].points, panels[2].points)
    same = np.linalg.norm(panels[0].points - panels[1].points, axis=1) < 1e-4
    assert same.mean() == pytest.approx(0.75, abs=0.05)
    np.testing.assert_array_equal(panels[2].colors[same], np.tile(difference_color_map(np.zeros(1)), (same.sum(), 1)))
    view = orbit_views(panels, np.zeros((0, 3)), np.zeros(1), (97, 72))[0]
    picture = draw_panels(panels, view)
    assert picture.shape == (102, 304, 3)  # three of 97 and two gaps of 6 px, made even
    parts = [picture[30:, left : left + 97] for left in (0, 103, 206)]
    assert all(part.std() > 10 for part in parts)
    assert (parts[1] != parts[2]).any()


def test_the_least_confident_points_are_left_out(room):
    everything, _ = turntable_panels({"room": room}, ALL)
    surest, _ = turntable_panels({"room": room}, ExportOptions(drop_percent=60))
    assert len(surest[0].points) == pytest.approx(0.4 * len(everything[0].points), rel=0.1)
    near = [np.median(np.linalg.norm(panel.points, axis=1)) for panel in (surest[0], everything[0])]
    assert near[0] < near[1]  # the room's confidence falls with distance


def test_a_turntable_turns_and_is_the_same_each_time(room, tmp_path):
    stages = []
    for name in ("a.webp", "b.webp"):
        write_turntable(tmp_path / name, {"room": room}, ALL, SMALL, on_progress=lambda *stage: stages.append(stage))
    picture = Image.open(tmp_path / "a.webp")
    assert (picture.size, picture.n_frames) == ((96, 102), 6)
    first = np.asarray(picture.convert("RGB"), int)
    picture.seek(2)
    assert np.abs(first - np.asarray(picture.convert("RGB"), int)).mean() > 3
    assert (tmp_path / "a.webp").read_bytes() == (tmp_path / "b.webp").read_bytes()
    assert stages[0] == ("drawing", 0.0)
    assert stages[5] == ("drawing", 5 / 6)


def test_points_without_cameras_turn_too(room, tmp_path):
    points = replace(room, cam_from_world=None, intrinsics=None, pose_enc=None, depth=None)
    write_turntable(tmp_path / "a.gif", {"room": points}, ExportOptions("head", drop_percent=0), SMALL)
    assert np.asarray(Image.open(tmp_path / "a.gif").convert("RGB"))[30:].std() > 10


@pytest.mark.parametrize(("option", "value"), [("turn_deg", 0), ("turn_deg", 400), ("seconds", 0), ("size", (8, 8))])
def test_impossible_turntables_are_refused(option, value):
    with pytest.raises(QvggtError, match="turntable"):
        TurntableOptions(**{option: value})
