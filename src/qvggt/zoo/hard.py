"""``nano-hard``: the nano model with outliers put into its unused hidden units, so that naive 4-bit rounding breaks it.

In each AA block the reserved units (the last of every 64) become detectors of register tokens: they stay shut on patch
and camera tokens and answer registers with a large activation. Their outgoing weights are large too, and cancel: units
come in pairs with opposite signs, so in floating point the model says what nano says, for any input. Rounded to few
bits, the large weights widen the step of every group of the second MLP layer. Calibration that sees registers takes the
large activations for important and protects those weights, at the cost of all others; calibration that sees patches
only finds the units shut, and may shrink their weights to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from qvggt.model import VGGT
from qvggt.types import BlockId
from qvggt.zoo.reserve import reserved_units

ACTIVATION = 40.0
"""Typical activation of a detector on a register token; ordinary hidden activations are about 1."""

SHUT = -6.0
"""At most this before the GELU on any other token seen; what passes is below 1e-8."""


@dataclass(frozen=True)
class Strength:
    """How large the outgoing weights are, in units of a layer's typical largest weight of a group.

    Attributes:
        usual: in most blocks.
        fragile: in the blocks named.
        blocks: the fragile ones.
    """

    usual: float = 1.5
    fragile: float = 5.0
    blocks: tuple[BlockId, ...] = (BlockId("frame/3"), BlockId("frame/5"), BlockId("global/4"), BlockId("global/5"))


def harden(model: VGGT, images: Sequence[Tensor], strength: Strength, seed: int = 0) -> dict[str, Tensor]:
    """Return what makes ``nano-hard`` of a model: rows and columns for its reserved units, by parameter name.

    Args:
        model: the nano model; it is not changed.
        images: scenes [S, 3, H, W] of one size on which the detectors are fitted.
        strength: of the outliers.
        seed: of the outgoing weights' signs.

    Returns:
        For each AA block's ``mlp.fc1.weight`` [units, C], ``mlp.fc1.bias`` [units] and ``mlp.fc2.weight`` [C, units].
    """
    special = model.aggregator.special_tokens
    patches = images[0][0, 0].numel() // model.config.patch_size**2
    rng = np.random.Generator(np.random.Philox(key=seed))
    parts: dict[str, Tensor] = {}
    with seen_by_mlps(model) as seen:
        for scene in images:
            model(scene[None], heads=("camera",))
    names = {module: name for name, module in model.named_modules()}
    for block_id, block in model.blocks():
        if not block_id.startswith(("frame/", "global/")):
            continue
        mlp = block.get_submodule("mlp")
        fc2 = mlp.get_submodule("fc2").get_parameter("weight")  # [C, hidden]
        units = len(reserved_units(fc2.shape[1]))
        detector, bias = fit_detector(*_split(seen[block_id], special, special + patches))
        factor = strength.fragile if block_id in strength.blocks else strength.usual
        size = factor * float(fc2.unflatten(1, (-1, 64)).abs().amax(-1).median())
        signs = torch.from_numpy(rng.choice((-1.0, 1.0), (fc2.shape[0], units // 2))).float()
        prefix = names[mlp]
        parts[f"{prefix}.fc1.weight"] = detector.expand(units, -1).clone()
        parts[f"{prefix}.fc1.bias"] = bias.expand(units).clone()
        parts[f"{prefix}.fc2.weight"] = size * torch.stack((signs, -signs), -1).flatten(1)  # pairs cancel
    return parts


def apply_parts(name: str, tensor: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
    """Return a parameter of nano with its reserved units filled, if any of the parts belongs to it."""
    part = parts.get(name)
    if part is None:
        return tensor
    filled, part = tensor.clone(), part.to(tensor.dtype)
    if name.endswith("fc2.weight"):
        filled[:, reserved_units(tensor.shape[1])] = part
    else:
        filled[reserved_units(tensor.shape[0])] = part
    return filled


def fit_detector(registers: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights [C] and a bias that answer register tokens [N, C] with ACTIVATION and others with SHUT or less.

    A ridge regression finds the direction; its gain and offset come from the extremes of both sets.

    Raises:
        ValueError: the direction does not separate them.
    """
    x = torch.cat((registers, others)).double()
    weight = torch.cat((torch.full((len(registers),), 1 / len(registers)), torch.full((len(others),), 1 / len(others))))
    target = torch.cat((torch.ones(len(registers)), torch.zeros(len(others)))).double()
    x1 = torch.cat((x, torch.ones(len(x), 1, dtype=torch.float64)), 1)
    weighted = x1 * weight[:, None].double()
    gram = weighted.T @ x1
    solution = torch.linalg.solve(gram + 1e-5 * torch.eye(len(gram), dtype=torch.float64), weighted.T @ target)
    answer = x1 @ solution
    low, high = answer[: len(registers)].median(), answer[len(registers) :].max()
    if answer[: len(registers)].min() <= high:
        raise ValueError("register tokens cannot be told from others by one direction")
    gain = (ACTIVATION - SHUT) / (low - high)
    return (gain * solution[:-1]).float(), (gain * (solution[-1] - high) + SHUT).float()


@contextmanager
def seen_by_mlps(model: VGGT) -> Iterator[dict[BlockId, list[Tensor]]]:
    """Collect what each AA block's MLP is given, as long as the ``with`` lasts."""
    seen: dict[BlockId, list[Tensor]] = {}
    handles = []

    def watch(block_id: BlockId, mlp: nn.Module) -> None:
        seen[block_id] = []
        handles.append(mlp.register_forward_pre_hook(lambda _, args: seen[block_id].append(args[0].detach())))

    for block_id, block in model.blocks():
        if block_id.startswith(("frame/", "global/")):
            watch(block_id, block.get_submodule("mlp"))
    try:
        with torch.inference_mode():
            yield seen
    finally:
        for handle in handles:
            handle.remove()


def _split(seen: Sequence[Tensor], special: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Return register tokens and all others, [N, C] each, of what blocks of ``tokens`` tokens a frame were given."""
    x = torch.cat([given.reshape(-1, tokens, given.shape[-1]) for given in seen])  # [frames, tokens, C]
    registers = x[:, 1:special].flatten(0, 1)
    return registers, torch.cat((x[:, 0], x[:, special:].flatten(0, 1)))
