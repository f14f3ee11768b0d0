"""ETH3D, high-resolution multi-view: DSLR photographs with laser-scanned depth.

    ROOT/<scene>/dslr_calibration_undistorted/{cameras,images}.txt    COLMAP text, PINHOLE
    ROOT/<scene>/images/dslr_images_undistorted/*.JPG
    ROOT/<scene>/dslr_calibration_jpg/{cameras,images}.txt            COLMAP text, THIN_PRISM_FISHEYE; for depth only
    ROOT/<scene>/ground_truth_depth/dslr_images/*.JPG                 raw float32, not JPEG; infinite where unknown

The depth maps belong to the original, distorted photographs. A point of the undistorted photograph is therefore mapped
through the original camera's lens model to its depth.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path, PurePosixPath

import numpy as np

from qvggt.data.colmap import ColmapCamera, read_model
from qvggt.data.dataset import SequenceRecord, chosen_frames
from qvggt.data.files import require_folder
from qvggt.data.folder import ColmapScene, read_colmap_scene
from qvggt.data.frames import DepthMap, Frame, build_scene
from qvggt.files.read import open_regular, reading
from qvggt.options import ImageOptions
from qvggt.types import PathLike, QvggtError, Scene

SPLITS = ("all",)

_CALIBRATION = "dslr_calibration_undistorted"
_RAW_CALIBRATION = "dslr_calibration_jpg"


class Eth3d:
    """Reads the scenes of a folder; depth is there if ``ground_truth_depth`` and ``dslr_calibration_jpg`` are.

    Args:
        root: the folder that holds the scene folders (courtyard, delivery_area, …).
        split: ``all``.
    """

    name = "eth3d"

    def __init__(self, root: PathLike, split: str = "all"):
        if split not in SPLITS:
            raise QvggtError(f"ETH3D has no split {split!r}: it has 'all' only")
        self.root = require_folder(root, "the scenes of ETH3D (courtyard, delivery_area, …)")
        self.split = split

    def sequences(self) -> tuple[SequenceRecord, ...]:
        """Return one sequence a scene."""
        return tuple(SequenceRecord(name, tuple(scene.images)) for name, scene in self._scenes.items())

    def load(self, record: SequenceRecord, frame_indices: Sequence[int], options: ImageOptions) -> Scene:
        """Read the chosen frames with cameras and, where it is known, depth in meters."""
        names = chosen_frames(record, frame_indices)
        scene, folder = self._scenes[record.name], self.root / record.name
        raw_cameras = _raw_cameras(folder) if (folder / "ground_truth_depth").is_dir() else {}
        frames = []
        for name in names:
            frame = scene.frame(name)
            photo_name = PurePosixPath(name).name
            if raw_cameras:
                if photo_name not in raw_cameras:
                    raise QvggtError(f"{folder / _RAW_CALIBRATION / 'images.txt'} lacks {photo_name}: unpack it again")
                depth_path = folder / "ground_truth_depth" / "dslr_images" / photo_name
                assert frame.intrinsics is not None
                read_depth = partial(_read_depth, depth_path, frame.intrinsics, raw_cameras[photo_name])
                frame = Frame(frame.photo, frame.cam_from_world, frame.intrinsics, read_depth)
            frames.append(frame)
        return build_scene(record, names, frames, options)

    @cached_property
    def _scenes(self) -> dict[str, ColmapScene]:
        folders = sorted(path.parent for path in self.root.glob(f"*/{_CALIBRATION}"))
        if not folders:
            raise QvggtError(
                f"no scene of ETH3D is in {self.root}: <scene>/{_CALIBRATION} was looked for; "
                "unpack <scene>_dslr_undistorted.7z there"
            )
        return {folder.name: read_colmap_scene(folder / _CALIBRATION, folder / "images") for folder in folders}


def project_thin_prism_fisheye(camera: ColmapCamera, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels of rays (x, y, 1) in a THIN_PRISM_FISHEYE camera.

    The equidistant fisheye projection is followed by radial, tangential and thin-prism distortion.
    """
    fx, fy, cx, cy, k1, k2, p1, p2, k3, k4, sx1, sy1 = camera.params
    tangent = np.hypot(x, y)
    ratio = np.divide(np.arctan(tangent), tangent, out=np.ones_like(tangent), where=tangent > 1e-12)
    u, v = x * ratio, y * ratio
    r2 = u * u + v * v
    radial = r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
    du = u * radial + 2 * p1 * u * v + p2 * (r2 + 2 * u * u) + sx1 * r2
    dv = v * radial + 2 * p2 * u * v + p1 * (r2 + 2 * v * v) + sy1 * r2
    return fx * (u + du) + cx, fy * (v + dv) + cy


def _raw_cameras(folder: Path) -> dict[str, ColmapCamera]:
    """Return the original camera of each photograph by file name."""
    cameras, images = read_model(folder / _RAW_CALIBRATION)
    for camera in cameras.values():
        if camera.model != "THIN_PRISM_FISHEYE":
            raise QvggtError(f"{folder / _RAW_CALIBRATION} has a {camera.model} camera, not ETH3D's: unpack it again")
    return {PurePosixPath(image.name).name: cameras[image.camera_id] for image in images}


def _read_depth(path: Path, intrinsics: np.ndarray, camera: ColmapCamera) -> DepthMap:
    with reading(path, "unpack <scene>_dslr_depth.7z again", "the depth map"), open_regular(path) as file:
        size, expected = os.fstat(file.fileno()).st_size, 4 * camera.width * camera.height
        if size != expected:
            raise ValueError(f"{size} bytes, not the {expected} of {camera.width}x{camera.height} numbers")
        values = np.frombuffer(file.read(), dtype="<f4")
    values = np.where(np.isfinite(values), values, 0).reshape(camera.height, camera.width).astype(np.float32)

    def lookup(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ray_x, ray_y = (x - intrinsics[0, 2]) / intrinsics[0, 0], (y - intrinsics[1, 2]) / intrinsics[1, 1]
        return project_thin_prism_fisheye(camera, ray_x, ray_y)

    return DepthMap(values, lookup)
