"""AWQ: scales per input channel and clipped ranges, chosen by the error of each layer's output.

Lin et al., "AWQ: Activation-aware Weight Quantization" (MLSys 2024, arXiv 2306.00978). The scale of an input channel is
mean|x|^a, with one exponent a per layer from a grid of 20, for layers whose producer can absorb it; the ranges of all
layers are clipped.
"""

from __future__ import annotations

from qvggt.calibration.run import UnitContext
from qvggt.calibration.unit_store import UnitResult
from qvggt.methods.base import Method
from qvggt.methods.scale_search import SearchOptions, search_scales


class Awq(Method):
    """Activation-aware scales and clipping, then rounding to nearest."""

    summary = "activation-aware scales and clipping, by each layer's output error"

    def quantize_unit(self, context: UnitContext) -> UnitResult:
        """Search scales and ranges, and round to nearest."""
        return search_scales(context, SearchOptions(self.token_classes)).rounded()
