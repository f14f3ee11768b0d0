"""``qvggt sensitivity``: the fragile parts of a model."""

import json

import pytest
from commands import MODEL
from PIL import Image

FEW = ("--calib-scenes", "2", "--calib-frames", "2", "--bits", "3", "8", "--group-size", "32")


@pytest.mark.render
def test_report_table_and_picture_on_rooms(qvggt, tmp_path):
    files = tmp_path / "deep" / "x.json", tmp_path / "deep" / "x.png"
    done = qvggt("sensitivity", "nano", "-o", files[0], "--plot", files[1], *FEW, "--granularity", "unit",
                 "--supervision", "truth")  # fmt: skip
    assert (done.status, done.err) == (0, "")
    values = json.loads(files[0].read_text())
    assert (values["model"], values["supervision"], values["granularity"]) == ("nano", "truth", "unit")
    assert (values["scenes"], values["images"]) == (1, 2)
    assert values["calibration"]["split"] == "calib"
    assert len(values["rows"]) == 2 * (1 + 2 + 18 + 3)
    assert {row["scheme"]["bits"] for row in values["rows"]} == {3, 8}
    worst = max((row for row in values["rows"] if row["scheme"]["bits"] == 3), key=lambda row: row["total_increase"])
    lines = [line for line in done.out.splitlines() if line.strip()]
    assert lines[1].split()[:6] == ["most", "fragile", "3", "bits", "8", "bits"]
    assert lines[2].split()[:2] == [worst["item"], f"{1000 * worst['total_increase']:+.3f}"]
    assert f"report: {files[0]}, picture: {files[1]}" in done.out
    with Image.open(files[1]) as picture:
        assert picture.format == "PNG"


def test_photographs_of_ones_own(qvggt, photos, tmp_path):
    arguments = (
        "--calib",
        photos,
        "--calib-scenes",
        "2",
        "--calib-frames",
        "1",
        "--bits",
        "4",
        "--granularity",
        "unit",
    )
    first, second = (tmp_path / f"{name}.json" for name in "ab")
    assert qvggt("sensitivity", MODEL, "-o", first, *arguments).status == 0
    assert qvggt("sensitivity", MODEL, "-o", second, *arguments).status == 0
    assert first.read_bytes() == second.read_bytes()
    assert json.loads(first.read_text())["supervision"] == "teacher"


def test_gradients_give_a_report_that_quantize_takes(qvggt, photos, tmp_path):
    few = ("--calib", photos, "--calib-scenes", "2", "--calib-frames", "1")
    report, folder = tmp_path / "x.json", tmp_path / "out"
    done = qvggt("sensitivity", MODEL, "-o", report, *few, "--bits", "3", "8", "--group-size", "32", "--by", "gradient")
    assert (done.status, done.err) == (0, "")
    values = json.loads(report.read_text())
    assert (values["by"], values["granularity"], values["version"]) == ("gradient", "part", 1)
    assert {row["scheme"]["bits"] for row in values["rows"]} == {3, 8}
    method = ("--method", "qvggt", "--without", "task", "compensate", "--group-size", "32", *few)
    given = ("--sensitivities", report, "--average-bits", "6.5")
    assert qvggt("quantize", MODEL, "-o", folder, *method, *given).status == 0
    recipe = json.loads((folder / "recipe.json").read_text())
    assert {values["bits"] for values in recipe["layers"].values()} >= {3, 8}
    assert recipe["provenance"]["sensitivities"]["granularity"] == "part"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "'nowhere' not found"),
        ((MODEL, "--by", "gradient", "--supervision", "truth"), "--by measurement"),
        ((MODEL, "--plot", "x.pdf"), ".png"),
        ((MODEL, "--bits", "9"), "from 2 to 8"),
        ((MODEL, "--calib-scenes", "1"), "at least 2 scenes"),
        ((MODEL, "--device", "abacus"), "device 'abacus' cannot be used"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(refused, tmp_path, arguments, words):
    assert words in refused("sensitivity", *arguments, "-o", tmp_path / "x.json")


def test_truth_of_photographs_and_quantized_models_are_refused(refused, photos, intact_checkpoint, tmp_path):
    calib = ("--calib", photos, "--calib-scenes", "2", "--calib-frames", "1", "-o", tmp_path / "x.json")
    assert "no ground truth" in refused("sensitivity", MODEL, *calib, "--supervision", "truth")
    assert "quantized already" in refused("sensitivity", intact_checkpoint, *calib)


@pytest.mark.render
def test_attention_report_has_a_plan_that_other_commands_take(qvggt, tmp_path):
    file = tmp_path / "plan.json"
    measured = ("--attention", "--attention-choices", "pooled 2", "frame", "--products", "0.8")
    timed = tmp_path / "timed.json"
    done = qvggt(
        "sensitivity", "nano", "-o", file, "--calib-scenes", "2", "--calib-frames", "3", "--json", timed, *measured
    )
    assert json.loads(file.read_text()).items() < json.loads(timed.read_text()).items()
    assert (done.status, done.err) == (0, "")
    values = json.loads(file.read_text())
    assert (values["model"], values["frames"], values["global_blocks"], len(values["rows"])) == ("nano", 3, 9, 18)
    assert 0 < values["products_share"] <= 0.8
    assert values["plan"]["levels"][0]["min_frames"] == 3
    assert f"the plan {values['products_share']:.3f}" in done.out
    folder = tmp_path / "nano-4bit"
    assert qvggt("quantize", "nano", "-o", folder, "--attention-plan", file).status == 0
    assert json.loads((folder / "recipe.json").read_text())["attention_plan"] == values["plan"]
    figures = tmp_path / "inspect.json"
    shown = qvggt("inspect", folder, "--json", figures).out
    (level,) = json.loads(figures.read_text())["attention"]
    assert (level["min_frames"], level["blocks"]) == (3, values["plan"]["levels"][0]["blocks"])
    assert level["products_share"] == pytest.approx(values["products_share"])
    assert f"global attention from 3 frames on: {', '.join(level['blocks'])}" in " ".join(shown.split())
    planned = [qvggt("plan", name, "--frames", "30").out.split("global attention")[1] for name in ("nano", folder)]
    assert planned[0] != planned[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--products", "0.001"), "allow at least"),
        (("--products", "0.5", "--max-loss", "1"), "two targets"),
        (("--attention-choices", "fast"), "'fast'"),
        (("--calib-frames", "1"), "at least 2 frames"),
        (("--plot", "x.png"), "leave out --plot"),
    ],
)
def test_attention_refuses_impossible_plans(qvggt, tmp_path, arguments, words):
    few = (
        ("--calib-scenes", "2", "--calib-frames", "2") if "--calib-frames" not in arguments else ("--calib-scenes", "2")
    )
    choices = () if "--attention-choices" in arguments else ("--attention-choices", "frame")
    done = qvggt("sensitivity", MODEL, "-o", tmp_path / "x.json", "--attention", *few, *choices, *arguments)
    assert done.status != 0
    assert words in done.err
