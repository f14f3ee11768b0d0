import json

import pytest

from qvggt.model import VGGTConfig
from qvggt.nn.convert import model_layers
from qvggt.quant.layer_names import part_of, select_layers
from qvggt.quant.recipe import Provenance, Recipe, build_recipe
from qvggt.quant.scheme import FloatScheme, LayerShape, Scheme
from qvggt.types import QvggtError

SHAPES = {
    "aggregator.patch_embed.patch_embed.proj": LayerShape("conv2d", (64, 3, 14, 14)),
    "aggregator.patch_embed.blocks.0.attn.qkv": LayerShape("linear", (192, 64)),
    "aggregator.frame_blocks.0.attn.qkv": LayerShape("linear", (192, 64)),
    "aggregator.frame_blocks.0.mlp.fc1": LayerShape("linear", (256, 64)),
    "aggregator.frame_blocks.10.attn.qkv": LayerShape("linear", (192, 64)),
    "aggregator.global_blocks.0.attn.qkv": LayerShape("linear", (192, 64)),
    "camera_head.embed_pose": LayerShape("linear", (128, 9)),
    "depth_head.projects.0": LayerShape("conv2d", (16, 128, 1, 1)),
    "point_head.projects.0": LayerShape("conv2d", (16, 128, 1, 1)),
}
NAMES = list(SHAPES)


@pytest.mark.parametrize(
    ("patterns", "indices"),
    [
        (["all"], range(9)),
        (["aa"], [2, 3, 4, 5]),
        (["frame"], [2, 3, 4]),
        (["patch_embed"], [0, 1]),
        (["camera_head", "aa"], [2, 3, 4, 5, 6]),
        (["dense_heads"], [7, 8]),
        (["conv2d"], [0, 7, 8]),
        (["linear"], [1, 2, 3, 4, 5, 6]),
        (["aggregator.frame_blocks.0.mlp.fc1"], [3]),
        (["*.mlp.fc1"], [3]),
        (["aggregator.frame_blocks.?.*"], [2, 3]),
        (["aggregator.frame_blocks.1"], None),
        (["aggregator.frame_blocks.0"], [2, 3]),
        (["re:.*(frame|global)_blocks[.]0[.]attn"], [2, 5]),
        (["aa", "nonsense"], None),
    ],
)
def test_patterns(patterns, indices):
    if indices is None:
        with pytest.raises(QvggtError, match="no layer matches"):
            select_layers(SHAPES, patterns)
    else:
        assert select_layers(SHAPES, patterns) == [NAMES[i] for i in indices]


@pytest.mark.parametrize(
    ("pattern", "meant"), [("camera_hed", "camera_head"), ("aggregator.frame_block.0", "aggregator.frame_blocks.0")]
)
def test_an_unknown_pattern_names_close_ones_and_the_groups(pattern, meant):
    with pytest.raises(QvggtError, match=meant) as caught:
        select_layers(SHAPES, [pattern])
    assert "dense_heads" in str(caught.value)


def test_a_bad_expression_is_refused():
    with pytest.raises(QvggtError, match="regular expression"):
        select_layers(SHAPES, ["re:("])


def test_recipes_record_group_sizes_that_divide():
    recipe = build_recipe(SHAPES, {name: Scheme(4, 128) for name in SHAPES})
    assert [recipe.layers[name].group_size for name in (NAMES[0], NAMES[6], NAMES[7])] == [98, -1, -1]


def test_json_round_trip_with_provenance():
    provenance = Provenance(
        "m", "sha256:0", "rtn", {"bits": 4}, {"seed": 1}, {"qvggt": "1"}, {"frame/0": [0.1]}, {"D": "no"}
    )
    schemes = {
        NAMES[1]: Scheme(3, 32),
        NAMES[2]: FloatScheme("float32"),
        NAMES[3]: Scheme(4, 32, activation_bits=4, rotation=True),
    }
    recipe = build_recipe(SHAPES, schemes, "bfloat16", provenance)
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_an_unknown_layer_is_refused():
    with pytest.raises(QvggtError, match=r"no layer 'camera_head\.embed_pos'.*camera_head\.embed_pose"):
        build_recipe(SHAPES, {"camera_head.embed_pos": Scheme()})


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_other_versions_are_refused(version):
    with pytest.raises(QvggtError, match=r"version .* reads version 1"):
        Recipe.from_json({**build_recipe(SHAPES, {}).to_json(), "version": version})


@pytest.mark.parametrize("damage", [{"layers": 3}, {"provenance": {"colour": 1}}, {"layers": {"a": {"bits": 77}}}])
def test_damaged_recipes_are_refused(damage):
    with pytest.raises(QvggtError):
        Recipe.from_json({**build_recipe(SHAPES, {}).to_json(), **damage})


def test_float_types_by_layer():
    recipe = build_recipe(SHAPES, {NAMES[1]: FloatScheme("float32"), NAMES[2]: Scheme()}, "bfloat16")
    assert recipe.float_type_of(NAMES[1]) == "float32"
    assert recipe.float_type_of(NAMES[3]) == "bfloat16"
    assert list(recipe.quantized) == [NAMES[2]]


def test_parts():
    names = ("aggregator.frame_blocks.3.norm1.weight", "depth_head.norm.bias", "aggregator.camera_token")
    assert [part_of(name) for name in names] == ["frame", "depth_head", "tokens"]


def test_the_papers_recipe_leaves_fragile_blocks_floating():
    shapes = model_layers(VGGTConfig.vggt_1b())
    chosen = set(select_layers(shapes, ["paper"]))
    left = {layer for layer in shapes if "_blocks." in layer} - chosen
    fragile = ("frame_blocks.14", "frame_blocks.17", "frame_blocks.23", "global_blocks.23")
    assert left == {f"aggregator.{block}.{part}" for block in fragile for part in ("attn.qkv", "mlp.fc1", "mlp.fc2")}
    assert all("_blocks." in layer for layer in chosen)


def test_the_papers_recipe_scales_with_depth():
    shapes = model_layers(VGGTConfig.nano())
    chosen = select_layers(shapes, ["paper"])
    assert sorted({layer.split(".")[2] for layer in shapes if "_blocks." in layer} - {"0"})  # more than one pair
    assert "aggregator.frame_blocks.5.mlp.fc1" not in chosen
    assert "aggregator.frame_blocks.5.attn.proj" in chosen
    assert "aggregator.global_blocks.3.mlp.fc1" in chosen
