"""The public verbs: load, save, reconstruct."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from qvggt.backends import choose, usable_device
from qvggt.checkpoint.open import attention_in, open_model
from qvggt.checkpoint.write import save_checkpoint
from qvggt.data.demonstration import warn_of_photographs
from qvggt.export.result import result_folder
from qvggt.files import check_space
from qvggt.images.limits import MemoryLeft
from qvggt.images.masks import load_masks
from qvggt.images.preprocess import load_images
from qvggt.images.sources import ImageSource
from qvggt.inference.kept_windows import kept_windows
from qvggt.inference.memory_plan import MemoryPlan, ModelSize, model_size, output_bytes, plan_memory
from qvggt.inference.memory_sums import PassSize
from qvggt.inference.process_memory import release_freed_memory, resident_memory_bytes, retain_freed_memory
from qvggt.inference.windows import predict_windows
from qvggt.model import VGGT
from qvggt.model.chunking import default_chunk_tokens
from qvggt.options import (
    HEADS_FOR,
    Compute,
    ExportOptions,
    GlobalAttention,
    Head,
    ImageMode,
    ImageOptions,
    InferenceOptions,
    LoadOptions,
    PointsFrom,
    SceneOptions,
    WindowOptions,
)
from qvggt.options.checks import check_arguments
from qvggt.types import OnProgress, OnWindow, PathLike, Prediction, QvggtError

log = logging.getLogger(__name__)


def load(
    model: PathLike,
    device: str = LoadOptions.device,
    compute: Compute = LoadOptions.compute,
    revision: str | None = None,
    global_attention: GlobalAttention = LoadOptions.global_attention,
    on_progress: OnProgress | None = None,
) -> VGGT:
    """Load a model for inference, float or quantized.

    Args:
        model: ``nano`` (embedded), a hub id such as ``facebook/VGGT-1B``, a ``.safetensors`` or ``.pt`` file, a folder
            with one, a quantized checkpoint, or ``seeded:vggt-1b`` (full size, stand-in weights).
        device: ``cpu``, ``cuda``, ...; ``auto`` is a GPU if one works, or else the CPU.
        compute: ``float32``, ``bfloat16``, ``float16`` or ``int8``; ``auto`` is the fastest of them that is
            near-lossless on the device. Float models compute in float32 for ``int8``.
        revision: branch, tag or commit of a hub id.
        global_attention: ``auto`` is the attention plan that a checkpoint states, or else exact; ``exact``;
            ``merged`` merges patch tokens, which is faster with many frames and less accurate; a name in
            ``qvggt.options.ATTENTION_PRESETS``; an ``AttentionPlan``; or its JSON file.
        on_progress: the progress callback.

    Raises:
        QvggtError: the model is not found, damaged, or not a VGGT, or an option is impossible.
    """
    check_arguments(load, locals())
    LoadOptions(device, compute, global_attention)  # raises for impossible ones
    report = on_progress or (lambda stage, share: None)
    report("opening", 0.0)
    opened = open_model(model, revision, on_progress)
    attention = attention_in(opened, global_attention)
    usable_device(device)
    chosen = choose(device, compute, opened.config.embed_dim, opened.recipe is not None)
    if chosen.reason:
        level = logging.DEBUG if chosen.compute == "float32" else logging.INFO  # float32 changes nothing
        log.log(level, "%s on %s: %s", chosen.compute, chosen.device, chosen.reason)
    report("loading weights", 0.0)
    loaded = opened.load(chosen.device, chosen.compute)
    loaded.aggregator.global_attention = attention
    return loaded


def reconstruct(
    model: VGGT | PathLike,
    images: ImageSource,
    heads: Collection[Head] | Head | None = None,
    points_from: PointsFrom = ExportOptions.points_from,
    mode: ImageMode = ImageOptions.mode,
    fps: float | None = None,
    frames: int | None = None,
    dense_frames: int = InferenceOptions.dense_frames,
    on_progress: OnProgress | None = None,
    windows: WindowOptions | None = None,
    memory_bytes: int | None = None,
    written_points: int = 0,
    masks: PathLike | None = None,
    on_window: OnWindow | None = None,
    folder: PathLike | None = None,
    output: PathLike | None = None,
) -> Prediction:
    """Turn photographs of one scene, or a video, into cameras, depth and points.

    Args:
        model: a model, or whatever ``load`` takes.
        images: folder, glob, video, image, a list of image paths, PIL images, arrays or tensors, or one array
            [S, H, W, 3] or tensor [S, 3, H, W]; RGB, uint8 or 0..1.
        heads: what to compute; by default what ``points_from`` needs.
        points_from: ``depth`` (depth and cameras; usually more accurate, and skips the point head) or ``head``.
        mode: ``crop`` or ``pad``; see ``ImageOptions``.
        fps: frames per second to sample from a video.
        frames: most frames to take, evenly spaced.
        dense_frames: most frames that the dense heads process at a time: fewer need less memory.
        on_progress: the progress callback.
        windows: how a long sequence is split into overlapping windows; None for all frames at once.
        memory_bytes: process memory limit in bytes; chunk sizes are reduced, and freed memory is returned, to fit.
        written_points: most points of files written after the model is released, which the limit must allow for too.
        masks: folder of images whose white pixels are kept, named like the images (``a.png`` or ``a.jpg.png`` for
            ``a.jpg``). The model sees whole images; points, statistics and pictures leave the rest out.
        on_window: called with the new frames of each window, without masks and before loops are closed, which in memory
            overwrites them, or once with all frames.
        folder: existing folder that keeps the frames of windows instead of memory; arrays of the prediction are then
            its files. A later call for the same model, images and options goes on after the last finished window.
        output: where files will be written: too little free space is refused before the pass.

    Raises:
        QvggtError: model or images cannot be read, an option is impossible, memory too low, or a result not finite.
    """
    check_arguments(reconstruct, locals())
    wanted: tuple[Head, ...] = (heads,) if isinstance(heads, str) else tuple(heads or ())
    options = SceneOptions(
        wanted, points_from, mode=mode, fps=fps, frames=frames, windows=windows, dense_frames=dense_frames,
        memory_bytes=memory_bytes,
    )  # fmt: skip
    model = model if isinstance(model, VGGT) else load(model, on_progress=on_progress)
    warn_of_photographs(model.config, images)
    return reconstruct_with(
        options, model, images, masks=masks, on_progress=on_progress, on_window=on_window, folder=folder,
        output=output, written_points=written_points,
    )  # fmt: skip


def reconstruct_with(
    options: SceneOptions,
    model: VGGT,
    images: ImageSource,
    *,
    masks: PathLike | None = None,
    on_progress: OnProgress | None = None,
    on_window: OnWindow | None = None,
    folder: PathLike | None = None,
    output: PathLike | None = None,
    written_points: int = 0,
    model_stays: bool = False,
) -> Prediction:
    """Return what ``reconstruct`` does; a memory limit allows for the model while files are written if it stays."""
    limit = options.memory_bytes
    how = InferenceOptions(options.dense_frames, options.windows, limit)
    heads: Collection[Head] = options.heads or HEADS_FOR[options.points_from]
    size, patch = model.config.image_size, model.config.patch_size
    form = ImageOptions(size, patch, options.mode, options.fps, frames=options.frames)
    if on_progress is not None:
        on_progress("reading images", 0.0)
    measured, left = (None, None) if limit is None else (_measured(model, model_stays), _left(limit))
    keep = None if folder is None or how.windows is None else _existing(folder)
    pictures = load_images(images, form, left, keep)
    kept = None if masks is None else load_masks(masks, pictures)
    pass_size = PassSize.of(pictures.images.shape, heads, how, _chunk_tokens(model), stored=keep is not None)
    if output is not None:
        check_space(output, output_bytes(pass_size, written_points))
    if measured is not None:
        how = _fitted(how, plan_memory(measured, pass_size, limit, written_points))
    found = predict_windows(model, pictures, heads, how, on_progress=on_progress, on_window=on_window, folder=keep)
    return replace(found, mask=kept)


def _existing(folder: PathLike) -> Path:
    if not os.path.isdir(folder):
        raise QvggtError(f"{str(folder)!r} is no folder: create the folder that keeps the frames of windows first")
    return Path(folder)


@contextmanager
def output_folders(output: Path, overwrite: bool, windows: WindowOptions | None) -> Iterator[tuple[Path, Path | None]]:
    """Yield the folder to write a result's files to, and the one that keeps windows, if there are any."""
    with result_folder(output, overwrite) as folder:
        if windows is None:
            yield folder, None
        else:
            with kept_windows(output) as kept:
                yield folder, kept


def _chunk_tokens(model: VGGT) -> int:
    return default_chunk_tokens(next(model.parameters()).device)


def _measured(model: VGGT, stays: bool) -> ModelSize:
    release_freed_memory()  # memory that was freed and kept would count as the program's
    return replace(model_size(model), stays=stays)


def _left(limit_bytes: int) -> MemoryLeft:
    return lambda: limit_bytes - resident_memory_bytes()


def _fitted(options: InferenceOptions, planned: MemoryPlan) -> InferenceOptions:
    """Return options whose chunk sizes are those of a plan; freed memory is retained if the plan says so."""
    if planned.retained:
        retain_freed_memory()
    return replace(options, dense_frames=planned.size.dense_frames, chunk_tokens=planned.size.chunk_tokens)


def save(model: VGGT, folder: PathLike, overwrite: bool = False) -> Path:
    """Write a quantized model as a checkpoint that ``load`` and the ecosystem read, and return its folder.

    Raises:
        QvggtError: the model is not quantized, or the folder is taken or cannot be written.
    """
    check_arguments(save, locals())
    return save_checkpoint(model, folder, overwrite)
