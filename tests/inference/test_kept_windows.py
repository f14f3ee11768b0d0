"""Windows kept in a folder: equal to those in memory, flat in memory, and continued after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import qvggt
from qvggt.export.npz import load_prediction
from qvggt.inference import windows
from qvggt.inference.kept_windows import windows_key
from qvggt.inference.windows import predict_windows
from qvggt.options import InferenceOptions, WindowOptions
from qvggt.types import FrameMap, ImageSet, QvggtError

WINDOWS = InferenceOptions(windows=WindowOptions(4, 2))


def image_set(count, seed=0):
    images = np.random.default_rng(seed).random((count, 3, 28, 28), dtype=np.float32)
    return ImageSet(images, (FrameMap((28, 28), (1.0, 1.0), (0.0, 0.0)),) * count, tuple(map(str, range(count))))


@pytest.fixture(scope="module")
def model():
    return qvggt.load("nano", compute="float32")


def assert_equal(found, expected):
    for name, value in vars(expected).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(np.asarray(getattr(found, name)), value, err_msg=name)


def test_predict_windows__a_folder_holds_what_memory_would(model, tmp_path):
    images = image_set(9)
    parts = []
    found = predict_windows(model, images, options=WINDOWS, on_window=parts.append, folder=tmp_path)
    assert_equal(found, predict_windows(model, images, options=WINDOWS))
    assert isinstance(found.depth.base, np.memmap)
    assert [len(part.names) for part in parts] == [4, 2, 2, 1]


def test_predict_windows__finished_windows_are_not_computed_again(model, tmp_path, monkeypatch, caplog):
    images, seen, predict = image_set(9), [], windows.predict
    expected = predict_windows(model, images, options=WINDOWS)

    def failing(model, images, *rest, **options):
        seen.append(images.names[0])
        if len(seen) == 3:
            raise QvggtError("stopped")
        return predict(model, images, *rest, **options)

    monkeypatch.setattr(windows, "predict", failing)
    with pytest.raises(QvggtError, match="stopped"):
        predict_windows(model, images, options=WINDOWS, folder=tmp_path)
    parts = []
    with caplog.at_level("INFO"):
        assert_equal(predict_windows(model, images, options=WINDOWS, folder=tmp_path, on_window=parts.append), expected)
    assert seen == ["0", "2", "4", "4", "5"]
    assert "window 2 of 4" in caplog.text
    assert [len(part.names) for part in parts] == [4, 2, 2, 1]


def test_predict_windows__other_images_begin_anew(model, tmp_path):
    predict_windows(model, image_set(9), options=WINDOWS, folder=tmp_path)
    other = image_set(9, seed=1)
    assert_equal(
        predict_windows(model, other, options=WINDOWS, folder=tmp_path), predict_windows(model, other, options=WINDOWS)
    )


def test_predict_windows__damaged_progress_begins_anew(model, tmp_path):
    images = image_set(9)
    expected = predict_windows(model, images, options=WINDOWS, folder=tmp_path)
    progress = tmp_path / "windows.json"
    for text in ("", "{}", json.dumps(json.loads(progress.read_text()) | {"arrays": ["gone"]})):
        progress.write_text(text)
        assert_equal(predict_windows(model, images, options=WINDOWS, folder=tmp_path), expected)


def test_windows_key__depends_on_all_that_the_result_does(model):
    images = image_set(5)
    key = windows_key(model, images, ("camera", "depth"), WINDOWS)
    assert key == windows_key(model, images, ("depth", "camera"), WINDOWS)
    assert key != windows_key(model, images, ("camera", "depth", "point"), WINDOWS)
    assert key != windows_key(model, image_set(5, seed=1), ("camera", "depth"), WINDOWS)
    assert key != windows_key(model, images, ("camera", "depth"), InferenceOptions(windows=WindowOptions(4, 1)))
    other = qvggt.load("nano", compute="float32")
    other.aggregator.camera_token.data.mul_(1.001)
    assert key != windows_key(other, images, ("camera", "depth"), WINDOWS)


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """A folder of 24 small pictures."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("walk")
    pixels = np.random.default_rng(0).integers(0, 255, (24, 63, 84, 3), np.uint8)
    for index, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{index:02}.png")
    return folder


def command(walk, output, *more):
    program = [sys.executable, "-m", "qvggt", "reconstruct", "nano", str(walk), "--output", str(output)]
    return [*program, "--window", "4", "--compute", "float32", *more]


def run_environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL")
def test_reconstruct__goes_on_after_a_kill(walk, tmp_path):
    output, whole = tmp_path / "out", tmp_path / "whole"
    kept = tmp_path / ".out.qvggt-windows"
    started = subprocess.Popen(command(walk, output), env=run_environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not finished_windows(kept) >= 3:
        time.sleep(0.01)
        assert started.poll() is None
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert finished_windows(kept) >= 3
    assert not output.exists()
    again = subprocess.run(command(walk, output), env=run_environment(), capture_output=True, text=True, check=True)
    assert "going on after window" in again.stdout + again.stderr
    assert not kept.exists()
    subprocess.run(command(walk, whole), env=run_environment(), capture_output=True, check=True)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(output) for path in output.rglob("*") if path.is_file())
    assert [name for name in files if (whole / name).read_bytes() != (output / name).read_bytes()] == []


def finished_windows(folder: Path) -> int:
    try:
        return json.loads((folder / "windows.json").read_text())["finished"]
    except (OSError, ValueError):
        return 0


def test_reconstruct__memory_does_not_grow_with_the_sequence(walk, tmp_path):
    long = tmp_path / "long"
    long.mkdir()
    pictures = sorted(walk.iterdir())
    for index in range(96):
        (long / f"{index:02}.png").write_bytes(pictures[index % 24].read_bytes())
    peaks = {}
    for frames in (32, 96):
        figures = tmp_path / f"{frames}.json"
        options = ("--window", "16", "--frames", str(frames), "--json", str(figures), "--max-points", "100000")
        run = command(long, tmp_path / str(frames), *options)
        subprocess.run(run, env=run_environment(), capture_output=True, check=True)
        peaks[frames] = json.loads(figures.read_text())["peak_memory_bytes"]
        assert len(load_prediction(tmp_path / str(frames) / "prediction.npz").names) == frames
    assert peaks[96] <= 1.05 * peaks[32]
