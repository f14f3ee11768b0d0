"""What is in a checkpoint: layers, bits and bytes."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from qvggt.checkpoint.folder import CONFIG, RECIPE, Checkpoint, open_checkpoint
from qvggt.model import VGGT
from qvggt.nn.convert import quantizable_layers
from qvggt.quant.layer_names import part_of
from qvggt.quant.recipe import Provenance
from qvggt.quant.scheme import LayerShape, Scheme
from qvggt.types import LayerId, PathLike


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


def inspect_checkpoint(folder: PathLike) -> CheckpointReport:
    """Report what is in a checkpoint, reading only its small files and the tensors' header.

    Raises:
        QvggtError: the checkpoint is missing, damaged, of another version or inconsistent.
    """
    checkpoint = open_checkpoint(folder)
    with torch.device("meta"):
        model = VGGT(checkpoint.config)
    shapes = quantizable_layers(model)
    stored = _stored_bytes(checkpoint)
    numbers = Counter({name: tensor.numel() for name, tensor in model.state_dict().items()})
    layers, taken = [], set()
    for name, shape in shapes.items():
        parameters = numbers[f"{name}.weight"] + numbers[f"{name}.bias"]
        layers.append(_layer(checkpoint, name, shape, parameters, stored[name]))
        taken.add(name)
    rest_numbers, rest_bytes = Counter(), Counter()
    for name, count in numbers.items():
        if name.rpartition(".")[0] not in taken:
            rest_numbers[part_of(name)] += count
            rest_bytes[part_of(name)] += _entry_bytes(checkpoint, name)
    bits = 32 if checkpoint.recipe.float_type == "float32" else 16
    layers += [
        LayerReport(part, part, "rest", bits, None, rest_numbers[part], rest_bytes[part]) for part in rest_numbers
    ]
    parameters, data = sum(numbers.values()), sum(layer.bytes for layer in layers)
    small = sum((checkpoint.folder / name).stat().st_size for name in (CONFIG, RECIPE))
    return CheckpointReport(
        parameters, 8 * data / parameters, small + checkpoint.file.size, tuple(layers), checkpoint.recipe.provenance
    )


def _layer(checkpoint: Checkpoint, name: LayerId, shape: LayerShape, parameters: int, size: int) -> LayerReport:
    scheme = checkpoint.recipe.layers.get(name)
    if isinstance(scheme, Scheme):
        figures = scheme.bits, scheme.group_size, parameters, size, scheme.activation_bits, scheme.rotation
        return LayerReport(name, part_of(name), shape.kind, *figures)
    bits = 32 if checkpoint.recipe.float_type_of(name) == "float32" else 16
    return LayerReport(name, part_of(name), shape.kind, bits, None, parameters, size)


def _stored_bytes(checkpoint: Checkpoint) -> Counter[str]:
    # Bytes of all tensors directly in a module, by the module's name.
    sizes: Counter[str] = Counter()
    for name in checkpoint.file.entries:
        sizes[name.rpartition(".")[0]] += _entry_bytes(checkpoint, name)
    return sizes


def _entry_bytes(checkpoint: Checkpoint, name: str) -> int:
    entry = checkpoint.file.entries[name]
    return entry.end - entry.start
