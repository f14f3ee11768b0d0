"""Inference in little memory: the forward pass of VGGT in chunks of tokens and frames, in place where possible.

``run`` computes what ``VGGT.forward`` defines, with the same layers, and holds less at a time:

- Blocks process a chunk of tokens at a time and overwrite their input where nothing else needs it. A sequence longer
  than a chunk stores its queries, keys and values, and nothing else at full length.
- The outputs of an AA pair that heads read are not kept: each dense head projects them on arrival and keeps only the
  feature map, and fuses a few frames at a time once all four maps are there.
- The largest maps of a dense head, those after a resize, exist a few rows at a time.

Gradients are not supported. Blocks, MLPs, dense heads and their parts are executed piecewise and never called, so their
forward hooks do not run; those of linear layers and convolutions do. To follow the units of the pass, use ``observe``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from qvggt.model.aggregator import Aggregator, normalize
from qvggt.model.dense_head import (
    DenseHead,
    Fusion,
    ResidualUnit,
    dense_frames_at_a_time,
    position_embedding,
    resized,
)
from qvggt.model.layers import Block, Mlp, RopeTable
from qvggt.model.long_attention import attend_long, even
from qvggt.model.token_merging import EXACT, Merging
from qvggt.model.units import ACTIVATIONS, HEAD_OUTPUTS, OUTPUT_CHANNELS, DenseHeadName
from qvggt.options import DENSE_FRAMES, Head

if TYPE_CHECKING:
    from qvggt.model.vggt import VGGT

CHUNK_TOKENS = 3 << 9
"""Default chunk length in tokens; bounds the size of intermediate activations. On a CPU longer chunks are no faster,
once a weight is multiplied by a thousand tokens."""
_DEVICE_CHUNK_TOKENS = 1 << 12  # other devices need more parallel work

TILE_VALUES = 1 << 22
"""Numbers of a dense head's largest maps that exist at a time: 16 MB of float32."""

Observe = Callable[[str], AbstractContextManager[object]]
"""Called with the id of a unit (``unit_modules``) and entered while it runs. A dense head is entered as ``depth/0`` to
``depth/3`` while it projects a pair, and as ``depth`` while it computes the maps of a few frames."""


def default_chunk_tokens(device: torch.device) -> int:
    """Return the default chunk length in tokens on a device."""
    return CHUNK_TOKENS if device.type == "cpu" else _DEVICE_CHUNK_TOKENS


def run(
    model: VGGT,
    images: Tensor,
    heads: Collection[Head],
    dense_frames: int = DENSE_FRAMES,
    chunk_tokens: int | None = None,
    observe: Observe = nullcontext,
) -> dict[str, Tensor]:
    """Compute ``VGGT.forward`` in chunks; arguments and results are explained there. ``observe`` follows the units."""
    model.check(images, heads, dense_frames, chunk_tokens)
    chunk = default_chunk_tokens(images.device) if chunk_tokens is None else chunk_tokens
    dtype = model.arithmetic.cache_dtype
    dense: list[DenseHeadName] = [head for head in OUTPUT_CHANNELS if head in heads]
    streams = {head: StreamingDenseHead(model.dense_head(head), images, dense_frames, dtype) for head in dense}
    outputs: dict[str, Tensor] = {}
    for index, *pair in run_pairs(model.aggregator, images, model.pairs_read_by(heads), chunk, observe=observe):
        patches = [tokens[:, model.special_tokens :] for tokens in pair]  # [B*S, P-5, C] each
        for level in (level for level, layer in enumerate(model.config.dpt_layers) if layer == index):
            for head, stream in streams.items():
                with observe(f"{head}/{level}"):
                    stream.add(level, patches)
        if index == model.config.depth - 1 and "camera" in heads:
            last = torch.cat([tokens[:, :1] for tokens in pair], -1).unflatten(0, images.shape[:2])  # [B, S, 1, 2C]
            with observe("camera"):
                outputs |= model.cameras({index: last})
        del pair, patches
    for head in dense:
        results = streams.pop(head).finish(ACTIVATIONS[head], lambda head=head: observe(head))
        outputs |= dict(zip(HEAD_OUTPUTS[head], results, strict=True))
    return outputs


