"""The training loop: steps, checkpoints, validation, log. Stopped at any moment, it goes on where it was."""

from __future__ import annotations

import io
import json
import logging
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qvggt.calibration.fingerprint import fingerprint
from qvggt.checkpoint.tensors import TensorFileWriter
from qvggt.files import check_space, lock_folder, make_folder, new_file
from qvggt.files.read import read_json_lines, reading
from qvggt.model import VGGT
from qvggt.train.grow import begin_from
from qvggt.train.optim import Optimizer, initialize
from qvggt.train.recipe import TrainRecipe, parse_recipe, recipe_json
from qvggt.train.shards import AddGradients, all_shards
from qvggt.train.undivided import undivided
from qvggt.train.validate import validate
from qvggt.types import QvggtError
from qvggt.weights.open import FloatWeights
from qvggt.weights.verify import verify_file

log = logging.getLogger(__name__)

LOG = "log.jsonl"
REPORT_STEPS = 50
"""Steps between two lines of the log."""


@dataclass(frozen=True)
class Progress:
    """Where a run is: step done and in all, mean seconds a step lately, images seen, and the latest figures."""

    step: int
    steps: int
    step_seconds: float
    images: int
    figures: dict[str, float]

    @property
    def remaining_seconds(self) -> float:
        """Time that the rest would take at the present pace."""
        return (self.steps - self.step) * self.step_seconds


