"""Quantizing from a float model to a checkpoint: interrupted, resumed, refused, begun anew."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from quantizing import MODEL, OPTIONS, PHOTOS, SAMPLE, SMALL, contents, shorten, small_model, with_options
from qvggt.api.quantize import UNFINISHED, quantize, quantize_to
from qvggt.api.reconstruct import load as qvggt_load
from qvggt.backends.cpu_int8 import CpuInt8Backend
from qvggt.calibration import unit_store
from qvggt.checkpoint.write import save_checkpoint
from qvggt.images.preprocess import load_images
from qvggt.options import ImageOptions
from qvggt.quant.scheme import Scheme
from qvggt.types import QvggtError
from qvggt.weights import open as checkpoint


@pytest.fixture(autouse=True)
def small_and_fast(monkeypatch):
    monkeypatch.setitem(checkpoint.PRESETS, MODEL.removeprefix("seeded:"), lambda: SMALL)
    shorten(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a function that quantizes without interruption, once for each method and options, and reads the bytes."""
    made = {}

    def run(method, options):
        key = (method, repr(options))
        if key not in made:
            folder = tmp_path_factory.mktemp("whole") / "out"
            quantize_to(MODEL, folder, method, options)
            made[key] = contents(folder)
        return made[key]

    return run


class Killed(BaseException):
    """Stands for a kill."""


def killed_at(stage, count=1):
    """Return a progress callback that ends the run when a stage has come up so many times."""
    seen = []

    def report(what, share):
        if what.startswith(stage):
            seen.append(what)
        if len(seen) >= count:
            raise Killed

    return report


def interrupt(folder, method="gptq", options=OPTIONS, stage="quantizing", count=4, **more):
    with pytest.raises(Killed):
        quantize_to(MODEL, folder, method, options, on_progress=killed_at(stage, count), **more)


def work_of(folder):
    return folder.with_name(folder.name + UNFINISHED)


@pytest.mark.parametrize(
    ("method", "stage", "count"),
    [
        ("gptq", "quantizing", 1),
        ("gptq", "quantizing", 5),
        ("smoothquant", "quantizing", 3),
        ("qvggt", "sensitivity", 9),
        ("qvggt", "quantizing frame/1", 1),
        ("qvggt", "compensation", 1),
        ("qvggt+", "tuning", 2),
    ],
)
def test_killed_and_resumed_gives_the_same_bytes(tmp_path, whole, method, stage, count):
    options = with_options(without=("task",)) if method == "qvggt" else OPTIONS
    resumed = tmp_path / "resumed"
    interrupt(resumed, method, options, stage, count)
    assert not resumed.exists()
    quantize_to(MODEL, resumed, method, options, resume=True)
    assert contents(resumed) == whole(method, options)
    assert [path.name for path in tmp_path.iterdir()] == ["resumed"]


def test_what_was_kept_is_not_done_again(tmp_path):
    folder, seen = tmp_path / "out", []
    options = with_options(without=("task", "compensate"))
    interrupt(folder, "qvggt", options, "quantizing", 4)
    kept = {path.name for path in work_of(folder).iterdir()}
    assert {"settings.json", "schemes.json"} < kept
    assert len(kept) == 2 + 4
    quantize_to(MODEL, folder, "qvggt", options, resume=True, on_progress=lambda what, share: seen.append(what))
    assert not any(what.startswith("sensitivity") for what in seen)


def test_a_damaged_result_is_made_again(tmp_path, whole):
    resumed = tmp_path / "resumed"
    interrupt(resumed)
    unit = work_of(resumed) / "frame-0.safetensors"
    unit.write_bytes(unit.read_bytes()[:-7])
    quantize_to(MODEL, resumed, "gptq", OPTIONS, resume=True)
    assert contents(resumed) == whole("gptq", OPTIONS)


