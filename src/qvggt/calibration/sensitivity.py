"""Sensitivity of the model's predictions to quantizing one part while everything else stays in floating point."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from qvggt.calibration.activation_cache import ActivationCache
from qvggt.calibration.objective import TaskLoss
from qvggt.calibration.size import Storage, storage_of
from qvggt.calibration.task import Task
from qvggt.calibration.units import HEADS, ForwardState, Unit, advance, start
from qvggt.files.read import read_json, reading
from qvggt.model import VGGT
from qvggt.nn.fake import fake_quantized, weights_replaced
from qvggt.options import Granularity
from qvggt.quant.scheme import LayerScheme, Scheme, scheme_from_json
from qvggt.types import BlockId, LayerId, PathLike, QvggtError

REPORT_VERSION = 1


Part = Literal["all", "qkv", "proj", "fc1", "fc2", "other", "conv"]
"""Kinds of layers in a unit: ``other`` are the camera head's linear layers outside its blocks, ``all`` a whole unit."""

PARTS: tuple[Part, ...] = ("qkv", "proj", "fc1", "fc2", "other", "conv")

_LEAVES: Mapping[str, Part] = {"attn.qkv": "qkv", "attn.proj": "proj", "mlp.fc1": "fc1", "mlp.fc2": "fc2"}


@dataclass(frozen=True)
class Item:
    """Layers that are quantized together.

    Attributes:
        name: ``frame/3``, ``frame/3 qkv``, or a layer's name.
        unit: the block or head that they belong to.
        part: kind of the layers.
        layers: their names, in the model's order.
    """

    name: str
    unit: BlockId
    part: Part
    layers: tuple[LayerId, ...]


@dataclass(frozen=True)
class SensitivityRow:
    """Loss of the model with one item quantized by one scheme.

    Attributes:
        item: the layers that were quantized.
        scheme: their scheme, with its group size as requested, before it is made to divide a layer's width.
        loss: loss of the model.
        increase: increase of each part of the loss over the float model's; below zero if it decreased by chance.
        total: sum of the increases; infinite if the prediction is not finite.
        bytes: size of the item's weights in a checkpoint.
    """

    item: Item
    scheme: LayerScheme
    loss: TaskLoss
    increase: TaskLoss
    total: float
    bytes: int


OnRow = Callable[[SensitivityRow, float], None]
"""Called with each row as soon as it is measured, and the share of the work done, 0 to 1."""

Rounder = Callable[[VGGT, Unit, Sequence[ForwardState], LayerScheme], Mapping[LayerId, Tensor]]
"""Returns the quantized weights [out, in] of a unit's linear layers under a scheme, given the unit's inputs."""

RoundedUnit = Mapping[LayerScheme, Mapping[LayerId, Tensor]]
"""What a ``Rounder`` returns for a unit, by scheme."""


