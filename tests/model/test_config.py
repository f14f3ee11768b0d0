import dataclasses
import json

import pytest

from qvggt.model import VGGTConfig

PRESETS = {"vggt_1b": VGGTConfig.vggt_1b(), "nano": VGGTConfig.nano(), "micro": VGGTConfig.micro()}


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_json_round_trip(config):
    assert VGGTConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_config_is_frozen_and_hashable():
    config = VGGTConfig.nano()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.depth = 3
    assert {config: 1}[VGGTConfig.nano()] == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"patch_size": 0}, "patch_size must be a whole number from 1"),
        ({"heads": 0}, "heads must be a whole number from 1"),
        ({"vit_heads": 0}, "vit_heads must be a whole number from 1"),
        ({"camera_heads": 0}, "camera_heads must be a whole number from 1"),
        ({"embed_dim": -64}, "embed_dim must be a whole number from 1"),
        ({"vit_depth": -1}, "vit_depth must be a whole number from 0"),
        ({"depth": 4.0}, "depth must be a whole number"),
        ({"depth": True}, "depth must be a whole number"),
        ({"depth": None}, "depth must be a whole number"),
        ({"depth": "4"}, "depth must be a whole number"),
        ({"depth": (4, 4)}, "depth must be a whole number"),
        ({"embed_dim": 1 << 40}, "embed_dim must be a whole number from 1 to 65536"),
        ({"dpt_channels": 16}, "dpt_channels must be four whole numbers"),
        ({"dpt_channels": (16, 16, 32)}, "dpt_channels must be four whole numbers"),
        ({"dpt_layers": (0, 1, 2, 3, 3)}, "dpt_layers must be four whole numbers"),
        ({"dpt_layers": (0, 1, 2, None)}, "dpt_layers must be four whole numbers"),
        ({"dpt_layers": (0, 1, 2, 4)}, "must lie below depth 4"),
        ({"dpt_channels": (16, 16, 32, 30)}, "multiples of 4"),
        ({"dpt_features": 12}, "a multiple of 8"),
        ({"image_size": 57}, "no multiple of patch_size 14"),
        ({"vit_heads": 3}, "must divide by vit_heads 3"),
        ({"heads": 3}, "and heads 3"),
        ({"heads": 32}, "head width that is a multiple of 4"),
        ({"camera_heads": 3}, "must divide by camera_heads 3"),
    ],
)
def test_impossible_sizes_are_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(VGGTConfig.micro(), **change)
    with pytest.raises(ValueError, match=sentence):
        VGGTConfig.from_json(VGGTConfig.micro().to_json() | change)


def test_missing_and_unknown_fields_are_named():
    values = VGGTConfig.micro().to_json() | {"width": 3}
    del values["depth"]
    with pytest.raises(ValueError, match=r"missing \['depth'\], unknown \['width'\]"):
        VGGTConfig.from_json(values)


@pytest.mark.parametrize("values", [None, 5, "depth", [["depth", 4]]])
def test_what_is_no_mapping_is_refused(values):
    with pytest.raises(ValueError, match="expected a mapping"):
        VGGTConfig.from_json(values)
