import pytest

from qvggt.data.splits import CalibrationSet, calibration_sets, check_disjoint, check_split
from qvggt.types import QvggtError

SOME = {"dataset": "co3d", "split": "train", "scenes": ["apple/1", "ball/2"], "seed": 0, "images": 128}


def test_what_a_recipe_says():
    assert calibration_sets({}) == ()
    assert calibration_sets({"folder": "photos", "images": 16}) == ()
    assert calibration_sets(SOME) == (CalibrationSet("co3d", "train", ("apple/1", "ball/2")),)
    both = calibration_sets({"parts": [SOME, {"dataset": "scannet"}], "seed": 0})
    assert both == (*calibration_sets(SOME), CalibrationSet("scannet"))
    with pytest.raises(QvggtError, match="quantize again"):
        calibration_sets({"dataset": "co3d", "scenes": 3})


@pytest.mark.parametrize(
    ("calibration", "split", "scenes"),
    [
        (SOME, "train", ["apple/1"]),
        (SOME, "val", ["cup/1", "ball/2"]),  # a name means the same in every split
        ({"dataset": "co3d", "split": "val"}, "val", ["cup/1"]),
        ({"dataset": "co3d"}, "val", ["cup/1"]),
        ({"parts": [{"dataset": "scannet"}, SOME]}, "train", ["apple/1"]),
    ],
)
def test_seen_scenes_are_refused(calibration, split, scenes):
    with pytest.raises(QvggtError, match=r"^m was calibrated on .*would flatter the model: evaluate on"):
        check_disjoint("m", calibration, "co3d", split, scenes)


@pytest.mark.parametrize(
    "calibration",
    [{}, SOME, {"dataset": "co3d", "split": "val"}, {"dataset": "scannet"}, {"images": 16}],
)
def test_unseen_scenes_are_measured(calibration):
    check_disjoint("m", calibration, "co3d", "test", ["cup/1"])


@pytest.mark.parametrize("split", ["calib", "train"])
def test_splits_kept_for_calibration_and_training_are_refused(split):
    with pytest.raises(QvggtError, match=f"rooms split '{split}' is .*: evaluate on another split"):
        check_split("rooms", split)
    check_split("rooms", "test")
    check_split("co3d", split)
