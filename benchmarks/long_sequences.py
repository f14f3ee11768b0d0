"""Drift and time of windows against one pass: nano on rooms of 48 frames, by overlap.

python benchmarks/long_sequences.py --rooms 16
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

import qvggt
from qvggt.data.rooms.family import room_scene
from qvggt.inference.windows import predict_windows
from qvggt.model import VGGT
from qvggt.options import InferenceOptions, WindowOptions
from qvggt.postprocess.frames import camera_centers
from qvggt.types import FrameMap, ImageSet, Scene

FRAMES, SIZE_HW, FIRST_SEED = 48, (84, 112), 9_100_000
WINDOWS = ((16, 1), (16, 2), (16, 4), (16, 6), (16, 8), (24, 4), (24, 8))
"""Frames of a window, and overlap."""


@dataclass(frozen=True)
class Drift:
    """Errors of a reconstruction's last quarter, after its first quarter is aligned to the ground truth.

    Attributes:
        rotation_deg: mean angle between predicted and true cameras.
        translation_percent: mean distance of predicted and true positions, in percent of the true path's length.
    """

    rotation_deg: float
    translation_percent: float


def drift_of(found: np.ndarray, true: np.ndarray) -> Drift:
    """Return the drift of cameras [S, 3, 4] against true ones."""
    quarter = len(true) // 4
    turn = _mean_rotation(np.swapaxes(true[:quarter, :, :3], 1, 2) @ found[:quarter, :, :3])  # true from found world
    ours, theirs = camera_centers(found) @ turn.T, camera_centers(true)
    start_ours, start = ours[:quarter].mean(0), theirs[:quarter].mean(0)
    scale = np.linalg.norm(theirs[:quarter] - start) / np.linalg.norm(ours[:quarter] - start_ours)
    distance = np.linalg.norm(scale * (ours - start_ours) - (theirs - start), axis=1)
    relative = found[:, :, :3] @ turn.T @ np.swapaxes(true[:, :, :3], 1, 2)
    angle = np.degrees(np.arccos(np.clip((np.trace(relative, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    length = np.linalg.norm(np.diff(theirs, axis=0), axis=1).sum()
    return Drift(float(angle[-quarter:].mean()), float(100 * distance[-quarter:].mean() / length))


def _mean_rotation(rotations: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(rotations.sum(0))
    return left @ np.diag((1, 1, np.sign(np.linalg.det(left @ right)))) @ right


def images_of(scene: Scene) -> ImageSet:
    """Return a room's images as a model takes them."""
    frame = FrameMap((scene.images.shape[3], scene.images.shape[2]), (1.0, 1.0), (0.0, 0.0))
    return ImageSet(scene.images, (frame,) * len(scene.images), tuple(map(str, range(len(scene.images)))))


def drifts(model: VGGT, scenes: Sequence[Scene], windows: WindowOptions | None) -> list[Drift]:
    """Return the drift of a model on each scene."""
    found = []
    for scene in scenes:
        prediction = predict_windows(model, images_of(scene), ("camera", "depth"), InferenceOptions(windows=windows))
        assert prediction.cam_from_world is not None
        assert scene.cam_from_world is not None
        found.append(drift_of(prediction.cam_from_world.astype(np.float64), scene.cam_from_world))
    return found


def main() -> None:
    """Print the table of docs/long-sequences.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=16)
    rooms = parser.parse_args().rooms
    torch.set_num_threads(1)
    model = qvggt.load("nano", device="cpu", compute="float32")
    scenes = [room_scene(FIRST_SEED + index, FRAMES, SIZE_HW) for index in range(rooms)]
    print(
        "| | rotation, degrees | position, % of the path | means of both | CPU seconds a room |\n|---|--:|--:|--:|--:|"
    )
    drifts(model, scenes[:1], None)  # the first pass is slower
    for choice in (None, *WINDOWS):
        start = time.process_time()
        found = drifts(model, scenes, None if choice is None else WindowOptions(*choice))
        seconds = (time.process_time() - start) / rooms
        name = "all frames at once" if choice is None else f"windows of {choice[0]}, overlap {choice[1]}"
        values = [(each.rotation_deg, each.translation_percent) for each in found]
        (rotation, position), (mean_rotation, mean_position) = np.median(values, axis=0), np.mean(values, axis=0)
        means = f"{mean_rotation:.1f}, {mean_position:.1f}"
        print(f"| {name} | {rotation:.1f} | {position:.1f} | {means} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
