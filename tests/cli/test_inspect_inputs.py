import json

import torch
from commands import WEIGHTS

from quantizing import rtn, rtn_recipe
from qvggt.checkpoint.write import write_checkpoint
from qvggt.model import VGGTConfig
from qvggt.nn.convert import model_layers
from qvggt.options import QuantizeOptions
from qvggt.quant.scheme import Scheme


def test_inspect_shows_what_happens_to_a_layers_input_only_where_something_does(qvggt, intact_checkpoint, tmp_path):
    config = VGGTConfig.micro()
    scheme = Scheme(4, 32, activation_bits=8, rotation=True)
    recipe = rtn_recipe(model_layers(config), QuantizeOptions(scheme, layers=("frame",)))
    folder = write_checkpoint(tmp_path / "w4a8", config, recipe, rtn(WEIGHTS, config, recipe))
    shown = qvggt("inspect", folder, "--json", tmp_path / "x.json").out
    lines = [line for line in shown.splitlines() if "8 bits rotated" in line]
    assert [line.split()[0] for line in lines] == ["frame"]
    layers = {layer["name"]: layer for layer in json.loads((tmp_path / "x.json").read_text())["layers"]}
    fc1 = layers["aggregator.frame_blocks.0.mlp.fc1"]
    assert (fc1["bits"], fc1["activation_bits"], fc1["rotation"]) == (4, 8, True)
    assert layers["camera_head.embed_pose"]["activation_bits"] is None
    assert "input" not in qvggt("inspect", intact_checkpoint).out.splitlines()[0]


def test_inspect_shows_float_weights_and_verifies_them_if_they_have_checksums(qvggt, refused, tmp_path):
    path = tmp_path / "model.pt"
    torch.save({name: WEIGHTS.tensor(name) for name in WEIGHTS.names()}, path)
    shown = qvggt("inspect", path, "--verify", "--json", tmp_path / "x.json").out
    assert "32.00 bits on average" in shown
    assert "verified" in shown
    values = json.loads((tmp_path / "x.json").read_text())
    assert sum(layer["parameters"] for layer in values["layers"]) == values["parameters"]
    assert sum(layer["bytes"] for layer in values["layers"]) == 4 * values["parameters"]
    assert values["verified_tensors"] == len(WEIGHTS.names())
    assert "not verified" in qvggt("inspect", "nano", "--verify").out
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "damaged" in refused("inspect", path, "--verify")