def test_resume_after_a_kill_at_the_very_end_is_done_at_once(tmp_path, whole, monkeypatch):
    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("qvggt.api.quantize.remove_store", killed)
        with pytest.raises(KeyboardInterrupt):
            quantize_to(MODEL, folder, "gptq", OPTIONS)
    with pytest.raises(QvggtError, match="exists already"):
        quantize_to(MODEL, folder, "gptq", OPTIONS)
    monkeypatch.setattr("qvggt.api.quantize.quantize_calibrated", lambda *_, **__: pytest.fail("quantized again"))
    report = quantize_to(MODEL, folder, "gptq", OPTIONS, resume=True)
    assert report.losses is not None
    assert contents(folder) == whole("gptq", OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def killed(*_):
    raise KeyboardInterrupt


def test_photographs_that_were_replaced_are_not_resumed(tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(SAMPLE, photos)
    options = with_options(calibration=replace(PHOTOS, source=str(photos)))
    interrupt(tmp_path / "out", "gptq", options)
    for path in photos.glob("*.jpg"):
        with Image.open(path) as picture:
            picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    with pytest.raises(QvggtError, match="other settings"):
        quantize_to(MODEL, tmp_path / "out", "gptq", options, resume=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"scheme": Scheme(3, 16)},
        {"tokens": "patch"},
        {"float_type": "bfloat16"},
        {"layers": ("linear",)},
        {"calibration": replace(PHOTOS, frames=1)},
        {"calibration": replace(PHOTOS, seed=1)},
    ],
)
def test_other_options_are_not_resumed(tmp_path, changes):
    folder = tmp_path / "out"
    interrupt(folder)
    before = contents(work_of(folder))
    with pytest.raises(QvggtError, match="other settings"):
        quantize_to(MODEL, folder, "gptq", with_options(**changes), resume=True)
    with pytest.raises(QvggtError, match="other settings"):
        quantize_to(MODEL, folder, "awq", OPTIONS, resume=True)
    assert contents(work_of(folder)) == before
    assert not folder.exists()


def test_another_model_or_version_is_not_resumed(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    interrupt(folder)
    with pytest.raises(QvggtError, match="other settings"):
        quantize_to("seeded:micro", folder, "gptq", OPTIONS, resume=True)
    monkeypatch.setattr("qvggt.methods.run.current_versions", lambda: {"qvggt": "99", "torch": "99"})
    with pytest.raises(QvggtError, match="other settings"):
        quantize_to(MODEL, folder, "gptq", OPTIONS, resume=True)


def test_how_much_memory_is_used_is_no_setting(tmp_path, whole):
    folder = tmp_path / "out"
    interrupt(folder)
    quantize_to(MODEL, folder, "gptq", with_options(memory_bytes=1), resume=True)
    assert contents(folder) == whole("gptq", OPTIONS)


def test_an_interrupted_run_is_neither_forgotten_nor_replaced_unasked(tmp_path, whole):
    folder = tmp_path / "out"
    interrupt(folder)
    before = contents(work_of(folder))
    with pytest.raises(QvggtError, match=r"--resume.*--overwrite"):
        quantize_to(MODEL, folder, "gptq", OPTIONS)
    assert contents(work_of(folder)) == before
    quantize_to(MODEL, folder, "gptq", with_options(scheme=Scheme(3, 16)), overwrite=True)
    assert contents(folder) == whole("gptq", with_options(scheme=Scheme(3, 16)))
    assert not work_of(folder).exists()


def test_with_both_an_interrupted_replacement_goes_on(tmp_path):
    folder = tmp_path / "out"
    quantize_to(MODEL, folder, "rtn", OPTIONS)
    old = contents(folder)
    interrupt(folder, overwrite=True)
    assert contents(folder) == old
    kept = len(contents(work_of(folder)))
    interrupt(folder, count=1, overwrite=True, resume=True)
    assert len(contents(work_of(folder))) == kept
    quantize_to(MODEL, folder, "gptq", OPTIONS, overwrite=True, resume=True)
    assert contents(folder) != old
    assert not work_of(folder).exists()


def test_nothing_to_resume_is_a_beginning(tmp_path, whole):
    quantize_to(MODEL, tmp_path / "a", "gptq", OPTIONS, resume=True)
    assert contents(tmp_path / "a") == whole("gptq", OPTIONS)


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("magic", {}),
        ("gptq", {"without": ("tune",)}),
        ("gptq", {"supervision": "truth"}),
        ("gptq", {"layers": ("magic",)}),
        ("gptq", {"calibration": replace(PHOTOS, source="nowhere")}),
        ("gptq", {"calibration": replace(PHOTOS, frames=9)}),
        ("qvggt", {"average_bits": 0.5, "without": ("task",)}),
    ],
)
def test_what_is_refused_leaves_nothing_behind(tmp_path, method, changes):
    with pytest.raises(QvggtError):
        quantize_to(MODEL, tmp_path / "out", method, with_options(**changes))
    assert list(tmp_path.iterdir()) == []


def test_a_run_stopped_before_anything_was_kept_leaves_nothing_behind(tmp_path):
    interrupt(tmp_path / "out", stage="running", count=1)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_others_is_neither_used_nor_removed(tmp_path):
    folder = tmp_path / "out"
    work_of(folder).mkdir()
    (work_of(folder) / "thesis.safetensors").write_text("years of work")
    before = contents(work_of(folder))
    for how in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(QvggtError, match="something else"):
            quantize_to(MODEL, folder, "gptq", OPTIONS, **how)
    assert contents(work_of(folder)) == before
    quantize_to(MODEL, folder, "rtn", OPTIONS)  # needs no such folder
    assert contents(work_of(folder)) == before


