"""Sensitivities of all items under all schemes, estimated from one forward and one backward pass.

Against the float model's own predictions the objective is zero at the float weights, and so is its gradient: what a
rounding error ΔW loses is how far it moves the outputs. Its mean square is E⟨g, ΔW⟩² over the gradients g of random
probes (``calibration/probes.py``). Errors of rounding to nearest are almost independent of each other, so that it is
Σ E[g²] ΔW²: squared gradients are summed once per weight, and serve every scheme. (HAWQ and Fisher-based methods take
the same diagonal, of other losses.) Second-order rounding makes the errors of a row depend on each other, so that they
cancel in the layer's output; then the squared error of each output is what counts, by the sum of its row's E[g²].
With three scenes or more, each scene is probed by one head.

Errors may cancel in other ways, as where two hidden units answer alike and what leaves them differs in sign: both are
rounded alike, and the model says the same. ⟨g, ΔW⟩² shows it, but a single one is a very noisy estimate of its mean.
Its ratio to the estimate is averaged over all probes and schemes of a layer, and taken where it is clearly below 1;
parts with such a layer may be measured instead.

Heads are measured: they run alone, which takes little time, and the camera head, which runs four times over, is far
from linear in its weights.

The model runs unit by unit: forward with the inputs of every unit kept, then backward, with every unit run once more
on its inputs. Gradients exist for one unit and scene at a time, their sums of squares for one unit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from scipy.stats import chi2
from torch import Tensor

from qvggt.calibration.activation_cache import ActivationCache
from qvggt.calibration.objective import POSE_HUBER, TaskLoss, mean_loss, task_losses
from qvggt.calibration.probes import Changes, Probed, ProbedLayers, Pull, heads_of_scene, output_probes, pull_back
from qvggt.calibration.sensitivity import (
    OnRow,
    RoundedUnit,
    Rounder,
    SensitivityReport,
    SensitivityRow,
    distinct,
    items_of,
    losses_of_unit,
    measure_sensitivity,
    rounded_unit,
    sensitivity_row,
    tail_of,
    unit_inputs,
)
from qvggt.calibration.size import storage_of
from qvggt.calibration.statistics import observe, pooled
from qvggt.calibration.task import Task
from qvggt.calibration.units import HEADS, ForwardState, Unit
from qvggt.model import VGGT
from qvggt.model.camera_head import POSE_DIM
from qvggt.nn.fake import fake_quantize
from qvggt.options import Granularity, SensitivityBy, Supervision
from qvggt.quant.scheme import LayerScheme, Scheme
from qvggt.types import BlockId, LayerId, QvggtError

_MEAN_NORMAL = {1: math.sqrt(2 / math.pi), 3: math.sqrt(8 / (3 * math.pi))}
"""Mean magnitude of a normal error in one and three dimensions over its root mean square."""

_CHANCE = 1e-3
"""Errors cancel if independent ones would come out as small by chance in less than this share of layers."""

SquaredErrors = Mapping[str, float]
"""Mean squared errors of the heads' outputs, by head, as ``output_probes`` weights them."""


