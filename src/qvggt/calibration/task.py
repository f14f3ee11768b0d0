"""The objective end to end: from a unit's inputs through the rest of the model to cameras, depth and points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from qvggt.calibration.data import SceneBatch
from qvggt.calibration.objective import Target, TaskLoss, make_target, mean_loss, task_losses
from qvggt.calibration.units import ForwardState, Unit, model_units, run_units, start
from qvggt.model import VGGT
from qvggt.options import Supervision


@dataclass(frozen=True)
class Task:
    """What is to be matched on some scenes.

    Attributes:
        batches: the scenes.
        targets: one a batch.
        units: of the model, all of them.
    """

    batches: tuple[SceneBatch, ...]
    targets: tuple[Target, ...]
    units: tuple[Unit, ...]

    @torch.no_grad()
    def loss(self, model: VGGT, first: int = 0, states: Sequence[ForwardState] | None = None) -> TaskLoss:
        """Run the model from a unit on and return the objective's parts.

        Args:
            model: whose weights from that unit on count.
            first: index of the unit.
            states: before that unit, one a batch; from the images on if None.
        """
        before = [start(batch.images) for batch in self.batches] if states is None else states
        parts = [
            task_losses(run_units(model, self.units[first:], state).outputs, target)
            for state, target in zip(before, self.targets, strict=True)
        ]
        return mean_loss(parts, [batch.scenes for batch in self.batches])

    def first(self, scenes: int) -> Task:
        """Return the task on the first few scenes."""
        counts = first_of_batches([batch.scenes for batch in self.batches], scenes)
        batches = tuple(batch.first(count) for batch, count in zip(self.batches, counts, strict=False))
        targets = tuple(target.first(count) for target, count in zip(self.targets, counts, strict=False))
        return replace(self, batches=batches, targets=targets)

    def total(self, model: VGGT, first: int = 0, states: Sequence[ForwardState] | None = None) -> float:
        """Return the sum of the parts of ``loss``."""
        return self.loss(model, first, states).total


def first_of_batches(sizes: Sequence[int], scenes: int) -> list[int]:
    """Return how many scenes of each batch are among the first few of all; batches that have none are left out."""
    counts = []
    for size in sizes:
        counts.append(min(size, scenes))
        scenes -= counts[-1]
    return [count for count in counts if count]


@torch.no_grad()
def make_task(model: VGGT, batches: Sequence[SceneBatch], supervision: Supervision) -> Task:
    """Run the float model over scenes and return what a quantized model is to match.

    Args:
        model: the float model.
        batches: the scenes.
        supervision: ``truth`` needs scenes whose geometry is known; ``teacher`` takes what the float model says.

    Raises:
        ValueError: truth is asked for where it is not known.
        QvggtError: the float model's answers are not finite.
    """
    units = model_units(model)
    targets = []
    for batch in batches:
        if supervision == "truth" and batch.truth is None:
            raise ValueError("expected scenes whose geometry is known")
        outputs = run_units(model, units, start(batch.images)).outputs
        targets.append(make_target(outputs, batch.truth if supervision == "truth" else None))
    return Task(tuple(batches), tuple(targets), units)
