"""Identity of a model in results: hash of its weights, bits, bytes and provenance."""

from __future__ import annotations

import json
import math

import torch
from torch import Tensor

from qvggt.checkpoint.open import OpenedModel
from qvggt.eval.report import ModelCard
from qvggt.model import VGGT
from qvggt.nn.convert import parameter_shapes
from qvggt.nn.quantized import QuantizedVGGT
from qvggt.quant.recipe import Provenance
from qvggt.weights.tensor_file import hash_bytes

_FLOAT = Provenance(method="float")


def describe(opened: OpenedModel) -> ModelCard:
    """Return the card of an opened model, without loading it."""
    provenance = opened.recipe.provenance if opened.recipe else _FLOAT
    return ModelCard(
        name=opened.name,
        hash=opened.hash(),
        method=provenance.method or "unknown",
        options=provenance.options,
        calibration=provenance.calibration,
        source=_source(provenance),
        parameters=opened.parameters,
        average_bits=opened.average_bits,
        checkpoint_bytes=opened.file_bytes,
    )


def describe_loaded(model: VGGT, name: str = "a model in memory") -> ModelCard:
    """Return the card of a model in memory; its hash is that of its current tensors, and of how it computes."""
    state = model.state_dict()
    facts = [{key: _hash(tensor) for key, tensor in sorted(state.items())}, _arithmetic(model)]
    digest = hash_bytes(json.dumps(facts).encode())
    provenance = model.recipe.provenance if isinstance(model, QuantizedVGGT) else _FLOAT
    parameters = sum(math.prod(shape) for shape in parameter_shapes(model.config).values())
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


def _arithmetic(model: VGGT) -> list[object]:
    """Return what lets two models of equal tensors predict differently: kinds of layers, their types, attention."""
    layers = [
        [name, type(layer).__name__, str(getattr(layer, "dtype", "")), getattr(backend, "name", "")]
        for name, layer in model.named_modules()
        for backend in [getattr(layer, "backend", None)]
    ]
    return [str(model.aggregator.global_attention), layers]


def _source(provenance: Provenance) -> str:
    return " ".join(part for part in (provenance.source, provenance.source_hash) if part)


def _hash(tensor: Tensor) -> list[object]:
    values = tensor.detach().cpu().contiguous()
    bits = values.view(torch.uint8) if values.ndim else values[None].view(torch.uint8)
    return [str(tensor.dtype), list(tensor.shape), hash_bytes(bits.numpy().tobytes())]
