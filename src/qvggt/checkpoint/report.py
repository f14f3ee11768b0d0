"""What is in a checkpoint: layers, bits and bytes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal

from qvggt.checkpoint.folder import Checkpoint
from qvggt.nn.convert import model_layers, parameter_shapes
from qvggt.quant.layer_names import part_of
from qvggt.quant.recipe import Provenance, Recipe
from qvggt.quant.scheme import LayerShape, Scheme
from qvggt.types import LayerId


@dataclass(frozen=True)
class LayerReport:
    """One layer, or what a part of the model holds besides its layers (norms, scales, tokens).

    Attributes:
        name: the layer's name; the part's name for the rest.
        part: frame, global, patch_embed, camera_head, depth_head, point_head or tokens.
        kind: "linear", "conv2d", or "rest".
        bits: of a weight.
        group_size: input channels that share a scale; -1 for all of an output channel's; None for floating weights.
        parameters: numbers of the float model that it stands for, bias included.
        bytes: that it takes in ``model.safetensors``, scales and bias included.
        activation_bits: that the input is rounded to; None where it stays floating.
        rotation: whether the input is rotated.
    """

    name: str
    part: str
    kind: Literal["linear", "conv2d", "rest"]
    bits: int
    group_size: int | None
    parameters: int
    bytes: int
    activation_bits: int | None = None
    rotation: bool = False


@dataclass(frozen=True)
class CheckpointReport:
    """A checkpoint in figures.

    Attributes:
        parameters: of the float model.
        average_bits: bits of tensor data per parameter, scales and everything that stayed floating included.
        checkpoint_bytes: size of the three files together.
        layers: every layer in the model's order, then the rest of each part; they add up to the whole.
        provenance: where the checkpoint came from.
    """

    parameters: int
    average_bits: float
    checkpoint_bytes: int
    layers: tuple[LayerReport, ...]
    provenance: Provenance

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)


def inspect_checkpoint(checkpoint: Checkpoint) -> CheckpointReport:
    """Report an opened checkpoint's layers, bits and bytes; no tensor is read."""
    shapes, recipe = model_layers(checkpoint.config), checkpoint.recipe
    counts = {name: math.prod(shape) for name, shape in parameter_shapes(checkpoint.config).items()}
    stored = _stored_bytes(checkpoint)
    layers = []
    for name, shape in shapes.items():
        parameters = counts[f"{name}.weight"] + counts.get(f"{name}.bias", 0)
        layers.append(_layer(recipe, name, shape, parameters, size=stored[name]))
    rest_counts, rest_bytes = Counter[str](), Counter[str]()
    for name, count in counts.items():
        if LayerId(name.rpartition(".")[0]) not in shapes:
            rest_counts[part_of(name)] += count
            rest_bytes[part_of(name)] += checkpoint.file.entries[name].nbytes
    bits = 32 if recipe.float_type == "float32" else 16
    rest = [
        LayerReport(
            part,
            part=part,
            kind="rest",
            bits=bits,
            group_size=None,
            parameters=rest_counts[part],
            bytes=rest_bytes[part],
        )
        for part in rest_counts
    ]
    sizes = checkpoint.parameters, checkpoint.average_bits, checkpoint.file_bytes
    return CheckpointReport(*sizes, (*layers, *rest), recipe.provenance)


def _layer(recipe: Recipe, name: LayerId, shape: LayerShape, parameters: int, size: int) -> LayerReport:
    scheme = recipe.layers.get(name)
    if isinstance(scheme, Scheme):
        figures = scheme.bits, scheme.group_size, parameters, size, scheme.activation_bits, scheme.rotation
        return LayerReport(name, part_of(name), shape.kind, *figures)
    bits = 32 if recipe.float_type_of(name) == "float32" else 16
    return LayerReport(
        name, part=part_of(name), kind=shape.kind, bits=bits, group_size=None, parameters=parameters, bytes=size
    )


def _stored_bytes(checkpoint: Checkpoint) -> Counter[str]:
    """Return the bytes of all tensors directly in a module, by the module's name."""
    sizes = Counter[str]()
    for name, entry in checkpoint.file.entries.items():
        sizes[name.rpartition(".")[0]] += entry.nbytes
    return sizes
