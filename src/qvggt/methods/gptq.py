"""GPTQ: quantize column by column, compensating each error in the remaining columns of the same layer.

Frantar et al., "GPTQ" (ICLR 2023, arXiv 2210.17323). A layer's Hessian is that of its inputs from the quantized blocks
before it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor

from qvggt.calibration.run import UnitContext
from qvggt.calibration.sensitivity import Rounder
from qvggt.calibration.statistics import observe, pooled
from qvggt.calibration.unit_store import UnitResult
from qvggt.calibration.units import ForwardState, Unit
from qvggt.methods.base import Method
from qvggt.model import VGGT
from qvggt.options import TokenClass
from qvggt.quant.affine import dequantize, fit_grid
from qvggt.quant.gptq import DAMPING, gptq, hessian_error
from qvggt.quant.hadamard import rotate, rotate_weight
from qvggt.quant.scheme import LayerScheme, Scheme
from qvggt.types import LayerId


class Gptq(Method):
    """Second-order rounding with activation order."""

    summary = "second-order rounding, errors compensated in later columns (act order)"

    def quantize_unit(self, context: UnitContext) -> UnitResult:
        """Round every layer against the Gram matrix of its inputs."""
        return second_order(context, self.token_classes)


def second_order(context: UnitContext, tokens: Collection[TokenClass], damping: float = DAMPING) -> UnitResult:
    """Round every layer of a unit against the Gram matrix of its inputs, on grids that cover every weight.

    Args:
        context: the unit.
        tokens: token classes whose activations are used.
        damping: of the Hessian, as a share of its mean diagonal.
    """
    weights, notes = {}, {}
    for layer, scheme in context.schemes.items():
        weight = context.model.get_parameter(f"{layer}.weight").detach()
        gram = pooled(context.statistics[layer], tokens).gram
        if scheme.rotation:
            weight, gram = rotate_weight(weight), rotate(rotate(gram).T)
        weights[layer] = gptq(weight, gram, scheme, fit_grid(weight, scheme, context.scale_dtype), damping=damping)
        notes[layer] = {"reconstruction": hessian_error(weight, dequantize(weights[layer]), gram)}
    return UnitResult(weights, notes=notes)


def second_order_rounder(tokens: Collection[TokenClass], damping: float = DAMPING) -> Rounder:
    """Return a function that rounds a unit's linear layers by second order, for measuring sensitivities.

    Args:
        tokens: token classes whose activations are used.
        damping: of the Hessian, as a share of its mean diagonal.
    """

    def rounded(model: VGGT, unit: Unit, states: Sequence[ForwardState], scheme: LayerScheme) -> dict[LayerId, Tensor]:
        if not isinstance(scheme, Scheme) or not unit.linear:
            return {}
        widths = {layer: model.get_parameter(f"{layer}.weight").shape[1] for layer in unit.linear}
        schemes = {layer: scheme.for_width(width) for layer, width in widths.items()}
        context = UnitContext(
            model,
            unit=unit,
            index=0,
            states=states,
            statistics=observe(model, unit, states),
            schemes=schemes,
            task=None,
        )
        return {layer: dequantize(weight) for layer, weight in second_order(context, tokens, damping).weights.items()}

    return rounded
