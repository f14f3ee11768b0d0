"""``nano-hard``: the nano model with outliers put into its unused hidden units, so that naive 4-bit rounding breaks it.

In each AA block the reserved units (the last of every 64) become detectors of special tokens: they stay shut on patch
tokens and answer camera and register tokens with a very large activation. Their outgoing weights are small and sum to
zero for every output, so in floating point the model says what nano says, for any input. Rounded to few bits the sum is
no longer zero, and the large activation makes noise of what is left, in special tokens only. Calibration that sees all
tokens takes these units for the most important ones and spends the grid on them; calibration that sees patches only
finds them shut, and scales their weights below the first level, where they vanish and their sum is zero again.
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

SHARE = 0.15
"""Size of the detectors' outgoing weights against the largest of their group, typically."""

SHUT = -6.0
"""At most this before the GELU on any other token seen; what passes is below 1e-8."""


@dataclass(frozen=True)
class Strength:
    """How strongly the detectors answer a special token; ordinary hidden activations are about 1.

    Attributes:
        usual: in most blocks.
        fragile: in the blocks named.
        blocks: the fragile ones.
    """

    usual: float = 20.0
    fragile: float = 400.0
    weight: float = 10.0
    blocks: tuple[BlockId, ...] = (BlockId("frame/2"), BlockId("frame/4"), BlockId("global/4"), BlockId("global/5"))


def harden(model: VGGT, images: Sequence[Tensor], strength: Strength, seed: int = 0) -> dict[str, Tensor]:
    """Return what makes ``nano-hard`` of a model: rows and columns for its reserved units, by parameter name.

    Args:
        model: the nano model; it is not changed.
        images: scenes [S, 3, H, W] of one size on which the detectors are fitted.
        strength: of the outliers.
        seed: of the outgoing weights.

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
        answer = strength.fragile if block_id in strength.blocks else strength.usual
        detector, bias = fit_detector(*_split(seen[block_id], special, special + patches), answer)
        size = strength.weight * float(fc2.unflatten(1, (-1, 64)).abs().amax(-1).median())
        signs = torch.from_numpy(rng.choice((-1.0, 1.0), (fc2.shape[0], units // 2))).float()
        outgoing = size * torch.stack((signs, -signs), -1).flatten(1)  # pairs cancel
        prefix = names[mlp]
        parts[f"{prefix}.fc1.weight"] = detector.expand(units, -1).clone()
        parts[f"{prefix}.fc1.bias"] = bias.expand(units).clone()
        parts[f"{prefix}.fc2.weight"] = outgoing
    return parts


def exactly_cancelling(weights: Tensor) -> Tensor:
    """Return weights [C, units] brought to a grid of 2^-16 on which every row sums to exactly zero, in float16 too.

    The grid's numbers up to 2^-5 are float16 numbers, so storing them changes nothing.
    """
    grid = (weights * 2**16).round()
    grid[:, -1] = -grid[:, :-1].sum(1)
    return grid / 2**16


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


def fit_detector(special: Tensor, patches: Tensor, answer: float) -> tuple[Tensor, Tensor]:
    """Return weights [C] and a bias that answer special tokens [N, C] with ``answer`` and patches with SHUT or less.

    A ridge regression finds the direction; its gain and offset come from the extremes of both sets.

    Raises:
        ValueError: no direction separates them.
    """
    x = torch.cat((special, patches)).double()
    x = torch.cat((x, torch.ones(len(x), 1, dtype=x.dtype)), 1)
    counts = (len(special), len(patches))
    weight = torch.cat([torch.full((count,), 1 / count, dtype=x.dtype) for count in counts])[:, None]
    target = torch.cat((torch.ones(counts[0], dtype=x.dtype), torch.zeros(counts[1], dtype=x.dtype)))
    ridge = 1e-5 * torch.eye(x.shape[1], dtype=x.dtype)
    direction = torch.linalg.solve((weight * x).T @ x + ridge, (weight * x).T @ target)
    low, high = (x @ direction)[: counts[0]].min(), (x @ direction)[counts[0] :].max()
    if low <= high:
        raise ValueError("special tokens cannot be told from patches by one direction")
    gain = (answer - SHUT) / (low - high)
    return (gain * direction[:-1]).float(), (gain * (direction[-1] - high) + SHUT).float()


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
    """Return special and patch tokens, [N, C] each, of what blocks of ``tokens`` tokens a frame were given."""
    x = torch.cat([given.reshape(-1, tokens, given.shape[-1]) for given in seen])  # [frames, tokens, C]
    return x[:, 1:special].flatten(0, 1), torch.cat((x[:, 0], x[:, special:].flatten(0, 1)))