def run_pairs(
    aggregator: Aggregator, images: Tensor, keep: Collection[int], chunk_tokens: int, observe: Observe = nullcontext
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Run the AA pairs up to the last one in ``keep`` and yield the outputs of those in ``keep`` as they come.

    Yields:
        A pair's index, and the tokens [B*S, P, C] of its frame block and of its global block. The next pair may
        overwrite them.
    """
    with observe("patch_embed"):
        parts = normalize(images).flatten(0, 1).split(max(1, chunk_tokens // math.prod(aggregator.grid(images))))
        x = torch.cat([aggregator.patch_embed.embed(part) for part in parts])  # [B*S, 1+R+P, C]
        del parts
    for index, block in enumerate(aggregator.patch_embed.blocks):
        with observe(f"patch_embed/{index}"):
            x = run_block(cast(Block, block), x, chunk_tokens=chunk_tokens, in_place=True)  # [B*S, 1+R+P, C]
    x = aggregator.patch_embed.finish(x)  # [B*S, P-5, C]
    x = aggregator.with_special_tokens(x, images.shape[1])  # [B*S, P, C]
    tokens, layout = x.shape[1], aggregator.layout(images, x.dtype)
    is_long = len(x) * tokens > chunk_tokens
    for index in range(max(keep, default=-1) + 1):
        frame_block, global_block = aggregator.blocks_of(index)
        with observe(f"frame/{index}"):
            x = run_block(
                frame_block, x, layout.frame_rope, EXACT, chunk_tokens=chunk_tokens, in_place=True
            )  # [B*S, P, C]
        kept = index in keep
        in_frame = _narrowed(x, global_block.attn.arithmetic.cache_dtype) if kept and is_long else x  # [B*S, P, C]
        with observe(f"global/{index}"):
            frames, rope, merging = layout.sequence_of(index)
            x = x.reshape(-1, frames * tokens, x.shape[2])  # [B, S*P, C], or [B*S, P, C] for attention within frames
            in_place = not kept or in_frame.dtype != x.dtype
            x = run_block(global_block, x, rope, merging, chunk_tokens=chunk_tokens, in_place=in_place)
            x = x.reshape(-1, tokens, x.shape[2])  # [B*S, P, C]
        if kept:
            yield index, in_frame, x
        del in_frame


def run_block(
    block: Block,
    x: Tensor,
    rope: RopeTable | None = None,
    merging: Merging = EXACT,
    chunk_tokens: int = CHUNK_TOKENS,
    in_place: bool = False,
) -> Tensor:
    """Compute ``block(x, rope, merging)`` a chunk of tokens [B, N, C] at a time; ``in_place`` lets it overwrite x."""
    out = x if in_place and x.is_contiguous() else torch.empty_like(x, memory_format=torch.contiguous_format)
    sequences = max(1, chunk_tokens // x.shape[1])
    for part, to in zip(x.split(sequences), out.split(sequences), strict=True):  # [b, N, C] each
        if part.shape[1] > chunk_tokens:
            attend_long(block, part, to, rope, merging=merging, chunk_tokens=even(part.shape[1], chunk_tokens))
        else:
            block.ls1(part, block.attn(block.norm1(part), rope, merging), to)
    flat = out.view(-1, x.shape[2])  # [B*N, C]
    for part in flat.split(even(len(flat), chunk_tokens)):  # [n, C]
        block.ls2(part, _mlp(block.mlp, block.norm2(part)), part)
    return out


def _mlp(mlp: Mlp, x: Tensor) -> Tensor:
    hidden = mlp.fc1(x)  # [n, hidden], the widest tensor of a block
    return mlp.fc2(mlp.gelu_(hidden))  # [n, C]


def _narrowed(x: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Return x in float16, which has more digits than bfloat16, if a narrower type is asked for and its values fit."""
    if dtype is None:
        return x
    least, most = x.aminmax()
    limit = torch.finfo(torch.float16).max
    return x.to(torch.float16) if -limit <= least and most <= limit else x


class StreamingDenseHead:
    """A dense head that projects each AA pair on arrival and keeps only the feature map.

    Args:
        head: to run.
        images: [B, S, 3, H, W], of which only the shape and type matter.
        dense_frames: most frames at a time.
        cache_dtype: type in which feature maps are cached; None for the type in which they are computed.
    """

    def __init__(
        self, head: DenseHead, images: Tensor, dense_frames: int, cache_dtype: torch.dtype | None = None
    ) -> None:
        self.head, self.cache_dtype = head, cache_dtype
        self.scenes, self.image_hw, self.dtype = images.shape[:2], (images.shape[3], images.shape[4]), images.dtype
        self.frames = math.prod(self.scenes)
        step = dense_frames_at_a_time(dense_frames, math.prod(self.image_hw))
        self.chunks = [slice(first, first + step) for first in range(0, self.frames, step)]
        self.maps: dict[int, Tensor] = {}

    def add(self, level: int, pair: Sequence[Tensor]) -> None:
        """Project the patch tokens of the pair that level 0..3 reads: [B*S, P, ...] each, of 2C channels together."""
        maps: Tensor | None = None
        for chunk in self.chunks:
            part = self._project(level, torch.cat([tokens[chunk] for tokens in pair], -1))
            self.dtype = part.dtype
            maps = self._placed(maps, chunk, part.to(self.cache_dtype or part.dtype), _memory_format(part))
        self.maps[level] = cast(Tensor, maps)

    def finish(
        self,
        activation: Callable[[Tensor], Tensor],
        observe: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> tuple[Tensor, Tensor]:
        """Return values [B, S, H, W, channels - 1] and confidence [B, S, H, W], and drop the feature maps."""
        values: Tensor | None = None
        confidences: Tensor | None = None
        for chunk in self.chunks:
            with observe():
                value, confidence = self._predict([self.maps[level][chunk].to(self.dtype) for level in range(4)])
                values = self._placed(values, chunk, activation(value))
                confidences = self._placed(confidences, chunk, confidence)
        self.maps.clear()
        return cast(Tensor, values).unflatten(0, self.scenes), cast(Tensor, confidences).unflatten(0, self.scenes)

    def _project(self, level: int, tokens: Tensor) -> Tensor:
        """Map patch tokens [b, P, 2C] to a projected feature map; the coarse two are brought to a level's channels."""
        aspect = self.image_hw[1] / self.image_hw[0]
        x = self.head.projects[level](self.head.grid(tokens, self.image_hw))  # [b, c, rows, columns]
        x = _add_position(x, aspect, 0, x.shape[2])  # [b, c, rows, columns]
        return x if level < 2 else self.head.to_level(level, x)  # [b, F, h, w]

    def _predict(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Map the feature maps of some frames, which are overwritten, to their values and confidence."""
        s, (height, width) = self.head.scratch, self.image_hw
        x = self._fuse(maps)  # [b, F, 4 rows, 4 columns]
        x = resize_and_convolve(x, (2 * x.shape[2], 2 * x.shape[3]), lambda part, first: s.output_conv1(part))
        x = resize_and_convolve(
            x, self.image_hw, lambda part, first: s.output_conv2(_add_position(part, width / height, first, height))
        )  # [b, channels, H, W]
        x = x.permute(0, 2, 3, 1)  # [b, H, W, channels]
        return x[..., :-1], 1 + x[..., -1].exp()

    def _fuse(self, maps: Sequence[Tensor]) -> Tensor:
        """Compute ``DenseHead.fuse``, the two fine levels only when they are needed."""
        s, head, (m3, m4) = self.head.scratch, self.head, maps[2:]
        m2 = head.to_level(1, maps[1])  # [b, F, 2 rows, 2 columns]
        x = resized(_fused(s.refinenet4, m4), m3.shape[-2:])  # [b, F, rows, columns]
        x = resized(_fused(s.refinenet3, x, m3), m2.shape[-2:])  # [b, F, 2 rows, 2 columns]
        m1 = head.to_level(0, maps[0])  # [b, F, 4 rows, 4 columns]
        x = resized(_fused(s.refinenet2, x, m2), m1.shape[-2:])  # [b, F, 4 rows, 4 columns]
        return _fused(s.refinenet1, x, m1)

    def _placed(
        self, whole: Tensor | None, chunk: slice, part: Tensor, form: torch.memory_format = torch.contiguous_format
    ) -> Tensor:
        """Write a chunk into the tensor of all frames, allocated with the first one: joining would fragment memory."""
        if len(part) == self.frames:
            return part
        if whole is None:
            sizes = self.frames, *part.shape[1:]
            whole = torch.empty(sizes, dtype=part.dtype, device=part.device, memory_format=form)
        whole[chunk] = part
        return whole


def _fused(fusion: Fusion, x: Tensor, skip: Tensor | None = None) -> Tensor:
    """Compute ``fusion(x, skip)``; both are overwritten."""
    if skip is not None:
        x = _residual(fusion.resConfUnit1, skip).add_(x)
    return fusion.out_conv(_residual(fusion.resConfUnit2, x))


def _residual(unit: ResidualUnit, x: Tensor) -> Tensor:
    """Compute ``unit(x)``; x is overwritten."""
    x = F.relu_(x)
    return unit.conv2(F.relu_(unit.conv1(x))).add_(x)


def _add_position(x: Tensor, aspect: float, first: int, height: int) -> Tensor:
    """Compute ``add_position`` in place, for rows of a map of ``height`` rows, beginning with row ``first``."""
    across, down = position_embedding(x, aspect, height)  # [C/2, 1, w], [C/2, height, 1]
    first_half, second_half = x.chunk(2, 1)  # [B, C/2, rows, w] each, views
    first_half += across
    second_half += down[:, first : first + x.shape[2]]
    return x


def resize_and_convolve(x: Tensor, hw: tuple[int, int], convolve: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Compute ``convolve(resized(x, hw), 0)`` for maps [B, C, h, w] a few rows at a time.

    ``convolve`` is given some rows of the resized maps and the first row's index; its kernels are 3x3 at most.
    """
    rows = max(1, TILE_VALUES // (hw[1] * x.shape[0] * x.shape[1]))
    if rows >= hw[0]:
        return convolve(resized(x, hw), 0)
    out: Tensor | None = None
    for top in range(0, hw[0], rows):
        bottom = min(top + rows, hw[0])
        first, last = max(top - 1, 0), min(bottom + 1, hw[0])  # kernels reach one row further on either side
        part = convolve(_resized_rows(x, hw, first, last), first)[:, :, top - first : bottom - first]
        if out is None:
            sizes = *part.shape[:2], *hw
            out = torch.empty(sizes, dtype=part.dtype, device=part.device, memory_format=_memory_format(part))
        out[:, :, top:bottom] = part
    return cast(Tensor, out)


def _resized_rows(x: Tensor, hw: tuple[int, int], first: int, last: int) -> Tensor:
    """Return rows ``first`` to ``last`` of ``resized(x, hw)``."""
    scale = (x.shape[2] - 1) / (hw[0] - 1)
    source = torch.arange(first, last, dtype=torch.float32, device=x.device) * scale
    above = source.long().clamp(max=x.shape[2] - 1)
    below = (above + 1).clamp(max=x.shape[2] - 1)
    share = (source - above).to(x.dtype)[:, None]
    rows = torch.lerp(_rows_of(x, above), _rows_of(x, below), share)  # [B, C, last - first, w]
    return resized(rows, (last - first, hw[1]))


def _rows_of(x: Tensor, rows: Tensor) -> Tensor:
    """Return some rows of maps [B, C, h, w] in the maps' memory format."""
    if _memory_format(x) is torch.channels_last:
        return x.permute(0, 2, 3, 1)[:, rows].permute(0, 3, 1, 2)
    return x[:, :, rows]


def _memory_format(x: Tensor) -> torch.memory_format:
    """Return the memory format of maps; integer convolutions return the channels of a pixel side by side."""
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if channels_last else torch.contiguous_format
