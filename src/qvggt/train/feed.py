"""Rooms of the steps to come, rendered by a process of its own while the model learns."""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Protocol

import numpy as np
import torch

from qvggt.data.rooms.family import RoomBatch
from qvggt.train.recipe import TrainRecipe
from qvggt.train.step import render_step
from qvggt.types import QvggtError

AHEAD = 3
"""Steps rendered before they are asked for."""


class Renderer(Protocol):
    """What gives a step's rooms, and the random numbers for what else the step draws."""

    def __call__(self, step: int) -> tuple[RoomBatch, np.random.Generator]:
        """Return them."""
        ...


@contextmanager
def rendered_here(recipe: TrainRecipe, device: str) -> Iterator[Renderer]:
    """Render between the steps, on the device."""
    yield lambda step: render_step(recipe, step, device)


@contextmanager
def rendered_apart(recipe: TrainRecipe, first_step: int) -> Iterator[Renderer]:
    """Render on the CPU in another process, for steps in order from ``first_step``; rooms are the same to the bit."""
    context = multiprocessing.get_context("spawn")
    batches = context.Queue(AHEAD)
    process = context.Process(target=_render, args=(recipe, first_step, batches), daemon=True)

    def next_rooms(step: int) -> tuple[RoomBatch, np.random.Generator]:
        while True:
            try:
                found, arrays, rng = batches.get(timeout=5.0)
                break
            except queue.Empty:
                if not process.is_alive():
                    raise QvggtError("the rendering process ended; run again to go on from the checkpoint") from None
        assert found == step
        return RoomBatch(*(torch.from_numpy(array) for array in arrays)), rng

    process.start()
    try:
        yield next_rooms
    finally:
        process.kill()
        process.join()


def _render(recipe: TrainRecipe, first_step: int, batches: multiprocessing.Queue) -> None:
    torch.set_num_threads(1)
    for step in range(first_step, recipe.steps):
        rooms, rng = render_step(recipe, step, "cpu")
        batches.put((step, [getattr(rooms, part.name).numpy() for part in fields(rooms)], rng))
