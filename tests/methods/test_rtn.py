import pytest
import torch

from quantizing import StateDictSource, rtn, rtn_recipe
from qvggt.methods.registry import METHODS
from qvggt.model import VGGT, VGGTConfig
from qvggt.nn.convert import convert, model_layers, stored_layout, stored_tensors
from qvggt.options import QuantizeOptions
from qvggt.quant.recipe import Provenance
from qvggt.quant.scheme import FloatScheme, Scheme
from qvggt.types import QvggtError

CONFIG = VGGTConfig.micro()


@pytest.fixture
def weights():
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(t.shape, generator=generator) * 0.1 for name, t in VGGT(CONFIG).state_dict().items()}


class OneAtATime(StateDictSource):
    """Hands out copies and remembers what was asked for."""

    def __init__(self, state_dict):
        super().__init__(state_dict)
        self.asked = []

    def tensor(self, name):
        self.asked.append(name)
        return super().tensor(name).clone()


def checkpoint_bytes(config, recipe):
    layout = stored_layout(config, recipe)
    return sum(dtype.itemsize * torch.Size(shape).numel() for dtype, shape in layout.values())


def test_recipe__every_layer_is_quantized_convolutions_at_8_bits():
    layers = model_layers(CONFIG)
    recipe = rtn_recipe(layers, QuantizeOptions(Scheme(3, 64)))
    assert recipe.layers.keys() == layers.keys()
    assert all(recipe.layers[name].bits == (3 if shape.kind == "linear" else 8) for name, shape in layers.items())
    assert "camera_head.poseLN_modulation.1" in recipe.quantized
    assert "aggregator.patch_embed.blocks.0.mlp.fc1" in recipe.quantized


def test_recipe__quantizes_only_selected_layers():
    recipe = rtn_recipe(model_layers(CONFIG), QuantizeOptions(layers=("frame", "camera_head")))
    beginnings = ("aggregator.frame_blocks.", "camera_head.")
    assert list(recipe.layers) == [name for name in model_layers(CONFIG) if name.startswith(beginnings)]


def test_stream__reads_each_tensor_once_and_equals_conversion_in_memory(weights):
    source = OneAtATime(weights)
    recipe = rtn_recipe(model_layers(CONFIG), QuantizeOptions(Scheme(4, 32), conv=FloatScheme("bfloat16")))
    streamed = dict(rtn(source, CONFIG, recipe))
    assert sorted(source.asked) == sorted(weights)
    model = VGGT(CONFIG)
    model.load_state_dict(weights)
    convert(model, recipe)
    converted = dict(stored_tensors(model))
    assert streamed.keys() == converted.keys()
    assert all(torch.equal(tensor, converted[name]) for name, tensor in streamed.items())


def test_stream__ignores_tensors_that_the_architecture_does_not_have(weights):
    source = OneAtATime({**weights, "track_head.x": torch.zeros(3)})
    assert "track_head.x" not in dict(rtn(source, CONFIG, rtn_recipe(model_layers(CONFIG))))
    assert "track_head.x" not in source.asked


def test_stream__names_missing_and_misshapen_tensors(weights):
    recipe = rtn_recipe(model_layers(CONFIG))
    fewer = {name: tensor for name, tensor in weights.items() if name != "aggregator.camera_token"}
    with pytest.raises(QvggtError, match=r"1 tensors are missing .*aggregator\.camera_token"):
        next(rtn(StateDictSource(fewer), CONFIG, recipe))
    weights["camera_head.embed_pose.bias"] = torch.zeros(7)
    with pytest.raises(QvggtError, match=r"camera_head\.embed_pose\.bias is \[7\] instead of \[128\]"):
        next(rtn(StateDictSource(weights), CONFIG, recipe))


@pytest.mark.parametrize("name", ["aggregator.frame_blocks.0.attn.qkv.weight", "aggregator.frame_blocks.0.norm1.bias"])
def test_stream__refuses_nan_with_its_name(weights, name):
    weights[name].view(-1)[5] = torch.nan
    with pytest.raises(QvggtError, match=name.removesuffix(".weight")):
        dict(rtn(StateDictSource(weights), CONFIG, rtn_recipe(model_layers(CONFIG))))


def test_recipe__the_published_model_fits_in_750_mb_at_4_bits():
    config = VGGTConfig.vggt_1b()
    layers = model_layers(config)
    sizes = [
        checkpoint_bytes(config, rtn_recipe(layers, QuantizeOptions(conv=conv))) / 1e6
        for conv in (Scheme(4), Scheme(8), FloatScheme("float16"))
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] > 620
    assert sizes[1] == pytest.approx(655.0, abs=0.1)
    assert sizes[2] < 750


def test_recipe__provenance_has_method_options_and_versions():
    provenance = rtn_recipe(model_layers(CONFIG), QuantizeOptions(layers=("aa",)), Provenance(source="x")).provenance
    assert (provenance.source, provenance.method, provenance.options["layers"]) == ("x", "rtn", ["aa"])
    assert provenance.options["scheme"]["bits"] == 4
    assert provenance.versions.keys() == {"qvggt", "torch"}


def test_rtn__is_a_method_without_calibration():
    assert METHODS["rtn"].needs_calibration is False
    rotated = METHODS["rtn"](QuantizeOptions(Scheme(rotation=True), without=("task",)))  # for calibrated methods only
    assert rotated.recipe(model_layers(CONFIG), Provenance(method="rtn")).provenance.method == "rtn"
    with pytest.raises(QvggtError, match="budget"):
        METHODS["rtn"](QuantizeOptions(average_bits=4.0))
