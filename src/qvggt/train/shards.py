"""A step's gradients, shard by shard: in turn, or each in a process of its own, to the same bits."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing.connection import Connection

import torch
import torch.multiprocessing
from torch import Tensor

from qvggt.train.matching import Learner
from qvggt.train.recipe import TrainRecipe
from qvggt.train.step import StepFigures, render_step, step_loss
from qvggt.types import QvggtError

AddGradients = Callable[[int], StepFigures]
"""Adds a step's gradients, means over its shards, to a learner's, and returns the step's figures."""


def all_shards(recipe: TrainRecipe, learner: Learner, device: str) -> AbstractContextManager[AddGradients]:
    """Take shards side by side on a CPU that has threads for all of them, else in turn."""
    threads = torch.get_num_threads() // recipe.shards
    if device == "cpu" and recipe.shards > 1 and threads:
        return side_by_side(recipe, learner, threads)
    return in_turn(recipe, learner, device)


@contextmanager
def in_turn(recipe: TrainRecipe, learner: Learner, device: str) -> Iterator[AddGradients]:
    """Take the shards of a step one after another."""

    def add(step: int) -> StepFigures:
        shards = range(recipe.shards)
        return StepFigures.of_shards([_take(recipe, learner, step, shard=shard, device=device) for shard in shards])

    yield add


@contextmanager
def side_by_side(recipe: TrainRecipe, learner: Learner, threads: int) -> Iterator[AddGradients]:
    """Take the first shard of a step here and every other one in a process of its own, on the CPU.

    The processes read the weights from shared memory, and wait while the optimizer updates them.

    Args:
        recipe: of the run.
        learner: its weights are moved to shared memory.
        threads: PyTorch threads of each process, this one included.
    """
    before = torch.get_num_threads()
    for module in learner.modules():
        module.share_memory()
    context = torch.multiprocessing.get_context("spawn")
    processes, helpers = [], []
    try:
        torch.set_num_threads(threads)
        for shard in range(1, recipe.shards):
            near, far = context.Pipe()
            gradient = torch.zeros(sum(each.numel() for each in learner.trained())).share_memory_()
            work = (recipe, learner, shard, gradient, threads, far)
            processes.append(context.Process(target=_work, args=work, daemon=True))
            processes[-1].start()
            far.close()  # the other end raises EOFError once the process has ended
            helpers.append((near, gradient))

        def add(step: int) -> StepFigures:
            try:
                for line, _ in helpers:
                    line.send(step)
                found = [_take(recipe, learner, step, shard=0, device="cpu")]
                for line, gradient in helpers:
                    found.append(line.recv())
                    _add(learner, gradient)
            except (EOFError, OSError):
                raise QvggtError("a process of the training ended; run again to go on from the checkpoint") from None
            return StepFigures.of_shards(found)

        yield add
    finally:
        torch.set_num_threads(before)
        for process in processes:
            process.kill()
            process.join()


def _work(recipe: TrainRecipe, learner: Learner, shard: int, gradient: Tensor, threads: int, line: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches this process too; the main one kills it
    torch.set_num_threads(threads)
    with suppress(EOFError, OSError):  # the run was killed
        while True:
            step = line.recv()
            figures = _take(recipe, learner, step, shard=shard, device="cpu")
            gradient.copy_(torch.cat([_gradient(each).flatten() for each in learner.trained()]))
            for parameter in learner.trained():
                parameter.grad = None
            line.send(figures)


def _take(recipe: TrainRecipe, learner: Learner, step: int, shard: int, device: str) -> StepFigures:
    rooms, rng = render_step(recipe, step, device, shard)
    loss = step_loss(learner, rooms, rng, recipe, step=step)
    (loss.total / recipe.shards).backward()
    return StepFigures.of_loss(loss)


@torch.no_grad()
def _add(learner: Learner, gradient: Tensor) -> None:
    parameters = learner.trained()
    for parameter, part in zip(parameters, gradient.split([each.numel() for each in parameters]), strict=True):
        parameter.grad = _gradient(parameter).add_(part.view_as(parameter))


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
