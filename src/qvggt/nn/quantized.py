"""The type of a quantized model."""

from __future__ import annotations

from qvggt.model import VGGT
from qvggt.quant.recipe import Recipe


class QuantizedVGGT(VGGT):
    """A VGGT with packed weights; ``qvggt.nn.convert.convert`` makes one of a float model.

    Attributes:
        recipe: the scheme of each layer, and the checkpoint's provenance.
    """

    recipe: Recipe
