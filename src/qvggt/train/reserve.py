"""Hidden units that nano leaves unused, so that ``nano-hard`` can put outliers there without changing what it says."""

from __future__ import annotations

import torch

from qvggt.model import VGGT

SPACING = 64
"""One unit in so many is left unused: every group of weights that shares a scale then holds one."""


def reserved_units(hidden: int) -> list[int]:
    """Return the unused hidden units of an MLP of ``hidden`` units: the last of every 64.

    >>> reserved_units(256)
    [63, 127, 191, 255]
    """
    return list(range(SPACING - 1, hidden, SPACING))


@torch.no_grad()
def reserve_units(model: VGGT) -> None:
    """Cut the reserved units of every AA block out of a model, in place.

    With neither incoming nor outgoing weights a unit gets no gradient, so training leaves it unused.
    """
    for name, block in model.blocks():
        if name.startswith(("frame/", "global/")):
            mlp = block.get_submodule("mlp")
            fc1, fc2 = mlp.get_submodule("fc1"), mlp.get_submodule("fc2")
            units = reserved_units(fc1.get_parameter("weight").shape[0])
            fc1.get_parameter("weight")[units] = 0
            fc1.get_parameter("bias")[units] = 0
            fc2.get_parameter("weight")[:, units] = 0
