"""VGGT: images of a scene to cameras, depth maps and point maps in one pass."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from qvggt.model.aggregator import Aggregator
from qvggt.model.camera_head import CameraHead
from qvggt.model.config import VGGTConfig
from qvggt.model.dense_head import DenseHead, layout
from qvggt.model.layers import usual_chunk
from qvggt.options import ALL_HEADS, DENSE_FRAMES, Head
from qvggt.types import BlockId

OUTPUT_CHANNELS = {"depth": 2, "point": 4}
"""Numbers of a pixel that each dense head gives, the confidence among them."""

DENSE_PIXELS = 1 << 18
"""Pixels of all frames that the dense heads work on at a time, if that is more than one frame."""


class VGGT(nn.Module):
    """The whole model, with the parameter names of the published checkpoint (its track head left out)."""

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

        Args:
            images: [B, S, 3, H, W] in 0..1; H and W are multiples of the patch size.
            heads: what to compute; nothing else is.
            dense_frames: frames that the dense heads take at a time.
            chunk_tokens: tokens that pass through a block's layers at a time; None for what suits the device.

        Returns:
            ``pose_enc`` [B, S, 9] and ``pose_enc_iterations`` [4, B, S, 9]; ``depth`` [B, S, H, W, 1] and
            ``depth_conf`` [B, S, H, W]; ``world_points`` [B, S, H, W, 3] and ``world_points_conf`` [B, S, H, W]:
            those that the heads give.

        Raises:
            ValueError: the images' shape, a head's name or a number is impossible.
        """
        chunk_tokens = usual_chunk(images.device) if chunk_tokens is None else chunk_tokens
        self.check(images, heads, dense_frames, chunk_tokens)
        last, special = self.config.depth - 1, self.aggregator.special_tokens
        dense = {name: getattr(self, f"{name}_head") for name in OUTPUT_CHANNELS if name in heads}
        keep = ({last} if "camera" in heads else set()) | set(self.config.dpt_layers if dense else ())
        cameras: list[Tensor] = []
        begun = {name: Begun(head, images, dense_frames) for name, head in dense.items()}
        for index, *pair in self.aggregator.pairs(images, keep, chunk_tokens):
            if index == last and "camera" in heads:
                cameras.append(torch.cat([tokens[:, 0] for tokens in pair], -1).unflatten(0, images.shape[:2]))
            levels = [level for level, layer in enumerate(self.config.dpt_layers) if layer == index]
            for each, level in itertools.product(begun.values(), levels):
                each.take(level, [tokens[:, special:] for tokens in pair])
        result: dict[str, Tensor] = {}
        if cameras:
            poses = self.camera_head(cameras[0])
            result["pose_enc"], result["pose_enc_iterations"] = poses[-1], poses
        if "depth" in begun:
            result["depth"], result["depth_conf"] = begun.pop("depth").finish(torch.exp)
        if "point" in begun:
            result["world_points"], result["world_points_conf"] = begun.pop("point").finish(signed_expm1)
        return result

    def check(self, images: Tensor, heads: Collection[str], dense_frames: int, chunk_tokens: int) -> None:
        """Raise ValueError where ``forward`` could not go on."""
        patch = self.config.patch_size
        if images.ndim != 5 or images.shape[2] != 3 or 0 in images.shape:
            raise ValueError(f"expected images [B, S, 3, H, W], none of them 0, got shape {tuple(images.shape)}")
        if images.shape[3] % patch or images.shape[4] % patch:
            raise ValueError(f"expected sides that are multiples of {patch} px, got {tuple(images.shape[3:])}")
        unknown = sorted(set(heads) - set(ALL_HEADS))
        if unknown or not heads:
            raise ValueError(f"expected heads out of {', '.join(ALL_HEADS)}, got {', '.join(unknown) or 'none'}")
        if dense_frames < 1:
            raise ValueError(f"expected dense_frames of at least 1, got {dense_frames}")
        if chunk_tokens < 1:
            raise ValueError(f"expected chunk_tokens of at least 1, got {chunk_tokens}")

    def blocks(self) -> Iterator[tuple[BlockId, nn.Module]]:
        """Yield every transformer block with its id, in the order in which they run."""
        for index, block in enumerate(self.aggregator.patch_embed.blocks):
            yield BlockId(f"patch_embed/{index}"), block
        for index in range(self.config.depth):
            yield BlockId(f"frame/{index}"), self.aggregator.frame_blocks[index]
            yield BlockId(f"global/{index}"), self.aggregator.global_blocks[index]
        for index, block in enumerate(self.camera_head.trunk):
            yield BlockId(f"camera/{index}"), block