@dataclass(frozen=True)
class SensitivityReport:
    """Sensitivity of every item under every scheme.

    Attributes:
        granularity: of the items.
        baseline: loss of the float model.
        rows: one per item and scheme, items in execution order, schemes in the order requested.
        about: JSON-ready facts about the measurement: the model, the calibration scenes, the supervision.
    """

    granularity: Granularity
    baseline: TaskLoss
    rows: tuple[SensitivityRow, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def schemes(self) -> tuple[LayerScheme, ...]:
        """All schemes, without repetition."""
        return tuple(dict.fromkeys(row.scheme for row in self.rows))

    @property
    def items(self) -> tuple[Item, ...]:
        """All items, without repetition."""
        return tuple(dict.fromkeys(row.item for row in self.rows))

    @property
    def scheme_nearest_4_bits(self) -> LayerScheme:
        """The scheme that tables and plots show in full; if two are equally near, the one with fewer bits."""
        return min(self.schemes, key=lambda scheme: (abs(scheme.bits - 4), scheme.bits))

    def most_fragile(self, scheme: LayerScheme) -> list[SensitivityRow]:
        """Return the rows of a scheme, largest increase first."""
        return sorted((row for row in self.rows if row.scheme == scheme), key=lambda row: -row.total)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping that ``from_json`` reads; infinity becomes None."""
        return {
            "version": REPORT_VERSION,
            **self.about,
            "granularity": self.granularity,
            "loss_weights": dict.fromkeys(asdict(self.baseline), 1.0),  # part of the report format
            "float_loss": finite_json(self.baseline),
            "rows": [
                {
                    "item": row.item.name,
                    "unit": row.item.unit,
                    "part": row.item.part,
                    "layers": list(row.item.layers),
                    "scheme": row.scheme.to_json(),
                    "loss": finite_json(row.loss),
                    "increase": finite_json(row.increase),
                    "total_increase": row.total if math.isfinite(row.total) else None,
                    "bytes": row.bytes,
                }
                for row in self.rows
            ],
        }

    def totals_json(self) -> dict[str, Any]:
        """Return only the total increases, by item and by bits and group size, as JSON-ready values."""
        totals: dict[str, dict[str, float | None]] = {}
        for row in self.rows:
            total = row.total if math.isfinite(row.total) else None
            group = f"/{row.scheme.group_size}" if isinstance(row.scheme, Scheme) else ""
            totals.setdefault(row.item.name, {})[f"{row.scheme.bits}{group}"] = total
        return {"granularity": self.granularity, "float_loss": finite_json(self.baseline), "total_increase": totals}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SensitivityReport:
        """Rebuild a report from ``to_json``.

        Raises:
            QvggtError: the mapping has another version, is damaged, or is not a report.
        """
        version = values.get("version") if isinstance(values, Mapping) else None
        if version != REPORT_VERSION:
            raise QvggtError(
                f"the sensitivity report has version {version!r}, but this qvggt reads version {REPORT_VERSION}: "
                "measure again with qvggt sensitivity"
            )
        own = ("version", "granularity", "loss_weights", "float_loss", "rows")
        try:
            return cls(
                values["granularity"],
                loss_from_json(values["float_loss"]),
                tuple(_row(row) for row in values["rows"]),
                {name: value for name, value in values.items() if name not in own},
            )
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise QvggtError(
                f"the sensitivity report is damaged ({error}): measure again with qvggt sensitivity"
            ) from error


def read_sensitivity(path: PathLike) -> SensitivityReport:
    """Read a report that ``qvggt sensitivity`` wrote.

    Raises:
        QvggtError: the file does not exist, or is not a report.
    """
    remedy, what = "measure again with qvggt sensitivity", "the sensitivity report"
    values = read_json(path, remedy, what)
    with reading(path, remedy, what):
        return SensitivityReport.from_json(values)


def items_of(unit: Unit, granularity: Granularity) -> list[Item]:
    """Split a unit's layers into items of the given granularity."""
    layers = (*unit.linear, *unit.conv)
    if granularity == "unit":
        return [Item(unit.id, unit.id, "all", layers)]
    if granularity == "layer":
        return [Item(layer, unit.id, _part(unit, layer), (layer,)) for layer in layers]
    items = []
    for part in PARTS:
        members = tuple(layer for layer in layers if _part(unit, layer) == part)
        if members:
            items.append(Item(f"{unit.id} {part}", unit.id, part, members))
    return items


@torch.no_grad()
def measure_sensitivity(
    model: VGGT,
    task: Task,
    schemes: Sequence[LayerScheme],
    granularity: Granularity = "part",
    on_row: OnRow = lambda row, share: None,
    memory_bytes: int = 4 << 30,
    rounder: Rounder | None = None,
) -> SensitivityReport:
    """Measure the loss of the whole model with exactly one item quantized, for all items and schemes.

    The float model runs once, unit by unit; each measurement then runs the model from the item's unit onward.

    Args:
        model: the float model; its weights are restored afterwards.
        task: the objective, with its scenes.
        schemes: schemes to measure.
        granularity: of the items.
        on_row: called with each row as soon as it is measured.
        memory_bytes: memory budget for activations; the rest is kept in temporary files.
        rounder: quantizes linear layers; they are rounded to nearest if None, as convolutions always are.

    Raises:
        ValueError: no scheme is given.
        QvggtError: weights are not finite, or a scheme would change a convolution's input.
    """
    schemes = distinct(schemes)
    storage, baseline = storage_of(model.config), task.loss(model)
    work = [len(items_of(unit, granularity)) * len(tail_of(task, index)) for index, unit in enumerate(task.units)]
    done, rows = 0.0, []
    for index, (_, states) in enumerate(unit_inputs(model, task, ActivationCache(memory_bytes))):
        tail = replace(task, units=tail_of(task, index))
        items = items_of(tail.units[0], granularity)
        rounded = rounded_unit(model, tail.units[0], states, schemes, rounder=rounder)
        for item, scheme, loss in losses_of_unit(model, tail, states, schemes, items=items, rounded=rounded):
            done += len(tail.units) / (len(schemes) * sum(work))
            rows.append(sensitivity_row(item, scheme, loss, baseline, storage=storage))
            on_row(rows[-1], min(done, 1.0))
    return SensitivityReport(granularity, baseline, tuple(rows))


def distinct(schemes: Sequence[LayerScheme]) -> tuple[LayerScheme, ...]:
    """Return schemes without repetition; raise ValueError if there are none."""
    if not schemes:
        raise ValueError("expected at least one scheme")
    return tuple(dict.fromkeys(schemes))


def rounded_unit(
    model: VGGT, unit: Unit, states: Sequence[ForwardState], schemes: Sequence[LayerScheme], rounder: Rounder | None
) -> RoundedUnit:
    """Return a unit's weights as a rounder quantizes them by every scheme; none if they are rounded to nearest."""
    return {} if rounder is None else {scheme: rounder(model, unit, states, scheme) for scheme in schemes}


def losses_of_unit(
    model: VGGT,
    tail: Task,
    states: Sequence[ForwardState],
    schemes: Sequence[LayerScheme],
    items: Sequence[Item],
    rounded: RoundedUnit,
) -> Iterator[tuple[Item, LayerScheme, TaskLoss]]:
    """Yield the loss of the model with each of some items of a task's first unit quantized, from the states before."""
    for item in items:
        for scheme in schemes:
            own = {layer: weight for layer, weight in rounded.get(scheme, {}).items() if layer in item.layers}
            nearest: dict[str, LayerScheme] = {layer: scheme for layer in item.layers if layer not in own}
            with fake_quantized(model, nearest), weights_replaced(model, own):
                loss = tail.loss(model, 0, states)
            yield item, scheme, loss


def tail_of(task: Task, index: int) -> tuple[Unit, ...]:
    """Return the units to run from a unit onward: heads do not depend on each other."""
    unit = task.units[index]
    return (unit,) if unit.kind in HEADS else task.units[index:]


def unit_inputs(model: VGGT, task: Task, cache: ActivationCache) -> Iterator[tuple[Unit, list[ForwardState]]]:
    """Yield each unit with the float model's states before it.

    The states before a head already contain the outputs of all heads: running one head replaces its own output only.
    """
    states = [start(batch.images) for batch in task.batches]
    trunk = [unit for unit in task.units if unit.kind not in HEADS]
    heads = [unit for unit in task.units if unit.kind in HEADS]
    for unit in trunk:
        yield unit, states
        states = [cache.put_state(advance(model, unit, state), state) for state in states]
    for unit in heads:
        states = [advance(model, unit, state) for state in states]
    for unit in heads:
        yield unit, states


def sensitivity_row(
    item: Item, scheme: LayerScheme, loss: TaskLoss, baseline: TaskLoss, storage: Storage
) -> SensitivityRow:
    """Return the row of an item with which the model has some loss, given the float model's."""
    increase = TaskLoss(**{name: value - getattr(baseline, name) for name, value in asdict(loss).items()})
    size = sum(storage.layer_bytes(layer, scheme) for layer in item.layers)
    total = increase.total if all(map(math.isfinite, asdict(increase).values())) else math.inf
    return SensitivityRow(item, scheme=scheme, loss=loss, increase=increase, total=total, bytes=size)


def _part(unit: Unit, layer: LayerId) -> Part:
    return "conv" if layer in unit.conv else _LEAVES.get(".".join(layer.split(".")[-2:]), "other")


def finite_json(loss: TaskLoss) -> dict[str, float | None]:
    """Return the parts of a loss as JSON-ready values; infinity becomes None."""
    return {name: value if math.isfinite(value) else None for name, value in asdict(loss).items()}


def loss_from_json(values: Mapping[str, float | None]) -> TaskLoss:
    """Return the loss that ``finite_json`` wrote."""
    return TaskLoss(**{name: math.inf if value is None else float(value) for name, value in values.items()})


def _row(values: Mapping[str, Any]) -> SensitivityRow:
    layers = tuple(LayerId(str(layer)) for layer in values["layers"])
    return SensitivityRow(
        Item(str(values["item"]), BlockId(str(values["unit"])), values["part"], layers),
        scheme=scheme_from_json(values["scheme"]),
        loss=loss_from_json(values["loss"]),
        increase=loss_from_json(values["increase"]),
        total=math.inf if values["total_increase"] is None else float(values["total_increase"]),
        bytes=int(values["bytes"]),
    )