def test_what_else_lies_in_the_folder_of_results_stays(tmp_path):
    folder = tmp_path / "out"
    interrupt(folder)
    (work_of(folder) / "notes.txt").write_text("mine")
    quantize_to(MODEL, folder, "gptq", OPTIONS, resume=True)
    assert contents(work_of(folder)) == {"notes.txt": b"mine"}


def test_a_file_in_the_way_is_said(tmp_path):
    work_of(tmp_path / "out").write_text("a file")
    with pytest.raises(QvggtError, match="something else"):
        quantize_to(MODEL, tmp_path / "out", "gptq", OPTIONS, overwrite=True)


def test_a_real_kill_while_a_unit_is_written_is_resumed(tmp_path, whole):
    script = f"""
import os, signal
from pathlib import Path
from quantizing import *
from qvggt.weights import open as weights
from qvggt.calibration import unit_store
from qvggt.api.quantize import quantize_to
weights.PRESETS["small"] = lambda: SMALL
real, calls = Path.write_bytes, []
def write_bytes(path, data):
    calls.append(None)
    real(path, data)
    if len(calls) == 3:
        os.truncate(path, 100)
        os.kill(os.getpid(), signal.SIGKILL)
Path.write_bytes = write_bytes
quantize_to(MODEL, {str(tmp_path / "out")!r}, "gptq", OPTIONS)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(Path(__file__).parents[1]), *sys.path))}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = sorted(path.name for path in work_of(tmp_path / "out").iterdir())
    assert any(name.startswith(unit_store.TEMPORARY) for name in left)
    quantize_to(MODEL, tmp_path / "out", "gptq", OPTIONS, resume=True)
    assert contents(tmp_path / "out") == whole("gptq", OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_report_says_what_was_made(tmp_path):
    report = quantize_to(MODEL, tmp_path / "out", "gptq", OPTIONS)
    assert report.folder == tmp_path / "out"
    assert report.parameters == sum(parameter.numel() for parameter in small_model().parameters())
    assert report.float_bytes == 4 * report.parameters
    files = contents(tmp_path / "out")
    sizes = {name: len(data) for name, data in files.items() if not name.startswith(".")}
    assert report.checkpoint_bytes == sum(sizes.values()) - sizes["README.md"]
    assert report.losses is not None
    assert report.losses.predicted is None
    assert report.stages["held_out_loss"] == vars(report.losses)
    plain = quantize_to(MODEL, tmp_path / "plain", "rtn", OPTIONS)
    assert plain.average_bits == report.average_bits
    assert (plain.losses, plain.stages) == (None, {})


def test_rounding_in_memory_and_to_a_folder_are_one(tmp_path):
    quantize_to(MODEL, tmp_path / "a", "rtn", OPTIONS)
    save_checkpoint(quantize(small_model(), "rtn", OPTIONS), tmp_path / "b")
    first, second = (contents(tmp_path / name)["model.safetensors"] for name in "ab")
    assert first == second


def test_a_carried_model_is_quantized_by_name():
    model = quantize("nano", "rtn")
    assert model.recipe.provenance.source == "nano"
    with torch.inference_mode():
        assert torch.isfinite(model(torch.rand(1, 1, 3, 112, 112))["pose_enc"]).all()
    with pytest.raises(QvggtError, match="quantized already"):
        quantize(model, "rtn")


def test_a_checkpoint_computes_in_integers(tmp_path):
    quantize_to("nano", tmp_path / "nano", "rtn")
    plain, integer = (qvggt_load(tmp_path / "nano", compute=compute) for compute in ("float", "int8"))
    images = torch.from_numpy(load_images(SAMPLE, ImageOptions(112, 14)).images)[None]
    with torch.inference_mode():
        expected, found = plain(images), integer(images)
    for name in ("pose_enc", "depth", "world_points"):
        assert float((found[name] - expected[name]).norm() / expected[name].norm()) < 0.05, name
    if CpuInt8Backend().unsupported_reason(torch.device("cpu")) is None:
        assert not torch.equal(found["pose_enc"], expected["pose_enc"])


def test_a_checkpoint_is_not_quantized_again(tmp_path):
    quantize_to(MODEL, tmp_path / "a", "rtn", OPTIONS)
    for method in ("rtn", "gptq"):
        with pytest.raises(QvggtError, match="quantized already"):
            quantize_to(tmp_path / "a", tmp_path / "b", method, OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
