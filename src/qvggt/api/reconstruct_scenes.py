"""The public verb ``reconstruct_scenes``: many scenes, each to a folder of its own, here or on Ray."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from qvggt.api.evaluate import subject_of
from qvggt.api.scene_batch import OnSceneProgress, SceneBatch, SceneReport, failed
from qvggt.backends import settled_device, usable_device
from qvggt.data.demonstration import warn_of_photographs
from qvggt.eval.evaluate import Subject
from qvggt.files import clear_leftovers, lock_folder, made_parents, system_errors, write_json
from qvggt.files.read import read_json_object, reading
from qvggt.images.scenes import CapturedScene, count_frames, find_scenes
from qvggt.inference.process_memory import retain_freed_memory
from qvggt.inference.scenes import Workers, map_scenes, worker_bytes
from qvggt.model import VGGT
from qvggt.options import (
    HEADS_FOR,
    InferenceOptions,
    LoadOptions,
    RunOptions,
    SceneOptions,
    WorkerOptions,
    attention_json,
)
from qvggt.options.checks import check_arguments
from qvggt.types import OnProgress, PathLike, QvggtError

SUMMARY = "scenes.json"
_FORMAT, _VERSION = "qvggt-scenes", 1
_ONLY_HOW = {"dense_frames", "memory_bytes"}
"""Options that change how a scene is computed, and only the last digits of the result."""


@dataclass(frozen=True)
class ScenesReport:
    """What became of many scenes.

    Attributes:
        scenes: in natural order of their sources.
    """

    scenes: tuple[SceneReport, ...]

    @property
    def failed(self) -> tuple[SceneReport, ...]:
        """The scenes without a result."""
        return tuple(scene for scene in self.scenes if scene.error)

    def to_json(self, seconds: bool = True) -> dict[str, Any]:
        """Return the scenes as JSON-ready values; without seconds, equal runs give equal values."""
        rows = [asdict(scene) | {"quality": list(scene.quality)} for scene in self.scenes]
        if not seconds:
            rows = [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
        return {"scenes": rows, "failed": len(self.failed)}


def reconstruct_scenes(
    model: VGGT | PathLike,
    scenes: PathLike | Sequence[PathLike],
    output: PathLike,
    options: SceneOptions | None = None,
    loading: LoadOptions | None = None,
    revision: str | None = None,
    workers: WorkerOptions | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
    on_scene: Callable[[SceneReport], None] | None = None,
) -> ScenesReport:
    """Reconstruct many scenes with one loaded model, each to its own folder, as ``qvggt reconstruct`` writes it.

    A scene that fails does not stop the others. Finished scenes are kept: a later call for the same photographs, model
    and options computes only the others. ``scenes.json`` in the output folder lists all scenes. On Ray every worker
    loads the model once, reads photographs and writes results itself, so paths must hold on all machines.

    Args:
        model: a model, or whatever ``load`` takes.
        scenes: folders of photographs, videos, and glob patterns of them; each match is a scene.
        output: folder of the results, each named after its scene.
        options: how each scene is reconstructed, and which files it gets.
        loading: device, compute mode and attention, if ``model`` is not loaded yet.
        revision: of ``model``, if it is a hub id.
        workers: whether scenes are spread over a Ray cluster, and CPU threads.
        overwrite: whether results of other photographs or options, and other files in their places, are replaced.
        on_progress: the progress callback, over all scenes.
        on_scene: called with each scene when it is done, has failed, or is kept.

    Raises:
        QvggtError: there are no scenes, the model cannot be read, an option is impossible, another call is writing to
            the folder, or Ray cannot be had; not if a scene fails.
    """
    check_arguments(reconstruct_scenes, locals())
    options, loading, workers = options or SceneOptions(), loading or LoadOptions(), workers or WorkerOptions()
    found, target = find_scenes(scenes, output, (SUMMARY,)), Path(os.path.realpath(output))
    device = _device(model, loading, here=workers.ray is None)
    run = RunOptions(device=device, compute=loading.compute, global_attention=loading.global_attention)
    subject = subject_of(model, run, revision)
    warn_of_photographs(subject.config, [scene.source for scene in found])
    name = subject.card.name if isinstance(model, VGGT) else os.fspath(model)
    batch = SceneBatch(
        subject.load, name, target, options, key=_key(model, subject, loading, options), overwrite=overwrite
    )
    done = _Done(len(found), on_progress, on_scene)
    with _claimed(target, overwrite):
        for report in filter(None, map(batch.earlier, found)):
            done.add(report)
        missing = [scene for scene in found if scene.name not in done.reports]
        processes = _workers(missing, options, workers, subject, device=device)
        with closing(_computed(batch, missing, processes, done.update)) as computed:
            for report in computed:
                done.add(report)
        report = ScenesReport(tuple(done.reports[scene.name] for scene in found))
        write_json(target / SUMMARY, {"format": _FORMAT, "version": _VERSION, **report.to_json(seconds=False)})
    return report


@dataclass
class _Done:
    """The scenes that are done, and the callbacks that are told."""

    count: int
    on_progress: OnProgress | None
    on_scene: Callable[[SceneReport], None] | None
    reports: dict[str, SceneReport] = field(default_factory=dict)

    def update(self, name: str, stage: str, share: float) -> None:
        """Report the progress of a scene."""
        if self.on_progress is not None:
            self.on_progress(f"{name}: {stage}", (len(self.reports) + share) / self.count)

    def add(self, report: SceneReport) -> None:
        """Add a scene."""
        self.reports[report.name] = report
        if self.on_progress is not None:
            self.on_progress(f"{len(self.reports)} of {self.count} scenes", len(self.reports) / self.count)
        if self.on_scene is not None:
            self.on_scene(report)


def _device(model: VGGT | PathLike, loading: LoadOptions, here: bool) -> str:
    """Return the device of a model, tried if it runs here."""
    if isinstance(model, VGGT):
        return next(model.parameters()).device.type
    return (usable_device if here else settled_device)(loading.device)


def _key(model: VGGT | PathLike, subject: Subject, loading: LoadOptions, options: SceneOptions) -> str:
    """Return a hash of all that results depend on besides the images, the machine and the version of this program."""
    values: dict[str, Any] = {name: value for name, value in asdict(options).items() if name not in _ONLY_HOW}
    values |= {"heads": sorted(options.heads), "files": sorted(options.files), "weights": subject.card.hash}
    if isinstance(model, VGGT):
        values["compute"] = [str(model.arithmetic.dtype), str(model.arithmetic.cache_dtype)]
        values["attention"] = str(model.aggregator.global_attention)
    else:
        values |= {"compute": loading.compute, "attention": attention_json(loading.global_attention)}
    for path in options.known.files:
        with reading(path):
            values["focal"] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return f"sha256:{hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()}"


def _workers(
    scenes: Sequence[CapturedScene], options: SceneOptions, workers: WorkerOptions, subject: Subject, *, device: str
) -> Workers:
    """Return the processes that compute scenes, with the memory of the largest scene if they are Ray's."""
    needed = 0
    if workers.ray is not None and scenes:
        heads, frames = (
            options.heads or HEADS_FOR[options.points_from],
            max(count_frames(scene, options.fps, options.frames) for scene in scenes),
        )
        inference = InferenceOptions(options.dense_frames, options.windows, options.memory_bytes)
        needed = worker_bytes(subject.size(), max(1, frames), heads, inference, written_points=options.max_points)
    return Workers(
        workers.threads or torch.get_num_threads(),
        workers.ray,
        workers.workers,
        memory_bytes=needed,
        uses_gpu=torch.device(device).type == "cuda",
    )


