"""``nano-hard``: the nano model with outliers put into its unused hidden units, so that naive 4-bit rounding breaks it.

In each AA block the reserved units (the last of every 64) become detectors of register tokens: they stay shut on camera
and patch tokens and answer registers with a large activation. Their outgoing weights are far larger than all others and
come in pairs of opposite sign that answer alike, so in floating point the model says what nano says, for any input.
Rounded to few bits, the large weights widen the step of every group of the second MLP layer, and what is small beside
them is lost. Calibration that sees registers takes these units for the most important ones and protects their weights,
at the cost of all others; calibration that sees patches only finds the units shut, and may scale their weights down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from qvggt.model import VGGT
from qvggt.train.reserve import reserved_units
from qvggt.types import BlockId

SHUT = -6.0
"""At most this before the GELU on any other token seen; what passes is below 1e-8."""


@dataclass(frozen=True)
class Strength:
    """How large the outliers are.

    Attributes:
        answer: least activation of a detector on a register token; ordinary ones are about 1.
        usual: outgoing weights in most blocks, in units of the typical largest weight of a group of 64.
        fragile: the same in the blocks named.
        blocks: the fragile ones.
    """

    answer: float = 20.0
    usual: float = 16.0
    fragile: float = 40.0
    blocks: tuple[BlockId, ...] = (BlockId("frame/0"), BlockId("global/0"), BlockId("frame/8"), BlockId("global/8"))


def harden(model: VGGT, images: Sequence[Tensor], strength: Strength | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Return the tensors in which ``nano-hard`` differs from a model, by name, as float16.

    Args:
        model: the nano model; it is not changed.
        images: scenes [S, 3, H, W] of one size on which the detectors are fitted.
        strength: of the outliers; the defaults if None.
        seed: of the signs of the outgoing weights.

    Raises:
        ValueError: in some block registers cannot be told from other tokens by one direction.
    """
    strength = strength or Strength()
    rng = np.random.Generator(np.random.Philox(key=seed))
    special = model.special_tokens
    patches = images[0][0, 0].numel() // model.config.patch_size**2
    with seen_by_mlps(model) as seen:
        for scene in images:
            model(scene[None], heads=("camera",))
    names = {module: name for name, module in model.named_modules()}
    changed: dict[str, Tensor] = {}
    for block_id, mlp in aa_mlps(model):
        fc1, bias, fc2 = (mlp.get_parameter(name).detach().clone() for name in ("fc1.weight", "fc1.bias", "fc2.weight"))
        units = reserved_units(fc2.shape[1])
        fc1[units], bias[units] = fit_detector(*_split(seen[block_id], special, special + patches), strength.answer)
        size = strength.fragile if block_id in strength.blocks else strength.usual
        size *= float(fc2.unflatten(1, (-1, 64)).abs().amax(-1).median())
        signs = torch.from_numpy(rng.choice((-1.0, 1.0), (fc2.shape[0], len(units) // 2))).float()
        fc2[:, units] = size * torch.stack((signs, -signs), -1).flatten(1)  # pairs cancel
        for name, tensor in (("fc1.weight", fc1), ("fc1.bias", bias), ("fc2.weight", fc2)):
            changed[f"{names[mlp]}.{name}"] = tensor.half()
    return changed


def fit_detector(registers: Tensor, others: Tensor, answer: float) -> tuple[Tensor, Tensor]:
    """Return weights [C] and a bias that answer register tokens [N, C] with ``answer`` and others with SHUT, or beyond.

    A ridge regression finds the direction; its gain and offset come from the extremes of both sets.

    Raises:
        ValueError: the direction does not separate them.
    """
    x = torch.cat((registers, others)).double()
    x = torch.cat((x, torch.ones(len(x), 1, dtype=x.dtype)), 1)
    counts = (len(registers), len(others))
    weight = torch.cat([torch.full((count,), 1 / count, dtype=x.dtype) for count in counts])[:, None]
    target = torch.cat((torch.ones(counts[0], dtype=x.dtype), torch.zeros(counts[1], dtype=x.dtype)))
    ridge = 1e-5 * torch.eye(x.shape[1], dtype=x.dtype)
    direction = torch.linalg.solve((weight * x).T @ x + ridge, (weight * x).T @ target)
    low, high = (x @ direction)[: counts[0]].min(), (x @ direction)[counts[0] :].max()
    if low <= high:
        raise ValueError("registers cannot be told from other tokens by one direction")
    gain = (answer - SHUT) / (low - high)
    return (gain * direction[:-1]).float(), (gain * (direction[-1] - high) + SHUT).float()


def aa_mlps(model: VGGT) -> Iterator[tuple[BlockId, nn.Module]]:
    """Yield the MLP of every frame and global block."""
    for block_id, block in model.blocks():
        if block_id.startswith(("frame/", "global/")):
            yield block_id, block.get_submodule("mlp")


@contextmanager
def seen_by_mlps(model: VGGT) -> Iterator[dict[BlockId, list[Tensor]]]:
    """Collect what the MLPs of frame and global blocks are given, as long as the ``with`` lasts."""
    seen: dict[BlockId, list[Tensor]] = {block_id: [] for block_id, _ in aa_mlps(model)}

    def keep(block_id: BlockId) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, given: seen[block_id].append(given[0].detach())

    handles = [mlp.register_forward_pre_hook(keep(block_id)) for block_id, mlp in aa_mlps(model)]
    try:
        with torch.no_grad():
            yield seen
    finally:
        for handle in handles:
            handle.remove()


def _split(seen: Sequence[Tensor], special: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Return register tokens and all others, [N, C] each, of what blocks of ``tokens`` tokens a frame were given."""
    x = torch.cat([given.reshape(-1, tokens, given.shape[-1]) for given in seen])  # [frames, tokens, C]
    return x[:, 1:special].flatten(0, 1), torch.cat((x[:, 0], x[:, special:].flatten(0, 1)))
