"""A model as an ordered list of units, blocks and heads, that are executed one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from qvggt.model import VGGT
from qvggt.model.units import ForwardState, unit_modules
from qvggt.options import ALL_HEADS, DENSE_FRAMES
from qvggt.types import BlockId, LayerId

HEADS: tuple[str, ...] = ALL_HEADS
"""Kinds of the last units: none reads what another gives."""


@dataclass(frozen=True)
class Unit:
    """A part of the model that runs as a whole.

    Attributes:
        id: ``patch_embed`` (the projection), ``patch_embed/3``, ``frame/3``, ``global/3``, ``camera``, ``depth`` or
            ``point`` (whole heads).
        module: dotted name of what runs.
        linear: its linear layers, in the model's order.
        conv: its convolutions.
    """

    id: BlockId
    module: str
    linear: tuple[LayerId, ...]
    conv: tuple[LayerId, ...]

    @property
    def kind(self) -> str:
        """The id without its index."""
        return self.id.partition("/")[0]

    @property
    def index(self) -> int | None:
        """The index, if it has one."""
        index = self.id.partition("/")[2]
        return int(index) if index else None


def start(images: Tensor) -> ForwardState:
    """Return the state before the first unit, for images [B, S, 3, H, W]."""
    return ForwardState(images, images.new_empty(0))


def model_units(model: VGGT) -> tuple[Unit, ...]:
    """Return every unit of a model in running order; together they hold every layer."""
    return tuple(_unit(model, unit, module) for unit, module in unit_modules(model.config).items())


def advance(model: VGGT, unit: Unit, state: ForwardState, dense_frames: int = DENSE_FRAMES) -> ForwardState:
    """Run one unit on the state before it and return the state after it."""
    return model.advance(unit.id, state, dense_frames)


def run_units(model: VGGT, units: Sequence[Unit], state: ForwardState) -> ForwardState:
    """Run units one after the other."""
    for unit in units:
        state = advance(model, unit, state)
    return state


def _unit(model: VGGT, unit: BlockId, module: str) -> Unit:
    layers = list(model.get_submodule(module).named_modules(prefix=module))
    return Unit(
        unit,
        module,
        tuple(LayerId(name) for name, layer in layers if isinstance(layer, nn.Linear)),
        tuple(LayerId(name) for name, layer in layers if isinstance(layer, nn.Conv2d)),
    )
