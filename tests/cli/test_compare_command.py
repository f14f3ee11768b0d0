"""``qvggt compare``: methods side by side."""

import json

import pytest
from commands import MODEL
from PIL import Image

FEW = ("--scenes", "2", "--frames", "2", "--calib-scenes", "2", "--calib-frames", "1", "--group-size", "32")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "qvggt"


@pytest.mark.render
def test_table_picture_and_json(qvggt, tmp_path, cache):
    files = "--json", tmp_path / "c.json", "--plot", tmp_path / "deep" / "c.png"
    done = qvggt("compare", MODEL, "--methods", "rtn", "smoothquant", "--bits", "4", "3", *FEW, *files)
    assert (done.status, done.err) == (0, "")
    lines = [line.split() for line in done.out.splitlines() if line.strip()]
    assert lines[1][:4] == ["method", "bits", "AUC@30", "AUC@30"]
    assert lines[1][4:6] == ["AUC@5", "AUC@3"]
    assert [tuple(line[:2]) for line in lines if line[0] in ("rtn", "smoothquant")] == 2 * [
        ("rtn", "4"), ("smoothquant", "4"), ("rtn", "3"), ("smoothquant", "3"),
    ]  # fmt: skip
    assert [line[0] for line in lines].count("bfloat16") == 2
    assert "against the cameras of the float model, without ground truth:" in done.out
    for needed in ("loss of", "AbsRel", "points", "consistency", "bits,", "95 %", "pose-standard", "2 scenes of 2"):
        assert needed in done.out
    values = json.loads((tmp_path / "c.json").read_text())
    assert [row["method"] for row in values["rows"]] == [
        "float", "bfloat16", "rtn", "smoothquant", "rtn", "smoothquant",
    ]  # fmt: skip
    assert {"fidelity_auc30", "fidelity_auc5", "fidelity_auc3"} <= values["rows"][2]["fidelity"]["metrics"].keys()
    with Image.open(tmp_path / "deep" / "c.png") as picture:
        assert picture.format == "PNG"
    assert len(list((cache / "compare").glob("*/checkpoint"))) == 4
    assert list((cache / "eval").iterdir())
    again = qvggt("compare", MODEL, "--methods", "rtn", "smoothquant", "--bits", "4", "3", *FEW, *files[:2])
    assert "checkpoints reused: 4" in again.out
    assert json.loads((tmp_path / "c.json").read_text()) | {"seconds": values["seconds"]} == values


def test_several_seeds_and_a_place_of_ones_own(qvggt, tmp_path, cache):
    store, figures = tmp_path / "store", tmp_path / "c.json"
    told = (
        "--methods",
        "smoothquant",
        "--half",
        "float16",
        "--seeds",
        "0",
        "3",
        "--supervision",
        "truth",
        "--store",
        store,
    )
    done = qvggt("compare", MODEL, *told, *FEW, "--json", figures)
    assert done.status == 0
    assert " .. " in done.out
    assert "seeds 0 3, supervised by the truth" in done.out
    values = json.loads(figures.read_text())
    assert [each["seed"] for each in values["rows"][2]["seeds"]] == [0, 3]
    assert values["rows"][1]["method"] == "float16"
    assert sorted(path.name for path in store.iterdir()) == ["compare", "eval"]
    assert not cache.exists()


def test_photographs_of_ones_own(qvggt, photos, tmp_path):
    told = ("--methods", "rtn", "smoothquant", "--calib", photos, "--json", tmp_path / "c.json")
    assert qvggt("compare", MODEL, *told, *FEW).status == 0
    values = json.loads((tmp_path / "c.json").read_text())
    assert values["rows"][3]["seeds"][0]["calibration"]["photographs"] == str(photos)


def test_a_method_that_fails_is_said_after_the_table(qvggt, photos, tmp_path):
    told = ("--methods", "rtn", "smoothquant", "--calib", photos, "--supervision", "truth")
    done = qvggt("compare", MODEL, *told, *FEW, "--json", tmp_path / "c.json")
    assert done.status == 1
    assert "smoothquant at 4 bits:" in done.sentence
    assert "no ground truth" in done.sentence
    assert "\nrtn " in done.out
    rows = json.loads((tmp_path / "c.json").read_text())["rows"]
    assert [bool(row["errors"]) for row in rows] == [False, False, False, True]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "'nowhere' not found"),
        ((MODEL, "--plot", "x.pdf"), ".png"),
        ((MODEL, "--bits", "9"), "from 2 to 8"),
        ((MODEL, "--methods", "magic"), "there is no method 'magic'"),
        ((MODEL, "--calib-scenes", "1"), "at least 2 scenes"),
        ((MODEL, "--split", "calib"), "is for calibration"),
        ((MODEL, "--calib", "nowhere/*.jpg"), "nothing matches"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(refused, arguments, words):
    assert words in refused("compare", *arguments)


def test_a_quantized_model_is_refused(refused, intact_checkpoint):
    assert "quantized already" in refused("compare", intact_checkpoint, *FEW)
