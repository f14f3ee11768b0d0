import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from qvggt.calibration.task import make_task
from qvggt.methods import compensate
from qvggt.methods.compensate import CompensationOptions, compensation_token, geometric_median, try_compensation


def tokens(count=12, width=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator) * torch.arange(1, width + 1) + 2


@given(st.integers(1, 40), st.integers(2, 24), st.integers(1, 32), st.sampled_from(["mean", "median"]))
@settings(max_examples=25, deadline=None)
def test_it_has_the_mean_norm_of_patch_tokens(count, width, components, centre):
    token = compensation_token(tokens(count, width), 7.5, CompensationOptions(components, centre))
    assert token.shape == (1, 1, width)
    assert token.dtype == torch.float32
    assert float(token.norm()) == pytest.approx(7.5, rel=1e-5)


@pytest.mark.parametrize("components", [1, 3, 32])
def test_from_the_mean_it_is_the_mean_camera_token(components):
    found = compensation_token(tokens(), 3.0, CompensationOptions(components))
    mean = tokens().mean(0)
    assert torch.allclose(found[0, 0], mean * (3 / mean.norm()), atol=1e-5)


@pytest.mark.parametrize("components", [1, 3, 8])
def test_from_the_median_it_is_the_formula_as_printed(components):
    x = tokens().double()
    centre = geometric_median(x)
    directions = torch.linalg.svd(x - centre, full_matrices=False).Vh[:components].T  # U_K
    codes = (x - centre) @ directions
    restored = centre + directions @ codes.mean(0)
    found = compensation_token(x, 3.0, CompensationOptions(components, "median"))
    assert torch.allclose(found[0, 0], restored * (3 / restored.norm()), atol=1e-9)
    assert not torch.allclose(found, compensation_token(x, 3.0), atol=1e-2)


def test_with_all_directions_the_centre_does_not_matter():
    x = tokens(30, 6).double()
    mean, median = (compensation_token(x, 1.0, CompensationOptions(6, centre)) for centre in ("mean", "median"))
    assert torch.allclose(mean, median, atol=1e-9)


def test_equal_tokens_give_that_token():
    x = tokens(1).expand(5, -1)
    for centre in ("mean", "median"):
        found = compensation_token(x, float(x[0].norm()), CompensationOptions(centre=centre))
        assert torch.allclose(found[0, 0], x[0], atol=1e-5)


def test_the_median_has_the_least_sum_of_distances():
    x = tokens().double()
    median = geometric_median(x)
    least = (x - median).norm(dim=1).sum()
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        moved = median + 0.1 * torch.randn(10, generator=generator, dtype=torch.float64)
        assert (x - moved).norm(dim=1).sum() > least
    assert (x - x.mean(0)).norm(dim=1).sum() > least


def test_the_median_does_not_follow_an_outlier():
    x = torch.cat((tokens(20), torch.full((1, 10), 1e4)))
    assert (geometric_median(x.double()) - tokens(20).mean(0)).norm() < 10
    assert geometric_median(x[:1]).equal(x[0])


def test_the_token_is_made_of_what_enters_the_camera_head(model, batches):
    camera, patch = [], []
    model.camera_head.register_forward_pre_hook(lambda module, args: camera.append(args[0].flatten(0, 1)))
    model.depth_head.register_forward_pre_hook(lambda module, args: patch.append(args[0][3].flatten(0, 1)))
    with torch.no_grad():
        for batch in batches:
            model(batch.images)
    task = make_task(model, batches, "teacher")
    camera, patch = camera[: len(batches)], patch[: len(batches)]
    found = try_compensation(model, task, task)
    expected = compensation_token(torch.cat(camera), float(torch.cat(patch).norm(dim=-1).mean()))
    assert torch.allclose(found.token, expected, atol=1e-4)


def test_it_is_judged_on_other_scenes_and_the_model_is_left_without_it(model, batches):
    made_from, judged_on = (make_task(model, [batch], "teacher") for batch in batches)
    found = try_compensation(model, made_from, judged_on)
    assert model.camera_head.compensation is None
    assert found.before == judged_on.total(model)
    changed = copy.deepcopy(model)
    changed.camera_head.compensation = nn.Parameter(found.token, requires_grad=False)
    assert found.after == judged_on.total(changed)
    assert found.accepted == (found.after < found.before)
    assert found.to_json() == {"before": found.before, "after": found.after, "accepted": found.accepted}


def test_the_model_is_left_without_it_after_an_error(model, batches, monkeypatch):
    task, calls = make_task(model, batches, "teacher"), []

    def total(self, model):
        calls.append(model.camera_head.compensation)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return 1.0

    monkeypatch.setattr(compensate.Task, "total", total)
    with pytest.raises(KeyboardInterrupt):
        try_compensation(model, task, task)
    assert calls[1] is not None
    assert model.camera_head.compensation is None


@pytest.mark.parametrize(("after", "accepted"), [(0.9, True), (1.0, False), (1.1, False), (float("inf"), False)])
def test_it_is_accepted_only_if_it_lowers_the_objective(after, accepted):
    assert compensate.Compensation(torch.zeros(1, 1, 2), 1.0, after).accepted is accepted


def test_the_float_model_gains_nothing_on_its_own_answers(model, batches):
    task = make_task(model, batches, "teacher")
    found = try_compensation(model, task, task)
    assert task.loss(model).camera < 1e-6
    assert found.after != found.before
