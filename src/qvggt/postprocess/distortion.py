"""Lenses with radial distortion, and predictions as if the photographs had been taken without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from qvggt.geometry import cameras_to_pose_encoding
from qvggt.postprocess.frames import cameras_of
from qvggt.types import FrameMap, Prediction

_ZOOMS, _ROUNDS, _BORDER = (0.25, 4.0), 40, 129
_NEWTON_STEPS = 20
_STEP = 0.02
"""Relative change of depth between a pixel and its neighbors from which on it is a step."""


@dataclass(frozen=True)
class Lens:
    """Lens of one photograph: a point at r of the image plane at depth 1 is seen at center + focal * r (1 + k |r|^2).

    Attributes:
        focal: [2], in pixels of the photograph.
        center: [2], the principal point, pixel centers at half-integers.
        radial: k.
        size: width and height of the photograph.
    """

    focal: np.ndarray
    center: np.ndarray
    radial: float
    size: tuple[int, int]

    @property
    def undistorted_focal(self) -> np.ndarray:
        """Focal lengths [2] of the undistorted photograph: the shortest of which all its pixels are in this one."""
        side = np.linspace(0, 1, _BORDER)
        edges = np.concatenate(
            [np.stack(np.broadcast_arrays(*xy), 1) for xy in ((side, 0), (side, 1), (0, side), (1, side))]
        )
        offsets = edges * self.size - self.center
        low, high = _ZOOMS
        for _ in range(_ROUNDS):
            zoom = (low + high) / 2
            if self._sees(offsets / (self.focal * zoom)):
                high = zoom
            else:
                low = zoom
        return self.focal * high

    def sources(self, pixels: np.ndarray, focal: np.ndarray) -> np.ndarray:
        """Return where in the photograph pixels [N, 2] of an undistorted one with some focal lengths [2] are."""
        return self._seen((pixels - self.center) / focal)

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Return the points [N, 2] of the image plane at depth 1 that pixels [N, 2] see; NaN where there is none."""
        seen = (pixels - self.center) / self.focal
        far = np.linalg.norm(seen, axis=1)
        radius = np.minimum(far, self._farthest)
        for _ in range(_NEWTON_STEPS):
            radius = radius - (radius * (1 + self.radial * radius**2) - far) / (1 + 3 * self.radial * radius**2)
            radius = np.clip(radius, 0, self._farthest)
        found = np.isclose(radius * (1 + self.radial * radius**2), far, rtol=1e-6, atol=1e-9)
        return seen * np.where(found, np.divide(radius, far, out=np.ones_like(far), where=far > 0), np.nan)[:, None]

    @property
    def _farthest(self) -> float:
        """Radius on the image plane within which no two points are seen at one pixel."""
        return np.inf if self.radial >= 0 else 0.999 * float(np.sqrt(-1 / (3 * self.radial)))

    def _seen(self, rays: np.ndarray) -> np.ndarray:
        return self.center + self.focal * rays * (1 + self.radial * (rays**2).sum(1, keepdims=True))

    def _sees(self, rays: np.ndarray) -> bool:
        """Return whether rays [N, 2] all fall on the photograph, where the distortion is still invertible."""
        slope = 1 + 3 * self.radial * (rays**2).sum(1)
        seen = self._seen(rays)
        return bool((slope > 0).all() and (seen >= 0).all() and (seen <= self.size).all())


