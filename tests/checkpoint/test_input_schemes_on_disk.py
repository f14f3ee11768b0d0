"""Rotations and rounded activations in checkpoints, and as the ecosystem's own library reads them."""

import json

import pytest
import torch
from safetensors.torch import load_file

from quantizing import rtn_recipe
from qvggt.checkpoint.folder import open_checkpoint
from qvggt.checkpoint.report import inspect_model
from qvggt.checkpoint.write import save_checkpoint
from qvggt.model import VGGT
from qvggt.nn.convert import convert, model_layers
from qvggt.nn.linear import QuantLinear
from qvggt.options import QuantizeOptions
from qvggt.quant.hadamard import rotate, rotate_weight
from qvggt.quant.scheme import Scheme
from qvggt.types import QvggtError

FILES = ("config.json", "model.safetensors", "recipe.json")
SCHEMES = [
    Scheme(4, 32, rotation=True),
    Scheme(8, -1, activation_bits=8),
    Scheme(4, 32, activation_bits=4, rotation=True),
]


@pytest.fixture
def images():
    return torch.rand(1, 2, 3, 28, 42, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=SCHEMES, ids=str)
def scheme(request):
    return request.param


@pytest.fixture
def recipe(config, scheme):
    return rtn_recipe(model_layers(config), QuantizeOptions(scheme))


def config_of(folder):
    return json.loads((folder / "config.json").read_text())["quantization_config"]


@pytest.fixture
def floating(config, weights):
    model = VGGT(config).eval().requires_grad_(False)
    model.load_state_dict(weights)
    return model


@torch.inference_mode()
def test_reading_gives_the_model_that_conversion_in_memory_gives(checkpoint, floating, recipe, images):
    model = open_checkpoint(checkpoint).load()
    expected = convert(floating, recipe)(images)
    assert all(torch.equal(value, expected[name]) for name, value in model(images).items())
    assert model.aggregator.frame_blocks[0].attn.qkv.scheme == recipe.layers["aggregator.frame_blocks.0.attn.qkv"]


def test_saving_what_was_read_gives_the_same_bytes(checkpoint, tmp_path):
    save_checkpoint(open_checkpoint(checkpoint).load(), tmp_path / "again")
    assert all((checkpoint / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in FILES)


def test_a_rotation_that_someone_took_out_of_the_recipe_is_noticed(checkpoint, scheme):
    path = checkpoint / "recipe.json"
    contents = json.loads(path.read_text())
    for layer in contents["layers"].values():
        layer.pop("rotation", None)
        layer.pop("activation_bits", None)
    path.write_text(json.dumps(contents))
    with pytest.raises(QvggtError, match="was changed after it was written"):
        open_checkpoint(checkpoint).load()


def test_inspect_reports_the_input(checkpoint, scheme):
    layers = {layer.name: layer for layer in inspect_model(open_checkpoint(checkpoint)).layers}
    qkv = layers["aggregator.frame_blocks.0.attn.qkv"]
    assert (qkv.bits, qkv.activation_bits, qkv.rotation) == (scheme.bits, scheme.activation_bits, scheme.rotation)
    conv = layers["depth_head.projects.0"]
    assert (conv.activation_bits, conv.rotation) == (None, False)
    assert not layers["camera_head.embed_pose"].rotation  # nine inputs


def test_config_says_no_more_than_there_is(checkpoint, scheme):
    config = config_of(checkpoint)
    assert ("transform_config" in config) == scheme.rotation
    groups = [group for group in config["config_groups"].values() if "input_activations" in group]
    assert bool(groups) == (scheme.activation_bits is not None)
    assert not [name for group in groups for name in group["targets"] if "projects" in name]


def test_the_library_parses_the_config_and_decodes_what_is_stored(checkpoint, scheme):
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationConfig

    config = QuantizationConfig.model_validate(config_of(checkpoint))
    tensors = load_file(checkpoint / "model.safetensors")
    model = open_checkpoint(checkpoint).load()
    seen = set()
    for group in config.config_groups.values():
        compressor = BaseCompressor.get_value_from_registry(group.format)
        for name in group.targets:
            layer = model.get_submodule(name)
            state = {leaf: tensors[f"{name}.{leaf}"] for leaf in compressor.compression_param_names(group)}
            decoded = compressor.decompress(state, group)["weight"]
            assert torch.equal(decoded, layer.expanded(torch.float16)), name
            inputs = group.input_activations
            assert (inputs.num_bits if inputs else None) == layer.scheme.activation_bits
            seen.add(name)
    assert seen == {name for name, layer in model.named_modules() if hasattr(layer, "weight_packed")}


@torch.inference_mode()
def test_the_library_applies_our_transforms_as_we_do(checkpoint, scheme, floating, images):
    transform = pytest.importorskip("compressed_tensors.transform")
    pytest.importorskip("transformers")
    model = open_checkpoint(checkpoint).load()
    rotated = {n: m for n, m in model.named_modules() if isinstance(m, QuantLinear) and m.scheme.rotation}
    if not scheme.rotation:
        assert not rotated
        return
    described = transform.TransformConfig.model_validate(config_of(checkpoint)["transform_config"])
    expected = floating(images)
    weights = {name: floating.get_submodule(name).weight.clone() for name in rotated}
    seen = []
    transform.apply_transform_config(floating, described)
    for name in rotated:
        layer = floating.get_submodule(name)
        assert torch.allclose(layer.weight, rotate_weight(weights[name]), atol=1e-5), name
        x = torch.randn(3, layer.in_features)
        hook = layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
        layer(x)
        hook.remove()
        assert torch.allclose(seen.pop(), rotate(x), atol=1e-5), name
    # Both halves together leave a float model what it was.
    for name, value in floating(images).items():
        assert (value - expected[name]).norm() < 1e-4 * expected[name].norm(), name
