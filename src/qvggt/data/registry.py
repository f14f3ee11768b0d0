"""The datasets by name: how each is opened, and what is usual to measure on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from qvggt.data import co3d, eth3d, folder, nrgbd, re10k, scannet, seven_scenes
from qvggt.data.dataset import DatasetReader
from qvggt.types import PathLike, QvggtError


@dataclass(frozen=True)
class DatasetInfo:
    """A dataset that the commands know.

    Attributes:
        title: its published name.
        open: (root folder, split) -> reader.
        splits: what can be read.
        default_split: what is read when nothing is said.
        protocols: names of the protocols that are usual on it, the first one standing for all when nothing is said.
    """

    title: str
    open: Callable[[PathLike, str], DatasetReader]
    splits: tuple[str, ...]
    default_split: str
    protocols: tuple[str, ...]


_POSE = ("pose-standard", "pose-vggt")
_VIDEO_DEPTH = ("depth-scale", "depth-scale_shift", "depth-median")

DATASETS: Mapping[str, DatasetInfo] = MappingProxyType(
    {
        "co3d": DatasetInfo("CO3Dv2", co3d.Co3d, co3d.SPLITS, "test", _POSE),
        "re10k": DatasetInfo("RealEstate10K", re10k.RealEstate10K, re10k.SPLITS, "test", _POSE),
        "seven_scenes": DatasetInfo(
            "7-Scenes, sensor depth",
            partial(seven_scenes.SevenScenes, depth="sensor"),
            seven_scenes.SPLITS,
            "test",
            ("points-crop224", "points-consistent"),
        ),
        "seven_scenes_registered": DatasetInfo(
            "7-Scenes, registered depth",
            partial(seven_scenes.SevenScenes, depth="registered"),
            seven_scenes.SPLITS,
            "test",
            ("points-umeyama", *_VIDEO_DEPTH, *_POSE),
        ),
        "nrgbd": DatasetInfo(
            "Neural RGB-D",
            nrgbd.NeuralRgbd,
            nrgbd.SPLITS,
            "test",
            ("points-crop224", "points-umeyama", "points-consistent", *_VIDEO_DEPTH, *_POSE),
        ),
        "scannet": DatasetInfo(
            "ScanNet v2", scannet.ScanNet, scannet.SPLITS, "train", ("pose-standard", *_VIDEO_DEPTH)
        ),
        "eth3d": DatasetInfo("ETH3D", eth3d.Eth3d, eth3d.SPLITS, "all", ("pose-standard", *_VIDEO_DEPTH)),
        "folder": DatasetInfo("folder of images", folder.ImageFolder, folder.SPLITS, "all", ("pose-standard",)),
    }
)
"""Datasets that are read from a folder, by the name that commands take."""


def open_dataset(name: str, root: PathLike, split: str | None = None) -> DatasetReader:
    """Return a reader for a dataset in a folder; ``split`` None is the dataset's default.

    Raises:
        QvggtError: the dataset or split is not known, or the folder does not exist.
    """
    info = DATASETS.get(name)
    if info is None:
        raise QvggtError(f"the dataset {name!r} is not known: choose one of {', '.join(DATASETS)}")
    return info.open(root, info.default_split if split is None else split)
