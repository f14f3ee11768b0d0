"""Hidden units of an MLP in an order in which groups of weights fit one scale.

The hidden units between two linear layers can stand in any order: the rows of the first and the columns of the second
move together, and the model says the same. A few columns with large weights cost every group that holds one of them its
fine steps. Put into one group, together with the columns whose weights are smallest, they cost that group alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qvggt.model import VGGT
from qvggt.model.layers import Mlp
from qvggt.quant.affine import dequantize, quantize
from qvggt.quant.scheme import Scheme

OUTLIERS = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of largest columns that are tried as those to set apart."""


@torch.no_grad()
def reorder_hidden_units(model: VGGT, scheme: Scheme) -> None:
    """Order the hidden units of every MLP so that rounding its second layer to nearest changes the weights least.

    Weights become new tensors; those that other models share are left as they are. Where no order that is tried does
    better, units stay where they are.

    Args:
        model: the float model.
        scheme: by which orders are judged.
    """
    for module in model.modules():
        if isinstance(module, Mlp):
            order = best_order(module.fc2.weight, scheme)
            for parameter, dim in ((module.fc1.weight, 0), (module.fc1.bias, 0), (module.fc2.weight, 1)):
                parameter.data = parameter.data.index_select(dim, order)


def best_order(weight: Tensor, scheme: Scheme) -> Tensor:
    """Return the order [in] of a weight's columns [out, in] with the least squared rounding error of those tried."""
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
