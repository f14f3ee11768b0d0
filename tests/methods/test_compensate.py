import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from qvggt.calibration.task import make_task
from qvggt.methods import compensate
from qvggt.methods.compensate import compensation_token, try_compensation


def tokens(count=12, width=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator) * torch.arange(1, width + 1) + 2


@given(st.integers(1, 40), st.integers(2, 24))
@settings(max_examples=25, deadline=None)
def test_compensation_token__has_the_mean_norm_of_patch_tokens(count, width):
    token = compensation_token(tokens(count, width), 7.5)
    assert token.shape == (1, 1, width)
    assert token.dtype == torch.float32
    assert float(token.norm()) == pytest.approx(7.5, rel=1e-5)


@pytest.mark.parametrize(("count", "width"), [(12, 10), (1, 10), (50, 40)])
def test_compensation_token__is_the_scaled_mean_camera_token(count, width):
    found = compensation_token(tokens(count, width), 3.0)
    mean = tokens(count, width).mean(0)
    assert torch.allclose(found[0, 0], mean * (3 / mean.norm()), atol=1e-5)


def test_try_compensation__uses_what_enters_the_camera_head(model, batches):
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


def test_try_compensation__measures_held_out_scenes_and_restores_the_model(model, batches):
    calibration, held_out = (make_task(model, [batch], "teacher") for batch in batches)
    found = try_compensation(model, calibration, held_out)
    assert model.camera_head.compensation is None
    assert found.before == held_out.total(model)
    changed = copy.deepcopy(model)
    changed.camera_head.compensation = nn.Parameter(found.token, requires_grad=False)
    assert found.after == held_out.total(changed)
    assert found.accepted == (found.after < found.before)
    assert found.to_json() == {"before": found.before, "after": found.after, "accepted": found.accepted}


def test_try_compensation__restores_the_model_after_an_error(model, batches, monkeypatch):
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
def test_compensation__is_accepted_only_if_it_lowers_the_objective(after, accepted):
    assert compensate.Compensation(torch.zeros(1, 1, 2), 1.0, after).accepted is accepted


def test_try_compensation__changes_the_float_models_own_predictions(model, batches):
    task = make_task(model, batches, "teacher")
    found = try_compensation(model, task, task)
    assert task.loss(model).camera < 1e-6
    assert found.after != found.before
