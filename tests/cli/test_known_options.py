"""reconstruct takes known cameras, says how far predictions were from them, and checks files before the work."""

import json

import numpy as np
import pytest
from commands import MODEL

from qvggt.export.result import open_result


def test_reconstruct_focal_and_poses(qvggt, photos, tmp_path):
    first = tmp_path / "first"
    assert qvggt("reconstruct", MODEL, photos, "-o", first).status == 0
    assert not open_result(first).info.focal_known
    options = ("--focal", "60", "--poses", first / "cameras.json", "--json", tmp_path / "figures.json")
    done = qvggt("reconstruct", MODEL, photos, "-o", tmp_path / "second", *options)
    assert done.status == 0, done
    opened, before = open_result(tmp_path / "second"), open_result(first).prediction
    assert opened.info.focal_known
    assert opened.info.poses_known
    np.testing.assert_allclose(opened.prediction.cam_from_world, before.cam_from_world, atol=1e-6)
    np.testing.assert_allclose(opened.prediction.intrinsics[:, 0, 0], 60 * before.maps[0].scale[0], rtol=1e-6)
    assert json.loads((tmp_path / "figures.json").read_text())["known"] == opened.info.details["known"]
    assert "known focal length of 2 frames" in done.out
    assert "known poses" in done.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--focal", "0"), "above 0"),
        (("--focal", "nowhere.txt"), "there is no file nowhere.txt"),
        (("--poses", "nowhere.txt"), "there is no file nowhere.txt"),
        (("--poses", "x", "--rig", "y"), "--poses or --rig"),
        (("--scale", "nowhere.csv"), "there is no file nowhere.csv"),
    ],
)
def test_reconstruct_known__refusals_come_before_the_model_is_loaded(refused, photos, tmp_path, options, words):
    assert words in refused("reconstruct", "no-such-model", photos, "-o", tmp_path / "out", *options)
