"""The same flags on every command that runs or opens a model."""

import inspect
import json

import pytest
import torch
from commands import MODEL, short_run

from qvggt.cli import COMMANDS

WHERE, HOW, WHICH = {"device", "threads"}, {"compute"}, {"revision"}
FLAGS = {
    "reconstruct": WHERE | HOW | WHICH,
    "evaluate": WHERE | HOW | WHICH,
    "compare": WHERE | HOW | WHICH,
    "fidelity": WHERE | HOW | WHICH,
    "bench": WHERE | HOW | WHICH,
    "quantize": WHERE | WHICH,  # codes and losses are those of float32
    "sensitivity": WHERE | WHICH,
    "app": WHERE | HOW | WHICH,
    "export-model": HOW | WHICH,  # traces on the CPU
    "plan": HOW | WHICH,  # runs nothing; its figures are a CPU's
    "inspect": WHICH,  # reads files only
}
"""Of each command that takes a MODEL."""
NO_MODEL = {"frames", "view", "scale", "refine", "export", "train", "render", "demo", "doctor", "push"}
"""Of these, ``demo`` runs nano the same way everywhere, and ``train`` starts from weights of its own."""


def options_of(command):
    return set(inspect.signature(COMMANDS[command]).parameters)


def test_every_command_is_in_one_of_the_tables():
    assert {*FLAGS, *NO_MODEL} == set(COMMANDS)
    assert not {name for name in NO_MODEL if options_of(name) & {"model", "models"}}


@pytest.mark.parametrize("command", FLAGS)
def test_flags_of_a_command_with_a_model(command, qvggt):
    assert options_of(command) & (WHERE | HOW | WHICH) == FLAGS[command]
    said = qvggt(command, "--help").out
    assert all(f"--{flag}" in said for flag in FLAGS[command])


@pytest.fixture
def own_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("command", ["reconstruct", "fidelity", "quantize", "sensitivity"])
@pytest.mark.usefixtures("own_threads")
def test_threads_of_the_process(qvggt, photos, tmp_path, command):
    other = torch.get_num_threads() % 2 + 1
    assert qvggt(command, *short_run(command, photos, tmp_path), "--threads", other).status == 0
    assert torch.get_num_threads() == other


@pytest.mark.parametrize("command", sorted(name for name in FLAGS if "threads" in FLAGS[name] and name != "app"))
def test_no_threads_are_refused(refused, photos, tmp_path, command):
    assert "thread" in refused(command, *short_run(command, photos, tmp_path), "--threads", "0")


@pytest.mark.parametrize("command", sorted(name for name in FLAGS if "device" in FLAGS[name] and name != "app"))
def test_a_device_that_does_not_exist_is_refused(refused, photos, tmp_path, command):
    sentence = refused(command, *short_run(command, photos, tmp_path), "--device", "cuda:99")
    assert "cuda:99" in sentence
    assert "--device" in sentence


def test_fidelity_of_compute_modes(qvggt, photos, tmp_path, intact_checkpoint):
    def depth_percent(*options):
        place = tmp_path / "x.json"
        assert qvggt("fidelity", MODEL, intact_checkpoint, photos, "--json", place, *options).status == 0
        return json.loads(place.read_text())["means"]["depth_percent"]

    exact, rounded = depth_percent(), depth_percent("--compute", "bfloat16")
    assert exact != rounded
    assert rounded == pytest.approx(exact, rel=0.5)
