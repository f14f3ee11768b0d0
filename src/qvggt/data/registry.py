"""The datasets by name: how to open each, and its usual protocols and frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from qvggt.data import co3d, eth3d, folder, nrgbd, re10k, scannet, seven_scenes
from qvggt.data.dataset import DatasetReader
from qvggt.data.rooms import family as rooms
from qvggt.data.rooms.reader import RoomsReader
from qvggt.data.sampling import ALL_FRAMES, FrameChoice
from qvggt.options.messages import did_you_mean
from qvggt.types import PathLike, QvggtError


@dataclass(frozen=True)
class DatasetInfo:
    """A dataset that commands take by name.

    Attributes:
        title: its published name.
        open: (root folder, split) -> reader.
        splits: names of its splits.
        default_split: the split unless another is named.
        protocols: names of the protocols that are usual on it.
        default_protocols: the protocols unless others are named.
        frames: the choice of frames unless another is given.
        on_disk: whether it is read from a folder.
    """

    title: str
    open: Callable[[PathLike, str], DatasetReader]
    splits: tuple[str, ...]
    default_split: str
    protocols: tuple[str, ...]
    default_protocols: tuple[str, ...]
    frames: FrameChoice = ALL_FRAMES
    on_disk: bool = True


_POSE = ("pose-standard", "pose-vggt")
_VIDEO_DEPTH = ("depth-scale", "depth-scale_shift", "depth-median")
_POSE_AND_DEPTH = ("pose-standard", "depth-scale")
_ROOMS = (*_POSE_AND_DEPTH, "points-consistent")
_TEN_DRAWN = FrameChoice("random", 10)

# Published point-map figures take every 100th frame (crop224). The umeyama line takes every 200th of 7-Scenes and every
# 500th of NRGBD (sparse), or every 40th and 100th (dense).
DATASETS: Mapping[str, DatasetInfo] = MappingProxyType(
    {
        "rooms": DatasetInfo(
            "procedural rooms",
            open=lambda _, split: RoomsReader(split),
            splits=tuple(rooms.SPLITS),
            default_split="test",
            protocols=(*_ROOMS, "pose-vggt", "depth-scale_shift", "depth-median", "points-crop224", "points-umeyama"),
            default_protocols=_ROOMS,
            on_disk=False,
        ),
        "co3d": DatasetInfo(
            "CO3Dv2",
            open=co3d.Co3d,
            splits=co3d.SPLITS,
            default_split="test",
            protocols=_POSE,
            default_protocols=_POSE[:1],
            frames=_TEN_DRAWN,
        ),
        "re10k": DatasetInfo(
            "RealEstate10K",
            open=re10k.RealEstate10K,
            splits=re10k.SPLITS,
            default_split="test",
            protocols=_POSE,
            default_protocols=_POSE[:1],
            frames=_TEN_DRAWN,
        ),
        "seven_scenes": DatasetInfo(
            "7-Scenes, sensor depth",
            open=partial(seven_scenes.SevenScenes, depth="sensor"),
            splits=seven_scenes.SPLITS,
            default_split="test",
            protocols=("points-crop224", "points-consistent"),
            default_protocols=("points-crop224",),
            frames=FrameChoice("every", 100),
        ),
        "seven_scenes_registered": DatasetInfo(
            "7-Scenes, registered depth",
            open=partial(seven_scenes.SevenScenes, depth="registered"),
            splits=seven_scenes.SPLITS,
            default_split="test",
            protocols=("points-umeyama", *_VIDEO_DEPTH, *_POSE),
            default_protocols=("points-umeyama",),
            frames=FrameChoice("every", 200),
        ),
        "nrgbd": DatasetInfo(
            "Neural RGB-D",
            open=nrgbd.NeuralRgbd,
            splits=nrgbd.SPLITS,
            default_split="test",
            protocols=("points-crop224", "points-umeyama", "points-consistent", *_VIDEO_DEPTH, *_POSE),
            default_protocols=("points-crop224",),
            frames=FrameChoice("every", 100),
        ),
        "scannet": DatasetInfo(
            "ScanNet v2",
            open=scannet.ScanNet,
            splits=scannet.SPLITS,
            default_split="train",
            protocols=("pose-standard", *_VIDEO_DEPTH),
            default_protocols=_POSE_AND_DEPTH,
            frames=_TEN_DRAWN,
        ),
        "eth3d": DatasetInfo(
            "ETH3D",
            open=eth3d.Eth3d,
            splits=eth3d.SPLITS,
            default_split="all",
            protocols=("pose-standard", *_VIDEO_DEPTH),
            default_protocols=_POSE_AND_DEPTH,
            frames=_TEN_DRAWN,
        ),
        # Without a COLMAP model there is no ground truth: only fidelity to the float model can be evaluated.
        "folder": DatasetInfo(
            "folder of images",
            open=folder.ImageFolder,
            splits=folder.SPLITS,
            default_split="all",
            protocols=("pose-standard",),
            default_protocols=(),
        ),
    }
)
"""Name -> dataset."""


def open_dataset(
    name: str,
    root: PathLike | None = None,
    split: str | None = None,
    landmarks: float | None = None,
    frames: int | None = None,
) -> DatasetReader:
    """Return a reader for a dataset.

    Args:
        name: a key of DATASETS.
        root: its folder; None for rooms.
        split: None for the dataset's default.
        landmarks: of rooms, 0..1 in place of the split's own value.
        frames: least number of frames per room; ignored by datasets on disk.

    Raises:
        QvggtError: the dataset or split is unknown, the folder is not given or does not exist, or an argument does
            not apply to this dataset.
    """
    info = DATASETS.get(name)
    if info is None:
        nearest = did_you_mean(name, DATASETS)
        raise QvggtError(f"the dataset {name!r} is not known: choose one of {', '.join(DATASETS)}{nearest}")
    split = info.default_split if split is None else split
    if not info.on_disk:
        if root is not None:
            raise QvggtError(
                f"{name} are rendered, not read from a folder: leave out {root} (--data-root, --calib-root)"
            )
        return RoomsReader(split, landmarks, frames)
    if landmarks is not None:
        raise QvggtError(f"landmarks are a property of rooms: leave them out for {name} (--landmarks)")
    if root is None:
        raise QvggtError(
            f"the dataset {name} is read from a folder: give it with --data-root, or --calib-root for calibration"
        )
    return info.open(root, split)
