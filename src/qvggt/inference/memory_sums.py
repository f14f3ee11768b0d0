"""What a pass through a model holds in memory, stage by stage, from shapes alone.

The sums count tensors. What the allocator and the vendors' libraries keep for themselves comes on top, as a constant.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace

from qvggt.model.chunking import CHUNK_TOKENS, TILE_VALUES
from qvggt.model.config import VGGTConfig
from qvggt.model.dense_head import dense_frames_at_a_time
from qvggt.model.units import OUTPUT_CHANNELS, DenseHeadName
from qvggt.options import ALL_HEADS, DENSE_FRAMES, Head, InferenceOptions

FLOAT_BYTES = 4
LIBRARY_BYTES = 60_000_000
"""What libraries keep for themselves once they have run."""

_BLOCK_WIDTHS = 8
"""Tensors of a token's width that a block holds at its widest: the norm, q, k and v, and while q and k are turned."""
_SPARE_WIDTHS = 7
"""Tensors of a token's width that the C library keeps as a rule, being too small to go back at once."""
_POINT_WIDTHS, _FRAME_POINT_WIDTHS = 3, 11
"""Numbers of a pixel while depth and cameras become points: of all frames, and of the frame in work."""
_MOVED_WIDTHS = 20
"""Numbers of a pixel of a window while it is laid upon the others."""
_FUSED_MAPS, _FUSED_LAYOUTS = 4, 4
"""Maps of the finest level that fusion holds at its widest: in float32, and laid out for a convolution."""


@dataclass(frozen=True)
class PassSize:
    """What goes through a model, and how much of it at a time.

    Attributes:
        frames: images of the scene.
        height_px: of the images.
        width_px: of the images.
        heads: what is computed.
        dense_frames: frames that the dense heads take at a time, at most.
        chunk_tokens: tokens that pass through a block's layers at a time.
        other_frames: frames of a long sequence whose images and answers are held beside a window's.
    """

    frames: int
    height_px: int
    width_px: int
    heads: Collection[Head] = ALL_HEADS
    dense_frames: int = DENSE_FRAMES
    chunk_tokens: int = CHUNK_TOKENS
    other_frames: int = 0

    @classmethod
    def of(
        cls,
        images: Sequence[int],
        heads: Collection[Head] = ALL_HEADS,
        options: InferenceOptions = InferenceOptions(),
        chunk_tokens: int = CHUNK_TOKENS,
    ) -> PassSize:
        """Return the size of images [S, 3, H, W] that pass in windows or all at once.

        Args:
            images: their shape.
            heads: what is computed.
            options: how they pass through the model.
            chunk_tokens: the device's chunk length, if the options give none.
        """
        window = images[0] if options.windows is None else min(options.windows.frames, images[0])
        chunk = options.chunk_tokens or chunk_tokens
        size = cls(window, images[2], images[3], heads=heads, dense_frames=options.dense_frames, chunk_tokens=chunk)
        return replace(size, other_frames=images[0] - window)


@dataclass(frozen=True)
class StageMemory:
    """Bytes that one stage holds besides the weights.

    Attributes:
        stage: its name.
        images: the images, and their normalised copy.
        tokens: what flows from block to block.
        maps: what the dense heads keep of the pairs that they have read.
        layers: what is in between, in the layers at work.
        answers: of this and earlier stages.
    """

    stage: str
    images: int = 0
    tokens: int = 0
    maps: int = 0
    layers: int = 0
    answers: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.images + self.tokens + self.maps + self.layers + self.answers

    def to_json(self) -> dict[str, str | int]:
        """Return the fields and the total."""
        return {**asdict(self), "total": self.total}


