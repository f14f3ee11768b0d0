"""Reordering of an MLP's hidden units so that the weights in a group have similar magnitudes.

Hidden units between two linear layers can be permuted without changing the function: the rows of the first and the
columns of the second are permuted alike. A column with large weights makes the scale of its whole group coarse.
Collected in one group, together with the columns whose weights are smallest, large columns affect that group only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qvggt.model import VGGT
from qvggt.model.layers import Mlp
from qvggt.quant.affine import dequantize, quantize
from qvggt.quant.scheme import Scheme

OUTLIERS = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of largest columns that are tried as outliers."""


@torch.no_grad()
def reorder_hidden_units(model: VGGT, scheme: Scheme) -> None:
    """Reorder the hidden units of every MLP to minimize the rounding error of its second layer.

    Weights become new tensors; tensors shared with other models are not changed. If no order that is tried is better,
    the order stays.

    Args:
        model: the float model.
        scheme: scheme that determines the rounding error.
    """
    for module in model.modules():
        if isinstance(module, Mlp):
            order = best_order(module.fc2.weight, scheme)
            for parameter, dim in ((module.fc1.weight, 0), (module.fc1.bias, 0), (module.fc2.weight, 1)):
                parameter.data = parameter.data.index_select(dim, order)


def best_order(weight: Tensor, scheme: Scheme) -> Tensor:
    """Return the order [in] of the columns of a weight [out, in] with the least squared rounding error."""
    width = weight.shape[1]
    size = width // scheme.for_width(width).groups(width)
    stay = torch.arange(width, device=weight.device)
    by_size = weight.abs().amax(0).argsort(descending=True, stable=True)
    orders = [stay, by_size]
    for count in OUTLIERS:
        if count < size < width:
            small = width - (size - count)
            orders.append(torch.cat((by_size[:count], by_size[small:], by_size[count:small])))
    return min(orders, key=lambda order: _error(weight[:, order], scheme))


def _error(weight: Tensor, scheme: Scheme) -> float:
    return float((dequantize(quantize(weight, scheme)) - weight).square().sum())
