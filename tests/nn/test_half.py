"""Models whose layers compute in bfloat16 or float16."""

import pytest
import torch
from torch import nn

import qvggt
from qvggt.backends import BACKENDS, dense, pick
from qvggt.model.units import is_precise
from qvggt.nn.conv import CastConvTranspose2d
from qvggt.nn.convert import convert, quantizable_layers, stored_tensors
from qvggt.nn.half import CastNorm
from qvggt.nn.linear import CastLinear, PackedLayer
from qvggt.quant.recipe import build_recipe
from qvggt.quant.scheme import FloatScheme, Scheme
from qvggt.types import QvggtError
from qvggt.weights.pretrained import sample_images

TOLERANCE = {"bfloat16": 1e-2, "float16": 2e-3}
MODES = tuple(TOLERANCE)


def recipe_for(model, **others):
    shapes = quantizable_layers(model)
    return build_recipe(shapes, dict.fromkeys(shapes, Scheme(4, 32)) | others, "float16")


def differences(found, expected):
    return {name: float((found[name] - value).norm() / value.norm()) for name, value in expected.items()}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Return a 4-bit checkpoint of nano."""
    folder = tmp_path_factory.mktemp("half") / "nano-4bit"
    return qvggt.save(qvggt.quantize("nano"), folder)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("native", ["1", "0"])
@pytest.mark.parametrize("inference", [True, False])
def test_packed_layers__close_to_float32_with_and_without_the_compiled_library(
    micro, images, monkeypatch, mode, native, inference
):
    monkeypatch.setenv("QVGGT_NATIVE", native)
    models = [convert(_copy(micro), recipe_for(micro), pick("cpu", each)) for each in ("float32", mode)]
    with torch.inference_mode(inference), torch.no_grad():
        expected, found = (model(images) for model in models)
    assert all(value.dtype == torch.float32 for value in found.values())
    assert max(differences(found, expected).values()) < TOLERANCE[mode]
    assert max(differences(found, expected).values()) > 0


@pytest.mark.parametrize("mode", MODES)
def test_every_way_to_multiply_gives_the_same_within_the_types_precision(monkeypatch, mode):
    dtype = getattr(torch, mode)
    x, matrix, bias = torch.randn(70, 64).to(dtype), torch.randn(48, 64), torch.randn(48)
    found = []
    for has_units in (True, False):
        monkeypatch.setattr(dense, "has_half_units", lambda dtype, has_units=has_units: has_units)
        found.append(dense.linear(x, matrix, bias))
    exact = x.double() @ matrix.to(dtype).double().T + bias
    for result in found:
        assert result.dtype == dtype
        assert (result.double() - exact).abs().max() <= 2 * torch.finfo(dtype).eps * exact.abs().max()


@pytest.mark.parametrize("mode", MODES)
def test_float_models__half_the_memory_and_precise_layers_in_float32(mode):
    model, exact = qvggt.load("nano", "cpu", mode), qvggt.load("nano", "cpu", "float32")
    dtype = getattr(torch, mode)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            assert module.weight.dtype == (torch.float32 if is_precise(name) else dtype), name
    assert isinstance(model.aggregator.global_blocks[0].mlp.fc1, CastLinear)
    assert isinstance(model.aggregator.global_blocks[0].norm1, CastNorm)
    assert isinstance(model.depth_head.resize_layers[0], CastConvTranspose2d)
    assert type(model.aggregator.patch_embed.norm) is nn.LayerNorm
    assert model.camera_head.trunk[0].mlp.fc1.weight.dtype == torch.float32
    sizes = [sum(tensor.nbytes for tensor in each.aggregator.state_dict().values()) for each in (model, exact)]
    assert sizes[0] < 0.55 * sizes[1]


@pytest.mark.parametrize("mode", MODES)
def test_reconstruct__the_sample_scene_is_close_to_float32(checkpoint, mode):
    for name in ("nano", checkpoint):
        heads = ("camera", "depth", "point")
        expected, found = (
            qvggt.reconstruct(qvggt.load(name, "cpu", each), sample_images(), heads) for each in ("float32", mode)
        )
        for field in ("pose_enc", "depth", "world_points"):
            exact, value = torch.from_numpy(getattr(expected, field)), torch.from_numpy(getattr(found, field))
            assert float((value - exact).norm() / exact.norm()) < TOLERANCE[mode], field


def test_packed_layers__precise_ones_multiply_in_float32(checkpoint):
    model = qvggt.load(checkpoint, "cpu", "bfloat16")
    for name, module in model.named_modules():
        if isinstance(module, PackedLayer):
            assert module.dtype == (torch.float32 if is_precise(name) else torch.bfloat16), name
            assert module.backend.name == ("cpu" if is_precise(name) else "cpu-bfloat16"), name
    assert model.camera_head.trunk[0].attn.arithmetic.dtype is None
    assert model.arithmetic.dtype == torch.bfloat16


@pytest.mark.parametrize("mode", MODES)
def test_save__what_is_stored_does_not_depend_on_the_compute_mode(micro, mode):
    recipe = recipe_for(micro, **{"aggregator.frame_blocks.0.attn.qkv": FloatScheme("float16")})
    models = [convert(_copy(micro), recipe, pick("cpu", each)) for each in ("float32", mode)]
    expected, found = (dict(stored_tensors(model)) for model in models)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("mode", MODES)
def test_chunks_give_what_one_pass_gives(micro, images, mode):
    model = convert(_copy(micro), recipe_for(micro), pick("cpu", mode))
    with torch.inference_mode():
        whole, parts = model(images), model(images, chunk_tokens=7)
    assert max(differences(parts, whole).values()) < TOLERANCE[mode]


@pytest.mark.parametrize("mode", MODES)
def test_merged_tokens_attend_in_half_precision(micro, images, mode):
    models = [convert(_copy(micro), recipe_for(micro), pick("cpu", each)) for each in ("float32", mode)]
    for model in models:
        model.aggregator.global_attention = "merged"
    with torch.inference_mode():
        expected, found = (model(images) for model in models)
    assert max(differences(found, expected).values()) < TOLERANCE[mode]


def test_values_beyond_float16_are_refused_with_the_name_of_the_compute_modes(checkpoint):
    model = qvggt.load(checkpoint, "cpu", "float16")
    model.depth_head.scratch.output_conv1.bias.data.fill_(1e6)
    with pytest.raises(QvggtError, match=r"not finite.*compute mode with a wider range"):
        qvggt.reconstruct(model, sample_images())


def test_plain_backend__computes_the_same_on_any_device(micro, images):
    models = [convert(_copy(micro), recipe_for(micro), BACKENDS[name]) for name in ("cpu-bfloat16", "plain-bfloat16")]
    with torch.inference_mode():
        expected, found = (model(images) for model in models)
    assert max(differences(found, expected).values()) < TOLERANCE["bfloat16"]


def _copy(micro):
    import copy

    return copy.deepcopy(micro)
