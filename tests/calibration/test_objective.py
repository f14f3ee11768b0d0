import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qvggt import geometry
from qvggt.calibration.data import SceneBatch
from qvggt.calibration.objective import TaskLoss, make_target, mean_loss, task_losses
from qvggt.calibration.task import make_task
from qvggt.calibration.units import advance, model_units, run_units, start
from qvggt.types import QvggtError

PARTS = ("camera", "depth", "point", "geometry")


def random_truth(scale=1.0, scenes=2, frames=2, size=(28, 42), holes=0.2, seed=0):
    """Return truth of random cameras and depth, in a unit of which there are ``scale`` a meter."""
    generator = torch.Generator().manual_seed(seed)
    quaternion = torch.randn(scenes, frames, 4, generator=generator, dtype=torch.float64)
    rotation = geometry.quaternion_to_matrix(quaternion)
    translation = torch.randn(scenes, frames, 3, 1, generator=generator, dtype=torch.float64)
    cameras = torch.cat((rotation, translation * scale), -1)
    focal, center = float(size[1]), torch.tensor(size[::-1]) / 2
    intrinsics = torch.eye(3, dtype=torch.float64).repeat(scenes, frames, 1, 1)
    intrinsics[..., 0, 0] = intrinsics[..., 1, 1] = focal
    intrinsics[..., :2, 2] = center
    depth = (1 + 3 * torch.rand(scenes, frames, *size, generator=generator, dtype=torch.float64)) * scale
    valid = torch.rand(scenes, frames, *size, generator=generator) >= holes
    depth = torch.where(valid, depth, 1.0)
    return geometry.normalized_truth(cameras, intrinsics, depth, valid)


def as_outputs(truth, scale=1.0):
    """Return what a model would answer that knows the truth, in a unit of its own."""
    pose = torch.cat((truth.pose_enc[..., :3] * scale, truth.pose_enc[..., 3:]), -1)
    confidence = 1 + torch.rand(truth.depth.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return {
        "pose_enc": pose,
        "depth": truth.depth[..., None] * scale,
        "depth_conf": confidence,
        "world_points": truth.points * scale,
        "world_points_conf": confidence.flip(-1),
    }


@pytest.fixture(scope="module")
def task(micro, batches):
    return make_task(micro, batches, "teacher")


def test_normalized_truth_is_in_the_first_cameras_frame_at_a_mean_distance_of_one():
    truth = random_truth()
    identity = torch.tensor([0, 0, 0, 0, 0, 0, 1.0], dtype=torch.float64)
    assert torch.allclose(truth.pose_enc[:, 0, :7], identity.expand(2, -1), atol=1e-9)
    distance = truth.points.norm(dim=-1)
    for scene in range(2):
        assert distance[scene][truth.valid[scene]].mean().item() == pytest.approx(1)
    cameras, intrinsics = geometry.pose_encoding_to_cameras(truth.pose_enc, (28, 42))
    assert torch.allclose(geometry.unproject(truth.depth, intrinsics, cameras), truth.points, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-3, 1e3))
def test_truth_has_no_unit(scale):
    meters, other = random_truth(), random_truth(scale)
    known = meters.valid
    assert torch.allclose(meters.pose_enc, other.pose_enc, atol=1e-9)
    assert torch.allclose(meters.depth[known], other.depth[known], rtol=1e-9)
    assert torch.allclose(meters.points[known], other.points[known], rtol=1e-9, atol=1e-9)


def test_a_scene_without_valid_depth_stays_finite():
    truth = random_truth(holes=1.1)
    assert not truth.valid.any()
    assert torch.isfinite(truth.pose_enc).all()
    losses = task_losses(as_outputs(truth), make_target(as_outputs(truth), truth))
    assert all(math.isfinite(float(loss)) for loss in losses.values())


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-2, 1e2))
def test_who_knows_the_truth_loses_nothing_in_whatever_unit(scale):
    truth = random_truth()
    outputs = as_outputs(truth, scale)
    losses = task_losses(outputs, make_target(outputs, truth))
    assert max(float(loss) for loss in losses.values()) < 1e-6
    losses = task_losses(outputs, make_target(outputs))
    assert max(float(loss) for loss in losses.values()) < 1e-6


@pytest.mark.parametrize("supervision", ["truth", "teacher"])
def test_losses_do_not_depend_on_the_models_unit(supervision):
    truth = random_truth()
    found = []
    for scale in (1.0, 7.0):
        right, wrong = as_outputs(truth, scale), as_outputs(random_truth(seed=4), scale)
        target = make_target(right, truth if supervision == "truth" else None)
        found.append({name: float(loss) for name, loss in task_losses(wrong, target).items()})
    assert found[0] == pytest.approx(found[1])
    assert min(found[0][name] for name in ("camera", "depth", "point")) > 0.01


def test_what_is_not_known_does_not_count():
    truth = random_truth(holes=0.5)
    outputs = as_outputs(truth)
    target = make_target(outputs, truth)
    spoilt = dict(outputs)
    spoilt["depth"] = torch.where(truth.valid[..., None], outputs["depth"], 100.0)
    spoilt["world_points"] = torch.where(truth.valid[..., None], outputs["world_points"], -100.0)
    assert max(float(loss) for loss in task_losses(spoilt, target).values()) < 1e-6


