"""Folders of images, with a COLMAP model or without cameras.

ROOT/*.jpg or ROOT/images/*.jpg                          the images of one scene
ROOT/sparse/0/{cameras,images}.{txt,bin}                 optional COLMAP model; also in sparse/, colmap/ or ROOT
ROOT/depth/<image>.npy                                   optional with cameras: float [h, w] in the model's unit
ROOT/depth_mm/<image>.png                                or 16-bit millimeters; <image> is the name without its suffix
ROOT/<scene>/…                                           or several scenes, each like the above
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from qvggt.data.colmap import ColmapCamera, ColmapImage, find_model, read_model
from qvggt.data.dataset import SequenceRecord, chosen_frames
from qvggt.data.files import image_names, read_depth_array, read_uint16, require_folder
from qvggt.data.frames import DepthMap, Frame, build_scene, scale_intrinsics
from qvggt.images.files import natural_key
from qvggt.options import ImageOptions
from qvggt.types import PathLike, QvggtError, Scene

SPLITS = ("all",)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ColmapScene:
    """One scene's COLMAP model, restricted to images that are on disk.

    Attributes:
        root: the scene's folder.
        image_folder: what image names are relative to.
        images: name -> registered image.
        cameras: camera number -> camera.
    """

    root: Path
    image_folder: Path
    images: dict[str, ColmapImage]
    cameras: dict[int, ColmapCamera]

    def frame(self, name: str) -> Frame:
        """Return the photograph with its camera, and its depth if there is any."""
        image = self.images[name]
        camera = self.cameras[image.camera_id]
        intrinsics = scale_intrinsics(camera.intrinsics(), 1 / camera.width, 1 / camera.height)
        return Frame(self.image_folder / name, image.cam_from_world, intrinsics, self._depth(name))

    def _depth(self, name: str) -> Callable[[], DepthMap] | None:
        exact = (self.root / "depth" / name).with_suffix(".npy")
        if exact.is_file():
            return lambda: DepthMap(read_depth_array(exact))
        rounded = (self.root / "depth_mm" / name).with_suffix(".png")
        if rounded.is_file():
            return lambda: DepthMap(_read_any_millimeters(rounded))
        return None


def _read_any_millimeters(path: Path) -> np.ndarray:
    """Return 16-bit millimeters in meters; 0 and 65535, which mean no measurement, become 0."""
    raw = read_uint16(path, "the depth map")
    return np.where(raw == 65535, 0, raw).astype(np.float32) / np.float32(1000)


def read_colmap_scene(model_folder: Path, image_folder: Path, root: Path | None = None) -> ColmapScene:
    """Read a COLMAP model and keep the images that are on disk, in natural order of their names.

    Args:
        model_folder: holds ``cameras`` and ``images``.
        image_folder: what image names are relative to.
        root: the scene's folder, where depth is looked for; ``image_folder`` if None.

    Raises:
        QvggtError: the model is missing or damaged, or none of its images is in ``image_folder``.
    """
    cameras, registered = read_model(model_folder)
    present = [image for image in registered if (image_folder / image.name).is_file()]
    if not present:
        example = registered[0].name if registered else "<image>"
        raise QvggtError(
            f"no image of the COLMAP model in {model_folder} is in {image_folder}: "
            f"{image_folder / example} was looked for"
        )
    if len(present) < len(registered):
        log.warning("%s: %d of %d registered images are on disk", image_folder, len(present), len(registered))
    if any(cameras[image.camera_id].is_distorted() for image in present):
        log.warning("%s: lens distortion is ignored; undistort the images for exact cameras", model_folder)
    present.sort(key=lambda image: natural_key(Path(image.name)))
    return ColmapScene(root or image_folder, image_folder, {image.name: image for image in present}, cameras)


class ImageFolder:
    """Reads one scene, or several in subfolders, from folders of images.

    With a COLMAP model its registered images are the candidate frames. Without one all images are, and a scene has no
    cameras, which is enough to compare two models with each other.

    Args:
        root: a folder of images, a folder with an ``images`` folder, or a folder of such folders.
        split: ``all``.
    """

    name = "folder"

    def __init__(self, root: PathLike, split: str = "all"):
        if split not in SPLITS:
            raise QvggtError(f"a folder of images has no split {split!r}: it has 'all' only")
        self.root = require_folder(root, "images")
        self.split = split

    def sequences(self) -> tuple[SequenceRecord, ...]:
        """Return one sequence a scene, named after its folder."""
        return tuple(
            SequenceRecord(name, tuple(scene.images) if isinstance(scene, ColmapScene) else tuple(image_names(scene)))
            for name, scene in self._scenes.items()
        )

    def load(self, record: SequenceRecord, frame_indices: Sequence[int], options: ImageOptions) -> Scene:
        """Read the chosen frames, with cameras, and depth beside them, if the folder has a COLMAP model."""
        names = chosen_frames(record, frame_indices)
        scene = self._scenes[record.name]
        if isinstance(scene, ColmapScene):
            frames = [scene.frame(name) for name in names]
        else:
            frames = [Frame(scene / name) for name in names]
        return build_scene(record, names, frames, options)

    @cached_property
    def _scenes(self) -> dict[str, ColmapScene | Path]:
        """Scene name -> its COLMAP model, or its image folder if it has none."""
        folders = [self.root]
        if _image_folder(self.root) is None and find_model(self.root) is None:
            folders = sorted(entry for entry in self.root.iterdir() if entry.is_dir())
        scenes = {folder.resolve().name: _open_scene(folder) for folder in folders}
        found = {name: scene for name, scene in scenes.items() if scene is not None}
        if not found:
            raise QvggtError(
                f"no image is in {self.root}: *.jpg or *.png was looked for in it, in images/ and in each subfolder"
            )
        return found


def _image_folder(folder: Path) -> Path | None:
    return next((place for place in (folder / "images", folder) if image_names(place)), None)


def _open_scene(folder: Path) -> ColmapScene | Path | None:
    model = find_model(folder)
    if model is None:
        return _image_folder(folder)
    # COLMAP names images relative to its image folder, which may have subfolders and so hold no image itself.
    return read_colmap_scene(model, folder / "images" if (folder / "images").is_dir() else folder, folder)
