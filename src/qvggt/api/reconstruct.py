"""The public verbs: load, save, reconstruct."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from PIL import Image

from qvggt.checkpoint.folder import save_checkpoint
from qvggt.checkpoint.open import open_model
from qvggt.images.preprocess import load_images
from qvggt.inference.memory_plan import model_size, plan_memory
from qvggt.inference.memory_sums import PassSize
from qvggt.inference.process_memory import release_freed_memory, retain_freed_memory
from qvggt.inference.windows import predict_windows
from qvggt.model import VGGT
from qvggt.model.chunking import default_chunk_tokens
from qvggt.options import (
    DENSE_FRAMES,
    HEADS_FOR,
    Compute,
    GlobalAttention,
    Head,
    ImageMode,
    ImageOptions,
    PointsFrom,
    WindowOptions,
)
from qvggt.types import OnProgress, PathLike, Prediction, QvggtError

log = logging.getLogger(__name__)

_AMPLE_SHARE = 0.8
"""Share of a limit up to which a plan leaves room for memory that is freed and kept: it came to an eighth of a plan."""

Images = PathLike | Sequence[PathLike | Image.Image | np.ndarray]


def load(
    model: PathLike,
    device: str = "cpu",
    compute: Compute = "float",
    revision: str | None = None,
    global_attention: GlobalAttention = "exact",
) -> VGGT:
    """Load a model for inference, float or quantized.

    Args:
        model: ``nano`` (carried along), a hub id such as ``facebook/VGGT-1B``, a ``.safetensors`` or ``.pt`` file, a
            folder with one, a quantized checkpoint, or ``seeded:vggt-1b`` (full size, stand-in weights).
        device: ``cpu``, ``cuda``, ...
        compute: how packed layers multiply; float models take no notice.
        revision: branch, tag or commit of a hub id.
        global_attention: ``merged`` looks at squares of patches as one: faster with many frames, and less accurate.

    Raises:
        QvggtError: it is not found, damaged, or no VGGT; the sentence says which and how to mend it.
    """
    if global_attention not in get_args(GlobalAttention):
        raise QvggtError(f"global attention is {' or '.join(get_args(GlobalAttention))}, not {global_attention!r}")
    opened = open_model(model, revision)
    _check_device(device)
    loaded = opened.load(device, compute)
    loaded.aggregator.global_attention = global_attention
    return loaded


def reconstruct(
    model: VGGT | PathLike,
    images: Images,
    heads: Collection[Head] | None = None,
    points_from: PointsFrom = "depth",
    mode: ImageMode = "crop",
    fps: float | None = None,
    frames: int | None = None,
    dense_frames: int = DENSE_FRAMES,
    on_progress: OnProgress | None = None,
    windows: WindowOptions | None = None,
    memory_bytes: int | None = None,
    written_points: int = 0,
) -> Prediction:
    """Turn photographs of one scene, or a video, into cameras, depth and points.

    Args:
        model: a model, or whatever ``load`` takes.
        images: folder, glob, video, image, or a list of image paths, PIL images or arrays.
        heads: what to compute; by default what ``points_from`` needs.
        points_from: ``depth`` (depth and cameras, usually more accurate, and the point head is not run) or ``head``.
        mode: ``crop`` or ``pad``; see ``ImageOptions``.
        fps: of a video, frames per second to take.
        frames: at most so many frames, evenly spread.
        dense_frames: frames that the dense heads take at a time: fewer need less memory.
        on_progress: called with the stage and the share done.
        windows: how a long sequence is cut into overlapping windows; None for all frames at once.
        memory_bytes: what the process may take in all: less goes through the model at a time where it has to.
            From then on the process gives back what it frees, or where that is ample keeps it.
        written_points: the most points of files that are written afterwards, once the model is let go, for which the
            memory has to do as well; 0 where none are.

    Raises:
        QvggtError: model or images cannot be read, the memory is not enough, or the answer is not finite.
    """
    if not isinstance(model, VGGT):
        model = load(model)
    if dense_frames < 1:
        raise QvggtError(f"the number of frames at a time in the dense heads must be at least 1, not {dense_frames}")
    if on_progress is not None:
        on_progress("reading images", 0.0)
    if memory_bytes is not None:
        release_freed_memory()  # or what was freed and kept would count as the program's, as images would
        measured = model_size(model)
    size, patch = model.config.image_size, model.config.patch_size
    pictures = load_images(images, ImageOptions(size, patch, mode, fps, frames))
    wanted, chunk_tokens = heads or HEADS_FOR[points_from], None
    if memory_bytes is not None:
        usual = default_chunk_tokens(next(model.parameters()).device)
        pass_size = PassSize.of(pictures.images.shape, windows and windows.frames, wanted, dense_frames, usual)
        planned = plan_memory(measured, pass_size, memory_bytes, written_points)
        if planned.peak_bytes <= _AMPLE_SHARE * memory_bytes:
            retain_freed_memory()
        dense_frames, chunk_tokens = planned.size.dense_frames, planned.size.chunk_tokens
    return predict_windows(model, pictures, windows, wanted, dense_frames, on_progress, chunk_tokens=chunk_tokens)


def save(model: VGGT, folder: PathLike, overwrite: bool = False) -> Path:
    """Write a quantized model as a checkpoint that ``load`` and the ecosystem read, and return its folder.

    Raises:
        QvggtError: the model is not quantized, or the folder is taken or cannot be written.
    """
    return save_checkpoint(model, folder, overwrite)


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise QvggtError(f"device {device!r} cannot be used here ({reason}); choose cpu") from None
