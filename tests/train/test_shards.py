"""Shards of a training step: the same weights whether one process takes them or several."""

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from qvggt.model import VGGT
from qvggt.train.loop import train
from qvggt.train.matching import Learner
from qvggt.train.optim import Optimizer, initialize
from qvggt.train.recipe import Phase, TrainRecipe, recipe_json
from qvggt.train.shards import all_shards, in_turn
from qvggt.train.step import render_step, step_loss
from qvggt.types import QvggtError

MIXED = Phase(3, 56, 6, frames=(2, 3), landmarks=(-1.0, 1.0), families=2, degrade_share=0.5)
SHARDED = TrainRecipe(
    "micro", (MIXED,), matching_weight=0.1, matching_layers=(1, 2), sketch_weight=0.5, validate_steps=100, shards=2
)


def learner() -> Learner:
    model = VGGT(SHARDED.config())
    initialize(model, seed=1)
    return Optimizer(model, SHARDED).learner


@pytest.fixture
def threads():
    """Set the number of threads, and set it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.process
def test_shards_side_by_side_train_to_the_same_bits(tmp_path, threads):
    threads(1)
    whole = load_file(train(SHARDED, tmp_path / "whole"))
    threads(2)
    train(SHARDED, tmp_path / "apart", minutes=0.01)
    apart = load_file(train(SHARDED, tmp_path / "apart"))
    assert torch.get_num_threads() == 2
    assert all(torch.equal(whole[name], apart[name]) for name in whole)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "apart")]
    assert logs[0] == logs[1]


def test_shards_have_rooms_of_their_own_and_the_first_those_of_a_step_without():
    plain = render_step(dataclasses.replace(SHARDED, shards=1), 1, "cpu")[0]
    first, second = (render_step(SHARDED, 1, "cpu", shard)[0] for shard in (0, 1))
    assert torch.equal(first.images, plain.images)
    assert first.images.shape == second.images.shape
    assert not torch.equal(first.images, second.images)


def test_a_steps_gradient_is_the_mean_of_its_shards():
    losses, gradients = [], []
    for shard in (0, 1):
        found = learner()
        rooms, rng = render_step(SHARDED, 0, "cpu", shard)
        loss = step_loss(found, rooms, rng, SHARDED, step=0)
        loss.total.backward()
        losses.append(loss)
        gradients.append([each.grad for each in found.trained()])
    both = learner()
    with in_turn(SHARDED, both, "cpu") as add:
        figures = add(0)
    assert figures.images == sum(loss.images for loss in losses)
    assert figures.losses["total"] == pytest.approx(float((losses[0].total + losses[1].total).detach()) / 2, rel=1e-5)
    for mean, *parts in zip([each.grad for each in both.trained()], *gradients, strict=True):
        assert mean is None or torch.allclose(mean, (parts[0] + parts[1]) / 2, atol=1e-6)


@pytest.mark.process
def test_a_process_that_ends_is_told(threads):
    threads(2)
    with all_shards(SHARDED, learner(), "cpu") as add:
        add(0)
        (helper,) = multiprocessing.active_children()
        os.kill(helper.pid, signal.SIGTERM)
        helper.join()
        with pytest.raises(QvggtError, match="run again to go on from the checkpoint"):
            add(1)


@pytest.mark.process
def test_processes_end_quietly_if_the_run_is_killed(tmp_path):
    recipe = tmp_path / "recipe.json"
    long = dataclasses.replace(SHARDED, phases=(dataclasses.replace(MIXED, steps=100000),))
    recipe.write_text(json.dumps(recipe_json(long)))
    command = [sys.executable, "-m", "qvggt", "train", recipe, "-o", tmp_path / "run", "--threads", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert "step 50 of" in run.stdout.readline()
        run.kill()
        out, err = run.communicate(timeout=60)  # ends when no process holds the pipes
    assert "Traceback" not in out + err