def test_where_the_float_model_is_sure_counts_more():
    truth = random_truth(holes=0)
    outputs = as_outputs(truth)
    outputs["depth_conf"] = torch.ones_like(outputs["depth_conf"])
    outputs["depth_conf"][..., :21] = 9
    target = make_target(outputs)
    errors = []
    for half in (slice(0, 21), slice(21, 42)):
        wrong = dict(outputs, depth=outputs["depth"].clone())
        wrong["depth"][..., half, :] += 0.1
        errors.append(float(task_losses(wrong, target)["depth"]))
    assert errors[0] == pytest.approx(9 * errors[1])


def test_the_float_model_has_no_loss_against_itself_but_that_of_its_own_consistency(micro, task):
    loss = task.loss(micro)
    assert max(loss.camera, loss.depth, loss.point) < 1e-6
    assert loss.geometry > 0
    assert task.total(micro) == pytest.approx(loss.geometry, rel=1e-5)


def test_a_changed_model_has_loss(model, task):
    model.get_parameter("aggregator.global_blocks.3.mlp.fc2.weight").data *= 1.5
    loss = task.loss(model)
    assert min(loss.camera, loss.depth, loss.point) > 1e-5


def test_the_tail_from_any_unit_is_the_whole_run(micro, task, batches):
    whole = task.loss(micro)
    states = [start(batch.images) for batch in batches]
    for index, unit in enumerate(model_units(micro)):
        tail = dataclasses.asdict(task.loss(micro, index, states))
        assert tail == pytest.approx(dataclasses.asdict(whole), abs=1e-6), unit.id
        with torch.no_grad():
            states = [advance(micro, unit, state) for state in states]


@pytest.mark.parametrize(("scenes", "counts"), [(1, [1]), (2, [2]), (3, [2, 1]), (9, [2, 1])])
def test_the_first_scenes_are_a_task_of_their_own(micro, model, task, batches, scenes, counts):
    first = task.first(scenes)
    assert [batch.scenes for batch in first.batches] == counts
    states = [start(batch.images) for batch in batches]
    units = model_units(micro)
    with torch.no_grad():
        states = [run_units(micro, units[:4], state) for state in states]
    some = [state.first(count) for state, count in zip(states, counts, strict=False)]
    model.get_parameter("aggregator.global_blocks.3.mlp.fc2.weight").data *= 1.5
    for changed in (micro, model):
        whole, tail = (dataclasses.asdict(first.loss(changed, *rest)) for rest in ((), (4, some)))
        assert tail == pytest.approx(whole, abs=1e-6)
    if scenes >= 3:
        assert first.loss(model) == task.loss(model)


def test_nan_is_infinitely_bad(model, task):
    model.get_parameter("camera_head.pose_branch.fc2.bias").data[0] = float("nan")
    loss = task.loss(model)
    assert loss.camera == math.inf
    assert loss.total == math.inf
    assert math.isfinite(loss.depth)


def test_a_teacher_that_is_not_finite_is_refused(model, batches):
    model.get_parameter("camera_head.pose_branch.fc2.bias").data[0] = float("nan")
    with pytest.raises(QvggtError, match="leave that scene out"):
        make_task(model, batches, "teacher")


def test_truth_has_to_be_known(micro, batches):
    with pytest.raises(ValueError, match="ground truth"):
        make_task(micro, batches, "truth")


def test_truth_is_another_target_than_the_teacher(micro):
    truth = random_truth()
    truth = geometry.Truth(truth.pose_enc.float(), truth.depth.float(), truth.points.float(), truth.valid)
    batch = SceneBatch(torch.rand(2, 2, 3, 28, 42), truth)
    assert make_task(micro, [batch], "teacher").loss(micro).depth < 1e-6
    against = make_task(micro, [batch], "truth").loss(micro)
    assert min(against.camera, against.depth, against.point) > 1e-3
    assert all(math.isfinite(value) for value in dataclasses.asdict(against).values())


def test_batches_weigh_by_their_scenes():
    few, many = dict.fromkeys(PARTS, torch.tensor(1.0)), dict.fromkeys(PARTS, torch.tensor(5.0))
    assert mean_loss([few, many], [1, 3]) == TaskLoss(4.0, 4.0, 4.0, 4.0)


def test_total__is_the_sum_of_all_parts():
    assert TaskLoss(camera=1.0, depth=10.0, point=100.0, geometry=1000.0).total == 1111


def test_gradients_reach_every_output():
    truth = random_truth()
    right = as_outputs(truth)
    outputs = {name: value.clone().requires_grad_() for name, value in as_outputs(random_truth(seed=3)).items()}
    sum(task_losses(outputs, make_target(right)).values()).backward()
    for name in ("pose_enc", "depth", "world_points"):
        assert torch.isfinite(outputs[name].grad).all()
        assert (outputs[name].grad != 0).any()
