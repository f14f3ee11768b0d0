"""Weights of a trained model as the beginning of a deeper one."""

from __future__ import annotations

import torch
from torch import Tensor

from qvggt.model import VGGT
from qvggt.types import QvggtError
from qvggt.weights.open import FloatWeights, load_float


@torch.no_grad()
def begin_from(model: VGGT, weights: FloatWeights) -> None:
    """Set an initialized model's weights from those of one that has as many or fewer pairs of blocks, in place.

    Pairs are put so that the dense heads read what they read before. New pairs add nothing at first: the last
    matrices of their branches are zero. The camera head keeps the first blocks of its trunk, and the position
    embedding is resized.

    Raises:
        QvggtError: the models differ in more than that.
    """
    old = load_float(weights)
    places = new_places(old.config.dpt_layers, model.config.dpt_layers)
    grid = model.aggregator.patch_embed.grid
    state: dict[str, Tensor] = {}
    for name, tensor in old.state_dict().items():
        parts = name.split(".")
        if parts[1] in ("frame_blocks", "global_blocks"):
            parts[2] = str(places[int(parts[2])])
        if parts[1] != "trunk" or int(parts[2]) < model.config.camera_trunk_depth:
            state[".".join(parts)] = tensor
    state["aggregator.patch_embed.pos_embed"] = old.aggregator.patch_embed.position_embedding(grid, grid)
    new = model.state_dict()
    if not set(state) <= set(new) or any(new[name].shape != tensor.shape for name, tensor in state.items()):
        raise QvggtError(f"{weights.name!r} cannot begin this model: only depth and image size may differ")
    for name, tensor in new.items():
        if name in state:
            tensor.copy_(state[name])
        elif name.endswith(("attn.proj.weight", "mlp.fc2.weight")):
            tensor.zero_()


def new_places(old_layers: tuple[int, ...], new_layers: tuple[int, ...]) -> list[int]:
    """Return where each pair goes, given the pairs that the dense heads read in both models.

    >>> new_places((1, 3, 4, 5), (1, 5, 6, 8))
    [0, 1, 3, 5, 6, 8]
    """
    places: list[int] = []
    old_end = new_end = -1
    for old, new in zip(old_layers, new_layers, strict=True):
        before, now = old - old_end, new - new_end
        if before > now:
            raise QvggtError(
                f"pairs {old_layers} cannot begin a model that reads {new_layers}: give it as many between or more"
            )
        places += [new_end + (k + 1) * now // before for k in range(before)]
        old_end, new_end = old, new
    return places
