"""How much the model's answer loses when one part of it is quantized and everything else stays as it is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from qvggt.calibration.activation_cache import Shelf
from qvggt.calibration.objective import TaskLoss, TaskWeights
from qvggt.calibration.size import Storage, storage_of
from qvggt.calibration.task import Task
from qvggt.calibration.units import HEADS, Unit, WalkState, advance, start
from qvggt.model import VGGT
from qvggt.nn.fake import fake_quantized, weights_replaced
from qvggt.options import Granularity
from qvggt.quant.scheme import LayerScheme, Scheme, scheme_from_json
from qvggt.types import BlockId, LayerId, PathLike, QvggtError

REPORT_VERSION = 1


Part = Literal["all", "qkv", "proj", "fc1", "fc2", "other", "conv"]
"""Kinds of layers in a unit; ``other`` are the camera head's linear layers outside its blocks, ``all`` a whole unit."""

PARTS: tuple[Part, ...] = ("qkv", "proj", "fc1", "fc2", "other", "conv")

_LEAVES: Mapping[str, Part] = {"attn.qkv": "qkv", "attn.proj": "proj", "mlp.fc1": "fc1", "mlp.fc2": "fc2"}


@dataclass(frozen=True)
class Item:
    """Layers that are quantized together.

    Attributes:
        name: ``frame/3``, ``frame/3 qkv``, or a layer's name.
        unit: that they belong to.
        part: of the unit.
        layers: in the model's order.
    """

    name: str
    unit: BlockId
    part: Part
    layers: tuple[LayerId, ...]


@dataclass(frozen=True)
class SensitivityRow:
    """What one item under one scheme does to the model.

    Attributes:
        item: what was quantized.
        scheme: to what; group sizes are as asked for, before they are made to divide a layer's width.
        loss: of the model with it.
        increase: of the loss over the float model's, part by part; below zero where the answer got better by chance.
        total: the increase, weighted; infinite where the answer is not finite.
        bytes: of the item's weights in a checkpoint.
    """

    item: Item
    scheme: LayerScheme
    loss: TaskLoss
    increase: TaskLoss
    total: float
    bytes: int


OnRow = Callable[[SensitivityRow, float], None]
"""Called with each row as it comes, and the share of the work that is done, 0..1."""


Rounder = Callable[[VGGT, Unit, Sequence[WalkState], LayerScheme], Mapping[LayerId, Tensor]]
"""Gives the weights [out, in] that a unit's linear layers have under a scheme, from the states that enter the unit."""


