"""The model's own parameter names, whatever a training framework put before them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from qvggt.quant.source import TensorSource
from qvggt.types import QvggtError

log = logging.getLogger(__name__)

ANCHOR = "aggregator.camera_token"
"""A parameter that every VGGT has and no other model: what precedes it in a file is a wrapper's prefix."""

_COMPILED = "_orig_mod."  # torch.compile puts it before the names of any module that it compiles
_ADAPTER = (".lora_A", ".lora_B", ".lora_embedding", ".lora_magnitude")


class TensorView:
    """Tensors of a source under other names; those that the source lacks are zeros.

    Args:
        source: the tensors.
        stored: the source's name of each tensor by its new name.
        zeros: shapes of the tensors that the source lacks.
    """

    def __init__(
        self, source: TensorSource, stored: Mapping[str, str], zeros: Mapping[str, tuple[int, ...]] | None = None
    ) -> None:
        self.source, self.stored, self.zeros = source, stored, zeros or {}

    def names(self) -> list[str]:
        """Return the names of all tensors."""
        return [*self.stored, *self.zeros]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        return self.zeros[name] if name in self.zeros else self.source.shape(self.stored[name])

    def tensor(self, name: str) -> Tensor:
        """Read a tensor."""
        return torch.zeros(self.zeros[name]) if name in self.zeros else self.source.tensor(self.stored[name])


def model_names(source: TensorSource, place: str) -> dict[str, str]:
    """Return the source's name of each tensor by the model's own name.

    Prefixes that DDP (``module.``), Lightning (``model.``), ``torch.compile`` (``_orig_mod.``) and others leave are
    removed; tensors outside the prefix belong to something else than the model and are left out.

    Args:
        source: the tensors.
        place: the file, for errors.

    Raises:
        QvggtError: it is an adapter, not a whole model.
    """
    stored = {name.replace(_COMPILED, ""): name for name in source.names()}
    if any(part in name for name in stored for part in _ADAPTER):
        raise QvggtError(
            f"{place} is a LoRA adapter, not a whole model: merge it into its base model first "
            "(merge_and_unload in peft) and give the result"
        )
    # Of several copies of a model in one file the first is taken, e.g. ``model.`` and not ``model_ema.``.
    prefix = min((name.removesuffix(ANCHOR) for name in stored if name.endswith(ANCHOR)), default="", key=_rank)
    if not prefix:
        return stored
    inside = {name.removeprefix(prefix): there for name, there in stored.items() if name.startswith(prefix)}
    left_out = len(stored) - len(inside)
    log.info("read the tensors whose names begin with %r; left out %d others", prefix, left_out)
    return inside


def _rank(prefix: str) -> tuple[bool, int, str]:
    return "ema" in prefix, len(prefix), prefix
