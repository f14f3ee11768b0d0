"""Running a model on the images of one scene, with progress, and its answer as plain arrays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from qvggt import geometry
from qvggt.model.vggt import VGGT, frames_at_a_time
from qvggt.options import DENSE_FRAMES, HEADS_FOR, Head
from qvggt.types import ImageSet, OnProgress, Prediction, QvggtError

log = logging.getLogger(__name__)


LEAST_VIEW_RAD = 0.01
"""Narrower fields of view are no camera's."""


@torch.inference_mode()
def predict(
    model: VGGT,
    images: ImageSet,
    heads: Collection[Head] = HEADS_FOR["head"],
    dense_frames: int = DENSE_FRAMES,
    on_progress: OnProgress | None = None,
    finite: bool = True,
    chunk_tokens: int | None = None,
) -> Prediction:
    """Reconstruct one scene.

    Args:
        model: float or quantized.
        images: from ``qvggt.images.preprocess``.
        heads: what to compute.
        dense_frames: frames that the dense heads take at a time, at most: fewer where frames are large.
        on_progress: called as the work goes on.
        finite: whether an answer that is not finite is refused; a measurement takes it, and scores it worst.
        chunk_tokens: tokens that pass through a block's layers at a time; None for what suits the device.

    Raises:
        QvggtError: the model's answer is not finite, and shall be.
    """
    parameter = next(model.parameters())
    pictures = torch.from_numpy(images.images)[None].to(parameter.device, parameter.dtype)
    frames, _, height, width = images.images.shape
    chunks = -(-frames // frames_at_a_time(dense_frames, height * width))
    with watched(model, frames, heads, chunks, on_progress):
        answers = model(pictures, heads, dense_frames, chunk_tokens)
        result = {name: value.float().cpu() for name, value in answers.items()}
    broken = sorted(name for name, value in result.items() if not bool(value.isfinite().all()))
    if broken and finite:
        raise QvggtError(
            f"the model's {broken[0]} is not finite: its weights are damaged, or its type is too narrow for its values"
        )
    return as_prediction(result, images)


def as_prediction(result: dict[str, Tensor], images: ImageSet) -> Prediction:
    """Turn a model's answer for one scene (batch of one) into arrays.

    World points come from depth and camera where the point head was not run and both others were.
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
    """Return pose encodings [S, 9] with fields of view that a camera can have, and warn where that changed any.

    The head's rectifier may give 0, of which no focal length follows; trained weights do so on no photograph.
    """
    narrow = int((pose_enc[:, 7:] < LEAST_VIEW_RAD).any(-1).sum())
    if narrow:
        log.warning("%d of %d cameras have no field of view: their focal lengths mean nothing", narrow, len(pose_enc))
    return torch.cat((pose_enc[:, :7], pose_enc[:, 7:].clamp(min=LEAST_VIEW_RAD)), -1)


@contextmanager
def watched(
    model: VGGT, frames: int, heads: Collection[Head], chunks: int, on_progress: OnProgress | None
) -> Iterator[None]:
    """Report progress while the model runs, its dense heads chunk by chunk, by hooks that are gone afterwards."""
    if on_progress is None:
        yield
        return
    stages: list[tuple[str, nn.Module, float]] = []
    for name, block in model.blocks():
        kind = name.partition("/")[0]
        if kind != "camera":
            stages.append(({"patch_embed": "patch embedding"}.get(kind, "attention"), block, 1.0))
    # A dense head over all frames takes about as long as six blocks, the camera head hardly any time.
    stages += [(f"{name} maps", getattr(model, f"{name}_head"), 6.0 / chunks) for name in ("depth", "point")]
    stages = [stage for stage in stages if not stage[0].endswith("maps") or stage[0].split()[0] in heads]
    total = sum(cost * (chunks if stage.endswith("maps") else 1) for stage, _, cost in stages)
    done, counted = 0.0, f"{frames} {'frame' if frames == 1 else 'frames'}"

    def hook(stage: str, cost: float) -> Callable[..., None]:
        def report(*_: object) -> None:
            nonlocal done
            done += cost
            on_progress(f"{counted}, {stage}", min(1.0, done / total))

        return report

    handles = [module.register_forward_hook(hook(stage, cost)) for stage, module, cost in stages]
    try:
        on_progress(f"{counted}, patch embedding", 0.0)
        yield
        on_progress(f"{counted}, done", 1.0)
    finally:
        for handle in handles:
            handle.remove()
