"""Laws of pose errors."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from qvggt.eval.metrics.pose import (
    THRESHOLDS_DEG,
    auc,
    auc_credit,
    pose_errors,
    relative_poses,
    relative_to_first,
    rotation_angle_deg,
    translation_angle_deg,
)


def random_cameras(seed: int, count: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(count, random_state=seed).as_matrix()
    return np.concatenate((rotation, rng.normal(size=(count, 3, 1))), -1)


def noisy(cameras: np.ndarray, degrees: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turn = Rotation.from_rotvec(rng.normal(0, degrees, (len(cameras), 3)), degrees=True).as_matrix()
    shift = rng.normal(0, 0.01 * degrees, (len(cameras), 3, 1))
    return np.concatenate((turn @ cameras[:, :, :3], cameras[:, :, 3:] + shift), -1)


def move_world(cameras: np.ndarray, scale: float, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Cameras of the world x' = scale * rotation @ x + translation, their own unit scaled along with it."""
    turned = cameras[:, :, :3] @ rotation.T
    return np.concatenate((turned, scale * cameras[:, :, 3:] - turned @ translation[:, None]), -1)


def orbit(count: int, radius: float = 2.0) -> np.ndarray:
    """Cameras on a circle that look at its center."""
    cameras = []
    for angle in np.linspace(0, 2 * np.pi, count, endpoint=False):
        center = radius * np.array([np.sin(angle), 0, -np.cos(angle)])
        forward, down = -center / radius, np.array([0.0, 1.0, 0.0])
        rotation = np.stack((np.cross(down, forward), down, forward))
        cameras.append(np.column_stack((rotation, -rotation @ center)))
    return np.array(cameras)


def camera(angle_deg: float, axis: str, translation: tuple[float, float, float]) -> np.ndarray:
    return np.column_stack((Rotation.from_euler(axis, angle_deg, degrees=True).as_matrix(), translation))


seeds = st.integers(0, 10_000)


@settings(max_examples=25, deadline=None)
@given(seeds, st.floats(0.01, 100), seeds)
@pytest.mark.parametrize("variant", ["standard", "vggt"])
def test_a_similarity_of_the_predicted_world_changes_nothing(variant, seed, scale, gauge_seed):
    truth = random_cameras(seed)
    predicted = noisy(truth, 5.0, seed + 1)
    rng = np.random.default_rng(gauge_seed)
    rotation = Rotation.random(random_state=gauge_seed).as_matrix()
    moved = move_world(predicted, scale, rotation, rng.normal(size=3))
    before, after = pose_errors(predicted, truth, variant), pose_errors(moved, truth, variant)
    np.testing.assert_allclose(after.rotation_deg, before.rotation_deg, atol=1e-4)
    np.testing.assert_allclose(after.translation_deg, before.translation_deg, atol=1e-4)


def test_a_wrong_first_frame_spoils_the_other_pairs_by_vggt_only():
    truth = random_cameras(3)
    predicted = noisy(truth, 2.0, 4)
    worse = predicted.copy()
    worse[0] = random_cameras(9)[0]
    others = np.triu_indices(len(truth), k=1)[0] > 0
    for variant, spoilt in (("standard", False), ("vggt", True)):
        before, after = pose_errors(predicted, truth, variant), pose_errors(worse, truth, variant)
        moved = np.abs(after.joint_deg - before.joint_deg)[others]
        assert (moved.max() > 20) == spoilt
        assert (moved.max() == 0) == (not spoilt)


def test_the_variants_differ_by_points_on_a_noisy_orbit():
    truth, scores = orbit(10), {"standard": [], "vggt": []}
    for seed in range(20):
        turn = Rotation.from_rotvec(np.random.default_rng(seed).normal(0, 2, (10, 3)), degrees=True).as_matrix()
        predicted = np.concatenate((turn @ truth[:, :, :3], truth[:, :, 3:]), -1)
        for variant, values in scores.items():
            values.append(auc(pose_errors(predicted, truth, variant).joint_deg, 30))
    standard, vggt = np.mean(scores["standard"]), np.mean(scores["vggt"])
    assert 75 < vggt < 90
    assert 80 < standard < 95
    assert 2 < standard - vggt < 8


def test_relative_poses_are_what_their_formulas_say():
    cameras = random_cameras(1, 3)
    square = np.concatenate((cameras, np.tile([[[0.0, 0, 0, 1]]], (3, 1, 1))), 1)
    inverse = np.linalg.inv
    pairs = [(0, 1), (0, 2), (1, 2)]
    standard = np.array([square[i] @ inverse(square[j]) for i, j in pairs])[:, :3]
    np.testing.assert_allclose(relative_poses(cameras, "standard"), standard, atol=1e-12)
    aligned = square @ inverse(square[0])
    vggt = np.array([inverse(aligned[i]) @ aligned[j] for i, j in pairs])[:, :3]
    np.testing.assert_allclose(relative_poses(square, "vggt"), vggt, atol=1e-12)
    np.testing.assert_allclose(relative_to_first(cameras), aligned[:, :3], atol=1e-12)


