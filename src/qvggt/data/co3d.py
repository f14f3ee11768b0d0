"""CO3Dv2: videos around objects, with cameras and depth from structure from motion in PyTorch3D conventions.

ROOT/<category>/set_lists/set_lists_fewview_dev.json    {"train": [[sequence, frame number, image path], …], …}
ROOT/<category>/sequence_annotations.jgz                gzip JSON, one entry a sequence
ROOT/<category>/frame_annotations.jgz                   gzip JSON, one entry a frame
ROOT/<category>/<sequence>/{images,depths,depth_masks}/
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from qvggt.data.checks import check_name, check_size
from qvggt.data.dataset import SequenceRecord, chosen_frames
from qvggt.data.files import read_mask, read_uint16, require_folder
from qvggt.data.frames import DepthMap, Frame, build_scene, pinhole
from qvggt.files.read import read_json, reading
from qvggt.options import ImageOptions
from qvggt.options.messages import did_you_mean
from qvggt.types import PathLike, QvggtError, Scene

SPLITS = ("test", "test-seen", "val", "train")

# Categories that PoseDiffusion and RelPose++ exclude from training. Published averages are over the other 41.
UNSEEN_CATEGORIES = frozenset(
    ("ball", "book", "couch", "frisbee", "hotdog", "kite", "remote", "sandwich", "skateboard", "suitcase")
)

_MIN_QUALITY = 0.5  # of the camera track; at or below it a sequence is left out
_MIN_FRAMES = 50
_MAX_TRANSLATION = 1e5  # sum of a camera's translation; beyond it the track has diverged


@dataclass(frozen=True)
class _Annotation:
    """One entry of `frame_annotations.jgz`, in CO3D's own conventions."""

    image: str
    size: tuple[int, int]  # width, height
    depth: str | None
    depth_mask: str | None
    depth_scale: float
    rotation: np.ndarray
    translation: np.ndarray
    focal: tuple[float, float]
    center: tuple[float, float]
    intrinsics_format: str


class Co3d:
    """Reads a split of CO3Dv2's ``fewview_dev`` set lists with the filters that published pose figures use.

    Sequences are kept if their viewpoint quality is above 0.5, they have at least 50 frames and no camera of theirs has
    diverged. A sequence's group is its category. Depth is in the scene's own unit, not meters.

    Args:
        root: the folder that holds the category folders; missing categories are not evaluated.
        split: ``test`` (every category found), ``test-seen`` (the same without the ten categories that PoseDiffusion
            never trains on: 41 of 51), ``val`` or ``train``.
        categories: only these categories, none of which may be missing.
    """

    name = "co3d"

    def __init__(self, root: PathLike, split: str = "test", categories: Sequence[str] | None = None):
        if split not in SPLITS:
            nearest = did_you_mean(split, SPLITS)
            raise QvggtError(f"CO3D has no split {split!r}: choose one of {', '.join(SPLITS)}{nearest}")
        self.root = require_folder(root, "the category folders of CO3Dv2 (apple, ball, …)")
        self.split = split
        self.categories = tuple(categories) if categories is not None else self._find_categories()

    def sequences(self) -> tuple[SequenceRecord, ...]:
        """Return the sequences that pass the filters; reads the annotations of every category on the first call."""
        return tuple(
            SequenceRecord(name, tuple(frames), group=name.split("/")[0])
            for name, frames in sorted(self._annotations.items())
        )

    def load(self, record: SequenceRecord, frame_indices: Sequence[int], options: ImageOptions) -> Scene:
        """Read the chosen frames with cameras and masked depth."""
        names = chosen_frames(record, frame_indices)
        try:
            annotations = [self._annotations[record.name][name] for name in names]
        except KeyError as error:
            raise QvggtError(
                f"CO3D at {self.root} has no sequence or frame {error}: choose one that it lists"
            ) from error
        return build_scene(record, names, [self._frame(annotation) for annotation in annotations], options)

    def _find_categories(self) -> tuple[str, ...]:
        found = sorted(
            entry.name
            for entry in self.root.iterdir()
            if (entry / "set_lists").is_dir() or (entry / "frame_annotations.jgz").is_file()
        )
        if not found:
            raise QvggtError(
                f"no CO3D category is in {self.root}: <category>/frame_annotations.jgz was looked for; "
                "give the folder that holds apple, ball, …"
            )
        return tuple(name for name in found if self.split != "test-seen" or name not in UNSEEN_CATEGORIES)

    @cached_property
    def _annotations(self) -> dict[str, dict[str, _Annotation]]:
        """Sequence name -> frame name -> annotation, frames in order."""
        subset = "test" if self.split == "test-seen" else self.split
        sequences: dict[str, dict[str, _Annotation]] = {}
        for category in self.categories:
            sequences.update(_read_category(self.root / category, subset))
        if not sequences:
            raise QvggtError(
                f"no sequence of CO3D split {self.split!r} in {self.root} passes the filters: add categories"
            )
        return sequences

    def _frame(self, annotation: _Annotation) -> Frame:
        return Frame(
            self.root / annotation.image,
            opencv_camera(annotation.rotation, annotation.translation),
            image_intrinsics(annotation.focal, annotation.center, annotation.intrinsics_format, annotation.size),
            None if annotation.depth is None else partial(self._depth, annotation),
        )

    def _depth(self, annotation: _Annotation) -> DepthMap:
        assert annotation.depth is not None
        depth = read_half_depth(self.root / annotation.depth) * np.float32(annotation.depth_scale)
        if annotation.depth_mask is not None:
            path = self.root / annotation.depth_mask
            mask = read_mask(path, "the depth mask")
            if mask.shape != depth.shape:
                raise QvggtError(f"the depth mask {path} is not as large as its depth map: download both again")
            depth[~mask] = 0
        return DepthMap(depth)


