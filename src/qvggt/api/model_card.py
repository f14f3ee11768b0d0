"""Which model this is: the hash of its weights, its bits and bytes, and where it came from."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from qvggt.checkpoint.folder import is_checkpoint, open_checkpoint
from qvggt.checkpoint.report import inspect_checkpoint
from qvggt.checkpoint.tensors import hash_bytes
from qvggt.eval.report import ModelCard
from qvggt.model import VGGT, VGGTConfig
from qvggt.quant.recipe import Provenance, Recipe
from qvggt.types import PathLike
from qvggt.weights.open import locate, open_weights


def describe(model: PathLike, revision: str | None = None) -> tuple[ModelCard, VGGTConfig]:
    """Return what a model's files say about it, without loading it, and its architecture.

    Args:
        model: whatever ``load`` takes.
        revision: branch, tag or commit of a hub id.

    Raises:
        QvggtError: it is not found, damaged, or no VGGT.
    """
    place = locate(model, revision)
    if isinstance(place, Path) and is_checkpoint(place):
        return _describe_checkpoint(str(model), place)
    weights = open_weights(place, revision)
    parameters = _parameters(weights.config)
    tensors = [weights.source.tensor(name) for name in _state(weights.config)] if weights.files else []
    size = sum(tensor.nbytes for tensor in tensors)
    card = ModelCard(
        name=str(model),
        hash=weights.fingerprint(),
        parameters=parameters,
        average_bits=8 * size / parameters if weights.files else 32.0,
        checkpoint_bytes=sum(path.stat().st_size for path in weights.files) or None,
    )
    return card, weights.config


def describe_loaded(model: VGGT, name: str = "a model in memory") -> ModelCard:
    """Return what is known of a model in memory: its hash is that of its tensors as they are now."""
    state = model.state_dict()
    digest = hash_bytes(json.dumps({key: _hash(tensor) for key, tensor in sorted(state.items())}).encode())
    recipe = getattr(model, "recipe", None)
    provenance = recipe.provenance if isinstance(recipe, Recipe) else Provenance(method="float")
    parameters = _parameters(model.config)
    return ModelCard(
        name=name,
        hash=digest,
        method=provenance.method or "unknown",
        options=provenance.options,
        calibration=provenance.calibration,
        source=_source(provenance),
        parameters=parameters,
        average_bits=8 * sum(tensor.nbytes for tensor in state.values()) / parameters,
    )


def _describe_checkpoint(name: str, folder: Path) -> tuple[ModelCard, VGGTConfig]:
    checkpoint, report = open_checkpoint(folder), inspect_checkpoint(folder)
    recipe = checkpoint.recipe.to_json()
    weights = {part: recipe[part] for part in ("layers", "float_type")}
    weights |= {"config": checkpoint.config.to_json(), "tensors": dict(checkpoint.hashes)}
    card = ModelCard(
        name=name,
        hash=hash_bytes(json.dumps(weights, sort_keys=True).encode()),
        method=report.provenance.method or "unknown",
        options=report.provenance.options,
        calibration=report.provenance.calibration,
        source=_source(report.provenance),
        parameters=report.parameters,
        average_bits=report.average_bits,
        checkpoint_bytes=report.checkpoint_bytes,
    )
    return card, checkpoint.config


def _source(provenance: Provenance) -> str:
    return " ".join(part for part in (provenance.source, provenance.source_hash) if part)


def _state(config: VGGTConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        return VGGT(config).state_dict()


def _parameters(config: VGGTConfig) -> int:
    return sum(tensor.numel() for tensor in _state(config).values())


def _hash(tensor: Tensor) -> list[object]:
    values = tensor.detach().cpu().contiguous()
    bits = values.view(torch.uint8) if values.ndim else values[None].view(torch.uint8)
    return [str(tensor.dtype), list(tensor.shape), hash_bytes(bits.numpy().tobytes())]
