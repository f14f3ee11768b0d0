"""VGGT: images of a scene to cameras, depth maps and point maps in one pass."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from qvggt.model import chunking
from qvggt.model.aggregator import Aggregator, normalize
from qvggt.model.camera_head import CameraHead
from qvggt.model.config import VGGTConfig
from qvggt.model.dense_head import DenseHead, run_in_frames
from qvggt.model.layers import Arithmetic
from qvggt.model.units import ACTIVATIONS, HEAD_OUTPUTS, OUTPUT_CHANNELS, DenseHeadName, ForwardState, unit_modules
from qvggt.options import ALL_HEADS, DENSE_FRAMES, Head
from qvggt.types import BlockId


class VGGT(nn.Module):
    """The whole model, under the parameter names of the published checkpoint, without its track head."""

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        self.config = config
        self.aggregator = Aggregator(config)
        self.camera_head = CameraHead(config)
        self.depth_head = DenseHead(config, OUTPUT_CHANNELS["depth"])
        self.point_head = DenseHead(config, OUTPUT_CHANNELS["point"])

    def forward(
        self,
        images: Tensor,
        heads: Collection[Head] = ALL_HEADS,
        dense_frames: int = DENSE_FRAMES,
        chunk_tokens: int | None = None,
    ) -> dict[str, Tensor]:
        """Reconstruct scenes.

        In inference mode, unless compiled, the same is computed in chunks, to save memory (``model/chunking.py``).

        Args:
            images: [B, S, 3, H, W] in 0..1; H and W are multiples of the patch size.
            heads: which heads to run.
            dense_frames: most frames that a dense head processes at a time.
            chunk_tokens: most tokens that a layer processes at a time in inference mode; None for the device's default.

        Returns:
            ``pose_enc`` [B, S, 9] and ``pose_enc_iterations`` [4, B, S, 9]; ``depth`` [B, S, H, W, 1] and
            ``depth_conf`` [B, S, H, W]; ``world_points`` [B, S, H, W, 3] and ``world_points_conf`` [B, S, H, W]:
            the outputs of the heads that were run.

        Raises:
            ValueError: an argument is out of range.
        """
        if not torch.compiler.is_compiling() and torch.is_inference_mode_enabled():
            return chunking.run(self, images, heads, dense_frames, chunk_tokens=chunk_tokens)
        self.check(images, heads, dense_frames, chunk_tokens)
        pairs = self.aggregator(images, self.pairs_read_by(heads))  # AA pair -> [B, S, P, 2C]
        outputs: dict[str, Tensor] = {}
        if "camera" in heads:
            outputs |= self.cameras(pairs)  # pose_enc [B, S, 9]
        if "depth" in heads:
            outputs |= self.maps("depth", pairs, images, dense_frames)  # depth [B, S, H, W, 1]
        if "point" in heads:
            outputs |= self.maps("point", pairs, images, dense_frames)  # world_points [B, S, H, W, 3]
        return outputs

    def cameras(self, pairs: Mapping[int, Tensor]) -> dict[str, Tensor]:
        """Run the camera head on the last AA pair's tokens [B, S, P, 2C] and return its outputs by name."""
        poses = self.camera_head(self.camera_tokens(pairs))  # [4, B, S, 9]
        return {"pose_enc": poses[-1], "pose_enc_iterations": poses}

    def maps(
        self, head: DenseHeadName, pairs: Mapping[int, Tensor], images: Tensor, dense_frames: int
    ) -> dict[str, Tensor]:
        """Run a dense head on the tokens [B, S, P, 2C] of the AA pairs that it reads and return its outputs by name."""
        image_hw = (images.shape[3], images.shape[4])
        values, confidence = run_in_frames(self.dense_head(head), self.patch_tokens(pairs), image_hw, dense_frames)
        return dict(zip(HEAD_OUTPUTS[head], (ACTIVATIONS[head](values), confidence), strict=True))

    def camera_tokens(self, pairs: Mapping[int, Tensor]) -> Tensor:
        """Return what the camera head reads of AA pairs' tokens [B, S, P, 2C]: [B, S, 2C]."""
        return pairs[self.config.depth - 1][:, :, 0]

    def patch_tokens(self, pairs: Mapping[int, Tensor]) -> list[Tensor]:
        """Return what dense heads read of AA pairs' tokens [B, S, P, 2C]: four times [B, S, P-5, 2C]."""
        return [pairs[layer][:, :, self.special_tokens :] for layer in self.config.dpt_layers]

    def pairs_read_by(self, heads: Collection[Head]) -> set[int]:
        """Return the indices of the AA pairs whose tokens heads read."""
        last = {self.config.depth - 1} if "camera" in heads else set()
        return last | set(self.config.dpt_layers if set(heads) - {"camera"} else ())

    def advance(self, unit: BlockId, state: ForwardState, dense_frames: int = DENSE_FRAMES) -> ForwardState:
        """Run one unit of the forward pass, with all heads: the state before it to the state after it.

        Args:
            unit: one of ``unit_modules``, which are to be run in their order.
            state: before the unit; it is not changed.
            dense_frames: most frames that a dense head processes at a time.
        """
        aggregator, images, x = self.aggregator, state.images, state.tokens
        kind, _, number = unit.partition("/")
        match kind:
            case "patch_embed" if not number:
                return replace(state, tokens=aggregator.patch_embed.embed(normalize(images).flatten(0, 1)))
            case "patch_embed":
                return replace(state, tokens=aggregator.patch_embed.blocks[int(number)](x))
            case "frame":
                if number == "0":
                    x = aggregator.with_special_tokens(aggregator.patch_embed.finish(x), images.shape[1])
                x = aggregator.frame_attention(int(number), x, aggregator.layout(images, x.dtype))
                return replace(state, tokens=x, in_frame=x)
            case "global":
                in_frame = cast(Tensor, state.in_frame)
                x = aggregator.scene_attention(int(number), x, aggregator.layout(images, x.dtype))
                is_read = int(number) in self.pairs_read_by(ALL_HEADS)
                read = {int(number): aggregator.joined(in_frame, x, images)} if is_read else {}
                return replace(state, tokens=x, in_frame=None, pairs={**state.pairs, **read})
            case "camera":
                return replace(state, outputs={**state.outputs, **self.cameras(state.pairs)})
            case "depth" | "point":
                return replace(state, outputs={**state.outputs, **self.maps(kind, state.pairs, images, dense_frames)})
        raise ValueError(f"expected one of the model's units, got {unit!r}")

    def check(
        self, images: Tensor, heads: Collection[str], dense_frames: int = DENSE_FRAMES, chunk_tokens: int | None = None
    ) -> None:
        """Raise ValueError if an argument of ``forward`` is out of range."""
        patch = self.config.patch_size
        if images.ndim != 5 or images.shape[2] != 3 or 0 in images.shape:
            raise ValueError(f"expected images [B, S, 3, H, W] without empty dimensions, got {tuple(images.shape)}")
        if images.shape[3] % patch or images.shape[4] % patch:
            raise ValueError(f"expected H and W to be multiples of {patch} px, got {tuple(images.shape[3:])}")
        unknown = sorted(set(heads) - set(self.heads))
        if unknown or not heads:
            raise ValueError(f"expected some of the heads {', '.join(self.heads)}, got {', '.join(unknown) or 'none'}")
        if dense_frames < 1:
            raise ValueError(f"expected dense_frames of at least 1, got {dense_frames}")
        if chunk_tokens is not None and chunk_tokens < 1:
            raise ValueError(f"expected chunk_tokens of at least 1, got {chunk_tokens}")

    @property
    def heads(self) -> tuple[Head, ...]:
        """The heads that the model has: weights without one of them are loaded without it."""
        return tuple(head for head in ALL_HEADS if getattr(self, f"{head}_head") is not None)

    @property
    def special_tokens(self) -> int:
        """Tokens of a frame that precede its patch tokens: the camera token, then the registers."""
        return self.aggregator.special_tokens

    @property
    def arithmetic(self) -> Arithmetic:
        """How the model computes attention and caches activations; ``use_arithmetic`` sets it."""
        return self.aggregator.blocks_of(0)[0].attn.arithmetic

    def dense_head(self, head: DenseHeadName) -> DenseHead:
        """Return a dense head by name."""
        return self.depth_head if head == "depth" else self.point_head

    def blocks(self) -> Iterator[tuple[BlockId, nn.Module]]:
        """Yield every transformer block with its id, in running order, those of the camera head last."""
        for unit, module in unit_modules(self.config).items():
            if "/" in unit:
                yield unit, self.get_submodule(module)
        for index, block in enumerate(self.camera_head.trunk):
            yield BlockId(f"camera/{index}"), block
