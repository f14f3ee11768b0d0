"""AWQ: scales per input channel and clipped ranges, by what each layer's output loses.

Lin et al., "AWQ: Activation-aware Weight Quantization" (MLSys 2024, arXiv 2306.00978). The scale of an input channel is
mean|x|^a, with one a per layer from a grid of 20, where a producer can absorb it; every layer's ranges are clipped.
"""

from __future__ import annotations

from qvggt.calibration.run import UnitContext
from qvggt.calibration.unit_store import UnitResult
from qvggt.methods.base import Method
from qvggt.methods.scale_search import SearchOptions, plan_unit


class Awq(Method):
    """Activation-aware scales and clipping, then nearest levels."""

    summary = "activation-aware scales and clipping, by each layer's output"

    def quantize_unit(self, context: UnitContext) -> UnitResult:
        """Search scales and ranges, and round to nearest."""
        return plan_unit(context, SearchOptions(self.token_classes)).rounded()
