"""Laws of the comparison with the float model."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from qvggt.eval.fidelity import (
    camera_difference_deg,
    camera_fidelity,
    depth_difference,
    fidelity,
    pair_differences,
    point_difference,
)
from qvggt.eval.protocols import PROTOCOLS, measure, measure_fidelity
from qvggt.eval.stats import summarize
from qvggt.postprocess.frames import chosen_frames


def test_the_same_prediction_is_no_distance_away(perfect):
    result = fidelity(perfect, perfect)
    for value in result.means().values():
        assert value == pytest.approx(0, abs=1e-5)
    assert set(result.means()) == {
        "fidelity_rotation_deg",
        "fidelity_translation_deg",
        "fidelity_depth_rel",
        "fidelity_point_rel",
    }
    assert np.isnan(result.rotation_deg[0])
    assert result.depth_rel.shape == (4,)


def test_differences_are_those_made(perfect):
    cameras = perfect.cam_from_world.astype(float).copy()
    cameras[2, :, :3] = Rotation.from_euler("z", 8, degrees=True).as_matrix() @ cameras[2, :, :3]
    cameras[3, :, 3] *= -1
    other = replace(perfect, cam_from_world=cameras, depth=perfect.depth * 1.1, world_points=perfect.world_points * 0.8)
    result = fidelity(perfect, other)
    np.testing.assert_allclose(result.rotation_deg[1:], [0, 8, 0], atol=1e-3)
    np.testing.assert_allclose(result.translation_deg[1:], [0, 0, 180], atol=1e-3)
    np.testing.assert_allclose(result.depth_rel, 0.1, rtol=1e-5)
    np.testing.assert_allclose(result.point_rel, 0.2, rtol=1e-5)
    means = result.means()
    assert means["fidelity_rotation_deg"] == pytest.approx(8 / 3, abs=1e-3)
    assert means["fidelity_translation_deg"] == pytest.approx(60, abs=1e-3)
    assert means["fidelity_point_rel"] == pytest.approx(0.2, rel=1e-5)


def test_another_world_frame_is_no_difference(perfect):
    turn = Rotation.from_euler("xyz", (20, 30, 40), degrees=True).as_matrix()
    cameras = perfect.cam_from_world.astype(float)
    moved = np.concatenate((cameras[:, :, :3] @ turn, cameras[:, :, 3:]), -1)
    rotation, translation = camera_difference_deg(cameras, moved)
    np.testing.assert_allclose(rotation[1:], 0, atol=1e-4)
    np.testing.assert_allclose(translation[1:], 0, atol=1e-4)


def test_a_broken_prediction_is_infinitely_far_off(perfect):
    broken = replace(
        perfect,
        cam_from_world=perfect.cam_from_world * np.nan,
        depth=perfect.depth * np.inf,
        world_points=perfect.world_points * np.nan,
    )
    assert set(fidelity(perfect, broken).means().values()) == {np.inf}


def test_missing_heads_are_left_out(perfect):
    assert set(fidelity(perfect, replace(perfect, world_points=None, cam_from_world=None)).means()) == {
        "fidelity_depth_rel"
    }


def test_frames_without_anything_to_compare_are_nan():
    still = np.tile(np.eye(4)[:3], (3, 1, 1))
    rotation, translation = camera_difference_deg(still, still)
    assert np.isnan(translation).all()
    np.testing.assert_allclose(rotation[1:], 0, atol=1e-5)
    assert np.isnan(depth_difference(np.zeros((2, 3, 3)), np.ones((2, 3, 3)))).all()


def test_points_pool_their_means_over_frames():
    base = np.stack([np.full((2, 2, 3), 1.0), np.full((2, 2, 3), 3.0)])
    other = base + np.array([1.0, 0.0])[:, None, None, None]
    per_frame, pooled = point_difference(base, other)
    np.testing.assert_allclose(per_frame, [1, 0])
    assert pooled == pytest.approx(1 / 4)


def test_other_images_are_refused(perfect):
    with pytest.raises(ValueError, match="same images"):
        fidelity(perfect, chosen_frames(perfect, (0, 1)))


def test_only_pixels_that_count_are_compared(perfect):
    valid = np.ones(perfect.depth.shape, bool)
    valid[:, :, :5] = False
    far = np.where(valid, 1.1, np.nan)
    other = replace(perfect, depth=perfect.depth * far, world_points=perfect.world_points * far[..., None])
    result = fidelity(perfect, other, valid)
    np.testing.assert_allclose(result.depth_rel, 0.1, rtol=1e-5)
    np.testing.assert_allclose(result.point_rel, 0.1, rtol=1e-5)
    assert result.point_rel_pooled == pytest.approx(0.1)
    assert np.isinf(fidelity(perfect, other).depth_rel).all()
    valid[1] = False
    with pytest.raises(ValueError, match="pixels that count in every frame"):
        fidelity(perfect, other, valid)


def turned(prediction, frame, degrees):
    """Return a prediction with one camera turned, which turns half of the pairs of four frames."""
    cameras = prediction.cam_from_world.astype(float).copy()
    cameras[frame] = Rotation.from_euler("z", degrees, degrees=True).as_matrix() @ cameras[frame]
    return replace(prediction, cam_from_world=cameras)


def test_auc_takes_the_other_cameras_as_the_truth(perfect):
    assert fidelity(perfect, perfect).auc() == {"auc30": 100, "auc15": 100, "auc5": 100, "auc3": 100}
    far = fidelity(perfect, turned(perfect, 2, 4.5))
    np.testing.assert_allclose(np.sort(far.pairs.rotation_deg), [0, 0, 0, 4.5, 4.5, 4.5], atol=1e-3)
    scores = far.auc()
    assert scores["auc3"] == 50
    assert scores["auc5"] == pytest.approx(50 + 50 / 5)
    assert scores["auc30"] == pytest.approx(50 + 50 * 26 / 30)


def test_auc_is_that_of_poses_with_the_float_model_as_the_truth(scene, perfect):
    other = turned(perfect, 1, 2.5)
    of_truth = summarize([measure(scene, other, [PROTOCOLS["pose-standard"]])])
    of_float = summarize([measure_fidelity(scene, perfect, other)])
    for name in ("auc30", "auc15", "auc5", "auc3", "rra3", "rta3"):
        assert of_float.metrics[f"fidelity_{name}"] == of_truth.metrics[name]
        assert f"fidelity_{name}" in of_float.intervals
    assert of_float.metrics.keys() & {"auc30", "rotation_deg", "translation_deg"} == set()


def test_a_broken_prediction_earns_no_auc(scene, perfect):
    broken = replace(perfect, cam_from_world=perfect.cam_from_world.copy())
    broken.cam_from_world[3] = np.nan
    result = measure_fidelity(scene, perfect, broken)
    assert result.notes == ("fidelity: 3 pairs are not finite and count as wrong",)
    assert summarize([result]).metrics["fidelity_auc3"] == 50
    for one, other in ((perfect, replace(broken, cam_from_world=np.full((4, 3, 4), np.nan))), (broken, broken)):
        assert fidelity(one, other).auc()["auc30"] <= 50


def test_a_pair_that_has_not_moved_counts_by_its_rotation():
    cameras = np.tile(np.eye(4)[:3], (3, 1, 1))
    cameras[2, :, 3] = 0, 0, 1
    other = cameras.copy()
    other[1, :, 3] = 1e-4, 0, 0  # the float model puts it on the first camera
    pairs = pair_differences(cameras, other)
    assert pairs.translation_deg[0] == 0
    assert pairs.joint_deg.max() < 0.01
    copies = cameras.copy()
    copies[1, :, 3] = 0, 1e-7, 0  # two copies of a photograph: only rounding tells them apart
    assert pair_differences(copies, other).translation_deg[0] == 0
    other[1, :, :3] = Rotation.from_euler("z", 8, degrees=True).as_matrix()
    assert pair_differences(cameras, other).joint_deg[0] == pytest.approx(8, abs=1e-3)
    other[1, :, 3] = np.nan
    assert np.isnan(pair_differences(cameras, other).joint_deg[:1]).all()


def test_a_model_that_has_not_moved_where_the_float_model_has_is_wrong():
    cameras = np.tile(np.eye(4)[:3], (2, 1, 1))
    moved = cameras.copy()
    moved[1, :, 3] = 0, 0, 1
    assert pair_differences(moved, cameras).translation_deg[0] == 90
    assert pair_differences(cameras, moved).translation_deg[0] == 0


def test_one_frame_makes_no_pair(perfect):
    scores = fidelity(chosen_frames(perfect, (0,)), chosen_frames(perfect, (0,))).auc()
    assert np.isnan(list(scores.values())).all()
    assert fidelity(perfect, replace(perfect, cam_from_world=None)).auc() == {}


def test_stored_cameras_give_the_same_auc_as_predictions(scene, perfect):
    other = turned(perfect, 1, 2.5)
    protocols = [PROTOCOLS["pose-standard"]]
    results = [[measure(scene, prediction, protocols)] for prediction in (perfect, other)]
    (found,) = camera_fidelity(*results)
    whole = measure_fidelity(scene, perfect, other)
    assert (found.rotation_deg, found.translation_deg) == (whole.rotation_deg, whole.translation_deg)
    assert found.values.items() <= whole.values.items()
    blind = [measure(scene, replace(perfect, cam_from_world=None), [PROTOCOLS["depth-scale"]])]
    assert camera_fidelity(blind, results[1]) == ()
    with pytest.raises(ValueError, match="same scenes"):
        camera_fidelity(results[0], [replace(results[1][0], scene="another")])