def undistorted(prediction: Prediction, lenses: Sequence[Lens | None]) -> Prediction:
    """Return the prediction as if its photographs had been taken without distortion, and from their undistorted pixels.

    Depth stays where it was seen: it moves with its pixel, along the optical axis it is the same. Pixels whose source
    was cut off before inference have no depth and no point (NaN).

    Args:
        prediction: with cameras, which are pinholes.
        lenses: one per frame, of the photograph; frames without stay.
    """
    cameras, intrinsics = cameras_of(prediction)
    parts = {
        name: value.copy()
        for name in ("images", "depth", "depth_conf", "world_points", "world_points_conf", "mask")
        if (value := getattr(prediction, name)) is not None
    }
    height, width = prediction.images.shape[-2:]
    for index, (lens, frame) in enumerate(zip(lenses, prediction.maps, strict=True)):
        if lens is None:
            continue
        old, new = intrinsics[index].copy(), intrinsics[index]
        new[(0, 1), (0, 1)] = lens.undistorted_focal * frame.scale
        pixels = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1).reshape(-1, 2)
        sources = _sources(lens, frame, pixels, new[(0, 1), (0, 1)] / frame.scale)
        inside = ((sources >= 0) & (sources <= (width, height))).all(1).reshape(height, width)
        columns, rows = np.clip(sources.astype(int), 0, (width - 1, height - 1)).T.reshape(2, height, width)
        parts["images"][index] = [_sampled(channel, sources) for channel in prediction.images[index]]
        for name in parts.keys() - {"images"}:
            parts[name][index] = getattr(prediction, name)[index, rows, columns]
        if "depth" in parts:
            assert prediction.depth is not None
            smooth = _smoothly(prediction.depth[index], sources, parts["depth"][index])
            parts["depth"][index] = np.where(inside, smooth, np.nan)
        if "world_points" in parts:
            moved = _rays(new, pixels) - _rays(old, np.column_stack((columns.ravel(), rows.ravel())) + 0.5)
            points = parts["world_points"][index]
            points[...] = _shifted(points, cameras[index], moved.reshape(height, width, 2))
            points[~inside] = np.nan
    lens32, camera32 = torch.from_numpy(intrinsics).float(), torch.from_numpy(cameras).float()
    encoding = cameras_to_pose_encoding(camera32, lens32, (height, width)).numpy()
    return replace(prediction, **parts, intrinsics=lens32.numpy(), pose_enc=encoding)


def on_lens_rays(
    points: np.ndarray, camera: np.ndarray, intrinsics: np.ndarray, lens: Lens, frame: FrameMap
) -> np.ndarray:
    """Return the points [H, W, 3] of a frame's pixels where its lens saw them; NaN where it saw none.

    Args:
        points: [H, W, 3] in the world, on the rays of a pinhole.
        camera: [3, 4] of the pinhole, camera from world.
        intrinsics: [3, 3] of the pinhole, in pixels of the processed image.
        lens: of the photograph.
        frame: from the photograph to the processed image.
    """
    height, width = points.shape[:2]
    pixels = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1).reshape(-1, 2)
    moved = lens.rays((pixels - frame.offset) / frame.scale) - _rays(intrinsics, pixels)
    return _shifted(points, camera, moved.reshape(height, width, 2)).astype(np.float32)


def _sources(lens: Lens, frame: FrameMap, pixels: np.ndarray, focal: np.ndarray) -> np.ndarray:
    """Return where pixels [N, 2] of an undistorted processed image are in the distorted one."""
    return lens.sources((pixels - frame.offset) / frame.scale, focal) * frame.scale + frame.offset


def _sampled(channel: np.ndarray, sources: np.ndarray) -> np.ndarray:
    place = sources.T[::-1].reshape(2, *channel.shape) - 0.5
    return map_coordinates(channel, place, order=1, mode="nearest")


def _smoothly(depth: np.ndarray, sources: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Return depth [H, W] interpolated at ``sources`` [H * W, 2], or at steps in depth that of the nearest pixels."""
    with np.errstate(divide="ignore", invalid="ignore"):
        smooth = 1 / _sampled(1 / depth, sources)  # of a plane, the inverse of depth is linear
        return np.where(np.abs(smooth / nearest - 1) < _STEP, smooth, nearest)


def _rays(intrinsics: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    return (pixels - intrinsics[:2, 2]) / intrinsics[(0, 1), (0, 1)]


def _shifted(points: np.ndarray, camera: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Return world points [H, W, 3] moved across a camera's view by ``moved`` [H, W, 2] at depth 1."""
    local = points.astype(np.float64) @ camera[:, :3].T + camera[:, 3]
    local[..., :2] += local[..., 2:] * moved
    return (local - camera[:, 3]) @ camera[:, :3]
