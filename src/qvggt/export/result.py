"""A finished reconstruction on disk: the folder that ``qvggt reconstruct`` writes."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from qvggt.export import CONTENTS, write_all
from qvggt.export.npz import load_prediction, save_prediction
from qvggt.export.points import has_points, with_lens_points
from qvggt.files import new_folder, write_json
from qvggt.files.read import read_json_object, reading
from qvggt.images.files import quote
from qvggt.options import RESULT_FILES, ExportOptions, ImageMode, PointsFrom, ResultFile, Unit
from qvggt.options.checks import check_arguments
from qvggt.postprocess.distortion import Lens
from qvggt.postprocess.frames import cameras_of, original_intrinsics
from qvggt.postprocess.quality import assess, quality_details
from qvggt.types import OnProgress, PathLike, Prediction, QvggtError

log = logging.getLogger(__name__)

PREDICTION, INFO = "prediction.npz", "result.json"
_FORMAT, _VERSION = "qvggt-result", 1


@dataclass(frozen=True)
class ResultInfo:
    """How a reconstruction came to be, and what is known about it: the content of ``result.json``.

    Attributes:
        model: the model's name.
        images: absolute paths of the images: one folder, glob or video, or image files; empty for images in memory.
        mode: ``crop`` or ``pad``.
        points_from: source of the points, ``depth`` or ``head``.
        drop_percent: percentage of pixels, the least confident, that yield no point.
        unit: unit of lengths, ``model`` (unknown scale) or ``meter``.
        details: measured quantities by topic, such as ``quality``, ``scale`` and ``refinement``; plain JSON values.
    """

    model: str = ""
    images: tuple[str, ...] = ()
    mode: ImageMode = "crop"
    points_from: PointsFrom = "depth"
    drop_percent: float = 25.0
    unit: Unit = "model"
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for value, choices in ((self.mode, ImageMode), (self.points_from, PointsFrom), (self.unit, Unit)):
            if value not in get_args(choices):
                raise ValueError(f"expected one of {', '.join(get_args(choices))}, got {value!r}")

    @property
    def focal_known(self) -> bool:
        """Whether focal lengths are the user's, so that a refinement has to keep them."""
        return "focal" in self.details.get("known", {})

    @property
    def poses_known(self) -> bool:
        """Whether poses are the user's, or a rig's of unknown frames, so that a refinement has to keep them."""
        known = self.details.get("known", {})
        return "poses" in known or ("rig" in known and not self.rig_moments)

    @property
    def rig_moments(self) -> tuple[Mapping[str, str], ...]:
        """For each moment of a rig the frame of each camera, by the camera's name; empty without a rig."""
        return tuple(self.details.get("known", {}).get("rig", {}).get("moments", ()))

    def export_options(
        self, max_points: int = ExportOptions.max_points, files: Collection[ResultFile] = RESULT_FILES
    ) -> ExportOptions:
        """Return which files this reconstruction gets, and what they contain."""
        return ExportOptions(
            self.points_from, max_points, self.drop_percent, title=self.model, unit=self.unit, files=files
        )


@dataclass(frozen=True)
class Result:
    """A reconstruction and how it came to be.

    Attributes:
        folder: in which it lies.
        prediction: read from its ``prediction.npz``.
        info: read from its ``result.json``; the defaults if there is none.
    """

    folder: Path
    prediction: Prediction
    info: ResultInfo

    def sources(self, images: Sequence[PathLike] = ()) -> list[Path]:
        """Return where the original images are: the given places, or else those that were reconstructed.

        Raises:
            QvggtError: neither is known.
        """
        if not images and not self.info.images:
            raise QvggtError(f"the images of {self.folder} are not known: name their place (--images)")
        return [Path(place) for place in images or self.info.images]

    def lenses(self) -> list[Lens | None]:
        """Return the lens of each photograph for which the last refinement found a distortion.

        Raises:
            QvggtError: ``result.json`` is damaged, or the prediction has no cameras.
        """
        return _lenses(self.prediction, self.info, self.folder)

    def masks(self, folder: PathLike | None = None) -> Path | None:
        """Return the folder of the user's masks: the given one, or that of the reconstruction if it still exists."""
        place = folder or self.info.details.get("masks", {}).get("folder")
        if place is None:
            return None
        if folder is None and not Path(place).is_dir():
            log.warning("the masks are not in %s any more: those of the processed images are enlarged (--masks)", place)
            return None
        return Path(place)


def open_result(path: PathLike) -> Result:
    """Read a reconstruction.

    Args:
        path: folder that ``reconstruct`` wrote, or its ``prediction.npz``.

    Raises:
        QvggtError: there is none, or it is damaged.
    """
    folder = Path(path)
    if folder.suffix == ".npz":
        folder, file = folder.parent, folder
    else:
        file = folder / PREDICTION
        if os.path.isdir(folder) and not file.exists():
            raise QvggtError(f"{quote(folder)} has no {PREDICTION}: give a folder that qvggt reconstruct wrote")
    prediction = load_prediction(file)
    return Result(folder, prediction, _read_info(folder / INFO))


