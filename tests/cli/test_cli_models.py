"""Models and checkpoints that are missing, damaged, of another kind or version, and options that are impossible."""

import json

import pytest
import torch
from commands import MODEL, weight, write_weights


@pytest.fixture
def read_all(refused, photos, tmp_path):
    """Return a function that gives a damaged model to ``reconstruct`` and, if it is a checkpoint, to ``inspect``."""

    def run(model):
        sentences = [refused("reconstruct", model, photos, "-o", tmp_path / "out")]
        if (model / "recipe.json").exists():
            sentences.append(refused("inspect", model, "--verify"))
        assert len(set(sentences)) == 1
        return sentences[0]

    return run


def test_one_flipped_byte(read_all, checkpoint):
    file = checkpoint / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert "1 of" in (sentence := read_all(checkpoint))
    assert "damaged" in sentence


@pytest.mark.parametrize("name", ["config.json", "recipe.json"])
def test_one_flipped_byte_in_a_small_file(read_all, checkpoint, name):
    data = bytearray((checkpoint / name).read_bytes())
    data[-20] ^= 1
    (checkpoint / name).write_bytes(data)
    assert name.partition(".")[0] in read_all(checkpoint)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "recipe.json"])
@pytest.mark.parametrize("length", [0, 3, 1000, -1])
def test_cut_short(read_all, checkpoint, name, length):
    data = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(data[:length])
    assert name in read_all(checkpoint)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_missing_file(read_all, checkpoint, name):
    (checkpoint / name).unlink()
    assert name in read_all(checkpoint)


@pytest.mark.parametrize("content", ["{}", "[]", "null", "not json"])
def test_a_config_without_content(read_all, checkpoint, content):
    (checkpoint / "config.json").write_text(content)
    assert "config.json" in read_all(checkpoint)


@pytest.mark.parametrize(("name", "key"), [("config.json", "format_version"), ("recipe.json", "version")])
def test_another_version(read_all, checkpoint, name, key):
    values = json.loads((checkpoint / name).read_text())
    (checkpoint / name).write_text(json.dumps(values | {key: 99}))
    assert "version 99" in read_all(checkpoint)


def test_shapes_that_disagree_with_the_config(read_all, checkpoint):
    values = json.loads((checkpoint / "config.json").read_text())
    values["vggt"]["embed_dim"] *= 2
    (checkpoint / "config.json").write_text(json.dumps(values))
    assert "does not fit its config.json" in read_all(checkpoint)


def test_a_float_model_of_other_shapes(refused, read_all, tmp_path):
    weights = write_weights(tmp_path / "w.safetensors", **{"camera_head.token_norm.weight": torch.ones(3)})
    assert "another type or shape" in read_all(weights)
    assert "another type or shape" in refused("quantize", weights, "-o", tmp_path / "4bit")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("leaf", ["attn.qkv.weight", "norm1.weight"])
def test_weights_that_are_no_numbers(refused, read_all, tmp_path, leaf, value):
    name = f"aggregator.frame_blocks.0.{leaf}"
    weights = write_weights(tmp_path / "w.safetensors", **{name: torch.full_like(weight(name), value)})
    sentence = refused("quantize", weights, "-o", tmp_path / "4bit")
    assert name.removesuffix(".weight") in sentence
    assert "finite" in read_all(weights)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--bits", "1"], "from 2 to 8, got 1"),
        (["--bits", "9"], "from 2 to 8, got 9"),
        (["--conv-bits", "1"], "from 2 to 8, got 1"),
        (["--group-size", "0"], "group size must be"),
        (["--group-size", "-2"], "group size must be"),
        (["--layers", "attention"], "no layer matches 'attention'"),
        (["--layers", "re:("], "regular expression"),
    ],
)
def test_impossible_options(refused, tmp_path, options, reason):
    assert reason in refused("quantize", MODEL, "-o", tmp_path / "4bit", *options)


@pytest.mark.parametrize("model", ["nono", "./weights.safetensors", "seeded:vggt-9b", "C:\\weights.pt"])
def test_a_model_that_is_not_there(refused, photos, tmp_path, model):
    sentence = refused("quantize", model, "-o", tmp_path / "4bit")
    assert repr(model) in sentence
    assert refused("reconstruct", model, photos, "-o", tmp_path / "out") == sentence


def test_what_is_no_checkpoint(refused, photos, tmp_path):
    assert "holds no weights" in refused("inspect", photos)
    assert "not found" in refused("inspect", tmp_path / "none")
    assert "not a checkpoint" in refused("quantize", photos / "p0.jpg", "-o", tmp_path / "4bit")


def test_a_checkpoint_cannot_be_quantized_again(refused, intact_checkpoint, tmp_path):
    assert "quantized already" in refused("quantize", intact_checkpoint, "-o", tmp_path / "4bit")


def test_a_device_that_is_not_there(refused, photos, tmp_path):
    sentence = refused("reconstruct", MODEL, photos, "-o", tmp_path / "out", "--device", "warp")
    assert "warp" in sentence
    assert "cpu" in sentence
