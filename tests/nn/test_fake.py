import pytest
import torch
from torch import nn

from qvggt.nn.convert import convert, quantizable_layers
from qvggt.nn.fake import fake_quantized
from qvggt.quant.recipe import build_recipe
from qvggt.quant.scheme import FloatScheme, Scheme
from qvggt.types import QvggtError


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def unchanged(module, before):
    return all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_weights_change_inside_and_come_back(model):
    block = model.aggregator.frame_blocks[0]
    before, storage = state(model), block.attn.qkv.weight.data_ptr()
    with fake_quantized(block, Scheme(2, 32)) as same:
        assert same is block
        changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
        assert changed == {
            f"aggregator.frame_blocks.0.{name}.weight" for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
        }
    assert unchanged(model, before)
    assert block.attn.qkv.weight.data_ptr() == storage


def test_weights_come_back_after_an_exception(model):
    before = state(model)
    with pytest.raises(KeyboardInterrupt), fake_quantized(model, Scheme(2)):
        raise KeyboardInterrupt
    assert unchanged(model, before)


def test_a_failure_to_quantize_changes_nothing(model):
    model.camera_head.pose_branch.fc2.weight[0, 0] = torch.inf
    before = state(model)
    with pytest.raises(QvggtError), fake_quantized(model, Scheme(2)):
        pass
    assert unchanged(model, before)


def test_the_fake_is_what_the_packed_model_computes(model, images):
    shapes = quantizable_layers(model)
    schemes = {name: Scheme(4, 32) if shape.kind == "linear" else Scheme(8, 64) for name, shape in shapes.items()}
    with fake_quantized(model, schemes, scale_dtype=torch.float32):
        fake = model(images)
    convert(model, build_recipe(shapes, schemes, "float32"))
    for name, value in model(images).items():
        assert torch.allclose(value, fake[name], rtol=1e-4, atol=1e-5), name


def test_schemes_by_name_and_float_types():
    layer = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    before = state(layer)
    with fake_quantized(layer, {"1": FloatScheme("bfloat16")}):
        assert torch.equal(layer[0].weight, before["0.weight"])
        assert torch.equal(layer[1].weight, before["1.weight"].bfloat16().float())


def test_a_single_layer_can_be_the_module():
    layer = nn.Linear(32, 4)
    before = layer.weight.detach().clone()
    with fake_quantized(layer, Scheme(2)):
        assert not torch.equal(layer.weight, before)
    assert torch.equal(layer.weight, before)


def test_an_unknown_name_is_refused():
    with pytest.raises(KeyError, match="7"), fake_quantized(nn.Sequential(nn.Linear(4, 4)), {"7": Scheme()}):
        pass