def stage_memory(config: VGGTConfig, size: PassSize, held_bytes: int = FLOAT_BYTES) -> list[StageMemory]:
    """Return what every stage of a pass holds in float32, in the order in which they run.

    Args:
        config: the architecture.
        size: what goes through it.
        held_bytes: of a number that waits: of a long sequence's queries, keys and values, and of begun dense maps.
    """
    frame_pixels = size.height_px * size.width_px * FLOAT_BYTES
    pixels = size.frames * frame_pixels
    dense: list[DenseHeadName] = [head for head in OUTPUT_CHANNELS if head in size.heads]
    images = 3 * (size.frames + size.other_frames) * frame_pixels
    earlier = (size.other_frames and size.other_frames + size.frames) * frame_pixels * answered(size.heads)
    rows, columns = _patches(config, size)
    frame_tokens = _frame_tokens(config, size)
    scene_tokens = size.frames * frame_tokens
    tokens = scene_tokens * config.embed_dim * FLOAT_BYTES
    in_frame = _block(config, size, frame_tokens, size.frames, held_bytes)
    in_scene = _block(config, size, scene_tokens, 1, held_bytes)
    kept = [size.frames * level * held_bytes for level in _kept_values(config, rows, columns)]
    maps = len(dense) * sum(kept)
    before = len(dense) * sum(kept[:3])
    # A pair that is read keeps what its global block began with; of floats queries then wait in the answer's place.
    is_long = scene_tokens > size.chunk_tokens
    began_with = tokens * held_bytes // FLOAT_BYTES if is_long else tokens
    in_pair = tokens + (began_with if is_long and held_bytes < FLOAT_BYTES else 0)
    stages = [
        StageMemory("patch embedding", images + 3 * pixels, tokens, 0, max(tokens, in_frame), earlier),
        StageMemory("frame attention", images, tokens, before, in_frame, earlier),
        StageMemory("global attention", images, in_pair, before, in_scene, earlier),
    ]
    if not dense:
        return stages
    at_a_time = min(size.frames, dense_frames_at_a_time(size.dense_frames, size.height_px * size.width_px))
    begun = _begin(config, at_a_time * rows * columns)
    stages.append(StageMemory("reading pairs", images, tokens + began_with, maps, begun, earlier))
    finish = _finish(config, at_a_time * rows * columns, at_a_time * size.height_px * size.width_px, held_bytes)
    answers = earlier
    for head in dense:
        channels = OUTPUT_CHANNELS[head]
        answers += channels * pixels
        stages.append(StageMemory(f"{head} maps", images, 0, maps, finish, answers))
        maps -= sum(kept)
    if "camera" in size.heads and dense == ["depth"]:
        layers = _FRAME_POINT_WIDTHS * frame_pixels
        stages.append(StageMemory("points", images, 0, 0, layers, answers + _POINT_WIDTHS * pixels))
    if earlier:
        stages.append(StageMemory("joining", images, 0, 0, _MOVED_WIDTHS * pixels, answers + _POINT_WIDTHS * pixels))
    return stages


def _patches(config: VGGTConfig, size: PassSize) -> tuple[int, int]:
    return size.height_px // config.patch_size, size.width_px // config.patch_size


def _frame_tokens(config: VGGTConfig, size: PassSize) -> int:
    return 1 + config.register_tokens + math.prod(_patches(config, size))


def spare_bytes(config: VGGTConfig, size: PassSize) -> int:
    """Return how much the C library keeps throughout a pass of what was freed."""
    tokens = min(size.chunk_tokens, size.frames * _frame_tokens(config, size))
    return tokens * config.embed_dim * FLOAT_BYTES * _SPARE_WIDTHS


def answered(heads: Collection[Head]) -> int:
    """Return how many numbers of a pixel are answered in the end: by dense heads, and where depth and cameras meet."""
    dense = sum(channels for head, channels in OUTPUT_CHANNELS.items() if head in heads)
    return dense + (_POINT_WIDTHS if {"camera", "depth"} <= set(heads) and "point" not in heads else 0)


def _block(config: VGGTConfig, size: PassSize, length: int, sequences: int, held_bytes: int) -> int:
    """Bytes that a block holds besides its input and output, for sequences of so many tokens."""
    width = config.embed_dim * FLOAT_BYTES
    total = length * sequences
    if length > size.chunk_tokens:
        return 3 * length * config.embed_dim * held_bytes + width * _BLOCK_WIDTHS * size.chunk_tokens
    whole = min(sequences, max(1, size.chunk_tokens // length)) * length
    return width * _BLOCK_WIDTHS * min(total, max(whole, size.chunk_tokens))


def _kept_values(config: VGGTConfig, rows: int, columns: int) -> list[int]:
    """Numbers that a dense head keeps of each of the four pairs, for a frame."""
    coarse = math.ceil(rows / 2) * math.ceil(columns / 2)
    patches = rows * columns
    first, second = config.dpt_channels[:2]
    return [first * patches, second * patches, config.dpt_features * patches, config.dpt_features * coarse]


def _begin(config: VGGTConfig, patches: int) -> int:
    """Bytes that a dense head holds while it reads a pair: tokens and their norm, a map, and a kernel, twice."""
    channels = config.dpt_channels[3]
    kernel = 2 * 9 * channels * channels
    return FLOAT_BYTES * (patches * (4 * config.embed_dim + 2 * max(config.dpt_channels)) + kernel)


def _finish(config: VGGTConfig, patches: int, pixels: int, held_bytes: int) -> int:
    """Bytes that a dense head holds while it turns maps into answers: in fusion, or behind it if that is more."""
    fine = 16 * patches * config.dpt_features
    behind = 3 * fine + 3 * TILE_VALUES + max(OUTPUT_CHANNELS.values()) * pixels
    return max((_FUSED_MAPS * FLOAT_BYTES + _FUSED_LAYOUTS * held_bytes) * fine, FLOAT_BYTES * behind)
