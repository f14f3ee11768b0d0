"""Frozen numpy-only types shared by the packages of qvggt."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NewType, cast, get_args

import numpy as np

LayerId = NewType("LayerId", str)
"""Dotted name of a layer, e.g. ``aggregator.frame_blocks.3.attn.qkv``."""

BlockId = NewType("BlockId", str)
"""Kind and index of a block, e.g. ``frame/7``, ``global/7``, ``patch_embed/0``, ``camera/1``."""

OnProgress = Callable[[str, float], None]
"""The progress callback: called with the stage under way, e.g. ``8 frames, attention``, and the share done, 0 to 1.

It is called from the thread that works (while downloading, from several), and what it raises ends the work.
"""


class QvggtError(Exception):
    """An error that the user can fix; its message says what is wrong and how to fix it.

    Characters that cannot be printed, such as NUL, line ends and lone surrogates in names from files, are escaped.

    >>> str(QvggtError("a\\nb"))
    'a\\\\nb'
    """

    def __init__(self, message: object = "") -> None:
        super().__init__("".join(c if c.isprintable() else _escaped(c) for c in str(message)))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


AttentionKind = Literal["exact", "frame", "pooled", "sampled"]
"""All tokens of a scene, those of the same frame, averages of patches, or some of the patches."""


_KINDS = "expected exact, frame, pooled SIDE or sampled SIDE, such as pooled 2"


@dataclass(frozen=True)
class BlockAttention:
    """Which keys and values the tokens of a scene attend to in one global block.

    ``exact``: those of all tokens. ``frame``: those of their own frame. ``pooled``: those of all special tokens and of
    the first frame, the averages over groups of ``side`` x ``side`` patches of all other frames, the mean of those
    averages, and, for an averaged patch, its own. ``sampled``: the same with one patch of each group instead of their
    average, another one in every frame.

    Attributes:
        kind: of attention.
        side: of a group, in patches; 1 unless ``pooled`` or ``sampled``.

    Raises:
        QvggtError: the kind does not exist, or the side does not fit it.
    """

    kind: AttentionKind = "exact"
    side: int = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(AttentionKind) or self.side < 1 or (not self.has_groups and self.side != 1):
            raise QvggtError(f"invalid attention {str(self)!r}: {_KINDS}")

    @property
    def has_groups(self) -> bool:
        """Whether groups of patches are replaced by one key and value."""
        return self.kind in ("pooled", "sampled")

    def __str__(self) -> str:
        """Return ``exact``, ``frame``, or ``pooled 2``."""
        return f"{self.kind} {self.side}" if self.has_groups else self.kind

    @classmethod
    def parse(cls, text: str) -> BlockAttention:
        """Return the attention that ``str`` of it names.

        Raises:
            QvggtError: there is no such attention.
        """
        kind, _, side = text.partition(" ")
        if (kind in ("pooled", "sampled")) != side.isdecimal() or (side and kind in ("exact", "frame")):
            raise QvggtError(f"invalid attention {text!r}: {_KINDS}")
        return cls(cast(AttentionKind, kind), int(side or 1))


EXACT_ATTENTION = BlockAttention()
"""Attention to all tokens."""


@dataclass(frozen=True)
class PlanLevel:
    """The attention of every global block from a number of frames on.

    Attributes:
        min_frames: fewest frames of a scene, at least 1.
        blocks: one for each global block, in running order.
    """

    min_frames: int
    blocks: tuple[BlockAttention, ...]


@dataclass(frozen=True)
class AttentionPlan:
    """The attention of every global block, by the number of frames of a scene.

    The last level whose ``min_frames`` a scene reaches applies. In scenes with fewer frames than the first level's all
    blocks are exact.

    Attributes:
        levels: with increasing ``min_frames``, and equally many blocks.

    Raises:
        QvggtError: there is no level, or they are not in that form.
    """

    levels: tuple[PlanLevel, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.levels, Sequence) or not all(isinstance(level, PlanLevel) for level in self.levels):
            raise QvggtError(f"invalid attention plan: expected levels, got {self.levels!r:.60}")
        frames = [level.min_frames for level in self.levels]
        if not frames or frames != sorted(set(frames)) or frames[0] < 1:
            raise QvggtError(f"invalid attention plan: expected levels with increasing min_frames, got {frames}")
        if len({len(level.blocks) for level in self.levels}) > 1 or not self.levels[0].blocks:
            raise QvggtError("invalid attention plan: every level needs the attention of every global block")

    @property
    def depth(self) -> int:
        """Number of global blocks."""
        return len(self.levels[0].blocks)

    def at(self, frames: int) -> tuple[BlockAttention, ...]:
        """Return the attention of every global block in scenes of a number of frames."""
        reached = [level.blocks for level in self.levels if level.min_frames <= frames]
        return reached[-1] if reached else (EXACT_ATTENTION,) * self.depth

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping that ``from_json`` reads."""
        levels = [{"min_frames": level.min_frames, "blocks": list(map(str, level.blocks))} for level in self.levels]
        return {"version": 1, "levels": levels}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AttentionPlan:
        """Rebuild a plan from ``to_json``.

        Raises:
            QvggtError: the mapping has another version, is damaged, or is not a plan.
        """
        version = values.get("version") if isinstance(values, Mapping) else None
        if version != 1:
            raise QvggtError(f"the attention plan has version {version!r}, but this qvggt reads version 1")
        try:
            return cls(
                tuple(
                    PlanLevel(int(level["min_frames"]), tuple(BlockAttention.parse(str(b)) for b in level["blocks"]))
                    for level in values["levels"]
                )
            )
        except (KeyError, TypeError, ValueError) as error:
            raise QvggtError(f"the attention plan is damaged ({error}): make it again") from error