def train(
    recipe: TrainRecipe,
    folder: Path,
    device: str = "cpu",
    start_from: FloatWeights | None = None,
    minutes: float | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Train by a recipe, in a folder that keeps checkpoint, log and result.

    On a CPU with at least as many threads as a step has shards, each shard has a process of its own.

    Args:
        recipe: what to do.
        folder: holds ``checkpoint.pt``, ``log.jsonl`` and in the end ``weights.safetensors`` (float16, averaged
            weights). With a checkpoint of the same recipe in it the run goes on to the bit.
        device: where to train and render.
        start_from: weights to begin with in place of random ones; the warm-up rebuilds the optimizers' state.
        minutes: stop after this long, with a checkpoint: after one step at least, or none if it is 0.
        on_progress: called every few steps, and at the end.

    Returns:
        The path of the weights.

    Raises:
        QvggtError: the folder cannot be written, another run writes to it, it holds a checkpoint of another recipe or
            other weights to begin with, these are of another architecture, or the loss is not finite for long.
    """
    make_folder(folder)
    model = VGGT(recipe.config())
    initialize(model, recipe.seed, recipe.camera_norm, recipe.register_norm)
    if start_from is not None:
        begin_from(model, start_from)
    model.to(device).train()
    optimizer = Optimizer(model, recipe)
    run, reported = Run(recipe, folder, device, optimizer), -1
    with lock_folder(folder):
        run.resume(weights_given=start_from is not None)
        check_space(folder, run.checkpoint_bytes)
        deadline = time.monotonic() + 60 * minutes if minutes is not None else float("inf")
        with all_shards(recipe, optimizer.learner, device) as add_gradients:
            least = run.step + (minutes != 0)
            try:
                while run.step < recipe.steps and (run.step < least or time.monotonic() < deadline):
                    progress = run.advance(add_gradients)
                    if progress is not None:
                        on_progress(progress)
                        reported = run.step
            finally:
                run.save()
        if run.step != reported:
            on_progress(run.progress())  # unlogged: the log is that of a run that was not stopped
        return run.write_weights()


class Run:
    """The state of a run between steps."""

    def __init__(self, recipe: TrainRecipe, folder: Path, device: str, optimizer: Optimizer) -> None:
        self.recipe, self.folder, self.device, self.optimizer = recipe, folder, device, optimizer
        self.step = self.images = self.skipped = 0
        self.seconds = 0.0
        self.sums: dict[str, float] = {}
        self.count = self.taken = 0
        self.started = self.saved = time.monotonic()
        self.began_with = fingerprint(optimizer.model.state_dict().values())

    @property
    def checkpoint_bytes(self) -> int:
        """About how large a checkpoint is: weights, their average, and the optimizers' one or two values for each."""
        return 4 * sum(tensor.nbytes for tensor in self.optimizer.model.state_dict().values())

    def advance(self, add_gradients: AddGradients) -> Progress | None:
        """Take one step; validate and save when it is time. Return a report when it is time for one."""
        figures, report = add_gradients(self.step), None
        with undivided():
            norm = self.optimizer.step(self.step)
            self.skipped = 0 if norm < float("inf") else self.skipped + 1
            if self.skipped > 20:
                raise QvggtError("training diverged: 20 steps without a finite gradient; lower the learning rates")
            for name, value in figures.losses.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.count += 1
            self.taken += 1
            self.step += 1
            self.images += figures.images
            if self.step % REPORT_STEPS == 0:
                report = self.report()
        if self.validation_is_due():
            self.validate()
        if time.monotonic() - self.saved > 60 * self.recipe.checkpoint_minutes:
            self.save()
        return report

    def validation_is_due(self) -> bool:
        """Return whether the step that was taken last is one after which the averaged weights are validated."""
        return self.step % self.recipe.validate_steps == 0 or self.step == self.recipe.steps

    def validate(self) -> None:
        """Write the averaged weights' figures on held-out rooms to the log, all or none."""
        width, lines = self.recipe.phase_at(self.step - 1).image_px, []
        for landmarks in self.recipe.validate_landmarks:
            figures = validate(self.optimizer.average, width, landmarks, self.device)
            lines.append({"step": self.step, "images": self.images, "landmarks": landmarks, **figures})
        with undivided():
            for line in lines:
                self.write_line(line)

    def progress(self) -> Progress:
        """Return the means since the last report; no figures if no step was taken since."""
        figures = {name: value / self.count for name, value in self.sums.items()}
        pace = (time.monotonic() - self.started) / max(1, self.taken)
        return Progress(self.step, self.recipe.steps, step_seconds=pace, images=self.images, figures=figures)

    def report(self) -> Progress:
        """Write the means since the last report to the log and return them."""
        progress, now = self.progress(), time.monotonic()
        self.seconds, self.started = self.seconds + now - self.started, now
        line = {"step": self.step, "images": self.images, "seconds": round(self.seconds, 1)}
        self.write_line(line | {f"loss_{name}": round(value, 5) for name, value in progress.figures.items()})
        self.sums, self.count, self.taken = {}, 0, 0
        return progress

    def write_line(self, values: dict[str, float]) -> None:
        """Append a line to the log."""
        with (self.folder / LOG).open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(values) + "\n")

    def save(self) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "recipe": recipe_json(self.recipe),
            "step": self.step,
            "images": self.images,
            "seconds": self.seconds + time.monotonic() - self.started,
            "sums": self.sums,
            "count": self.count,
            "began_with": self.began_with,
            "torch_rng": torch.get_rng_state(),
            **self.optimizer.state(),
        }
        packed = io.BytesIO()  # written by Python, whose errors say what the system refused
        torch.save(state, packed)
        with new_file(self.folder / "checkpoint.pt", overwrite=True) as temporary:
            temporary.write_bytes(packed.getbuffer())
        self.saved = time.monotonic()

    def resume(self, *, weights_given: bool = False) -> None:
        """Go on from the folder's checkpoint, if there is one.

        Args:
            weights_given: whether weights to begin with are given, which then have to be the checkpoint's.
        """
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        verify_file(path)
        with reading(path, "move it away to begin anew"):
            try:
                self._restore(torch.load(path, map_location="cpu", weights_only=True), path, weights_given)
            except (RuntimeError, pickle.UnpicklingError) as error:
                raise ValueError(str(error)) from error
        lines = self.trim_log()
        validated = any(line["step"] == self.step and "landmarks" in line for line in lines)
        if self.step and self.validation_is_due() and not validated:
            self.validate()  # which was interrupted
        self.started = time.monotonic()
        log.info("going on from step %d", self.step)

    def _restore(self, state: dict[str, Any], path: Path, weights_given: bool) -> None:
        if parse_recipe(state["recipe"]) != self.recipe:
            raise QvggtError(
                f"{str(path)!r} belongs to another recipe; give another folder, or move it away (--output)"
            )
        if weights_given and state.get("began_with", self.began_with) != self.began_with:
            raise QvggtError(
                f"{str(path)!r} belongs to a run that began with other weights; leave out --start-from to go on, "
                "or give another folder (--output)"
            )
        self.began_with = state.get("began_with", self.began_with)
        self.optimizer.load(state)
        self.step, self.images, self.seconds = int(state["step"]), int(state["images"]), float(state["seconds"])
        self.sums, self.count = dict(state["sums"]), int(state["count"])
        torch.set_rng_state(state["torch_rng"])

    def trim_log(self) -> list[dict[str, Any]]:
        """Drop what the log says of steps after the checkpoint, which will be taken again; return what is left."""
        path = self.folder / LOG
        if not path.exists():
            return []
        lines = read_json_lines(path, "move it away")
        with reading(path, "move it away"):
            kept = [line for line in lines if line["step"] <= self.step]
        with new_file(path, overwrite=True) as temporary:
            temporary.write_text("".join(f"{json.dumps(line)}\n" for line in kept), encoding="utf-8", newline="\n")
        return kept

    def write_weights(self) -> Path:
        """Write the averaged weights as float16 and return their path."""
        path = self.folder / "weights.safetensors"
        weights = {name: tensor.detach().cpu().half() for name, tensor in self.optimizer.average.state_dict().items()}
        layout = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in weights.items()}
        about = {"format": "pt", "config": json.dumps(self.recipe.config().to_json())}
        with new_file(path, overwrite=True) as temporary, TensorFileWriter(temporary, layout, about) as writer:
            for name, tensor in weights.items():
                writer.write(name, tensor)
        return path