@torch.no_grad()
def estimate_sensitivity(
    model: VGGT,
    task: Task,
    schemes: Sequence[LayerScheme],
    granularity: Granularity = "part",
    on_row: OnRow = lambda row, share: None,
    memory_bytes: int = 4 << 30,
    rounder: Rounder | None = None,
    seed: int = 0,
    *,
    measure_doubtful: bool = False,
) -> SensitivityReport:
    """Estimate the loss of the whole model with exactly one item quantized, for all items and schemes.

    Args:
        model: the float model; it is not changed.
        task: the objective of matching the float model's outputs, with its scenes.
        schemes: schemes to estimate; they may not change layers' inputs.
        granularity: of the items.
        on_row: called with each row as soon as it is estimated, those of the last unit first.
        memory_bytes: memory budget for activations; the rest is kept in temporary files.
        rounder: quantizes linear layers; they are rounded to nearest if None, as convolutions always are.
        seed: random seed of the probes.
        measure_doubtful: whether items with a layer whose errors cancel are measured, as ``measure_sensitivity`` does.

    Raises:
        ValueError: no scheme is given.
        QvggtError: weights are not finite, or a scheme would change a layer's input.
    """
    schemes, single = distinct(schemes), task.by_scene()
    _check_weights_only(schemes)
    inputs = list(unit_inputs(model, single, ActivationCache(memory_bytes)))
    ends = [(state.outputs, target) for state, target in zip(inputs[-1][1], single.targets, strict=True)]
    storage, signs = storage_of(model.config), torch.Generator().manual_seed(seed)
    baseline = mean_loss([task_losses(*end) for end in ends], [1] * len(ends))
    pulls = [output_probes(*end, signs, heads_of_scene(scene, len(ends))) for scene, end in enumerate(ends)]
    rows: dict[BlockId, list[SensitivityRow]] = {}
    while inputs:
        unit, states = inputs.pop()
        items, tail = items_of(unit, granularity), replace(single, units=tail_of(single, len(inputs)))
        rounded = rounded_unit(model, unit, states, schemes, rounder=rounder)
        if unit.kind in HEADS:
            _taken_back(model, unit, states, pulls, changes={})
            estimates, measured = {}, items
        else:
            estimates, cancelled = _errors_of_block(model, unit, states, schemes, pulls=pulls, rounded=rounded)
            measured = [each for each in items if measure_doubtful and not cancelled.isdisjoint(each.layers)]
        found = losses_of_unit(model, tail, states, schemes, items=measured, rounded=rounded)
        rows[unit.id] = []
        for item, scheme in itertools.product(items, schemes):
            if item in measured:
                *_, loss = next(found)
            else:
                loss = _loss([estimates[layer, scheme] for layer in item.layers], baseline)
            rows[unit.id].append(sensitivity_row(item, scheme, loss, baseline, storage=storage))
            on_row(rows[unit.id][-1], len(rows) / len(task.units))
    ordered = [row for unit in task.units for row in rows[unit.id]]
    return SensitivityReport(granularity, baseline, tuple(ordered))


def find_sensitivity(
    model: VGGT,
    task: Task,
    schemes: Sequence[LayerScheme],
    by: SensitivityBy,
    supervision: Supervision,
    granularity: Granularity = "part",
    on_row: OnRow = lambda row, share: None,
    memory_bytes: int = 4 << 30,
    rounder: Rounder | None = None,
) -> SensitivityReport:
    """Find the loss of the whole model with exactly one item quantized, for all items and schemes.

    Args:
        model: the float model; its weights are restored afterwards.
        task: the objective, with its scenes.
        schemes: schemes to try.
        by: see ``SensitivityOptions.by``.
        supervision: of the task.
        granularity: of the items.
        on_row: called with each row as soon as it is found.
        memory_bytes: memory budget for activations; the rest is kept in temporary files.
        rounder: quantizes linear layers; they are rounded to nearest if None, as convolutions always are.

    Raises:
        ValueError: no scheme is given.
        QvggtError: weights are not finite, or gradients are asked for and cannot tell of these schemes.
    """
    given = {"on_row": on_row, "memory_bytes": memory_bytes, "rounder": rounder}
    judged = supervision == "teacher" and all(map(_keeps_inputs, schemes))
    if by == "measurement" or (by == "auto" and not judged):
        return measure_sensitivity(model, task, schemes, granularity, **given)
    return estimate_sensitivity(model, task, schemes, granularity, **given, measure_doubtful=by == "auto")


def _keeps_inputs(scheme: LayerScheme) -> bool:
    return not isinstance(scheme, Scheme) or scheme.weights_only


def _check_weights_only(schemes: Sequence[LayerScheme]) -> None:
    """Raise QvggtError if gradients cannot tell what a scheme loses."""
    if not all(map(_keeps_inputs, schemes)):
        raise QvggtError(
            "gradients tell nothing of rounded or rotated inputs: measure the sensitivities of such schemes instead "
            "(--by measurement)"
        )


def _taken_back(
    model: VGGT, unit: Unit, states: Sequence[ForwardState], pulls: list[dict[str, Pull]], changes: Changes
) -> Mapping[str, ProbedLayers]:
    """Take the probes of every scene, in place, back over a unit; return what they say about its layers, by head."""
    total: dict[str, dict[LayerId, Probed]] = {}
    for scene, state in enumerate(states):
        pulls[scene], probed = pull_back(model, unit, state, pulls[scene], changes=changes)
        for head, layers in probed.items():
            sums = total.setdefault(head, {})
            for layer, found in layers.items():
                sums[layer] = sums[layer].and_(found) if layer in sums else found
    return total


