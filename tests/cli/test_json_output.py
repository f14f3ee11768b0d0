"""``--json -``: the JSON alone on standard output, wherever there is ``--json``."""

import inspect
import json

import numpy as np
import pytest
from commands import MODEL, short_run

from qvggt.cli import COMMANDS

WITHOUT_MODEL = {
    "demo": ["-o", "demo"],
    "doctor": ["--quick"],
    "render": ["rooms", "-o", "rooms", "--scenes", "1", "--frames", "2", "--size", "28"],
    "train": ["micro", "-o", "trained", "--minutes", "0.001"],
    "frames": ["walk.avi", "-o", "frames", "--number", "2"],
}
SLOW = {"demo", "doctor", "export-model"}
OF_A_RESULT = {
    "view": ["--html", "page.html"],
    "scale": ["--scale", "p0.jpg:p1.jpg=1m"],
    "refine": ["--overwrite"],
    "export": ["-o", "ply", "--format", "ply"],
}
JSON = sorted(
    name for name, command in COMMANDS.items() if "json" in inspect.signature(command).parameters and name != "push"
)


def arguments(qvggt, command, photos, tmp_path):
    if command in WITHOUT_MODEL:
        return WITHOUT_MODEL[command]
    if command not in OF_A_RESULT:
        return short_run(command, photos, tmp_path)
    assert qvggt("reconstruct", MODEL, photos, "-o", tmp_path / "out").status == 0
    return [tmp_path / "out", *OF_A_RESULT[command]]


def write_video(path):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for shade in range(4):
            frame = np.full((64, 64, 3), 60 * shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize("command", [pytest.param(c, marks=pytest.mark.slow if c in SLOW else ()) for c in JSON])
def test_json_alone_on_standard_output(qvggt, photos, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    if command == "refine":
        pytest.importorskip("pycolmap")
    if command == "frames":
        write_video(tmp_path / "walk.avi")
    if command == "export-model":
        pytest.importorskip("onnxruntime")
    given = arguments(qvggt, command, photos, tmp_path)
    done = qvggt(command, *given, "--json", "-")
    assert done.status == 0, done.err
    assert json.loads(done.out)
    assert not (tmp_path / "-").exists()
    assert done.err  # what is otherwise on standard output


def test_the_next_command_prints_to_standard_output_again(qvggt, intact_checkpoint):
    assert json.loads(qvggt("inspect", intact_checkpoint, "--json", "-").out)["parameters"] > 0
    done = qvggt("inspect", intact_checkpoint)
    assert (" parameters" in done.out, done.err) == (True, "")


def test_json_on_standard_output_is_that_of_the_file(qvggt, intact_checkpoint, tmp_path):
    printed = qvggt("inspect", intact_checkpoint, "--json", "-").out
    assert qvggt("inspect", intact_checkpoint, "--json", tmp_path / "x.json").status == 0
    assert printed == (tmp_path / "x.json").read_text()


def test_json_on_standard_output_is_ascii(qvggt, photos, tmp_path):
    (photos / "p0.jpg").rename(photos / "caf\u00e9 \U0001f600.jpg")
    done = qvggt("fidelity", MODEL, MODEL, photos, "--json", "-")
    assert done.out.isascii()
    assert "caf\u00e9 \U0001f600.jpg" in json.loads(done.out)["per_frame"]["names"]


def test_an_error_is_one_line_with_json_on_standard_output(refused, tmp_path):
    assert "does not exist" in refused("reconstruct", MODEL, tmp_path / "none", "-o", tmp_path / "out", "--json", "-")
