"""Temporary (fake) quantization of a module's layers, to measure its effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from qvggt.nn.convert import quantizable_modules
from qvggt.quant.activations import layer_input
from qvggt.quant.affine import dequantize, quantize
from qvggt.quant.hadamard import rotate_weight
from qvggt.quant.scheme import LayerScheme, Scheme, check_kind
from qvggt.types import LayerId


@contextmanager
def fake_quantized(
    module: nn.Module, scheme: LayerScheme | Mapping[str, LayerScheme], scale_dtype: torch.dtype = torch.float16
) -> Iterator[nn.Module]:
    """Quantize layers inside the ``with`` and restore them at its end.

    Weights take the dequantized values. If a scheme rotates or rounds a layer's input, a hook does so.

    Args:
        module: a model, a block or a single layer.
        scheme: for every linear layer and convolution inside, or a scheme per layer name as seen from ``module``.
        scale_dtype: the type in which scales are stored.

    Yields:
        The module itself.

    Raises:
        KeyError: a name in ``scheme`` is not a layer of the module.
        QvggtError: weights are NaN or infinite, or a scheme rounds or rotates a convolution's input. The module is
            unchanged then.
    """
    layers = quantizable_modules(module)
    schemes = scheme if isinstance(scheme, Mapping) else dict.fromkeys(layers, scheme)
    # All new values are computed before the first is set, so that a failure leaves the module as it was.
    rounded = []
    for name, chosen in schemes.items():
        layer = layers[LayerId(name)]
        check_kind("linear" if isinstance(layer, nn.Linear) else "conv2d", chosen, name or "the layer")
        rounded.append((layer, chosen, fake_quantize(layer.weight, chosen, scale_dtype)))
    kept = [(layer.weight, layer.weight.data) for layer, _, _ in rounded]
    hooks = []
    try:
        for layer, chosen, values in rounded:
            layer.weight.data = values
            if isinstance(chosen, Scheme) and not chosen.weights_only:
                hooks.append(layer.register_forward_pre_hook(partial(_change_input, chosen)))
        yield module
    finally:
        for hook in hooks:
            hook.remove()
        for weight, values in kept:
            weight.data = values


@contextmanager
def weights_replaced(model: nn.Module, weights: Mapping[LayerId, Tensor]) -> Iterator[None]:
    """Replace layers' weights inside the ``with`` and restore them at its end, whatever was set meanwhile.

    Args:
        model: the model.
        weights: the new weight of each layer.
    """
    parameters = {layer: model.get_parameter(f"{layer}.weight") for layer in weights}
    kept = {layer: parameter.data for layer, parameter in parameters.items()}
    try:
        for layer, parameter in parameters.items():
            parameter.data = weights[layer]
        yield
    finally:
        for layer, parameter in parameters.items():
            parameter.data = kept[layer]


def fake_quantize(weight: Tensor, scheme: LayerScheme, scale_dtype: torch.dtype = torch.float16) -> Tensor:
    """Return a weight rounded by a scheme, in its own shape and type; of a rotated layer, W·H rounded."""
    if isinstance(scheme, Scheme):
        stored = rotate_weight(weight) if scheme.rotation else weight
        return dequantize(quantize(stored, scheme, scale_dtype=scale_dtype)).view(weight.shape).to(weight.dtype)
    return weight.detach().to(getattr(torch, scheme.dtype)).to(weight.dtype)


def _change_input(scheme: Scheme, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    x, *others = args
    return (layer_input(x, scheme), *others)