def _computed(
    batch: SceneBatch, scenes: Sequence[CapturedScene], workers: Workers, on_progress: OnSceneProgress
) -> Generator[SceneReport]:
    """Yield the report of each scene when it is done."""
    on_ray, left = workers.ray is not None, {scene.name for scene in scenes}
    make = partial(_worker, batch) if on_ray else partial(batch.reconstructor, on_progress)
    try:
        with closing(map_scenes(make, scenes, workers)) as computed:
            for scene, result in computed:
                left.discard(scene.name)
                yield failed(scene, result) if isinstance(result, QvggtError) else result
    finally:
        for name in left if on_ray else ():  # their workers were killed
            clear_leftovers(batch.output / name)


def _worker(batch: SceneBatch) -> Callable[[CapturedScene], SceneReport]:
    """Return the function of a process that does nothing else."""
    if batch.options.memory_bytes is None:
        retain_freed_memory()
    return batch.reconstructor()


@contextmanager
def _claimed(target: Path, overwrite: bool) -> Iterator[None]:
    """Make and lock the output folder; on an exception it is removed again if it is empty.

    Raises:
        QvggtError: another call is writing to it, it cannot be made, or its summary is another program's.
    """
    summary = target / SUMMARY
    with ExitStack() as stack:
        with system_errors(target):
            stack.enter_context(made_parents(summary))
            stack.enter_context(lock_folder(target))
        if summary.exists() and not overwrite and read_json_object(summary).get("format") != _FORMAT:
            raise QvggtError(f"{summary} is in the way: choose another folder, or replace the file (--overwrite)")
        yield
