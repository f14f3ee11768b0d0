"""What a model takes on disk under given schemes, from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from qvggt.model import VGGT, VGGTConfig
from qvggt.nn.convert import quantizable_layers, torch_dtype
from qvggt.quant.packing import packed_layout
from qvggt.quant.scheme import FloatScheme, FloatType, LayerScheme, LayerShape
from qvggt.types import LayerId

RECORD_BYTES = 320
"""Allowed for what a checkpoint says of one tensor: name, shape, place and hash, and its share of the recipe."""


@dataclass(frozen=True)
class Storage:
    """What is stored of a model.

    Attributes:
        shapes: its layers that can be quantized.
        other_numbers: numbers that stay floating under every recipe: biases, norms, tokens.
        other_tensors: tensors that they make.
        float_type: their type, and that of scales and of layers that are not quantized.
        findings_bytes: of findings that the recipe records besides what is allowed for each tensor.
    """

    shapes: Mapping[LayerId, LayerShape]
    other_numbers: int
    other_tensors: int
    float_type: FloatType = "float16"
    findings_bytes: int = 0

    @property
    def linear_weights(self) -> int:
        """Number of weights in all linear layers."""
        return sum(shape.rows * shape.width for shape in self.shapes.values() if shape.kind == "linear")

    def layer_bits(self, layer: LayerId, scheme: LayerScheme) -> int:
        """Return the bits of a layer's weight, its codes in whole words, its scales and zero points among them."""
        shape = self.shapes[layer]
        if isinstance(scheme, FloatScheme):
            return scheme.bits * shape.rows * shape.width
        layout = packed_layout((shape.rows, shape.width), scheme, torch_dtype(self.float_type))
        return sum(
            8 * dtype.itemsize * math.prod(size) for name, (dtype, size) in layout.items() if name != "weight_shape"
        )

    def layer_bytes(self, layer: LayerId, scheme: LayerScheme) -> int:
        """Return the bytes by which a layer's weight makes a checkpoint larger, records of its tensors among them."""
        if isinstance(scheme, FloatScheme):
            return self.layer_bits(layer, scheme) // 8 + RECORD_BYTES
        tensors = 3 if scheme.symmetric else 4  # codes, scales, the shape (16 bytes), zero points
        return self.layer_bits(layer, scheme) // 8 + 16 + tensors * RECORD_BYTES

    def average_bits(self, schemes: Mapping[LayerId, LayerScheme]) -> float:
        """Return bits per weight over all linear layers, those that stay floating among them."""
        linear = [layer for layer, shape in self.shapes.items() if shape.kind == "linear"]
        return sum(self.layer_bits(layer, schemes[layer]) for layer in linear) / self.linear_weights

    def checkpoint_bytes(self, schemes: Mapping[LayerId, LayerScheme]) -> int:
        """Return an estimate from above of a checkpoint's bytes; the tensors' own share of it is exact."""
        return self.other_bytes + sum(self.layer_bytes(layer, schemes[layer]) for layer in self.shapes)

    @property
    def other_bytes(self) -> int:
        """Bytes of all that is no layer's weight."""
        numbers = torch_dtype(self.float_type).itemsize * self.other_numbers
        return numbers + RECORD_BYTES * self.other_tensors + self.findings_bytes


def storage_of(config: VGGTConfig, float_type: FloatType = "float16") -> Storage:
    """Return what is stored of an architecture, without building its weights."""
    with torch.device("meta"):
        model = VGGT(config)
    shapes = quantizable_layers(model)
    weights = {f"{layer}.weight" for layer in shapes}
    others = [tensor.numel() for name, tensor in model.state_dict().items() if name not in weights]
    return Storage(shapes, sum(others), len(others), float_type)
