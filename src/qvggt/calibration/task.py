"""The task objective on calibration scenes, evaluated end to end from any unit's inputs onward."""

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
    """Scenes, and the outputs that a quantized model should match on them.

    Attributes:
        batches: the scenes.
        targets: target outputs of each batch.
        units: all units of the model, in execution order.
    """

    batches: tuple[SceneBatch, ...]
    targets: tuple[Target, ...]
    units: tuple[Unit, ...]

    @torch.no_grad()
    def loss(self, model: VGGT, first: int = 0, states: Sequence[ForwardState] | None = None) -> TaskLoss:
        """Run the model from a unit onward and return the parts of the objective.

        Args:
            model: the model; only its weights from that unit onward are used.
            first: index of the unit.
            states: states before the unit, one per batch; None to start from the images with unit 0.
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
        targets = tuple(target.of(slice(count)) for target, count in zip(self.targets, counts, strict=False))
        return replace(self, batches=batches, targets=targets)

    def by_scene(self) -> Task:
        """Return the task with one scene in each batch."""
        images = [image for batch in self.batches for image in batch.images.split(1)]
        pairs = zip(self.batches, self.targets, strict=True)
        targets = tuple(target.of(slice(i, i + 1)) for batch, target in pairs for i in range(batch.scenes))
        return replace(self, batches=tuple(map(SceneBatch, images)), targets=targets)

    def total(self, model: VGGT, first: int = 0, states: Sequence[ForwardState] | None = None) -> float:
        """Return the sum of the parts of ``loss``."""
        return self.loss(model, first, states).total


def first_of_batches(sizes: Sequence[int], scenes: int) -> list[int]:
    """Return how many of the first few scenes each batch has; batches without any are left out."""
    counts = []
    for size in sizes:
        counts.append(min(size, scenes))
        scenes -= counts[-1]
    return [count for count in counts if count]


@torch.no_grad()
def make_task(model: VGGT, batches: Sequence[SceneBatch], supervision: Supervision) -> Task:
    """Return the task of matching ground truth, or the float model's outputs, on some scenes.

    Args:
        model: the float model.
        batches: the scenes.
        supervision: ``truth`` for ground truth, ``teacher`` for the float model's outputs.

    Raises:
        ValueError: a scene has no ground truth.
        QvggtError: the float model's outputs are not finite.
    """
    units = model_units(model)
    targets = []
    for batch in batches:
        if supervision == "truth" and batch.truth is None:
            raise ValueError("expected scenes with ground truth")
        outputs = run_units(model, units, start(batch.images)).outputs
        targets.append(make_target(outputs, batch.truth if supervision == "truth" else None))
    return Task(tuple(batches), tuple(targets), units)
