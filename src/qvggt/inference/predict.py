"""One scene through a model: images to a ``Prediction``, with progress."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor

from qvggt import geometry
from qvggt.inference.process_memory import trim_freed_memory
from qvggt.model import VGGT, chunking
from qvggt.model.chunking import Observe
from qvggt.model.dense_head import dense_frames_at_a_time
from qvggt.options import ALL_HEADS, Head, InferenceOptions
from qvggt.types import ImageSet, OnProgress, Prediction, QvggtError

log = logging.getLogger(__name__)


LEAST_VIEW_RAD = 0.01
"""Smaller fields of view are clamped, as no focal length follows from 0."""


_STAGES = {
    "patch_embed": "patch embedding", "frame": "attention", "global": "attention",
    "depth": "depth maps", "point": "point maps",
}  # fmt: skip
"""What progress calls the units of the forward pass."""


@torch.inference_mode()
def predict(
    model: VGGT,
    images: ImageSet,
    heads: Collection[Head] = ALL_HEADS,
    options: InferenceOptions = InferenceOptions(),
    on_progress: OnProgress | None = None,
    finite: bool = True,
) -> Prediction:
    """Reconstruct one scene.

    Args:
        model: float or quantized.
        images: preprocessed.
        heads: which heads to run.
        options: how much is processed at a time; its windows are ignored (see ``predict_windows``).
        on_progress: the progress callback.
        finite: whether to raise if the prediction is not finite; measurements accept it and score it worst.

    Raises:
        QvggtError: ``finite`` is set and the prediction is not finite.
    """
    absent = sorted(set(heads) - set(model.heads))
    if absent:
        raise QvggtError(f"the model has no {absent[0]} head: choose among {', '.join(model.heads)} (--heads)")
    trim_freed_memory()
    parameter = next(model.parameters())
    batch = torch.from_numpy(images.images)[None].to(parameter.device, parameter.dtype)  # [1, S, 3, H, W]
    frames = f"{len(images.names)} frame{'s' if len(images.names) > 1 else ''}"
    report = None if on_progress is None else lambda stage, share: on_progress(f"{frames}, {stage}", share)
    observe = nullcontext if report is None else reporting(model, batch, heads, options.dense_frames, report=report)
    observe = trimming(observe)
    outputs = chunking.run(
        model, batch, heads, options.dense_frames, chunk_tokens=options.chunk_tokens, observe=observe
    )
    result = {name: value.float().cpu() for name, value in outputs.items()}
    if report is not None:
        report("done", 1.0)
    broken = sorted(name for name, value in result.items() if not bool(value.isfinite().all()))
    if broken and finite:
        raise QvggtError(
            f"the model's {broken[0]} is not finite: use intact weights, or a compute mode with a wider range "
            "of values (--compute float32)"
        )
    return as_prediction(result, images)


def as_prediction(result: dict[str, Tensor], images: ImageSet) -> Prediction:
    """Convert a model's outputs for one scene (B = 1) to arrays.

    If the point head was not run, world points are unprojected from depth and cameras.
    """
    arrays: dict[str, np.ndarray] = {}
    size = (images.images.shape[-2], images.images.shape[-1])
    if "pose_enc" in result:
        pose_enc = with_view(result["pose_enc"][0])
        cameras, intrinsics = geometry.pose_encoding_to_cameras(pose_enc, size)
        arrays |= {"pose_enc": pose_enc.numpy(), "cam_from_world": cameras.numpy()}
        arrays["intrinsics"] = intrinsics.numpy()
        if "depth" in result and "world_points" not in result:
            points = geometry.unproject_frames(result["depth"][0, ..., 0], intrinsics, cameras)
            arrays |= {"world_points": points.numpy(), "world_points_conf": result["depth_conf"][0].numpy()}
    if "depth" in result:
        arrays |= {"depth": result["depth"][0, ..., 0].numpy(), "depth_conf": result["depth_conf"][0].numpy()}
    if "world_points" in result:
        arrays |= {"world_points": result["world_points"][0].numpy()}
        arrays |= {"world_points_conf": result["world_points_conf"][0].numpy()}
    return Prediction(images=images.images, names=images.names, maps=images.maps, **arrays)


def with_view(pose_enc: Tensor) -> Tensor:
    """Clamp the fields of view of pose encodings [S, 9] to ``LEAST_VIEW_RAD``, and warn if that changed any.

    The camera head ends in a ReLU, which may return 0; trained weights have not done so on any photograph.
    """
    narrow = int((pose_enc[:, 7:] < LEAST_VIEW_RAD).any(-1).sum())
    if narrow:
        log.warning(
            "%d of %d cameras have a field of view of 0: their focal lengths are invalid", narrow, len(pose_enc)
        )
    return torch.cat((pose_enc[:, :7], pose_enc[:, 7:].clamp(min=LEAST_VIEW_RAD)), -1)


def trimming(observe: Observe) -> Observe:
    """Return an observer that does what another does, and then trims freed memory."""

    @contextmanager
    def trimmed(unit: str) -> Iterator[None]:
        with observe(unit):
            yield
        trim_freed_memory()

    return trimmed


def reporting(model: VGGT, images: Tensor, heads: Collection[Head], dense_frames: int, report: OnProgress) -> Observe:
    """Return an observer of the forward pass that reports progress after each block and each chunk of dense frames.

    Args:
        model: to be run.
        images: [B, S, 3, H, W].
        heads: to be run.
        dense_frames: most frames that a dense head processes at a time.
        report: the progress callback.
    """
    dense = set(heads) - {"camera"}
    chunks = -(-len(images[0]) // dense_frames_at_a_time(dense_frames, images.shape[3] * images.shape[4]))
    # A dense head takes about as long as six blocks, the camera head hardly any time.
    costs: dict[str, float] = {name: 1.0 for name, _ in model.blocks() if not name.startswith("camera")}
    total = len(costs) + 6.0 * len(dense)
    costs |= dict.fromkeys(dense, 6.0 / chunks)
    done = 0.0

    @contextmanager
    def observe(unit: str) -> Iterator[None]:
        nonlocal done
        yield
        if unit in costs:
            done += costs[unit]
            report(_STAGES[unit.partition("/")[0]], min(1.0, done / total))

    report("patch embedding", 0.0)
    return observe
