"""What true focal lengths and poses change in predictions of nano on test rooms (docs/known-values.md).

python benchmarks/known_values.py [ROOMS]
"""

from __future__ import annotations

import sys

import numpy as np

import qvggt
from qvggt.data.registry import open_dataset
from qvggt.geometry import umeyama
from qvggt.inference.predict import predict
from qvggt.model import VGGT
from qvggt.options import ImageOptions
from qvggt.postprocess.frames import camera_centers
from qvggt.postprocess.known_cameras import with_intrinsics, with_poses
from qvggt.types import FrameMap, ImageSet, Prediction, Scene

FRAMES = 6


def absrel(depth: np.ndarray, scene: Scene) -> float:
    """Return the mean relative error of depth [S, H, W] in meters where the truth is known."""
    assert scene.depth is not None
    assert scene.valid is not None
    return float(np.abs(depth[scene.valid] / scene.depth[scene.valid] - 1).mean())


def predicted(model: VGGT, scene: Scene) -> Prediction:
    """Return the prediction of a scene; its photographs are its processed images."""
    height, width = scene.images.shape[-2:]
    names = tuple(f"{index}.png" for index in range(len(scene.images)))
    maps = (FrameMap((width, height), (1.0, 1.0), (0.0, 0.0)),) * len(names)
    return predict(model, ImageSet(scene.images, maps, names), ("camera", "depth"))


def errors(found: Prediction, scene: Scene) -> tuple[float, ...]:
    """Return the focal error, and depth errors with predicted, true and compensated focal lengths, and true poses."""
    assert scene.intrinsics is not None
    assert scene.cam_from_world is not None
    assert found.depth is not None
    assert found.intrinsics is not None
    assert found.cam_from_world is not None
    lenses = scene.intrinsics + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    ratio = scene.intrinsics[:, 0, 0] / found.intrinsics[:, 0, 0]
    centers = camera_centers(found.cam_from_world.astype(np.float64))
    scale = umeyama(centers, camera_centers(scene.cam_from_world)).scale
    focal, _ = with_intrinsics(found, dict(zip(found.names, lenses, strict=True)))
    posed, _ = with_poses(focal, dict(zip(found.names, scene.cam_from_world, strict=True)))
    assert posed.depth is not None
    compensated = scale * found.depth * ratio[:, None, None]
    return (
        float(np.abs(np.log(ratio)).mean()),
        absrel(scale * found.depth, scene),
        absrel(compensated, scene),
        absrel(posed.depth, scene),
    )


def main(rooms: int) -> None:
    """Print means over rooms."""
    model = qvggt.load("nano")
    options = ImageOptions(model.config.image_size, model.config.patch_size)
    reader = open_dataset("rooms", None, "test", None, frames=FRAMES)
    scenes = [reader.load(record, range(FRAMES), options) for record in reader.sequences()[:rooms]]
    means = np.mean([errors(predicted(model, scene), scene) for scene in scenes], axis=0)
    print(f"{len(scenes)} rooms of {FRAMES} frames; predicted focal lengths are off by {100 * means[0]:.1f} %")
    print("AbsRel of depth at the scale of the cameras:")
    for what, value in zip(
        ("depth as predicted", "depth times true focal / predicted", "true focal lengths and poses"),
        means[1:],
        strict=True,
    ):
        print(f"  {what}: {value:.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 64)
