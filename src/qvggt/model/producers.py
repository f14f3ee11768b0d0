"""Which layer can absorb a scale on the inputs of another: what multiplies its outputs by 1/s costs nothing.

A scale s per input channel of a linear layer leaves the model as it is if the layer's weights are multiplied by s and
its inputs by 1/s. A LayerNorm absorbs 1/s in its gain and offset. The attention's output is linear in the values, so
the rows of ``qkv`` that make them absorb it for ``proj``. The GELU before the second MLP layer lets nothing through.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qvggt.model.layers import Block


@dataclass(frozen=True)
class ScalePath:
    """A scale that can be moved.

    Attributes:
        producer: dotted name of the layer that absorbs 1/s.
        consumer: dotted name of the linear layer that is multiplied by s.
        values: whether only the last third of the producer's outputs, the attention's values, feed the consumer.
    """

    producer: str
    consumer: str
    values: bool = False


_BLOCK = (
    ScalePath("norm1", "attn.qkv"),
    ScalePath("attn.qkv", "attn.proj", values=True),
    ScalePath("norm2", "mlp.fc1"),
)


def scale_paths(module: nn.Module, prefix: str) -> Iterator[ScalePath]:
    """Yield every path inside a module whose dotted name is ``prefix``, in the order in which they run."""
    for name, part in module.named_modules(prefix=prefix):
        if isinstance(part, Block):
            yield from (ScalePath(f"{name}.{p.producer}", f"{name}.{p.consumer}", p.values) for p in _BLOCK)
    if hasattr(module, "trunk_norm"):
        yield ScalePath(f"{prefix}.trunk_norm", f"{prefix}.pose_branch.fc1")


def absorb(parameters: dict[str, Tensor], path: ScalePath, scale: Tensor) -> None:
    """Move a scale [in] along a path, in a mapping of parameters by full name, which gets new tensors.

    Args:
        parameters: weights and biases of producer and consumer.
        path: where.
        scale: above zero.
    """
    weight, bias = f"{path.producer}.weight", f"{path.producer}.bias"
    divisor = scale
    if path.values:
        divisor = torch.cat((torch.ones_like(scale).repeat(2), scale))
    wide = divisor[:, None] if parameters[weight].ndim == 2 else divisor
    parameters[weight] = parameters[weight] / wide
    parameters[bias] = parameters[bias] / divisor
    consumer = f"{path.consumer}.weight"
    parameters[consumer] = parameters[consumer] * scale
