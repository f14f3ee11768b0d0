"""One of many scenes: its report, whether its earlier result can be kept, and its reconstruction to a folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from qvggt.api.postprocess import postprocessed
from qvggt.api.reconstruct import output_folders, reconstruct_with
from qvggt.export.result import INFO, ResultInfo, read_info, write_result
from qvggt.files import explain, finish_folder, written_files
from qvggt.files.read import reading
from qvggt.images.scenes import CapturedScene, content_hash
from qvggt.inference.process_memory import OUT_OF_MEMORY, is_out_of_memory, release_freed_memory
from qvggt.model import VGGT
from qvggt.options import SceneOptions
from qvggt.types import OnProgress, QvggtError

log = logging.getLogger(__name__)

OnSceneProgress = Callable[[str, str, float], None]
"""Called with a scene's name, its stage, and the share of the scene that is done."""

_TOPIC = "batch"
"""Topic of a result's details that tells whether it is still that of its scene."""


@dataclass(frozen=True)
class SceneReport:
    """What became of one scene.

    Attributes:
        name: of its folder in the output folder.
        source: absolute path of its photographs' folder, or of its video.
        frames: number of frames; 0 if the scene failed.
        width_px: of the processed images.
        height_px: of the processed images.
        seconds: wall-clock time without loading the model; None if an earlier result was kept, or the scene failed.
        quality: what is wrong with the result, in words, such as blurred frames.
        error: why the scene failed; empty if it did not.
    """

    name: str
    source: str
    frames: int = 0
    width_px: int = 0
    height_px: int = 0
    seconds: float | None = None
    quality: tuple[str, ...] = ()
    error: str = ""

    @property
    def kept(self) -> bool:
        """Whether an earlier result was kept."""
        return self.seconds is None and not self.error


@dataclass(frozen=True)
class SceneBatch:
    """What many scenes have in common; picklable if ``load`` is.

    Attributes:
        load: loads the model.
        model: its name.
        output: folder of the scenes' folders.
        options: how each scene is reconstructed.
        key: hash of all that a result depends on besides its images.
        overwrite: whether other results and files are replaced.
    """

    load: Callable[[], VGGT]
    model: str
    output: Path
    options: SceneOptions
    key: str
    overwrite: bool

    def earlier(self, scene: CapturedScene) -> SceneReport | None:
        """Return the report of a scene that need not be computed, or None.

        Its result is whole and of the same images, model and options; or another one is there that must not be
        replaced, which is reported as a failure.
        """
        folder, remedy = self.output / scene.name, "replace it (--overwrite)"
        try:
            info, whole = self._result(folder)
            if _TOPIC not in info.details:
                return None
            with reading(folder / INFO, remedy):
                there, wanted = dict(info.details[_TOPIC]), self._identity(scene)
                if whole and wanted.items() <= there.items():
                    return _report(scene, info)
        except (QvggtError, OSError) as error:
            return None if self.overwrite else failed(scene, error)
        if self.overwrite:
            return None
        changed = "photographs" if there.get("images") != wanted["images"] else "model or options"
        what = f"a result of other {changed}" if wanted.items() - there.items() else "an incomplete result"
        return failed(scene, QvggtError(f"{folder} holds {what}: {remedy}"))

    def reconstructor(self, on_progress: OnSceneProgress | None = None) -> Callable[[CapturedScene], SceneReport]:
        """Load the model and return the function that reconstructs a scene."""
        return partial(self._reconstructed, self.load(), on_progress)

    def _reconstructed(self, model: VGGT, on_progress: OnSceneProgress | None, scene: CapturedScene) -> SceneReport:
        """Reconstruct a scene, unless a worker did that and died before it said so; a failure is its report."""
        started, update = time.perf_counter(), None if on_progress is None else partial(on_progress, scene.name)
        try:
            earlier = self.earlier(scene)
            if earlier is not None:
                return earlier
            report = _report(scene, self._write(model, scene, update))
        except Exception as error:  # whatever is wrong with one scene must not stop the others
            return failed(scene, error)
        return replace(report, seconds=time.perf_counter() - started)

    def _write(self, model: VGGT, scene: CapturedScene, on_progress: OnProgress | None) -> ResultInfo:
        """Reconstruct a scene and write its files."""
        options, output, identity = self.options, self.output / scene.name, self._identity(scene)
        info = ResultInfo(
            self.model, (str(scene.source),), options.mode, options.points_from, drop_percent=options.drop_percent
        )
        with output_folders(output, self.overwrite, options.windows) as (folder, kept):
            prediction = reconstruct_with(
                options, model, scene.source, on_progress=on_progress, folder=kept, output=output,
                written_points=options.max_points, model_stays=True,
            )  # fmt: skip
            if options.memory_bytes is not None:
                release_freed_memory()
            prediction, info = postprocessed(
                prediction, info, options.known, options.scale, refine=options.refine, on_progress=on_progress
            )
            count, _, height, width = prediction.images.shape
            size = {"frames": count, "width_px": width, "height_px": height}
            info = replace(info, details={**info.details, _TOPIC: identity | size})
            write_result(prediction, info, folder, options.max_points, files=options.files)
        return info

    def _identity(self, scene: CapturedScene) -> dict[str, str]:
        return {"images": content_hash(scene), "options": self.key}

    def _result(self, folder: Path) -> tuple[ResultInfo, bool]:
        """Return how the result in a folder came to be, and whether all of its files are there."""
        if not folder.is_dir():
            return ResultInfo(), False
        finish_folder(folder)
        names = written_files(folder)
        return read_info(folder), bool(names) and all((folder / name).exists() for name in names)


def failed(scene: CapturedScene, error: Exception) -> SceneReport:
    """Return the report of a scene that failed."""
    if isinstance(error, QvggtError):
        sentence = str(error)
    elif isinstance(error, OSError):
        sentence = str(explain(error, error.filename or scene.source, "read or write"))
    elif is_out_of_memory(error):
        sentence = OUT_OF_MEMORY
    else:
        log.error("scene %s failed", scene.name, exc_info=error)
        sentence = f"an unexpected {type(error).__name__}: {error}"
    return SceneReport(scene.name, str(scene.source), error=sentence)


def _report(scene: CapturedScene, info: ResultInfo) -> SceneReport:
    """Return the report of a scene with a result."""
    size: Mapping[str, Any] = info.details[_TOPIC]
    findings = info.details.get("quality", {}).get("findings", [])
    return SceneReport(
        scene.name,
        str(scene.source),
        frames=size["frames"],
        width_px=size["width_px"],
        height_px=size["height_px"],
        quality=tuple(finding["text"] for finding in findings),
    )