def as_shown(results: Sequence[Result]) -> list[Result]:
    """Return results of the same images as pictures and files of points show them: with points where lenses saw them.

    They are for showing, not for saving: if a refinement found a distortion in any of them, the points of all are
    replaced, and are of the source ``head``. The first result says which of its points are meant.

    Raises:
        QvggtError: a ``result.json`` is damaged, or outputs are missing.
    """
    lenses = [each.lenses() for each in results]
    if not any(lens for each in lenses for lens in each):
        return list(results)
    source = results[0].info.points_from
    shown = []
    for each, found in zip(results, lenses, strict=True):
        prediction = with_lens_points(each.prediction, found, source)
        shown.append(replace(each, prediction=prediction, info=replace(each.info, points_from="head")))
    return shown


def _lenses(prediction: Prediction, info: ResultInfo, folder: PathLike) -> list[Lens | None]:
    found: list[Lens | None] = [None] * len(prediction.names)
    with reading(Path(folder) / INFO, "refine again"):
        frames = {frame["name"]: frame for frame in info.details.get("refinement", {}).get("frames", ())}
        for index, (name, frame) in enumerate(zip(prediction.names, prediction.maps, strict=True)):
            focal = frames.get(name, {}).get("lens_focal_px")
            if focal is not None:
                center = original_intrinsics(cameras_of(prediction)[1][index], frame)[:2, 2]
                radial = float(frames[name]["radial_distortion"])
                found[index] = Lens(np.array(focal, float).reshape(2), center, radial, frame.original_size)
    return found


def save_result(prediction: Prediction, info: ResultInfo, folder: PathLike) -> None:
    """Write ``prediction.npz`` and ``result.json`` into a folder, replacing earlier ones.

    Raises:
        QvggtError: if they cannot be written.
    """
    save_prediction(prediction, Path(folder) / PREDICTION, overwrite=True)
    _write_info(info, folder)


def _write_info(info: ResultInfo, folder: PathLike) -> None:
    write_json(Path(folder) / INFO, {"format": _FORMAT, "version": _VERSION, **asdict(info)})


def judged(prediction: Prediction, info: ResultInfo, on_progress: OnProgress | None = None) -> ResultInfo:
    """Return what is known about a reconstruction with its measured quality in the details, if it can be measured."""
    quality = assess(prediction, on_progress)
    return replace(info, details={**info.details, "quality": quality_details(quality)}) if quality else info


def result_folder(folder: PathLike, overwrite: bool = False) -> AbstractContextManager[Path]:
    """Return the ``new_folder`` that ``write_result`` fills."""
    return new_folder(folder, (PREDICTION, INFO, *CONTENTS), overwrite)


def write_result(
    prediction: Prediction,
    info: ResultInfo,
    folder: PathLike,
    max_points: int = ExportOptions.max_points,
    files: Collection[ResultFile] = RESULT_FILES,
) -> list[str]:
    """Write the files of a reconstruction into a folder and return their names; ``result.json`` is always written.

    The points are where the lenses saw them for which refinement found a distortion, as those of exports are.

    Raises:
        QvggtError: outputs that ``info.points_from`` needs are missing, or a file cannot be written.
    """
    count, _, height, width = prediction.images.shape
    caption = f"{count} frame{'s' if count > 1 else ''} of {width}x{height} px"
    options = info.export_options(max_points, files)
    whole = [PREDICTION] if PREDICTION in files else []
    for name in whole:
        save_prediction(prediction, Path(folder) / name, overwrite=True)
    _write_info(info, folder)
    lenses = _lenses(prediction, info, folder)
    return [*whole, INFO, *write_all(prediction, folder, options, caption, badges=_badges(info), lenses=lenses)]


def save_files(
    prediction: Prediction, folder: PathLike, overwrite: bool = False, files: Collection[ResultFile] | None = None
) -> Path:
    """Write a prediction, with what its quality is, as the files of a reconstruction into a folder, and return it.

    Raises:
        QvggtError: the folder is taken or cannot be written, or a file does not exist.
    """
    check_arguments(save_files, locals())
    info = judged(prediction, ResultInfo(points_from="depth" if has_points(prediction, "depth") else "head"))
    names = RESULT_FILES if files is None else files
    info.export_options(files=names)  # raises for unknown ones
    with result_folder(folder, overwrite) as place:
        write_result(prediction, info, place, files=names)
    return Path(folder)


def _badges(info: ResultInfo) -> list[str]:
    """Return the labels of the findings in a result's details, which may be from a file."""
    quality = info.details.get("quality")
    findings = quality.get("findings") if isinstance(quality, dict) else None
    found = [each.get("label") for each in findings if isinstance(each, dict)] if isinstance(findings, list) else []
    return [label for label in found if isinstance(label, str)]


def read_info(folder: PathLike) -> ResultInfo:
    """Return how the reconstruction in a folder came to be, without reading it; the defaults if that is not known.

    Raises:
        QvggtError: its ``result.json`` is damaged.
    """
    return _read_info(Path(folder) / INFO)


def _read_info(path: Path) -> ResultInfo:
    if not path.exists():
        return ResultInfo()
    remedy = "reconstruct again"
    document = read_json_object(path, remedy)
    with reading(path, remedy):
        if document.pop("format") != _FORMAT or document.pop("version") != _VERSION:
            raise ValueError(f"expected format {_FORMAT!r}, version {_VERSION}")
        images = tuple(document.pop("images"))
        details = document.pop("details")
        if not all(isinstance(image, str) for image in images) or not isinstance(details, dict):
            raise ValueError("expected a list of paths and an object of details")
        return ResultInfo(images=images, details=details, **document)
