"""Laws of the protocols on a scene with exact truth."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest

from qvggt.eval.ground_truth import resize_intrinsics, true_points, unproject_maps
from qvggt.eval.metrics.pose import relative_to_first
from qvggt.eval.point_protocols import ConsistencyProtocol, PointProtocol
from qvggt.eval.protocols import PROTOCOLS, DepthProtocol, PoseProtocol, measure, measure_fidelity
from qvggt.eval.stats import summarize
from qvggt.types import QvggtError

POINTS = [name for name in PROTOCOLS if name.startswith("points-") and name != "points-consistent"]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_perfect_prediction_is_perfect_by_every_protocol(name, scene, perfect):
    result = measure(scene, perfect, [PROTOCOLS[name]])
    metrics = summarize([result]).metrics
    best = {"auc30": 100, "auc3": 100, "rra3": 100, "rta3": 100, "delta1": 1, "normal_consistency": 1}
    worst_distances = {"absrel", "accuracy", "completeness", "point_error", "consistency", "rotation_deg"}
    assert result.protocols == (name,)
    assert not result.notes
    assert metrics.keys() & (best.keys() | worst_distances)
    for key, value in metrics.items():
        if key in best:
            assert value == pytest.approx(best[key], abs=1e-4), key
        if key in worst_distances:
            assert value == pytest.approx(0, abs=1e-4), key


def test_several_protocols_make_one_result(scene, perfect):
    protocols = [PoseProtocol(), DepthProtocol(), ConsistencyProtocol()]
    result = measure(scene, perfect, protocols)
    assert result.scene == "bumps"
    assert result.group == "group"
    assert result.frames == 4
    assert len(result.rotation_deg) == len(result.translation_deg) == 6
    assert set(result.values) == {"absrel", "delta1", "point_error", "consistency"}
    assert result.protocols == ("pose-standard", "depth-scale", "points-consistent")


@pytest.mark.parametrize("pair", [("pose-standard", "pose-vggt"), ("depth-scale", "depth-median")])
def test_protocols_with_the_same_metrics_need_two_runs(pair, scene, perfect):
    with pytest.raises(QvggtError, match=f"{pair[0]} and {pair[1]}"):
        measure(scene, perfect, [PROTOCOLS[name] for name in pair])


def test_pose_does_not_see_the_world_frame_of_the_truth(scene, perfect):
    moved = replace(scene, cam_from_world=relative_to_first(scene.cam_from_world))
    a, b = (measure(s, perfect, [PoseProtocol()]).translation_deg for s in (scene, moved))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_one_scale_a_sequence_sees_what_one_scale_an_image_forgives(scene, perfect):
    uneven = replace(perfect, depth=perfect.depth * np.array([1, 2, 1, 0.5], np.float32)[:, None, None])
    video = measure(scene, uneven, [DepthProtocol()]).values["absrel"]
    mono = measure(scene, uneven, [DepthProtocol(per="image")]).values["absrel"]
    assert mono < 1e-5
    assert video > 0.1


def unchecked(prediction, **arrays):
    """Return a prediction with arrays that do not fit together."""
    new = copy.copy(prediction)
    for name, array in arrays.items():
        object.__setattr__(new, name, array)
    return new


def test_depth_of_another_size_is_resized_to_the_truth(scene, perfect):
    half = unchecked(perfect, depth=perfect.depth.reshape(4, 12, 2, 12, 2).mean((2, 4)))
    assert measure(scene, half, [DepthProtocol()]).values["absrel"] < 0.02
    half = unchecked(half, intrinsics=resize_intrinsics(perfect.intrinsics, (24, 24), (12, 12)))
    assert measure(scene, half, [PROTOCOLS["points-umeyama"]]).values["accuracy"] < 0.05


def test_point_errors_are_metres(scene, perfect):
    """A bump on one wall, too small to disturb the alignment, costs its height."""
    points = perfect.world_points.copy()
    points[1, 8:12, 8:12, 2] += 0.4  # one meter
    values = measure(scene, replace(perfect, world_points=points), [PROTOCOLS["points-crop224"]]).values
    assert 0 < values["accuracy"] < 16 / (4 * 24 * 24) * 1.2
    assert values["accuracy_median"] < 0.01
    assert values["normal_consistency"] < 1


def test_crop224_compares_the_center_only(scene, perfect):
    """The border of a large map is outside the crop; the same error in the middle is not."""
    size = 300
    depth = np.full((1, size, size), 2.0, np.float32)
    depth += np.random.default_rng(0).uniform(0, 0.2, depth.shape).astype(np.float32)
    intrinsics = np.array([[[300.0, 0, 150], [0, 300, 150], [0, 0, 1]]])
    camera = np.eye(4)[None, :3]
    sparse = np.zeros(depth.shape, bool)
    sparse[:, ::3, ::3] = True
    large = replace(
        scene,
        images=np.zeros((1, 3, size, size), np.float32),
        cam_from_world=camera,
        intrinsics=intrinsics,
        depth=depth,
        valid=sparse,
    )
    points = unproject_maps(depth, intrinsics, camera)
    accuracies = []
    for rows in (slice(0, 10), slice(140, 150)):
        wrong = points.copy()
        wrong[:, rows, :, 2] += 1
        prediction = unchecked(perfect, images=large.images, world_points=wrong)
        accuracies.append(measure(large, prediction, [PROTOCOLS["points-crop224"]]).values["accuracy"])
    assert accuracies[0] < 0.005
    assert accuracies[1] > 0.03


def test_consistency_by_hand(scene, perfect):
    """Doubling the depth moves each unprojected point by its distance from its own camera."""
    truth, mask = true_points(scene, "test")
    cameras = relative_to_first(scene.cam_from_world)
    centers = -np.einsum("sji,sj->si", cameras[:, :, :3], cameras[:, :, 3])
    gap = np.linalg.norm(truth - centers[:, None, None], axis=-1)[mask].mean()
    size = np.linalg.norm(truth, axis=-1)[mask].mean()
    values = measure(scene, replace(perfect, depth=perfect.depth * 2), [ConsistencyProtocol()]).values
    assert values["consistency"] == pytest.approx(gap / size, rel=1e-4)
    assert values["point_error"] == pytest.approx(0, abs=1e-5)


def test_point_error_is_a_share_of_the_scene(scene, perfect):
    noise = np.random.default_rng(0).normal(0, 0.04, perfect.world_points.shape)  # 0.1 m a coordinate
    noisy = replace(perfect, world_points=(perfect.world_points + noise).astype(np.float32))
    large = replace(
        scene,
        depth=scene.depth * 10,
        cam_from_world=np.concatenate((scene.cam_from_world[..., :3], scene.cam_from_world[..., 3:] * 10), -1),
    )
    small_error, large_error = (
        measure(s, noisy, [ConsistencyProtocol()]).values["point_error"] for s in (scene, large)
    )
    assert small_error == pytest.approx(large_error, rel=1e-4)
    assert 0.02 < small_error < 0.15


@pytest.mark.parametrize("name", [*POINTS, "points-consistent", "depth-scale", "depth-median-image"])
def test_a_scene_without_valid_depth_is_unmeasured_with_a_reason(name, scene, perfect):
    result = measure(replace(scene, valid=np.zeros_like(scene.valid)), perfect, [PROTOCOLS[name]])
    assert all(math.isnan(value) for value in result.values.values())
    assert result.notes == (f"{name}: no valid true depth",)


@pytest.mark.parametrize("name", [*POINTS, "points-consistent", "depth-scale", "pose-standard"])
def test_a_broken_prediction_scores_worst_with_a_reason(name, scene, perfect):
    broken = replace(
        perfect,
        cam_from_world=perfect.cam_from_world * np.nan,
        depth=perfect.depth * np.nan,
        world_points=perfect.world_points * np.nan,
    )
    result = measure(scene, broken, [PROTOCOLS[name]])
    metrics = summarize([result]).metrics
    zero = {"auc30", "rra30", "rta30", "delta1", "normal_consistency", "normal_consistency_median"}
    infinite = {"absrel", "accuracy", "completeness", "point_error", "consistency"}
    assert metrics.keys() & (zero | infinite)
    assert all(metrics[key] == 0 for key in metrics.keys() & zero)
    assert all(metrics[key] == math.inf for key in metrics.keys() & infinite)
    assert len(result.notes) == 1
    assert "finite" in result.notes[0]


@pytest.mark.parametrize("name", POINTS)
def test_a_collapsed_prediction_is_measured(name, scene, perfect):
    collapsed = replace(perfect, world_points=perfect.world_points * 0, depth=perfect.depth * 0 + 1e-6)
    values = measure(scene, collapsed, [PROTOCOLS[name]]).values
    assert values["completeness"] > 0.1
    assert all(np.isfinite(value) for value in values.values())


def test_one_frame_makes_no_pair(scene, perfect):
    one = replace(scene, cam_from_world=scene.cam_from_world[:1], images=scene.images[:1])
    result = measure(one, unchecked(perfect, cam_from_world=perfect.cam_from_world[:1]), [PoseProtocol()])
    assert result.rotation_deg == ()
    assert "one frame" in result.notes[0]


def test_consistency_needs_no_truth(scene, perfect):
    bare = replace(scene, depth=None, valid=None, cam_from_world=None, intrinsics=None)
    values = measure(bare, perfect, [ConsistencyProtocol()]).values
    assert values["consistency"] == pytest.approx(0, abs=1e-5)
    assert math.isnan(values["point_error"])


def test_missing_truth_and_heads_are_named(scene, perfect):
    with pytest.raises(QvggtError, match="scene bumps has no true depth, which depth-scale needs"):
        measure(replace(scene, depth=None), perfect, [DepthProtocol()])
    with pytest.raises(QvggtError, match="no predicted points"):
        measure(scene, replace(perfect, world_points=None), [PROTOCOLS["points-crop224"]])
    with pytest.raises(QvggtError, match="no true cameras"):
        measure(replace(scene, cam_from_world=None), perfect, [PoseProtocol()])
    with pytest.raises(ValueError, match="expected 4 predicted frames"):
        measure(scene, unchecked(perfect, cam_from_world=perfect.cam_from_world[:2]), [PoseProtocol()])
    with pytest.raises(ValueError, match="on the grid of the true depth"):
        measure(scene, unchecked(perfect, world_points=perfect.world_points[:, ::2]), [ConsistencyProtocol()])


def test_fidelity_makes_a_result_too(scene, perfect):
    result = measure_fidelity(scene, perfect, perfect)
    assert result.protocols == ("fidelity",)
    assert summarize([result]).metrics["fidelity_depth_rel"] == 0
    with pytest.raises(QvggtError, match="share no head"):
        measure_fidelity(scene, perfect, replace(perfect, cam_from_world=None, depth=None, world_points=None))


def test_names_are_unique_and_say_what_differs():
    assert {"pose-standard", "pose-vggt", "depth-scale", "points-crop224", "points-umeyama"} <= set(PROTOCOLS)
    assert PROTOCOLS["points-crop224-depth"].head == "depth"
    assert PointProtocol("umeyama").head == "depth"
