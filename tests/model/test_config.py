import dataclasses
import json

import pytest

from qvggt.model import VGGTConfig

PRESETS = {"vggt_1b": VGGTConfig.vggt_1b(), "nano": VGGTConfig.nano(), "micro": VGGTConfig.micro()}


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_from_json__round_trip(config):
    assert VGGTConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_config_is_frozen_and_hashable():
    config = VGGTConfig.nano()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.depth = 3
    assert {config: 1}[VGGTConfig.nano()] == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"patch_size": 0}, r"patch_size.*whole.*from 1"),
        ({"heads": 0}, r"heads.*whole.*from 1"),
        ({"vit_heads": 0}, r"vit_heads.*whole.*from 1"),
        ({"camera_heads": 0}, r"camera_heads.*whole.*from 1"),
        ({"embed_dim": -64}, r"embed_dim.*whole.*from 1"),
        ({"vit_depth": -1}, r"vit_depth.*whole.*from 0"),
        ({"depth": 4.0}, r"depth.*whole"),
        ({"depth": True}, r"depth.*whole"),
        ({"depth": None}, r"depth.*whole"),
        ({"depth": "4"}, r"depth.*whole"),
        ({"depth": (4, 4)}, r"depth.*whole"),
        ({"embed_dim": 1 << 40}, r"embed_dim.*whole.*from 1 to 65536"),
        ({"dpt_channels": 16}, r"dpt_channels.*four"),
        ({"dpt_channels": (16, 16, 32)}, r"dpt_channels.*four"),
        ({"dpt_layers": (0, 1, 2, 3, 3)}, r"dpt_layers.*four"),
        ({"dpt_layers": (0, 1, 2, None)}, r"dpt_layers.*four"),
        ({"dpt_layers": (0, 1, 2, 4)}, "dpt_layers.*depth 4"),
        ({"dpt_channels": (16, 16, 32, 30)}, "multiples of 4"),
        ({"dpt_features": 12}, "dpt_features.*8"),
        ({"image_size": 57}, "patch_size 14.*57"),
        ({"vit_heads": 3}, "vit_heads 3"),
        ({"heads": 3}, "and heads 3"),
        ({"heads": 32}, "head by 4"),
        ({"camera_heads": 3}, "camera_heads 3"),
    ],
)
def test_config__refuses_impossible_sizes(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(VGGTConfig.micro(), **change)
    with pytest.raises(ValueError, match=words):
        VGGTConfig.from_json(VGGTConfig.micro().to_json() | change)


def test_from_json__names_missing_and_unknown_fields():
    values = VGGTConfig.micro().to_json() | {"width": 3}
    del values["depth"]
    with pytest.raises(ValueError, match=r"missing \['depth'\], unknown \['width'\]"):
        VGGTConfig.from_json(values)


@pytest.mark.parametrize("values", [None, 5, "depth", [["depth", 4]]])
def test_from_json__refuses_what_is_not_a_mapping(values):
    with pytest.raises(ValueError, match="mapping"):
        VGGTConfig.from_json(values)
