import json

import pytest

from qvggt.checkpoint.folder import CARD, open_checkpoint
from qvggt.checkpoint.report import inspect_model


def test_layers_add_up_to_the_whole(checkpoint, weights, recipe):
    report = inspect_model(open_checkpoint(checkpoint))
    assert report.parameters == sum(tensor.numel() for tensor in weights.values())
    assert sum(layer.parameters for layer in report.layers) == report.parameters
    assert report.checkpoint_bytes == sum(path.stat().st_size for path in checkpoint.glob("[!.]*") if path.name != CARD)
    data = sum(layer.bytes for layer in report.layers)
    assert report.average_bits == pytest.approx(8 * data / report.parameters)
    assert 0 < (checkpoint / "model.safetensors").stat().st_size - data < 100_000
    assert report.provenance == recipe.provenance


def test_layers_say_what_the_recipe_says(checkpoint, recipe):
    layers = {layer.name: layer for layer in inspect_model(open_checkpoint(checkpoint)).layers}
    for name, scheme in recipe.quantized.items():
        assert (layers[name].bits, layers[name].group_size) == (scheme.bits, scheme.group_size)
    qkv = layers["aggregator.frame_blocks.0.attn.qkv"]
    assert (qkv.part, qkv.kind, qkv.parameters) == ("frame", "linear", 192 * 65)
    assert qkv.bytes == 192 * 32 + 192 * 2 * 2 + 16 + 192 * 2  # codes, scales, shape, bias
    assert layers["tokens"].kind == "rest"


def test_the_report_is_json(checkpoint):
    values = json.loads(json.dumps(inspect_model(open_checkpoint(checkpoint)).to_json()))
    assert {"parameters", "average_bits", "checkpoint_bytes", "layers", "provenance", "attention"} == values.keys()
    assert values["layers"][0].keys() >= {"name", "part", "bits", "bytes"}
