"""``qvggt quantize`` with methods that are calibrated."""

import json
import re
import time

import pytest
from commands import MODEL, contents, finish, process

from quantizing import SAMPLE

FEW = ("--calib", SAMPLE / "*.jpg", "--calib-scenes", "3", "--calib-frames", "1", "--group-size", "32")


def test_a_summary_figures_and_a_checkpoint_that_reconstructs(qvggt, photos, tmp_path):
    place, figures = tmp_path / "4bit", tmp_path / "figures.json"
    done = qvggt("quantize", MODEL, "-o", place, "--method", "gptq", *FEW, "--json", figures)
    assert done.status == 0
    lines = done.out.splitlines()
    assert re.fullmatch(rf"{re.escape(str(place))}: 0\.\d M parameters at \d\.\d\d bits, .*", lines[0])
    assert re.fullmatch(r"loss on held-out scenes: \d+\.\d{4} \(float model \d+\.\d{4}\)", lines[1])
    assert re.fullmatch(r"stage +s +peak memory so far", lines[2])
    assert [line.split()[0] for line in lines[3:-1]] == [
        "opening", "hashing", "reading", "running", "quantizing", "measuring", "writing"
    ]  # fmt: skip
    assert re.fullmatch(r"\d+\.\d s, peak memory .*B", lines[-1])
    values = json.loads(figures.read_text())
    assert set(values) == {
        "model", "method", "parameters", "average_bits", "checkpoint_bytes", "float32_bytes", "seconds",
        "peak_memory_bytes", "held_out_loss", "stages", "costs",
    }  # fmt: skip
    assert (values["model"], values["method"]) == (MODEL, "gptq")
    assert values["held_out_loss"].keys() == {"float_model", "quantized", "predicted"}
    assert f"{values['held_out_loss']['quantized']:.4f}" in lines[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4bit", "figures.json", "photos"]
    assert qvggt("reconstruct", place, photos, "-o", tmp_path / "out").status == 0
    assert "gptq" in qvggt("inspect", place).out


def test_stages_are_told_with_their_verdict(qvggt, tmp_path):
    arguments = ("--method", "qvggt", "--without", "select", "task", *FEW, "--layers", "global")
    done = qvggt("quantize", MODEL, "-o", tmp_path / "out", *arguments, "--json", tmp_path / "x.json")
    assert done.status == 0
    assert re.search(r"^compensate: (kept|dropped), the loss went from \d+\.\d{4} to \d+\.\d{4}$", done.out, re.M)
    notes = json.loads((tmp_path / "x.json").read_text())["stages"]["compensate"]
    assert ("compensate: kept" in done.out) == notes["accepted"]
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe.get("compensation", False) is notes["accepted"]
    assert recipe["provenance"]["options"]["without"] == ["select", "task"]


def test_rounding_to_nearest_says_nothing_of_losses(qvggt, tmp_path):
    done = qvggt("quantize", MODEL, "-o", tmp_path / "out", "--group-size", "32", "--json", tmp_path / "x.json")
    assert len(done.out.splitlines()) == 2
    assert not {"held_out_loss", "stages"} & set(json.loads((tmp_path / "x.json").read_text()))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--method", "magic"), "magic"),
        (("--method", "gptq", "--without", "magic"), "no stage 'magic' to leave out"),
        (("--method", "qvggt", "--without", "tune"), "choose from select, filter, compensate, task"),
        (("--method", "gptq", "--tokens", "magic"), "token class 'magic'"),
        (("--method", "gptq", "--calib", "nowhere"), "nowhere"),
        (("--method", "gptq", "--calib-scenes", "1"), "at least 2 scenes"),
        (("--method", "gptq", "--calib-frames", "0"), "at least 1 frame"),
        (("--method", "gptq", "--supervision", "truth"), "no ground truth"),
        (("--method", "smoothquant", "--activation-bits", "3"), "activation bits must be"),
        (("--method", "qvggt", "--average-bits", "4", "--max-bytes", "1000"), "budgets"),
        (("--method", "gptq", "--bits", "9"), "from 2 to 8, got 9"),
        (("--method", "gptq", "--layers", "magic"), "no layer matches 'magic'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(refused, tmp_path, options, words):
    assert words in refused("quantize", MODEL, "-o", tmp_path / "out", *FEW, *options)


def test_a_folder_without_pictures_and_one_with_too_few(refused, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    command = ("quantize", MODEL, "-o", tmp_path / "out", "--method", "gptq")
    assert str(tmp_path / "empty") in refused(*command, "--calib", tmp_path / "empty")
    assert "too few images for 2 scenes of 8" in refused(*command, "--calib", photos)


def test_photographs_of_ones_own_are_recorded(qvggt, photos, tmp_path):
    command = ("--method", "smoothquant", "--calib", photos, "--calib-scenes", "2", "--calib-frames", "1")
    assert qvggt("quantize", MODEL, "-o", tmp_path / "out", *command).status == 0
    calibration = json.loads((tmp_path / "out" / "recipe.json").read_text())["provenance"]["calibration"]
    assert calibration["photographs"] == str(photos)
    assert calibration["names"] == ["p0.jpg", "p1.jpg"]


@pytest.mark.process
def test_interrupted_resumed_and_begun_anew(qvggt, refused, tmp_path):
    folder, work = tmp_path / "out", tmp_path / "out.unfinished"
    command = ("quantize", MODEL, "-o", folder, "--method", "gptq", *FEW)
    running = process(*command)
    while not len(list(work.glob("[!.]*.safetensors"))) > 1 and running.poll() is None:
        time.sleep(0.01)
    running.terminate()
    done = finish(running)
    assert done.status == 143
    assert work.is_dir()
    assert not folder.exists()
    assert "--resume" in refused(*command)
    assert "other settings" in refused(*command, "--resume", "--bits", "3")
    assert qvggt(*command, "--resume").status == 0
    assert not work.exists()
    resumed = {path.removeprefix(str(folder)): value for path, value in contents(folder).items()}
    again = tmp_path / "again"
    assert qvggt("quantize", MODEL, "-o", again, "--method", "gptq", *FEW).status == 0
    assert resumed == {path.removeprefix(str(again)): value for path, value in contents(again).items()}


def test_options_that_rounding_to_nearest_does_not_use_are_named(qvggt, tmp_path):
    plain = qvggt("quantize", "seeded:micro", "-o", tmp_path / "a")
    done = qvggt(
        "quantize",
        "seeded:micro",
        "-o",
        tmp_path / "b",
        "--calib",
        tmp_path,
        "--activation-bits",
        "8",
        "--without",
        "task",
    )
    assert (plain.status, plain.err) == (0, "")
    assert done.status == 0
    assert "rtn is not calibrated and ignores --calib and what follows it, --activation-bits, --without" in done.err