def frames_at_a_time(dense_frames: int, pixels: int) -> int:
    """Return how many frames of so many pixels the dense heads take at a time, ``dense_frames`` at most."""
    return max(1, min(dense_frames, DENSE_PIXELS // pixels))


class Begun:
    """A dense head at work on some scenes: it takes AA pairs as they come and keeps less than they are.

    Args:
        head: the head.
        images: [B, S, 3, H, W], of which only the size matters.
        dense_frames: frames that it takes at a time, at most.
    """

    def __init__(self, head: DenseHead, images: Tensor, dense_frames: int) -> None:
        self.head = head
        self.scenes, self.image_hw, self.dtype = images.shape[:2], (images.shape[3], images.shape[4]), images.dtype
        self.frames = math.prod(self.scenes)
        step = frames_at_a_time(dense_frames, images.shape[3] * images.shape[4])
        self.chunks = [slice(first, first + step) for first in range(0, self.frames, step)]
        self.maps: dict[int, Tensor] = {}

    def take(self, level: int, pair: Sequence[Tensor]) -> None:
        """Take the patch tokens of a pair: tensors [B*S, P, ...] of 2C channels together."""
        maps: Tensor | None = None
        for chunk in self.chunks:
            begun = self.head.begin(level, torch.cat([tokens[chunk] for tokens in pair], -1), self.image_hw)
            maps = self._placed(maps, chunk, begun.to(self.head.held_dtype or begun.dtype), layout(begun))
        self.maps[level] = cast(Tensor, maps)

    def finish(self, activation: Callable[[Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return activated values [B, S, H, W, channels] and confidence [B, S, H, W], and forget what was taken."""
        values: Tensor | None = None
        confidences: Tensor | None = None
        for chunk in self.chunks:
            begun = [self.maps[level][chunk].to(self.dtype) for level in range(4)]
            value, confidence = self.head(begun, self.image_hw)
            values = self._placed(values, chunk, value if activation is None else activation(value))
            confidences = self._placed(confidences, chunk, confidence)
        self.maps.clear()
        return cast(Tensor, values).unflatten(0, self.scenes), cast(Tensor, confidences).unflatten(0, self.scenes)

    def _placed(
        self, whole: Tensor | None, chunk: slice, part: Tensor, form: torch.memory_format = torch.contiguous_format
    ) -> Tensor:
        """Return the tensor of all frames, in which those of a chunk now are.

        It is made in one piece when the first part comes: many parts would stay behind where layers want large pieces.
        """
        if len(part) == self.frames:
            return part
        if whole is None:
            sizes = self.frames, *part.shape[1:]
            whole = torch.empty(sizes, dtype=part.dtype, device=part.device, memory_format=form)
        whole[chunk] = part
        return whole


def run_dense(
    head: DenseHead,
    layers: Sequence[Tensor],
    images: Tensor,
    dense_frames: int,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Run a dense head on the patch tokens [B*S, P, 2C] of its four pairs and return values and confidence."""
    begun = Begun(head, images, dense_frames)
    for level, tokens in enumerate(layers):
        begun.take(level, [tokens])
    return begun.finish(activation)


def signed_expm1(values: Tensor) -> Tensor:
    """Return the inverse of the signed logarithm of 1 + |x|."""
    return values.sign() * values.abs().expm1()
