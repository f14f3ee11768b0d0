import json

import pytest

from qvggt.cli import main


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_table_and_json(tmp_path, capsys, cache):
    arguments = ["evaluate", "seeded:micro", "--scenes", "2", "--json", str(tmp_path / "e.json")]
    main(arguments)
    printed = capsys.readouterr().out
    for needed in (
        "AUC@30",
        "AbsRel",
        "chance",
        "95 %",
        "pose-standard",
        "landmarks 1",
        "2 scenes",
        "56 pairs",
        "bits",
    ):
        assert needed in printed
    first = json.loads((tmp_path / "e.json").read_text())
    assert first["model"] == "seeded:micro"
    assert list((cache / "qvggt" / "eval").glob("rooms-test-*/test_*.json"))
    main(arguments)
    assert "stored results reused: 4" in capsys.readouterr().out
    assert json.loads((tmp_path / "e.json").read_text()) == first


def test_options_reach_the_evaluation(tmp_path, capsys):
    what = "evaluate seeded:micro --dataset rooms --split val --protocol pose-vggt depth-median --landmarks 0.5"
    which = f"--frames 3 --seed 4 --scenes 1 --id-map {tmp_path / 'id.json'} --fidelity-to seeded:micro"
    main([*what.split(), *which.split(), "--store", str(tmp_path / "store"), "--json", str(tmp_path / "e.json")])
    figures = json.loads((tmp_path / "e.json").read_text())
    assert (figures["split"], figures["landmarks"], figures["seed"]) == ("val", 0.5, 4)
    assert (figures["frames_per_scene"], figures["frames"]) == ([3, 3], "3 frames drawn")
    assert figures["protocol"] == "pose-vggt, depth-median"
    assert figures["fidelity"]["metrics"]["fidelity_depth_rel"] == 0
    assert (tmp_path / "id.json").exists()
    assert list((tmp_path / "store").iterdir())
    assert "against seeded:micro" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["seeded:micro", "--split", "calib"], "is for calibration"),
        (["seeded:micro", "--protocol", "nonsense"], "there is no protocol"),
        (["nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_errors_are_one_sentence(capsys, arguments, sentence):
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *arguments])
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