@dataclass(frozen=True)
class SensitivityReport:
    """What every item under every scheme does to the model.

    Attributes:
        granularity: of the items.
        baseline: loss of the float model.
        weights: of the loss's parts.
        rows: item by item in running order, the schemes of each in the order in which they were asked for.
        about: JSON-ready facts of the measurement: the model, the calibration scenes, the supervision.
    """

    granularity: Granularity
    baseline: TaskLoss
    weights: TaskWeights
    rows: tuple[SensitivityRow, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def schemes(self) -> tuple[LayerScheme, ...]:
        """The schemes, each once."""
        return tuple(dict.fromkeys(row.scheme for row in self.rows))

    @property
    def items(self) -> tuple[Item, ...]:
        """The items, each once."""
        return tuple(dict.fromkeys(row.item for row in self.rows))

    @property
    def scheme_nearest_4_bits(self) -> LayerScheme:
        """The scheme that tables and pictures show in full; of two that are as near the one with fewer bits."""
        return min(self.schemes, key=lambda scheme: (abs(scheme.bits - 4), scheme.bits))

    def most_fragile(self, scheme: LayerScheme) -> list[SensitivityRow]:
        """Return the rows of a scheme, those that lose the most first."""
        return sorted((row for row in self.rows if row.scheme == scheme), key=lambda row: -row.total)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping that ``from_json`` reads; what is infinite is None."""
        return {
            "version": REPORT_VERSION,
            **self.about,
            "granularity": self.granularity,
            "loss_weights": asdict(self.weights),
            "float_loss": _finite(self.baseline),
            "rows": [
                {
                    "item": row.item.name,
                    "unit": row.item.unit,
                    "part": row.item.part,
                    "layers": list(row.item.layers),
                    "scheme": row.scheme.to_json(),
                    "loss": _finite(row.loss),
                    "increase": _finite(row.increase),
                    "total_increase": row.total if math.isfinite(row.total) else None,
                    "bytes": row.bytes,
                }
                for row in self.rows
            ],
        }

    def totals_json(self) -> dict[str, Any]:
        """Return the total increases alone, by item, and by bits and group size, as JSON-ready values."""
        totals: dict[str, dict[str, float | None]] = {}
        for row in self.rows:
            total = row.total if math.isfinite(row.total) else None
            group = f"/{row.scheme.group_size}" if isinstance(row.scheme, Scheme) else ""
            totals.setdefault(row.item.name, {})[f"{row.scheme.bits}{group}"] = total
        return {"granularity": self.granularity, "float_loss": _finite(self.baseline), "total_increase": totals}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SensitivityReport:
        """Rebuild a report from ``to_json``.

        Raises:
            QvggtError: it is of another version, damaged, or no report at all.
        """
        version = values.get("version") if isinstance(values, Mapping) else None
        if version != REPORT_VERSION:
            raise QvggtError(
                f"the sensitivity report has version {version!r}, and this qvggt reads version {REPORT_VERSION}: "
                "measure again with qvggt sensitivity"
            )
        own = ("version", "granularity", "loss_weights", "float_loss", "rows")
        try:
            return cls(
                values["granularity"],
                _loss(values["float_loss"]),
                TaskWeights(**values["loss_weights"]),
                tuple(_row(row) for row in values["rows"]),
                {name: value for name, value in values.items() if name not in own},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise QvggtError(
                f"the sensitivity report is damaged ({error}): measure again with qvggt sensitivity"
            ) from error


def read_sensitivity(path: PathLike) -> SensitivityReport:
    """Read a report that ``qvggt sensitivity`` wrote.

    Raises:
        QvggtError: there is no such file, or it holds no report.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise QvggtError(
            f"{path} cannot be read as a sensitivity report ({error}): give what qvggt sensitivity wrote"
        ) from error
    return SensitivityReport.from_json(values)


def items_of(unit: Unit, granularity: Granularity) -> list[Item]:
    """Return what of a unit is quantized at a time; together all of its layers."""
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

    The float model is walked through once; an item costs what comes from its unit on.

    Args:
        model: the float model; it is as it was afterwards.
        task: the objective, with its scenes.
        schemes: to try.
        granularity: of the items.
        on_row: called with each row as it comes.
        memory_bytes: of activations in memory; what is beyond waits in temporary files.
        rounder: of linear layers' weights; they are rounded to nearest if None, as convolutions are in any case.

    Raises:
        ValueError: there is no scheme.
        QvggtError: weights are not finite, or a scheme would change a convolution's input.
    """
    if not schemes:
        raise ValueError("expected at least one scheme")
    schemes = tuple(dict.fromkeys(schemes))
    storage, baseline = storage_of(model.config), task.loss(model)
    work = [len(items_of(unit, granularity)) * len(_tail(task, index)) for index, unit in enumerate(task.units)]
    done, rows = 0.0, []
    for index, (unit, states) in enumerate(_walk(model, task, Shelf(memory_bytes))):
        tail = replace(task, units=_tail(task, index))
        given = {} if rounder is None else {scheme: rounder(model, unit, states, scheme) for scheme in schemes}
        for item in items_of(unit, granularity):
            for scheme in schemes:
                own = {layer: weight for layer, weight in given.get(scheme, {}).items() if layer in item.layers}
                nearest: dict[str, LayerScheme] = {layer: scheme for layer in item.layers if layer not in own}
                with fake_quantized(model, nearest), weights_replaced(model, own):
                    loss = tail.loss(model, 0, states)
                done += len(tail.units) / (len(schemes) * sum(work))
                rows.append(_measured(item, scheme, loss, baseline, task.weights, storage))
                on_row(rows[-1], min(done, 1.0))
    return SensitivityReport(granularity, baseline, task.weights, tuple(rows))


def _tail(task: Task, index: int) -> tuple[Unit, ...]:
    """Return the units whose answers depend on a unit: no head reads what another gives."""
    unit = task.units[index]
    return (unit,) if unit.kind in HEADS else task.units[index:]


def _walk(model: VGGT, task: Task, shelf: Shelf) -> Iterator[tuple[Unit, list[WalkState]]]:
    """Yield each unit with the float states that enter it; those of a head hold every head's answer already.

    Run on such a state, a head replaces its own answer and leaves those of the others.
    """
    states = [start(batch.images) for batch in task.batches]
    trunk = [unit for unit in task.units if unit.kind not in HEADS]
    heads = [unit for unit in task.units if unit.kind in HEADS]
    for unit in trunk:
        yield unit, states
        states = [shelf.put_state(advance(model, unit, state), state) for state in states]
    for unit in heads:
        states = [advance(model, unit, state) for state in states]
    for unit in heads:
        yield unit, states


def _measured(
    item: Item, scheme: LayerScheme, loss: TaskLoss, baseline: TaskLoss, weights: TaskWeights, storage: Storage
) -> SensitivityRow:
    increase = TaskLoss(**{name: value - getattr(baseline, name) for name, value in asdict(loss).items()})
    size = sum(storage.layer_bytes(layer, scheme) for layer in item.layers)
    return SensitivityRow(item, scheme, loss, increase, _total(increase, weights), size)


def _total(increase: TaskLoss, weights: TaskWeights) -> float:
    if not all(map(math.isfinite, asdict(increase).values())):
        return math.inf  # also where a weight of zero would make it NaN
    return increase.total(weights)


def _part(unit: Unit, layer: LayerId) -> Part:
    return "conv" if layer in unit.conv else _LEAVES.get(".".join(layer.split(".")[-2:]), "other")


def _finite(loss: TaskLoss) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in asdict(loss).items()}


def _loss(values: Mapping[str, float | None]) -> TaskLoss:
    return TaskLoss(**{name: math.inf if value is None else float(value) for name, value in values.items()})


def _row(values: Mapping[str, Any]) -> SensitivityRow:
    layers = tuple(LayerId(layer) for layer in values["layers"])
    return SensitivityRow(
        Item(values["item"], BlockId(values["unit"]), values["part"], layers),
        scheme_from_json(values["scheme"]),
        _loss(values["loss"]),
        _loss(values["increase"]),
        math.inf if values["total_increase"] is None else float(values["total_increase"]),
        int(values["bytes"]),
    )
