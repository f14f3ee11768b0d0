"""Laws of the comparison with the float model."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from qvggt.eval.fidelity import camera_difference_deg, depth_difference, fidelity, point_difference
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
