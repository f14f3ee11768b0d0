import json

import pytest

from qvggt.cli import main
from qvggt.weights.open import open_weights

RECIPE = {
    "model": "micro",
    "phases": [{"steps": 50, "image_px": 28, "images_per_step": 2, "frames": [2]}],
    "validate_steps": 1000,
    "camera_weight": 2.0,
}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(RECIPE))
    return path


def test_training_shows_its_pace_and_leaves_weights_and_a_curve(recipe, tmp_path, capsys):
    main(["train", str(recipe), "-o", str(tmp_path / "run")])
    shown = capsys.readouterr().out
    assert "step 50 of 50" in shown
    assert "s per step" in shown
    assert "min left" in shown
    assert open_weights(tmp_path / "run" / "weights.safetensors").config.embed_dim == 64
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "checkpoint.pt",
        "curve.png",
        "log.jsonl",
        "weights.safetensors",
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("absent",), "training recipe is missing"),
        (("micro", "--start-from", "absent.safetensors"), "not found"),
        (("micro", "--threads", "0"), "at least 1"),
        (("micro", "--start-from", "nano", "--minutes", "0"), "cannot begin"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(arguments, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", *arguments, "-o", str(tmp_path / "run")])
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run" / "weights.safetensors").exists()