def opencv_camera(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Return ``cam_from_world`` [3, 4] with OpenCV axes from PyTorch3D's R [3, 3] and T [3].

    PyTorch3D multiplies row vectors, X R + T, and its camera looks along z with x to the left and y up.
    """
    flip = np.diag([-1.0, -1.0, 1.0])
    return np.concatenate((flip @ rotation.T, flip @ translation[:, None]), axis=1)


def image_intrinsics(
    focal: tuple[float, float], center: tuple[float, float], ndc_format: str, size: tuple[int, int]
) -> np.ndarray:
    """Return intrinsics [3, 3], in shares of the image's width and height, from PyTorch3D's normalized ones.

    Normalized coordinates have their origin in the center of the image, x to the left and y up. One unit is half the
    image's shorter side (``ndc_isotropic``), or half its width in x and half its height in y
    (``ndc_norm_image_bounds``).

    Args:
        focal: (x, y) in normalized units.
        center: principal point (x, y) in normalized units.
        ndc_format: ``ndc_isotropic`` or ``ndc_norm_image_bounds``.
        size: (width, height) of the image in pixels.
    """
    width, height = size
    if ndc_format.lower() == "ndc_isotropic":
        unit_x, unit_y = min(width, height) / (2 * width), min(width, height) / (2 * height)
    elif ndc_format.lower() == "ndc_norm_image_bounds":
        unit_x = unit_y = 0.5
    else:
        raise QvggtError(
            f"the intrinsics format {ndc_format!r} is not one of CO3Dv2's (ndc_isotropic, ndc_norm_image_bounds): "
            "download the annotations again"
        )
    return pinhole((focal[0] * unit_x, focal[1] * unit_y), (0.5 - center[0] * unit_x, 0.5 - center[1] * unit_y))


def read_half_depth(path: Path) -> np.ndarray:
    """Return a CO3D depth map [h, w] float32, 0 where it was not measured.

    The file is a 16-bit PNG whose values are the bits of half-precision floats.
    """
    depth = read_uint16(path, "the depth map").view(np.float16).astype(np.float32)
    depth[~np.isfinite(depth) | (depth < 0)] = 0
    return depth


def _read_category(folder: Path, subset: str) -> dict[str, dict[str, _Annotation]]:
    set_list_path = folder / "set_lists" / "set_lists_fewview_dev.json"
    again = "download it again"
    # NaN is allowed here: only values of frames that are loaded have to be finite, and those are checked.
    set_lists = read_json(set_list_path, again, "the CO3D set list")
    sequence_path, frame_path = folder / "sequence_annotations.jgz", folder / "frame_annotations.jgz"
    sequence_entries = read_json(sequence_path, again, "the CO3D sequence annotations", allow_nan=True)
    frame_entries = read_json(frame_path, again, "the CO3D frame annotations", allow_nan=True)
    with reading(frame_path, again, "the CO3D annotation file"):
        good = {
            entry["sequence_name"]
            for entry in sequence_entries
            if (entry.get("viewpoint_quality_score") or 0.0) > _MIN_QUALITY
        }
        wanted = {(str(name), int(number)) for name, number, _ in set_lists[subset] if name in good}
        entries = [entry for entry in frame_entries if (entry["sequence_name"], entry["frame_number"]) in wanted]
        entries.sort(key=lambda entry: (entry["sequence_name"], entry["frame_number"]))
        sequences: dict[str, dict[str, _Annotation]] = {}
        for entry in entries:
            annotation = _annotation(entry, frame_path)
            name = check_name(entry["sequence_name"], frame_path)
            frames = sequences.setdefault(f"{folder.name}/{name}", {})
            frames[PurePosixPath(annotation.image).name] = annotation
    if sum(map(len, sequences.values())) < len(wanted):
        raise QvggtError(f"{frame_path} lacks frames that {set_list_path} names: download the annotations again")
    return {name: frames for name, frames in sequences.items() if _usable(frames)}


def _annotation(entry: Mapping[str, Any], source: Path) -> _Annotation:
    viewpoint, depth = entry["viewpoint"], entry.get("depth") or {}
    paths = (depth.get("path"), depth.get("mask_path"))
    depth_path, mask_path = (None if path is None else check_name(path, source) for path in paths)
    height, width = entry["image"]["size"]
    depth_scale = float(depth.get("scale_adjustment", 1.0))
    if not 0 < depth_scale < math.inf:
        raise ValueError(f"a depth scale of {depth_scale}")
    return _Annotation(
        image=check_name(entry["image"]["path"], source),
        size=check_size(int(width), int(height), source),
        depth=depth_path,
        depth_mask=mask_path,
        depth_scale=depth_scale,
        rotation=np.array(viewpoint["R"], dtype=np.float64).reshape(3, 3),
        translation=np.array(viewpoint["T"], dtype=np.float64).reshape(3),
        focal=(float(viewpoint["focal_length"][0]), float(viewpoint["focal_length"][1])),
        center=(float(viewpoint["principal_point"][0]), float(viewpoint["principal_point"][1])),
        intrinsics_format=viewpoint.get("intrinsics_format", "ndc_norm_image_bounds"),
    )


def _usable(frames: Mapping[str, _Annotation]) -> bool:
    diverged = any(not annotation.translation.sum() <= _MAX_TRANSLATION for annotation in frames.values())
    return len(frames) >= _MIN_FRAMES and not diverged
