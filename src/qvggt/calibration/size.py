"""Size of a quantized model on disk, computed from layer shapes and schemes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from qvggt.model import VGGTConfig
from qvggt.nn.convert import model_layers, parameter_shapes, torch_dtype
from qvggt.quant.packing import packed_layout
from qvggt.quant.scheme import FloatScheme, FloatType, LayerScheme, LayerShape
from qvggt.types import LayerId

RECORD_BYTES = 320
"""Allowance per tensor for its name, shape, offset and hash in a checkpoint, and its share of the recipe."""


@dataclass(frozen=True)
class Storage:
    """Sizes of a model's tensors.

    Attributes:
        shapes: shape of every quantizable layer.
        other_numbers: number of parameters that no recipe quantizes: biases, norms, tokens.
        other_tensors: number of tensors with those parameters.
        float_type: type of those parameters, of scales, and of layers that are not quantized.
        findings_bytes: size of the sensitivities in the recipe, beyond the allowance per tensor.
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
        """Return the bits of a layer's weight: codes in whole words, scales and zero points."""
        shape = self.shapes[layer]
        if isinstance(scheme, FloatScheme):
            return scheme.bits * shape.rows * shape.width
        layout = packed_layout((shape.rows, shape.width), scheme, torch_dtype(self.float_type))
        return sum(
            8 * dtype.itemsize * math.prod(size) for name, (dtype, size) in layout.items() if name != "weight_shape"
        )

    def layer_bytes(self, layer: LayerId, scheme: LayerScheme) -> int:
        """Return the bytes that a layer's weight adds to a checkpoint, including the allowance for its tensors."""
        if isinstance(scheme, FloatScheme):
            return self.layer_bits(layer, scheme) // 8 + RECORD_BYTES
        tensors = 3 if scheme.symmetric else 4  # codes, scales, the shape (16 bytes), zero points
        return self.layer_bits(layer, scheme) // 8 + 16 + tensors * RECORD_BYTES

    def average_bits(self, schemes: Mapping[LayerId, LayerScheme]) -> float:
        """Return bits per weight over all linear layers, including those in floating point."""
        linear = [layer for layer, shape in self.shapes.items() if shape.kind == "linear"]
        return sum(self.layer_bits(layer, schemes[layer]) for layer in linear) / self.linear_weights

    def checkpoint_bytes(self, schemes: Mapping[LayerId, LayerScheme]) -> int:
        """Return an upper bound of a checkpoint's bytes; the tensors' part of it is exact."""
        return self.other_bytes + sum(self.layer_bytes(layer, schemes[layer]) for layer in self.shapes)

    @property
    def other_bytes(self) -> int:
        """Bytes of everything but layers' weights."""
        numbers = torch_dtype(self.float_type).itemsize * self.other_numbers
        return numbers + RECORD_BYTES * self.other_tensors + self.findings_bytes


def storage_of(config: VGGTConfig, float_type: FloatType = "float16") -> Storage:
    """Return the sizes of an architecture."""
    layers = model_layers(config)
    weights = {f"{layer}.weight" for layer in layers}
    others = [math.prod(shape) for name, shape in parameter_shapes(config).items() if name not in weights]
    return Storage(layers, sum(others), len(others), float_type)
