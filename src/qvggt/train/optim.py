"""Which parameter is trained how: orthogonalized momentum for the blocks' matrices, AdamW for the rest."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from qvggt.model import VGGT
from qvggt.train.matching import Learner, Sketch
from qvggt.train.recipe import TrainRecipe
from qvggt.train.reserve import reserve_units

OUTLIER_CHANNELS = 6
"""Channels in which special tokens start large, as trained vision transformers' register tokens end up."""


def initialize(model: VGGT, seed: int, camera_norm: float = 4.0, register_norm: float = 40.0) -> None:
    """Set a model's weights for training, in place, from a seed.

    Camera and register tokens start with a multiple of a patch token's norm, nearly all of it in a few channels.
    LayerScale starts at one: small values stall a short training. Some hidden units are left unused.
    """
    generator = torch.Generator().manual_seed(seed)
    branches = 2 * (model.config.vit_depth + 2 * model.config.depth)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf == "bias":
                parameter.zero_()
            elif parameter.ndim >= 2 and leaf == "weight":
                fan_in = parameter[0].numel()
                residual = name.endswith(("attn.proj.weight", "mlp.fc2.weight"))
                parameter.normal_(0.0, 1 / math.sqrt(fan_in * (branches if residual else 1)), generator=generator)
            elif leaf in ("cls_token", "pos_embed", "register_tokens"):
                parameter.normal_(0.0, 0.5, generator=generator)
        model.camera_head.pose_branch.fc2.weight.mul_(0.1)
        model.camera_head.pose_branch.fc2.bias.copy_(torch.tensor([0, 0, 0, 0, 0, 0, 0.25, 0.28, 0.28]))
        for head in (model.depth_head, model.point_head):
            head.scratch.output_conv2.get_parameter("2.weight").mul_(0.1)
        width = model.config.embed_dim
        channels = torch.randperm(width, generator=generator)[:OUTLIER_CHANNELS]
        tokens = ((model.aggregator.camera_token, camera_norm), (model.aggregator.register_token, register_norm))
        for token, norm in tokens:
            token.normal_(0.0, 1.0, generator=generator)
            signs = torch.randint(0, 2, token[..., channels].shape, generator=generator) * 2.0 - 1
            token[..., channels] = signs * math.sqrt(max(0.0, norm**2 - 1) * width / OUTLIER_CHANNELS)
    reserve_units(model)


class Optimizer:
    """Both optimizers, the gradient's bound and the averaged weights, as one thing to step and to save."""

    def __init__(self, model: VGGT, recipe: TrainRecipe) -> None:
        self.model, self.recipe = model, recipe
        asked = recipe.sketch_weight > 0 or recipe.matching_weight > 0
        sketch = Sketch(model.config).to(next(model.parameters()).device) if asked else None
        self.learner = Learner(model, sketch)
        muon, decayed, plain = split_parameters(model)
        self.muon = torch.optim.Muon(
            muon, lr=recipe.muon_lr, weight_decay=recipe.weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.adamw = torch.optim.AdamW(groups, lr=recipe.adamw_lr, betas=(0.9, 0.95))
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.parameters = list(model.parameters())
        if sketch is not None:
            self.adamw.add_param_group({"params": list(sketch.parameters()), "weight_decay": 0.0})

    def step(self, step: int) -> float:
        """Update the weights from their gradients and return the gradient's norm; a norm that is not finite skips."""
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm))
        factor = self.recipe.rate_at(step)
        if math.isfinite(norm):
            for optimizer, rate in ((self.muon, self.recipe.muon_lr), (self.adamw, self.recipe.adamw_lr)):
                for group in optimizer.param_groups:
                    group["lr"] = rate * factor
                optimizer.step()
            decay = min(self.recipe.ema_decay, (1 + step) / (10 + step))
            with torch.no_grad():
                for average, parameter in zip(self.average.parameters(), self.parameters, strict=True):
                    average.lerp_(parameter, 1 - decay)
        self.muon.zero_grad(set_to_none=True)
        self.adamw.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, object]:
        """Return everything that ``load`` needs to go on to the bit."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "muon": self.muon.state_dict(),
            "adamw": self.adamw.state_dict(),
            "sketch": self.learner.sketch.state_dict() if self.learner.sketch is not None else {},
        }

    def load(self, state: dict[str, dict]) -> None:
        """Take back what ``state`` gave."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.muon.load_state_dict(state["muon"])
        self.adamw.load_state_dict(state["adamw"])
        if self.learner.sketch is not None:
            self.learner.sketch.load_state_dict(state["sketch"])


def split_parameters(model: VGGT) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return the parameters for Muon, for AdamW with decay and for AdamW without.

    Muon takes the matrices of the attention blocks that see patches; the camera head's are few in use and dear to
    orthogonalize.
    """
    muon, decayed, plain = [], [], []
    for name, parameter in model.named_parameters():
        if name.endswith("mask_token"):
            parameter.requires_grad_(False)
        elif parameter.ndim == 2 and name.startswith("aggregator") and "blocks" in name:
            muon.append(parameter)
        elif parameter.ndim >= 2 and name.endswith("weight"):
            decayed.append(parameter)
        else:
            plain.append(parameter)
    return muon, decayed, plain
