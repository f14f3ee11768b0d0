"""Statistics of the inputs of a unit's linear layers, by token class."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from qvggt.calibration.units import ForwardState, Unit, advance
from qvggt.model import VGGT
from qvggt.options import TOKEN_CLASSES, TokenClass
from qvggt.types import LayerId, QvggtError


@dataclass(frozen=True)
class InputStatistics:
    """Sums over the tokens of a layer's input x [in].

    Attributes:
        count: number of tokens.
        absolute: [in] sum of |x|.
        largest: [in] largest |x|.
        gram: [in, in] sum of x xᵀ.
    """

    count: int
    absolute: Tensor
    largest: Tensor
    gram: Tensor

    @property
    def mean_abs(self) -> Tensor:
        """Mean |x| [in]."""
        return self.absolute / max(self.count, 1)

    @property
    def mean_square(self) -> Tensor:
        """Mean x² [in]."""
        return self.gram.diagonal() / max(self.count, 1)


LayerStatistics = Mapping[TokenClass, InputStatistics]


def pooled(statistics: LayerStatistics, classes: Collection[TokenClass] = TOKEN_CLASSES) -> InputStatistics:
    """Add up the statistics of some token classes; of all if the layer has no such tokens (the camera head)."""
    chosen = [statistics[name] for name in TOKEN_CLASSES if name in classes and statistics[name].count]
    chosen = chosen or [part for part in statistics.values() if part.count]
    return InputStatistics(
        sum(part.count for part in chosen),
        torch.stack([part.absolute for part in chosen]).sum(0),
        torch.stack([part.largest for part in chosen]).amax(0),
        chosen[0].gram if len(chosen) == 1 else torch.stack([part.gram for part in chosen]).sum(0),
    )


@torch.no_grad()
def observe(model: VGGT, unit: Unit, states: Sequence[ForwardState]) -> dict[LayerId, LayerStatistics]:
    """Run a unit on every state and return the statistics of its linear layers' inputs.

    Raises:
        QvggtError: an input is NaN or infinite.
    """
    widths = {layer: cast(nn.Linear, model.get_submodule(layer)).in_features for layer in unit.linear}
    sums: dict[LayerId, dict[TokenClass, _Sums]] = {
        layer: {name: _Sums(width) for name in TOKEN_CLASSES} for layer, width in widths.items()
    }
    for state in states:
        with _watched_inputs(model, unit, state.images, sums):
            advance(model, unit, state)
    statistics: dict[LayerId, LayerStatistics] = {
        layer: {name: part.finished() for name, part in parts.items()} for layer, parts in sums.items()
    }
    for layer, parts in statistics.items():
        if not all(bool(torch.isfinite(part.largest).all()) for part in parts.values()):
            raise QvggtError(f"{layer} sees NaN or infinity on the calibration scenes: use an intact checkpoint")
    return statistics


class _Sums:
    """Running sums of one token class; allocated when the first tokens are added."""

    def __init__(self, width: int) -> None:
        self.width, self.count = width, 0
        self.absolute = self.largest = self.gram = torch.zeros((), dtype=torch.float32, device="cpu")

    def add(self, rows: Tensor) -> None:
        """Add tokens [N, in]."""
        if len(rows) == 0:
            return
        rows = rows.float()
        size = rows.abs()
        self.absolute = self.absolute.to(rows.device) + size.sum(0)
        self.largest = torch.maximum(self.largest.to(rows.device), size.amax(0))
        product = rows.T @ rows
        self.gram = product if self.count == 0 else self.gram.add_(product)
        self.count += len(rows)

    def finished(self) -> InputStatistics:
        """Return the sums."""
        if self.count == 0:
            empty = self.gram.expand(self.width)
            return InputStatistics(0, empty, empty, self.gram.expand(self.width, self.width))
        return InputStatistics(self.count, self.absolute, self.largest, self.gram)


@contextmanager
def _watched_inputs(
    model: VGGT, unit: Unit, images: Tensor, sums: Mapping[LayerId, Mapping[TokenClass, _Sums]]
) -> Iterator[None]:
    patch, special = model.config.patch_size, model.special_tokens
    frame = special + (images.shape[-2] // patch) * (images.shape[-1] // patch)  # tokens of a frame
    camera = 0 if unit.kind == "patch_embed" else 1

    def add(layer: LayerId, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x, parts = inputs[0].detach(), sums[layer]
        if unit.kind == "camera":
            parts["camera"].add(x.flatten(0, -2))
            return
        x = x.reshape(-1, frame, x.shape[-1])  # [B*S, P, in], of frame blocks and of global ones
        parts["camera"].add(x[:, :camera].flatten(0, 1))
        parts["register"].add(x[:, camera:special].flatten(0, 1))
        parts["patch"].add(x[:, special:].flatten(0, 1))

    handles = [model.get_submodule(layer).register_forward_pre_hook(partial(add, layer)) for layer in unit.linear]
    try:
        yield None
    finally:
        for handle in handles:
            handle.remove()
