"""``--json -``: the JSON alone on standard output, wherever there is ``--json``."""

import inspect
import json

import pytest
from commands import MODEL, short_run

from qvggt.cli import COMMANDS

OF_A_RESULT = {
    "scale": ["--scale", "p0.jpg:p1.jpg=1m"],
    "refine": ["--overwrite"],
    "export": ["-o", "ply", "--format", "ply"],
}
JSON = sorted(name for name, command in COMMANDS.items() if "json" in inspect.signature(command).parameters)


def arguments(qvggt, command, photos, tmp_path):
    if command == "demo":
        return ["-o", tmp_path / "demo"]
    if command not in OF_A_RESULT:
        return short_run(command, photos, tmp_path)
    assert qvggt("reconstruct", MODEL, photos, "-o", tmp_path / "out").status == 0
    return [tmp_path / "out", *OF_A_RESULT[command]]


@pytest.mark.parametrize("command", [pytest.param(c, marks=pytest.mark.slow if c == "demo" else ()) for c in JSON])
def test_json_alone_on_standard_output(qvggt, photos, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    if command == "refine":
        pytest.importorskip("pycolmap")
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
