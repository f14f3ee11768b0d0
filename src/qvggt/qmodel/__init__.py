"""VGGT with packed layers: the layers, temporary quantization for measurements, conversion and empty shells."""

from qvggt.qmodel.conv import CastConv2d, QuantConv2d
from qvggt.qmodel.convert import convert, fill, quantizable_layers, recipe_of, shell, stored_layout
from qvggt.qmodel.fake import fake_quantized
from qvggt.qmodel.linear import CastLinear, PackedLayer, QuantLinear

__all__ = [
    "CastConv2d",
    "CastLinear",
    "PackedLayer",
    "QuantConv2d",
    "QuantLinear",
    "convert",
    "fake_quantized",
    "fill",
    "quantizable_layers",
    "recipe_of",
    "shell",
    "stored_layout",
]
