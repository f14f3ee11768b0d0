"""``qvggt train``: the small models that qvggt carries, from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from qvggt.cli.arguments import Device, Output, option
from qvggt.types import QvggtError


def _optional(metavar: str, text: str) -> object:
    return tyro.conf.arg(metavar=metavar, help=text, help_behavior_hint="(optional)")


def train(
    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE", help="nano, micro, or a JSON file")],
    output: Output,
    start_from: Annotated[Path | None, _optional("FILE", "weights to begin with")] = None,
    minutes: Annotated[float | None, _optional("NUMBER", "stop after this long, with a checkpoint")] = None,
    threads: Annotated[int | None, _optional("NUMBER", "of the CPU")] = None,
    device: Device = "cpu",
    render_apart: Annotated[
        bool, tyro.conf.FlagCreatePairsOff, option("", "render in a process of its own", "")
    ] = False,
) -> None:
    """Train a small VGGT on procedural rooms.

    Run again with the same folder, it goes on from its checkpoint.
    """
    import torch

    from qvggt.cli.show import say
    from qvggt.plots.training import plot_log
    from qvggt.train.loop import Progress
    from qvggt.train.loop import train as run
    from qvggt.train.recipe import load_recipe
    from qvggt.weights.open import open_weights

    if threads is not None:
        if threads < 1:
            raise QvggtError(f"the number of threads must be at least 1, got {threads}")
        torch.set_num_threads(threads)

    def show(progress: Progress) -> None:
        losses = "  ".join(f"{name} {value:.3f}" for name, value in progress.figures.items())
        say(
            f"step {progress.step} of {progress.steps}  {progress.step_seconds:.2f} s a step  "
            f"{progress.remaining_seconds / 60:.0f} min left  {losses}"
        )

    weights = open_weights(start_from) if start_from is not None else None
    path = run(load_recipe(recipe), output, device, weights, minutes, show, render_apart)
    say(f"weights: {path}, learning curve: {plot_log(output / 'log.jsonl', output / 'curve.png')}")
