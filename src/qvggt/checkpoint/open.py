"""The one way from a model's name to its weights, float or quantized."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch

from qvggt.backends import Compute
from qvggt.checkpoint.folder import is_checkpoint, open_checkpoint
from qvggt.files import finish_folder
from qvggt.model import VGGT, VGGTConfig
from qvggt.quant.recipe import Recipe
from qvggt.types import PathLike, QvggtError
from qvggt.weights.open import FloatWeights, locate, open_located


class OpenedModel(Protocol):
    """A model's files, opened and checked, whose weights are not read yet: ``FloatWeights`` or ``Checkpoint``."""

    @property
    def name(self) -> str:
        """The model's name, as the user gave it."""
        ...

    @property
    def config(self) -> VGGTConfig:
        """The architecture."""
        ...

    @property
    def recipe(self) -> Recipe | None:
        """How it was quantized, with its provenance; None for a float model."""
        ...

    @property
    def parameters(self) -> int:
        """Number of parameters of the float model."""
        ...

    @property
    def average_bits(self) -> float:
        """Bits of tensor data per parameter."""
        ...

    @property
    def file_bytes(self) -> int | None:
        """Size of all files; None for stand-in weights."""
        ...

    def hash(self) -> str:
        """Return a hash of what determines the model's values."""
        ...

    def shell(self, compute: Compute = "float") -> VGGT:
        """Return the model on the meta device, without values, as it computes on a CPU."""
        ...

    def load(self, device: str | torch.device = "cpu", compute: Compute = "float") -> VGGT:
        """Return the model for inference; ``compute`` concerns packed layers only."""
        ...


def open_model(model: PathLike, revision: str | None = None) -> OpenedModel:
    """Open any model by name.

    Args:
        model: ``nano`` (embedded), a hub id such as ``facebook/VGGT-1B``, a ``.safetensors`` or ``.pt`` file, a folder
            with one, a quantized checkpoint, or ``seeded:vggt-1b`` (full size, stand-in weights).
        revision: branch, tag or commit of a hub id.

    Raises:
        QvggtError: it is not found, damaged, or not a VGGT.
    """
    place = locate(model, revision)
    if isinstance(place, Path):
        finish_folder(place)
        if is_checkpoint(place):
            return open_checkpoint(place, str(model))
    return open_located(place, str(model))


def open_float(model: PathLike, revision: str | None = None) -> FloatWeights:
    """Open a float model by name; see ``open_model``.

    Raises:
        QvggtError: it is quantized already, not found, damaged, or not a VGGT.
    """
    opened = open_model(model, revision)
    if not isinstance(opened, FloatWeights):
        raise QvggtError(f"{str(model)!r} is quantized already: give the float model instead")
    return opened
