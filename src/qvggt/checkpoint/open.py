"""The one way from a model's name to its weights, float or quantized."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from qvggt.checkpoint.folder import Checkpoint, is_checkpoint, open_checkpoint
from qvggt.files import finish_folder
from qvggt.model import VGGT
from qvggt.nn.quantized import QuantizedVGGT
from qvggt.options import ALL_HEADS, GlobalAttention, attention_of
from qvggt.options.attention import check_depth
from qvggt.types import AttentionPlan, OnProgress, PathLike, QvggtError
from qvggt.weights.open import FloatWeights, locate, open_located

OpenedModel = FloatWeights | Checkpoint
"""A model's files, opened and checked, whose weights are not read yet.

Both have ``name``, ``config``, ``recipe`` (None for a float model), ``parameters``, ``average_bits``, ``file_bytes``,
``hash()``, ``verify()``, ``shell(compute)`` and ``load(device, compute)``.
"""


def open_model(model: PathLike, revision: str | None = None, on_progress: OnProgress | None = None) -> OpenedModel:
    """Open any model by name.

    Args:
        model: ``nano`` (embedded), a hub id such as ``facebook/VGGT-1B``, a ``.safetensors`` or ``.pt`` file, a folder
            with one, a quantized checkpoint, or ``seeded:vggt-1b`` (full size, stand-in weights).
        revision: branch, tag or commit of a hub id.
        on_progress: called with the share downloaded.

    Raises:
        QvggtError: it is not found, damaged, or not a VGGT.
    """
    place = locate(model, revision, on_progress)
    if isinstance(place, Path):
        finish_folder(place)
        if is_checkpoint(place):
            return open_checkpoint(place, str(model))
    return open_located(place, str(model))


def open_float(model: PathLike, revision: str | None = None, on_progress: OnProgress | None = None) -> FloatWeights:
    """Open a float model with all heads by name; see ``open_model``.

    Raises:
        QvggtError: it is quantized already, not found, damaged, lacks a head, or is not a VGGT.
    """
    opened = open_model(model, revision, on_progress)
    if not isinstance(opened, FloatWeights):
        raise QvggtError(f"{str(model)!r} is quantized already: give the float model instead")
    return opened.complete()


def attention_in(opened: OpenedModel, value: GlobalAttention) -> Literal["exact", "merged"] | AttentionPlan:
    """Return the global attention that a value stands for in a model: ``auto`` is its own plan, or else exact.

    Raises:
        QvggtError: there is no such attention, or the plan is for another number of blocks.
    """
    found = attention_of(value)
    if found == "auto":
        found = "exact" if opened.recipe is None or opened.recipe.attention is None else opened.recipe.attention
    check_depth(found, opened.config.depth)
    return found


def check_float(model: VGGT) -> None:
    """Raise QvggtError unless a model in memory is a float model with all heads."""
    if isinstance(model, QuantizedVGGT):
        raise QvggtError("the model is quantized already: give the float model instead")
    if len(model.heads) < len(ALL_HEADS):
        raise QvggtError(f"the model has only the heads {', '.join(model.heads)}: give complete weights")
