"""VGGT as a list of units in the order in which they run, so that one can be worked on while the rest waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from qvggt.model import VGGT
from qvggt.model.aggregator import normalise
from qvggt.model.vggt import run_dense, signed_expm1
from qvggt.options import DENSE_FRAMES
from qvggt.types import BlockId, LayerId

HEADS = ("camera", "depth", "point")
"""Kinds of the units that end the walk: none reads what another gives."""


@dataclass(frozen=True)
class Unit:
    """A part of the model that runs as a whole.

    Attributes:
        id: ``patch_embed`` (the projection), ``patch_embed/3``, ``frame/3``, ``global/3``, ``camera``, ``depth`` or
            ``point`` (whole heads).
        module: dotted name of what runs.
        linear: its linear layers, in the model's order.
        conv: its convolutions.
    """

    id: BlockId
    module: str
    linear: tuple[LayerId, ...]
    conv: tuple[LayerId, ...]

    @property
    def kind(self) -> str:
        """The id without its index."""
        return self.id.partition("/")[0]

    @property
    def index(self) -> int | None:
        """The index, if it has one."""
        index = self.id.partition("/")[2]
        return int(index) if index else None


@dataclass(frozen=True)
class WalkState:
    """What flows from unit to unit for scenes of one size.

    Attributes:
        images: [B, S, 3, H, W] in 0..1.
        tokens: [B*S, P, C], what the next block sees; empty before the first.
        in_frame: [B*S, P, C], tokens after the latest frame block.
        kept: AA pair -> [B, S, P, 2C], what the heads read.
        outputs: what the heads have given so far, as ``VGGT.forward`` names it.
    """

    images: Tensor
    tokens: Tensor
    in_frame: Tensor | None = None
    kept: Mapping[int, Tensor] = field(default_factory=dict)
    outputs: Mapping[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> list[Tensor]:
        """Return every tensor that is held besides the images and the outputs."""
        return [self.tokens, *([] if self.in_frame is None else [self.in_frame]), *self.kept.values()]

    def first(self, scenes: int) -> WalkState:
        """Return the state of the first few scenes, without a copy and without outputs."""
        frames = scenes * self.images.shape[1]
        return WalkState(
            self.images[:scenes],
            self.tokens[:frames],
            None if self.in_frame is None else self.in_frame[:frames],
            {layer: kept[:scenes] for layer, kept in self.kept.items()},
        )


def start(images: Tensor) -> WalkState:
    """Return the state before the first unit, for images [B, S, 3, H, W]."""
    return WalkState(images, images.new_empty(0))


def model_units(model: VGGT) -> tuple[Unit, ...]:
    """Return every unit of a model in the order in which they run; together they hold every layer."""
    named = [("patch_embed", "aggregator.patch_embed.patch_embed")]
    named += [
        (f"patch_embed/{index}", f"aggregator.patch_embed.blocks.{index}") for index in range(model.config.vit_depth)
    ]
    for index in range(model.config.depth):
        named.append((f"frame/{index}", f"aggregator.frame_blocks.{index}"))
        named.append((f"global/{index}", f"aggregator.global_blocks.{index}"))
    named += [("camera", "camera_head"), ("depth", "depth_head"), ("point", "point_head")]
    return tuple(_unit(model, BlockId(unit), module) for unit, module in named)


def advance(model: VGGT, unit: Unit, state: WalkState, dense_frames: int = DENSE_FRAMES) -> WalkState:
    """Run one unit on the state before it and return the state after it."""
    aggregator, config = model.aggregator, model.config
    batch, frames = state.images.shape[:2]
    module = model.get_submodule(unit.module)
    match unit.kind:
        case "patch_embed" if unit.index is None:
            return replace(state, tokens=aggregator.patch_embed.embed(normalise(state.images).flatten(0, 1)))
        case "patch_embed":
            return replace(state, tokens=module(state.tokens))
        case "frame":
            tokens = state.tokens
            if unit.index == 0:
                tokens = aggregator.with_special_tokens(aggregator.patch_embed.finish(tokens), frames)
            tokens = module(tokens, aggregator.rotations(state.images, tokens.dtype)[0])
            return replace(state, tokens=tokens, in_frame=tokens)
        case "global":
            assert state.in_frame is not None
            assert unit.index is not None
            tokens = state.tokens.reshape(batch, -1, config.embed_dim)  # [B, S*P, C]
            tokens = module(tokens, aggregator.rotations(state.images, tokens.dtype)[1])
            tokens = tokens.reshape(batch * frames, -1, config.embed_dim)
            kept = dict(state.kept)
            if unit.index in config.dpt_layers or unit.index == config.depth - 1:
                kept[unit.index] = torch.cat((state.in_frame, tokens), -1).unflatten(0, (batch, frames))
            return replace(state, tokens=tokens, in_frame=None, kept=kept)
        case "camera":
            poses = model.camera_head(state.kept[config.depth - 1][:, :, 0])
            return _with_outputs(state, pose_enc=poses[-1], pose_enc_iterations=poses)
    layers = [state.kept[layer][:, :, aggregator.special_tokens :].flatten(0, 1) for layer in config.dpt_layers]
    activation = torch.exp if unit.kind == "depth" else signed_expm1
    values, confidence = run_dense(module, layers, state.images, dense_frames, activation)  # pyright: ignore[reportArgumentType]
    if unit.kind == "depth":
        return _with_outputs(state, depth=values, depth_conf=confidence)
    return _with_outputs(state, world_points=values, world_points_conf=confidence)


def run_units(model: VGGT, units: Sequence[Unit], state: WalkState) -> WalkState:
    """Run units one after the other."""
    for unit in units:
        state = advance(model, unit, state)
    return state


def _unit(model: VGGT, unit: BlockId, module: str) -> Unit:
    layers = list(model.get_submodule(module).named_modules(prefix=module))
    return Unit(
        unit,
        module,
        tuple(LayerId(name) for name, layer in layers if isinstance(layer, nn.Linear)),
        tuple(LayerId(name) for name, layer in layers if isinstance(layer, nn.Conv2d)),
    )


def _with_outputs(state: WalkState, **outputs: Tensor) -> WalkState:
    return replace(state, outputs={**state.outputs, **outputs})