def test_three_cameras_by_hand():
    truth = np.array([camera(0, "y", (0, 0, 0)), camera(0, "y", (1, 0, 0)), camera(0, "y", (0, 0, 1))])
    # The second camera is turned by 10 degrees about its own center, the third stands 45 degrees off.
    turned = camera(10, "y", (0, 0, 0))
    turned[:, 3] = turned[:, :3] @ (1, 0, 0)
    predicted = np.array([truth[0], turned, camera(0, "y", (1, 0, 1))])
    errors = pose_errors(predicted, truth)
    np.testing.assert_allclose(errors.rotation_deg, [10, 0, 10], atol=1e-5)
    # (0, 1): the center is where it was. (0, 2): 45. (1, 2): true direction (1, 0, -1), found R10 (0, 0, -1).
    third = math.degrees(math.acos((math.cos(math.radians(10)) - math.sin(math.radians(10))) / math.sqrt(2)))
    np.testing.assert_allclose(errors.translation_deg, [0, 45, third], atol=1e-5)
    assert auc(errors.joint_deg, 30) == pytest.approx(100 / 3 * 20 / 30)  # e = 10.0000 counts from k = 11


def test_a_perfect_prediction_scores_100_everywhere():
    cameras = random_cameras(0)
    for variant in ("standard", "vggt"):
        errors = pose_errors(cameras.astype(np.float32), cameras, variant)
        for threshold in THRESHOLDS_DEG:
            assert auc(errors.joint_deg, threshold) == 100


def test_the_sign_of_a_translation_is_ambiguous_unless_asked_for():
    forward, backward = np.array([[0.0, 0, 2]]), np.array([[0.0, 0, -1]])
    assert translation_angle_deg(forward, backward)[0] == pytest.approx(0, abs=1e-5)
    assert translation_angle_deg(forward, backward, signed=True)[0] == pytest.approx(180, abs=1e-5)


def test_a_pair_that_does_not_move_has_no_direction_and_is_wrong():
    still = np.array([camera(0, "y", (0, 0, 0)), camera(20, "y", (0, 0, 0))])
    errors = pose_errors(still, still)
    assert errors.translation_deg[0] == 90
    assert errors.rotation_deg[0] < 1e-5
    assert auc(errors.joint_deg, 30) == 0


def test_tiny_translations_keep_their_direction():
    tiny = np.array([[3e-9, 4e-9, 0.0]])
    assert translation_angle_deg(tiny, np.array([[3.0, 4.0, 0.0]]))[0] < 0.1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_predictions_that_are_not_finite_are_wrong_at_every_threshold(bad):
    truth = random_cameras(2, 3)
    predicted = truth.copy()
    predicted[2, 0, 0] = predicted[2, 0, 3] = bad
    errors = pose_errors(predicted, truth)
    assert np.isnan(errors.joint_deg).tolist() == [False, True, True]
    assert auc(errors.joint_deg, 30) == pytest.approx(100 / 3)


def test_auc_has_integer_bins_and_the_last_is_closed():
    assert auc(np.array([0.0]), 3) == 100
    assert auc(np.array([0.999]), 3) == 100
    assert auc(np.array([1.0]), 3) == pytest.approx(200 / 3)
    assert auc(np.array([2.0, 3.0]), 3) == pytest.approx(100 / 3)
    assert auc(np.array([3.0001]), 3) == 0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0, 200) | st.integers(0, 31).map(float), min_size=1, max_size=20), st.sampled_from([3, 5, 30])
)
def test_auc_is_the_mean_of_the_cumulative_histogram(errors, threshold):
    histogram, _ = np.histogram(errors, bins=np.arange(threshold + 1))
    expected = 100 * np.cumsum(histogram / len(errors)).mean()
    assert auc(np.array(errors), threshold) == pytest.approx(expected)
    assert auc_credit(np.array(errors), threshold).shape == (len(errors),)


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0.01, 179.9))
def test_a_rotation_angle_is_the_angle_turned_by(seed, degrees):
    start = Rotation.random(random_state=seed)
    axis = np.random.default_rng(seed).normal(size=3)
    turned = Rotation.from_rotvec(axis / np.linalg.norm(axis) * degrees, degrees=True) * start
    assert rotation_angle_deg(turned.as_matrix(), start.as_matrix()) == pytest.approx(degrees, abs=1e-4)


def test_no_pairs_give_nan():
    errors = pose_errors(random_cameras(0, 1), random_cameras(0, 1))
    assert errors.joint_deg.shape == (0,)
    assert math.isnan(auc(errors.joint_deg, 30))


def test_wrong_shapes_say_what_came():
    with pytest.raises(ValueError, match=r"got shape \(3, 3\)"):
        relative_poses(np.eye(3))
    with pytest.raises(ValueError, match="got 2 and 3"):
        pose_errors(random_cameras(0, 2), random_cameras(0, 3))
    with pytest.raises(ValueError, match="'other'"):
        relative_poses(random_cameras(0, 2), "other")
    with pytest.raises(ValueError, match="finite true"):
        pose_errors(random_cameras(0, 2), random_cameras(0, 2) * np.nan)
