"""Memory of each stage of a forward pass, computed from shapes.

The sums count tensors. Memory that the allocator and vendor libraries use internally is added as a constant.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace

from qvggt.model.chunking import CHUNK_TOKENS, TILE_VALUES
from qvggt.model.config import VGGTConfig
from qvggt.model.dense_head import OUTPUT_HIDDEN, dense_frames_at_a_time
from qvggt.model.units import OUTPUT_CHANNELS, DenseHeadName
from qvggt.options import ALL_HEADS, DENSE_FRAMES, Head, InferenceOptions
from qvggt.options.attention import attention_keys
from qvggt.types import EXACT_ATTENTION, AttentionPlan, BlockAttention

FLOAT_BYTES = 4
LIBRARY_BYTES = 38_000_000
"""Internal buffers of libraries once they have run."""

_SPARE_WIDTHS = 4
"""Freed tensors of embedding width that the allocator retains, being too small to be released at once."""
_SPARE_PIXEL_BYTES = 16
"""The same, for each pixel of the frames that pass together; found by measurement."""
_SPARE_WEIGHTS, _RETAINED_WEIGHTS = (1, 0), (4, 2)
"""Expanded weights of the widest layer that are in memory, in float32 and in int8: if freed memory is released, and if
it is retained."""
_SHORT_WIDTHS, _LONG_WIDTHS, _MLP_WIDTHS = 9, 7, 6
"""Most tensors of embedding width per token of a chunk: while short and long sequences attend, and in the MLP."""
_POINT_WIDTHS, _FRAME_POINT_WIDTHS = 3, 11
"""Floats per pixel while depth is unprojected to points: of every frame, and of the frame being unprojected."""
_ALIGNED_WIDTHS = 20
"""Floats per pixel held while a window is aligned."""
_FUSED_MAPS = (6, 5)
"""Most finest maps that fusion holds: in float32, with the padded copy within a convolution, and in int8."""


@dataclass(frozen=True)
class PassSize:
    """The input of a forward pass, and how much of it is processed at a time.

    Attributes:
        frames: of the scene, or of a window of it.
        height_px: of the images.
        width_px: of the images.
        heads: that are run.
        dense_frames: most frames that a dense head processes at a time.
        chunk_tokens: most tokens that a layer processes at a time.
        other_frames: frames outside the window, whose images and predictions are held as well.
        stored_frames: frames outside the window, whose images and predictions are in files.
    """

    frames: int
    height_px: int
    width_px: int
    heads: Collection[Head] = ALL_HEADS
    dense_frames: int = DENSE_FRAMES
    chunk_tokens: int = CHUNK_TOKENS
    other_frames: int = 0
    stored_frames: int = 0

    @classmethod
    def of(
        cls,
        images: Sequence[int],
        heads: Collection[Head] = ALL_HEADS,
        options: InferenceOptions = InferenceOptions(),
        chunk_tokens: int = CHUNK_TOKENS,
        stored: bool = False,
    ) -> PassSize:
        """Return the size of images [S, 3, H, W] that pass in windows or all at once.

        Args:
            images: their shape.
            heads: which heads are run.
            options: how they pass through the model.
            chunk_tokens: the device's chunk length, if the options give none.
            stored: whether frames outside the window are in files rather than in memory.
        """
        window = images[0] if options.windows is None else min(options.windows.frames, images[0])
        chunk = options.chunk_tokens or chunk_tokens
        size = cls(window, images[2], images[3], heads=heads, dense_frames=options.dense_frames, chunk_tokens=chunk)
        others = images[0] - window
        return replace(size, stored_frames=others) if stored else replace(size, other_frames=others)


@dataclass(frozen=True)
class StageMemory:
    """Bytes that one stage holds in addition to the weights.

    Attributes:
        stage: its name.
        images: the images and their normalized copy.
        tokens: activations between blocks.
        maps: feature maps that the dense heads store until they have read all AA pairs.
        layers: activations within layers.
        answers: predictions of this and earlier stages.
    """

    stage: str
    images: int = 0
    tokens: int = 0
    maps: int = 0
    layers: int = 0
    answers: int = 0

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return self.images + self.tokens + self.maps + self.layers + self.answers

    def to_json(self) -> dict[str, str | int]:
        """Return the fields and the total."""
        return {**asdict(self), "total": self.total}


def stage_memory(
    config: VGGTConfig, size: PassSize, cached_bytes: int = FLOAT_BYTES, attention: AttentionPlan | None = None
) -> list[StageMemory]:
    """Return the memory of every stage of a forward pass in float32, in running order.

    Args:
        config: the architecture.
        size: the input, and how much of it is processed at a time.
        cached_bytes: per value that is cached between chunks (``Arithmetic.cache_dtype``).
        attention: plan of the global blocks; None for exact ones.
    """
    frame_pixels = size.height_px * size.width_px * FLOAT_BYTES
    pixels = size.frames * frame_pixels
    dense: list[DenseHeadName] = [head for head in OUTPUT_CHANNELS if head in size.heads]
    images = 3 * (size.frames + size.other_frames) * frame_pixels
    earlier = (size.other_frames and size.other_frames + size.frames) * frame_pixels * output_channels(size.heads)
    rows, columns = _patches(config, size)
    frame_tokens = _frame_tokens(config, size)
    scene_tokens = size.frames * frame_tokens
    tokens = scene_tokens * config.embed_dim * FLOAT_BYTES
    angles = 2 * scene_tokens * (config.embed_dim // config.heads) * FLOAT_BYTES
    stored = [size.frames * level * cached_bytes for level in _stored_values(config, rows, columns)]
    maps = len(dense) * sum(stored)
    before = len(dense) * sum(stored[:3])
    # A pair that heads read keeps its global block's input; in float32 the output's memory then holds the queries.
    is_long = scene_tokens > size.chunk_tokens
    block_input = tokens * cached_bytes // FLOAT_BYTES if is_long else tokens
    in_pair = tokens + angles + (block_input if is_long and cached_bytes < FLOAT_BYTES else 0)
    in_frame = _block(config, size, frame_tokens, size.frames, cached_bytes=cached_bytes)
    kinds = {EXACT_ATTENTION} if attention is None else set(attention.at(size.frames))
    in_scene = max(_global_block(config, size, kind, cached_bytes) for kind in kinds)
    stages = [
        StageMemory("patch embedding", images + 3 * pixels, tokens, 0, layers=tokens, answers=earlier),
        StageMemory("frame attention", images, tokens + angles, before, layers=in_frame, answers=earlier),
        StageMemory("global attention", images, in_pair, before, layers=in_scene, answers=earlier),
    ]
    if not dense:
        return stages
    at_a_time = min(size.frames, dense_frames_at_a_time(size.dense_frames, size.height_px * size.width_px))
    projecting = _project(config, at_a_time * rows * columns, cached_bytes)
    in_pair = tokens + angles + block_input
    stages.append(StageMemory("reading pairs", images, in_pair, maps, layers=projecting, answers=earlier))
    predicting = _predict(config, at_a_time * rows * columns, at_a_time * size.height_px * size.width_px, cached_bytes)
    answers = earlier
    for head in dense:
        channels = OUTPUT_CHANNELS[head]
        answers += channels * pixels
        stages.append(StageMemory(f"{head} maps", images, 0, maps, layers=predicting, answers=answers))
        maps -= sum(stored)
    if "camera" in size.heads and dense == ["depth"]:
        layers = _FRAME_POINT_WIDTHS * frame_pixels
        stages.append(StageMemory("points", images, 0, 0, layers=layers, answers=answers + _POINT_WIDTHS * pixels))
    if earlier or size.stored_frames:
        stages.append(
            StageMemory(
                "joining", images, 0, 0, layers=_ALIGNED_WIDTHS * pixels, answers=answers + _POINT_WIDTHS * pixels
            )
        )
    return stages


def _patches(config: VGGTConfig, size: PassSize) -> tuple[int, int]:
    return size.height_px // config.patch_size, size.width_px // config.patch_size


def _frame_tokens(config: VGGTConfig, size: PassSize) -> int:
    return 1 + config.register_tokens + math.prod(_patches(config, size))


def working_bytes(config: VGGTConfig, size: PassSize, cached_bytes: int, retained: bool) -> int:
    """Return the memory of libraries and the allocator throughout a forward pass, and of the widest layer's weights.

    Args:
        config: the architecture.
        size: the input, and how much of it is processed at a time.
        cached_bytes: per value that is cached between chunks; below 4, integer products expand hardly any weights.
        retained: whether freed memory is retained for reuse (``retain_freed_memory``).
    """
    tokens = min(size.chunk_tokens, size.frames * _frame_tokens(config, size))
    weights = (_RETAINED_WEIGHTS if retained else _SPARE_WEIGHTS)[cached_bytes < FLOAT_BYTES] * 4 * config.embed_dim**2
    spare = FLOAT_BYTES * (_SPARE_WIDTHS * tokens * config.embed_dim + weights)
    return LIBRARY_BYTES + spare + _SPARE_PIXEL_BYTES * size.frames * size.height_px * size.width_px


def output_channels(heads: Collection[Head]) -> int:
    """Return the floats per pixel of a prediction: outputs of dense heads, and points unprojected from depth."""
    dense = sum(channels for head, channels in OUTPUT_CHANNELS.items() if head in heads)
    return dense + (_POINT_WIDTHS if {"camera", "depth"} <= set(heads) and "point" not in heads else 0)


def _global_block(config: VGGTConfig, size: PassSize, attention: BlockAttention, cached_bytes: int) -> int:
    """Bytes that a global block holds in addition to its input and output."""
    tokens, patches = _frame_tokens(config, size), _patches(config, size)
    length = size.frames * tokens
    if attention.kind == "frame":  # where its input is kept, no queries take the output's memory
        output = length * config.embed_dim * FLOAT_BYTES if length > size.chunk_tokens else 0
        inside = _block(config, size, tokens, size.frames, cached_bytes=cached_bytes)
        return inside + (output if cached_bytes == FLOAT_BYTES else 0)
    exact = _block(config, size, length, 1, cached_bytes=cached_bytes)
    if attention.kind == "exact" or size.frames == 1 or length <= size.chunk_tokens:
        return exact
    keys = attention_keys(attention.side, size.frames, tokens - math.prod(patches), patches)
    # Sums of keys that are averaged are in float32, and are narrowed where the cache is narrower.
    kept = 2 * cached_bytes
    if attention.kind == "pooled" and cached_bytes < FLOAT_BYTES:
        kept = 2 * FLOAT_BYTES + cached_bytes
    own = length * (config.embed_dim * cached_bytes + config.heads * FLOAT_BYTES)
    return exact + own + kept * keys * config.embed_dim - 2 * cached_bytes * length * config.embed_dim


def _block(config: VGGTConfig, size: PassSize, length: int, sequences: int, cached_bytes: int) -> int:
    """Bytes that a block holds in addition to its input and output, for sequences of ``length`` tokens."""
    width, total = config.embed_dim * FLOAT_BYTES, length * sequences
    in_mlp = _MLP_WIDTHS * min(total, size.chunk_tokens) * width
    if length > size.chunk_tokens:
        cached = 3 * length * config.embed_dim * cached_bytes
        return cached + max(_LONG_WIDTHS * size.chunk_tokens * width, in_mlp)
    at_a_time = min(sequences, max(1, size.chunk_tokens // length)) * length
    return max(_SHORT_WIDTHS * at_a_time * width, in_mlp)


def _stored_values(config: VGGTConfig, rows: int, columns: int) -> list[int]:
    """Return the values per frame that a dense head stores of each of the four pairs."""
    coarse = math.ceil(rows / 2) * math.ceil(columns / 2)
    patches = rows * columns
    first, second = config.dpt_channels[:2]
    return [first * patches, second * patches, config.dpt_features * patches, config.dpt_features * coarse]


def _project(config: VGGTConfig, patches: int, cached_bytes: int) -> int:
    """Bytes that a dense head holds while it projects a pair: tokens, maps, and the norm or a convolution's kernel.

    The float convolution makes a copy of its kernel.
    """
    in_norm, kernel = 2 * config.embed_dim * patches, 9 * config.dpt_channels[3] ** 2
    in_convolution = kernel if cached_bytes < FLOAT_BYTES else 2 * kernel
    return FLOAT_BYTES * (
        (2 * config.embed_dim + 3 * max(config.dpt_channels)) * patches + max(in_norm, in_convolution)
    )


def _predict(config: VGGTConfig, patches: int, pixels: int, cached_bytes: int) -> int:
    """Bytes that a dense head holds while it predicts from its maps: in fusion, or after it if that is more."""
    fine = 16 * patches * config.dpt_features
    half = config.dpt_features // 2
    tile, hidden = min(TILE_VALUES, pixels * half), OUTPUT_HIDDEN / half
    converted = sum(_stored_values(config, 1, patches)) if cached_bytes < FLOAT_BYTES else 0
    fused = _FUSED_MAPS[cached_bytes < FLOAT_BYTES] * fine + fine // 4
    widened = 3 * fine + 2 * min(TILE_VALUES, 4 * fine)
    output = 2 * fine + max(OUTPUT_CHANNELS.values()) * pixels + round((1 + 2 * hidden) * tile)
    return FLOAT_BYTES * (converted + max(fused, widened, output))
