"""Quantization as data and pure numerics: schemes, the affine reference, the packed layout, recipes."""

from qvggt.quant.layers import select_layers
from qvggt.quant.recipe import Provenance, Recipe, build_recipe
from qvggt.quant.scheme import FloatScheme, LayerScheme, LayerShape, Scheme

__all__ = [
    "FloatScheme",
    "LayerScheme",
    "LayerShape",
    "Provenance",
    "Recipe",
    "Scheme",
    "build_recipe",
    "select_layers",
]
