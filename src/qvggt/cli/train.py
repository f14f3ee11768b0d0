"""``qvggt train``: train the small models from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from qvggt.cli import arguments as given
from qvggt.cli.arguments import option
from qvggt.options import RunOptions


def train(
    recipe: Annotated[str, given.Positional, given.argument("RECIPE", "nano-1 to nano-5, micro, or a JSON file")],
    output: given.Output,
    start_from: Annotated[Path | None, option("FILE", "initial weights")] = None,
    minutes: Annotated[float | None, option("NUMBER", "stop after this long, with a checkpoint")] = None,
    threads: given.TorchThreads = None,
    device: given.Device = RunOptions.device,
    json: given.Json = None,
) -> None:
    """Train a small VGGT on procedural rooms.

    Run again with the same folder to resume from its checkpoint.
    """
    from qvggt.backends import usable_device
    from qvggt.cli.show import check_figures, save_figures, say
    from qvggt.plots.training import plot_log
    from qvggt.train.loop import LOG, Progress
    from qvggt.train.loop import train as run
    from qvggt.train.recipe import load_recipe
    from qvggt.weights.open import open_weights

    given.use_threads(threads)
    check_figures(json)
    last: dict[str, Any] = {"step": 0}

    def show(progress: Progress) -> None:
        last.update(step=progress.step, steps=progress.steps, step_seconds=progress.step_seconds, **progress.figures)
        if not progress.figures:
            return
        losses = "  ".join(f"{name} {value:.3f}" for name, value in progress.figures.items())
        say(
            f"step {progress.step} of {progress.steps}  {progress.step_seconds:.2f} s per step  "
            f"{progress.remaining_seconds / 60:.0f} min left  {losses}"
        )

    plan = load_recipe(recipe)
    weights = open_weights(start_from).complete() if start_from is not None else None
    path = run(plan, output, usable_device(device), weights, minutes=minutes, on_progress=show)
    if last["step"] < plan.steps:
        say(f"stopped after {last['step']} of {plan.steps} steps: run again with the same folder to go on")
    curve = ", no learning curve yet: too few steps"
    if (output / LOG).exists():
        curve = f", learning curve: {plot_log(output / LOG, output / 'curve.png')}"
    say(f"weights: {path}{curve}")
    save_figures(json, last)
