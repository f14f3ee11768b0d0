import json

import pytest

from qvggt.cli import main
from qvggt.weights.open import open_weights

RECIPE = {
    "model": "micro",
    "phases": [{"steps": 5, "image_px": 28, "images_per_step": 2, "frames": [2]}],
    "validate_steps": 1000,
    "camera_weight": 2.0,
}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(RECIPE))
    return path


@pytest.mark.render
def test_train__pace_weights_and_curve(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("qvggt.train.loop.REPORT_STEPS", 5)
    main(["train", str(recipe), "-o", str(tmp_path / "run"), "--json", str(tmp_path / "figures.json")])
    shown = capsys.readouterr().out
    assert "step 5 of 5" in shown
    assert "s per step" in shown
    assert "min left" in shown
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures.items() >= {"step": 5, "steps": 5}.items()
    assert f"{figures['step_seconds']:.2f} s per step" in shown
    assert open_weights(tmp_path / "run" / "weights.safetensors").config.embed_dim == 64
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "checkpoint.pt",
        "curve.png",
        "log.jsonl",
        "weights.safetensors",
    }


@pytest.mark.render
def test_train__a_short_run_ends_well_and_goes_on(qvggt, recipe, tmp_path):
    short = ("train", recipe, "-o", tmp_path / "run", "--json", tmp_path / "figures.json")
    done = qvggt(*short, "--minutes", "0.0001")
    assert (done.status, done.err) == (0, "")
    step = json.loads((tmp_path / "figures.json").read_text())["step"]
    assert 1 <= step < 5
    assert f"step {step} of 5" in done.out
    assert f"stopped after {step} of 5 steps" in done.out
    assert "no learning curve yet" in done.out
    assert open_weights(tmp_path / "run" / "weights.safetensors").config.embed_dim == 64
    again = qvggt(*short)
    assert again.status == 0
    assert "step 5 of 5" in again.out
    assert "stopped" not in again.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("absent",), "training recipe is missing"),
        (("micro", "--start-from", "absent.safetensors"), "not found"),
        (("micro", "--threads", "0"), "at least 1"),
        (("micro", "--start-from", "nano", "--minutes", "0"), "cannot begin"),
    ],
)
def test_train__what_cannot_be_trained_is_one_line(arguments, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", *arguments, "-o", str(tmp_path / "run")])
    assert stopped.value.code == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run" / "weights.safetensors").exists()