def _errors(found: Probed, changes: Sequence[Tensor], grams: Sequence[Tensor | None]) -> list[float]:
    """Return the mean squared errors of a head's outputs by changes of a layer's weight.

    Given the gram [in, in] of the layer's inputs, errors of a row may depend on each other: squared gradients are
    taken as the product of one factor per row and the mean squares of the inputs.
    """
    mean, errors = found.squares / len(found.along), []
    for change, gram in zip(changes, grams, strict=True):
        if gram is None:
            errors.append(float((mean * change.square()).sum()))
        else:
            outputs = ((change @ gram) * change).sum(1).clamp(min=0) / gram.trace().clamp(min=1e-30)
            errors.append(float((mean.sum(1) * outputs).sum()))
    return errors


def _cancelled(found: Mapping[str, tuple[Probed, list[float]]]) -> float:
    """Return the share of a layer's squared errors that is left where they cancel, else 1."""
    ratios = [
        ratio
        for probed, errors in found.values()
        for along in probed.along.cpu()
        for ratio in (along.square() / torch.tensor(errors))[torch.tensor(errors) > 0].tolist()
    ]
    if not ratios or chi2.cdf(sum(ratios), len(ratios)) > _CHANCE:
        return 1.0
    return sum(ratios) / len(ratios)


def _errors_of_block(
    model: VGGT,
    unit: Unit,
    states: Sequence[ForwardState],
    schemes: Sequence[LayerScheme],
    pulls: list[dict[str, Pull]],
    rounded: RoundedUnit,
) -> tuple[Mapping[tuple[LayerId, LayerScheme], SquaredErrors], frozenset[LayerId]]:
    """Take the probes back over a block; return the squared errors of outputs by its layers, and where they cancel."""
    layers, grams = (*unit.linear, *unit.conv), {}
    if any(rounded.values()):
        grams = {layer: pooled(found).gram for layer, found in observe(model, unit, states).items()}
    given = [rounded.get(scheme, {}) for scheme in schemes]
    changes = {layer: [_change(model, layer, *pair) for pair in zip(schemes, given, strict=True)] for layer in layers}
    probed = _taken_back(model, unit, states, pulls, changes=changes)
    errors: dict[tuple[LayerId, LayerScheme], SquaredErrors] = {}
    cancelled = set()
    for layer in layers:
        used = [grams.get(layer) if layer in each else None for each in given]
        found = {
            head: (each[layer], _errors(each[layer], changes[layer], used))
            for head, each in probed.items()
            if layer in each
        }
        left = _cancelled(found)
        if left < 1:
            cancelled.add(layer)
        for index, scheme in enumerate(schemes):
            errors[layer, scheme] = {head: left * values[index] for head, (_, values) in found.items()}
    return errors, frozenset(cancelled)


def _change(model: VGGT, layer: LayerId, scheme: LayerScheme, rounded: Mapping[LayerId, Tensor]) -> Tensor:
    """Return the rounding error of a layer's weight."""
    weight = model.get_parameter(f"{layer}.weight").detach()
    values = rounded[layer].view(weight.shape) if layer in rounded else fake_quantize(weight, scheme)
    return values - weight


def _loss(errors: Sequence[SquaredErrors], baseline: TaskLoss) -> TaskLoss:
    """Return the objective with the errors of several layers, which are independent of each other."""
    camera, depth, point = (math.sqrt(sum(found.get(head, 0.0) for found in errors)) for head in HEADS)
    moved = depth**2 + point**2 + POSE_DIM * camera**2  # a number of the pose moves points about as much as itself
    return TaskLoss(
        baseline.camera + expected_huber(camera, POSE_HUBER) / POSE_HUBER,
        baseline.depth + depth * _MEAN_NORMAL[1],
        baseline.point + point * _MEAN_NORMAL[3],
        math.sqrt(baseline.geometry**2 + moved),
    )


def expected_huber(deviation: float, threshold: float) -> float:
    """Return the mean Huber loss of a normal error with a standard deviation and mean zero.

    >>> round(expected_huber(1e-3, 1.0) / 1e-6, 6)
    0.5
    >>> round(expected_huber(1e3, 1.0) / 1e3, 3)
    0.797
    """
    if deviation == 0:
        return 0.0
    ratio = threshold / deviation
    density = math.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    beyond = math.erfc(ratio / math.sqrt(2))  # share of errors above the threshold
    inside = deviation**2 / 2 * (1 - beyond - 2 * ratio * density)
    return inside + threshold * (2 * deviation * density - threshold / 2 * beyond)
