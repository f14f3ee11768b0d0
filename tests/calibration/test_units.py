from dataclasses import replace

import pytest
import torch

from golden.make_golden import seeded_model
from qvggt.calibration.units import advance, model_units, run_units, start
from qvggt.model import VGGTConfig
from qvggt.nn.convert import quantizable_modules
from reference import relative_error

SHAPES = {
    "several scenes": (2, 3, 3, 28, 42),
    "one frame": (1, 1, 3, 56, 56),
    "more frames than a dense head takes": (3, 3, 3, 14, 28),
    "tall": (1, 2, 3, 70, 14),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_run_units__all_units_equal_the_forward_pass(micro, shape):
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = run_units(micro, model_units(micro), start(images)).outputs
        expected = micro(images)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert relative_error(found[name], value) < 1e-6, name


def test_run_units__heads_read_the_configured_layers():
    model = seeded_model(replace(VGGTConfig.micro(), dpt_layers=(0, 2, 2, 1)))
    images = torch.rand(1, 2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, expected = run_units(model, model_units(model), start(images)).outputs, model(images)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_model_units__hold_every_quantizable_layer_once(micro):
    units = model_units(micro)
    linear = [layer for unit in units for layer in unit.linear]
    conv = [layer for unit in units for layer in unit.conv]
    modules = quantizable_modules(micro)
    assert sorted(linear + conv) == sorted(modules)
    assert all(isinstance(modules[layer], torch.nn.Linear) for layer in linear)
    assert all(isinstance(modules[layer], torch.nn.Conv2d) for layer in conv)


def test_model_units__are_named_by_kind_and_index(micro):
    units = model_units(micro)
    assert [unit.id for unit in units[:4]] == ["patch_embed", "patch_embed/0", "frame/0", "global/0"]
    assert [unit.id for unit in units[-3:]] == ["camera", "depth", "point"]
    assert [(unit.kind, unit.index) for unit in units[:3]] == [("patch_embed", None), ("patch_embed", 0), ("frame", 0)]
    assert len({unit.id for unit in units}) == len(units)
    for unit in units:
        assert all(layer.startswith(unit.module + ".") for layer in (*unit.linear, *unit.conv))


def test_model_units__layers_are_in_running_order(micro):
    images = torch.rand(1, 2, 3, 28, 28)
    state = start(images)
    for unit in model_units(micro):
        ran = []
        handles = [
            micro.get_submodule(layer).register_forward_pre_hook(lambda _, __, layer=layer, ran=ran: ran.append(layer))
            for layer in unit.linear
        ]
        with torch.inference_mode():
            state = advance(micro, unit, state)
        for handle in handles:
            handle.remove()
        if unit.kind != "camera":  # whose layers run in every iteration
            assert ran == list(unit.linear)
        assert set(ran) == set(unit.linear)


def test_advance__does_not_change_the_state_before(micro):
    state = start(torch.rand(1, 2, 3, 28, 28))
    for unit in model_units(micro):
        before = [tensor.clone() for tensor in state.tensors()]
        with torch.inference_mode():
            after = advance(micro, unit, state)
        assert all(torch.equal(old, now) for old, now in zip(before, state.tensors(), strict=True))
        state = after


def test_run_units__gradients_flow(model):
    weight = model.get_parameter("aggregator.frame_blocks.0.attn.qkv.weight").requires_grad_()
    outputs = run_units(model, model_units(model), start(torch.rand(1, 2, 3, 28, 28))).outputs
    (outputs["pose_enc"].square().sum() + outputs["depth"].sum() + outputs["world_points"].sum()).backward()
    assert weight.grad is not None
    assert torch.isfinite(weight.grad).all()
    assert (weight.grad != 0).any()