class ArrayFields:
    """Base of dataclasses with arrays, whose ``repr`` shows shapes; with ``eq=False`` each equals only itself."""

    def __repr__(self: Any) -> str:
        """Return names with shapes, for example ``ImageSet(images=[2, 3, 56, 56], maps=2 FrameMap, names=(...))``."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        shown = ", ".join(f"{name}={_brief(value)}" for name, value in values.items() if value is not None)
        return f"{type(self).__name__}({shown})"


def _brief(value: object) -> str:
    """Return a representation of one short line: shapes of arrays, first and last of many names."""
    if isinstance(value, np.ndarray):
        return str(list(value.shape))
    if isinstance(value, tuple) and value and not isinstance(value[0], str):
        return f"{len(value)} {type(value[0]).__name__}"
    if isinstance(value, tuple) and len(value) > 3:
        return f"({value[0]!r}, ..., {value[-1]!r})"
    return repr(value)


@dataclass(frozen=True)
class FrameMap:
    """Affine map from the pixels of a photograph to those of its processed image.

    The point (u, v) of the photograph is at (u * scale[0] + offset[0], v * scale[1] + offset[1]) in the processed
    image; pixel centers are at integer coordinates plus one half in both.

    Attributes:
        original_size: (width, height) of the photograph after EXIF orientation, in pixels.
        scale: (x, y) processed pixels per original pixel.
        offset: (x, y) of the photograph's corner in the processed image, in pixels; negative where it was cropped.
    """

    original_size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float]


@dataclass(frozen=True, eq=False, repr=False)
class ImageSet(ArrayFields):
    """Preprocessed images of one scene.

    Attributes:
        images: [S, 3, H, W] float32 in 0..1, H and W multiples of the model's patch.
        maps: one FrameMap per frame.
        names: one name per frame (a file name, or ``video.mp4#12``).
    """

    images: np.ndarray
    maps: tuple[FrameMap, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Scene(ArrayFields):
    """Images of one scene with its ground truth, if known.

    Attributes:
        name: unique inside its dataset and split.
        images: [S, 3, H, W] float32 in 0..1.
        cam_from_world: [S, 3, 4] float64, OpenCV axes, or None.
        intrinsics: [S, 3, 3] float64 in pixels of ``images``, or None.
        depth: [S, H, W] float32, distance along the optical axis in the scene's unit (meters), or None.
        valid: [S, H, W] bool, True where ``depth`` is known, or None.
        group: the group in which metrics are averaged, for example a CO3D category.
    """

    name: str
    images: np.ndarray
    cam_from_world: np.ndarray | None = None
    intrinsics: np.ndarray | None = None
    depth: np.ndarray | None = None
    valid: np.ndarray | None = None
    group: str = ""


PREDICTION_SHAPES: Mapping[str, tuple[str | int, ...]] = {
    "images": ("S", 3, "H", "W"), "cam_from_world": ("S", 3, 4), "intrinsics": ("S", 3, 3), "pose_enc": ("S", 9),
    "depth": ("S", "H", "W"), "depth_conf": ("S", "H", "W"), "world_points": ("S", "H", "W", 3),
    "world_points_conf": ("S", "H", "W"), "mask": ("S", "H", "W"),
}  # fmt: skip
"""Axes of the arrays of a prediction of S frames of H x W pixels."""


@dataclass(frozen=True, eq=False, repr=False)
class Prediction(ArrayFields):
    """Output of the model for one scene; fields of heads that were not run are None.

    Attributes:
        images: [S, 3, H, W] float32 in 0..1, as the model saw them.
        names: one name per frame.
        maps: one FrameMap per frame, from pixels of the photograph to pixels of ``images``.
        cam_from_world: [S, 3, 4] float32, OpenCV axes; the first camera is near the identity.
        intrinsics: [S, 3, 3] float32 in pixels of the processed image, the first pixel's center at (0.5, 0.5).
        pose_enc: [S, 9] float32: translation, quaternion xyzw, vertical and horizontal field of view in radians.
        depth: [S, H, W] float32, in the model's unit.
        depth_conf: [S, H, W] float32, at least 1.
        world_points: [S, H, W, 3] float32, in the frame of ``cam_from_world``. Unprojected from depth they are those
            of the published model, which has the first pixel's center at (0, 0).
        world_points_conf: [S, H, W] float32, at least 1.
        mask: [S, H, W] bool, False where the user's masks exclude a pixel; None if there are no masks.

    Raises:
        QvggtError: an array has another shape, or the numbers of frames differ.
    """

    images: np.ndarray
    names: tuple[str, ...]
    maps: tuple[FrameMap, ...]
    cam_from_world: np.ndarray | None = None
    intrinsics: np.ndarray | None = None
    pose_enc: np.ndarray | None = None
    depth: np.ndarray | None = None
    depth_conf: np.ndarray | None = None
    world_points: np.ndarray | None = None
    world_points_conf: np.ndarray | None = None
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        sizes: dict[str | int, int] = dict(zip(("S", "", "H", "W"), np.shape(self.images), strict=False))
        for name, axes in PREDICTION_SHAPES.items():
            value, shape = getattr(self, name), tuple(sizes.get(axis, axis) for axis in axes)
            if (value is not None or name == "images") and (not isinstance(value, np.ndarray) or value.shape != shape):
                found = value.shape if isinstance(value, np.ndarray) else type(value).__name__
                raise QvggtError(f"expected {name} {list(axes)} as an array of shape {shape}, got {found}")
        if not len(self.names) == len(self.maps) == len(self.images):
            raise QvggtError(
                f"expected one name and one FrameMap for each of {len(self.images)} images, got {len(self.names)} and "
                f"{len(self.maps)}"
            )

    @property
    def heads(self) -> tuple[str, ...]:
        """Heads whose outputs are there, of ``camera``, ``depth`` and ``point``."""
        conf, depth_conf = self.world_points_conf, self.depth_conf
        # Points that are unprojected from depth have the confidence of depth.
        from_depth = conf is not None and depth_conf is not None and np.array_equal(conf[0], depth_conf[0])
        points = None if from_depth else self.world_points
        outputs = {"camera": self.cam_from_world, "depth": self.depth, "point": points}
        return tuple(head for head, output in outputs.items() if output is not None)

    def __repr__(self) -> str:
        """Return frames, shapes and heads."""
        return f"{super().__repr__()[:-1]}, heads={self.heads})"

    # What needs the rooms above is found there by name when it is called: modules import downwards only.

    def camera_centers(self) -> np.ndarray:
        """Return the positions [S, 3] float64 of the cameras in the world, in the unit of the depth.

        Raises:
            QvggtError: the prediction has no cameras, or cameras that are not finite.
        """
        frames = importlib.import_module("qvggt.postprocess.frames")
        return frames.camera_centers(frames.cameras_of(self)[0])

    def points(
        self, points_from: str | None = None, max_points: int | None = None, drop_percent: float | None = None
    ) -> PointCloud:
        """Return the confident points with their colors, as ``points.ply`` has them.

        Args:
            points_from: ``depth`` or ``head``; None for depth if it is there.
            max_points: most points, drawn at random; None for ``ExportOptions.max_points``.
            drop_percent: percentage of pixels, the least confident, that yield no point; None for
                ``ExportOptions.drop_percent``.

        Raises:
            QvggtError: the outputs that they are made of are missing, or an option is out of range.
        """
        points = importlib.import_module("qvggt.export.points")
        return points.points_of(self, points_from, max_points, drop_percent)

    def save(self, folder: PathLike, overwrite: bool = False, files: Collection[str] | None = None) -> Path:
        """Write the files of ``qvggt reconstruct`` to a folder, which ``qvggt view``, ``export`` and others take.

        Args:
            folder: to create.
            overwrite: whether an earlier result in it may be replaced.
            files: names of ``qvggt.options.RESULT_FILES`` to write; None for all.

        Returns:
            The folder.

        Raises:
            QvggtError: the folder is taken or cannot be written, or there is no such file.
        """
        return importlib.import_module("qvggt.export.result").save_files(self, folder, overwrite, files)


@dataclass(frozen=True, eq=False, repr=False)
class PointCloud(ArrayFields):
    """Colored points in the frame of the prediction's ``cam_from_world``.

    Attributes:
        points: [N, 3] float32, in the model's unit.
        colors: [N, 3] uint8, sRGB.
        confidence: [N] float32, at least 1; all 1 if the prediction has none.
    """

    points: np.ndarray
    colors: np.ndarray
    confidence: np.ndarray

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, eq=False)
class Rig:
    """Cameras that are fixed to each other, and the frames that they took at the same moments.

    Attributes:
        cam_from_rig: [3, 4] in meters by the camera's name; None if the cameras' relative poses are not known.
        groups: for each moment the frame of each camera, by the camera's name.
    """

    cam_from_rig: Mapping[str, np.ndarray] | None
    groups: Sequence[Mapping[str, str]]


OnWindow = Callable[[Prediction], None]
"""Called with the frames that a window adds to a reconstruction, in the world of the frames before them."""

PathLike = str | Path
