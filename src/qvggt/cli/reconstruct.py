"""``qvggt reconstruct``: photographs to cameras, depth and points."""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from qvggt.cli import arguments as given
from qvggt.cli.known import KnownValues
from qvggt.cli.scenes import BatchValues
from qvggt.cli.viewing import ViewValues
from qvggt.options import (
    RESULT_FILES,
    ExportOptions,
    Head,
    ImageOptions,
    InferenceOptions,
    LoadOptions,
    PointsFrom,
    SceneOptions,
    WindowOptions,
)

if TYPE_CHECKING:
    from qvggt.export.result import ResultInfo
    from qvggt.types import Prediction

Heads = Annotated[
    tuple[Head, ...], tyro.conf.arg(help="what to compute", help_behavior_hint="(default: what the points need)")
]
Source = Annotated[PointsFrom, tyro.conf.arg(help="points from depth maps and cameras, or from the point head")]


def reconstruct(
    model: given.Model,
    images: given.Images,
    output: given.Output,
    heads: Heads = (),
    points_from: Source = ExportOptions.points_from,
    max_points: given.MaxPoints = ExportOptions.max_points,
    drop_percent: Annotated[float, given.drop_percent()] = ExportOptions.drop_percent,
    files: given.Files = RESULT_FILES,
    mode: given.Mode = ImageOptions.mode,
    fps: given.FramesPerSecond = ImageOptions.fps,
    frames: given.FrameCount = ImageOptions.frames,
    masks: given.Masks = None,
    known: Annotated[KnownValues, tyro.conf.arg(name="")] = KnownValues(),
    refine: given.Refine = False,
    compute: given.Compute = LoadOptions.compute,
    global_attention: given.GlobalAttention = str(LoadOptions.global_attention),
    dense_frames: given.DenseFrames = InferenceOptions.dense_frames,
    window: given.WindowFrames = None,
    overlap: given.WindowOverlap = WindowOptions.overlap,
    close_loops: given.CloseLoops = WindowOptions.close_loops,
    memory: given.Memory = None,
    device: given.Device = LoadOptions.device,
    threads: given.TorchThreads = None,
    revision: given.Revision = None,
    overwrite: given.Overwrite = False,
    viewing: Annotated[ViewValues, tyro.conf.arg(name="")] = ViewValues(),
    batch: Annotated[BatchValues, tyro.conf.arg(name="")] = BatchValues(),
    json: given.Json = None,
) -> None:
    """Reconstruct a scene: prediction.npz, result.json, points.ply, scene.glb, cameras.json, depth/, overview.png.

    With --scenes, each of many scenes gets such a folder, and finished ones are kept: a later run goes on after them.
    """
    options = SceneOptions(
        heads, points_from, mode=mode, fps=fps, frames=frames, windows=WindowOptions.of(window, overlap, close_loops),
        refine=refine, max_points=max_points, drop_percent=drop_percent, files=files, dense_frames=dense_frames,
        memory_bytes=_resources(threads, memory),
    )  # fmt: skip
    loading = LoadOptions(device, compute, global_attention)
    batch.check(images, {"--masks": masks is not None, "--view": viewing.view, **known.of_one_scene})
    _check_places(None if batch.scenes else images, masks, json, refine, known=known)
    if batch.scenes:
        batch.run(
            model, output, known.of_all_scenes(options), loading,
            revision=revision, threads=threads, overwrite=overwrite, json=json,
        )  # fmt: skip
    else:
        _run(
            model, images, output, options, loading=loading, revision=revision, known=known, masks=masks,
            overwrite=overwrite, viewing=viewing, json=json,
        )  # fmt: skip


def _run(
    model: str,
    images: tuple[str, ...],
    output: Path,
    options: SceneOptions,
    *,
    loading: LoadOptions,
    revision: str | None,
    known: KnownValues,
    masks: Path | None,
    overwrite: bool,
    viewing: ViewValues,
    json: Path | None,
) -> None:
    from qvggt.api import reconstruct as api
    from qvggt.api.postprocess import postprocessed
    from qvggt.cli.show import progress
    from qvggt.data.demonstration import warn_of_photographs
    from qvggt.export.result import Result, ResultInfo, write_result
    from qvggt.inference.process_memory import release_freed_memory

    info = ResultInfo(
        model, tuple(map(os.path.abspath, images)), options.mode, options.points_from, drop_percent=options.drop_percent
    )
    points = options.max_points
    clock = [time.perf_counter()]
    with viewing.opened(output, info, points, options.memory_bytes) as live:
        with api.output_folders(output, overwrite, options.windows) as (folder, kept), progress(model) as update:
            network = api.load(
                model, loading.device, loading.compute, revision,
                global_attention=loading.global_attention, on_progress=update,
            )  # fmt: skip
            warn_of_photographs(network.config, images)
            clock.append(time.perf_counter())
            prediction = api.reconstruct_with(
                options, network, images, masks=masks, on_progress=update,
                on_window=None if live is None else live.add, folder=kept, output=output, written_points=points,
            )  # fmt: skip
            clock.append(time.perf_counter())
            del network  # writing files needs its memory
            release_freed_memory()
            info = info if masks is None else replace(info, details={"masks": {"folder": os.path.abspath(masks)}})
            prediction, info = postprocessed(
                prediction, info, known.cameras, known.scaling, refine=options.refine, on_progress=update
            )
            clock.append(time.perf_counter())
            update(f"{_size(prediction)}, writing files", 1.0)
            written = write_result(prediction, info, folder, points, files=options.files)
        _report(_figures(prediction, info, [*clock, time.perf_counter()], written), output, json)
        if live is not None:
            live.finish(Result(output, prediction, info))


def _resources(threads: int | None, memory: str | None) -> int | None:
    """Set the number of threads, and return the memory limit in bytes; without one, freed memory is retained."""
    from qvggt.cli.show import size_bytes
    from qvggt.inference.process_memory import retain_freed_memory

    given.use_threads(threads)
    if memory is None:
        retain_freed_memory()
        return None
    return size_bytes(memory)


def _check_places(
    images: tuple[str, ...] | None, masks: Path | None, json: Path | None, refine: bool, *, known: KnownValues
) -> None:
    """Check, before the work, what is read and needed, and that the file of figures can be written."""
    from qvggt.cli.show import check_figures
    from qvggt.images.masks import find_masks
    from qvggt.images.preprocess import check_source
    from qvggt.postprocess.refine.features import pycolmap_module

    known.check()
    if images is not None:
        check_source(images)
    if masks is not None:
        find_masks(masks)
    check_figures(json)
    if refine:
        pycolmap_module()


def _size(prediction: Prediction) -> str:
    from qvggt.cli.show import count_text

    count, _, height, width = prediction.images.shape
    return f"{count_text(count, 'frame')} of {width}x{height} px"


def _figures(prediction: Prediction, info: ResultInfo, clock: list[float], written: list[str]) -> dict[str, Any]:
    from qvggt.inference.process_memory import peak_memory_bytes

    count, _, height, width = prediction.images.shape
    load, reconstruct, postprocess, write = (end - start for start, end in itertools.pairwise(clock))
    return {
        "model": info.model,
        "frames": count,
        "height_px": height,
        "width_px": width,
        "load_seconds": load,
        "reconstruct_seconds": reconstruct,
        "postprocess_seconds": postprocess,
        "write_seconds": write,
        "peak_memory_bytes": peak_memory_bytes(),
        "files": written,
        **info.details,
    }


def _report(figures: dict[str, Any], output: Path, json: Path | None) -> None:
    """Print the figures, and save them if a file is given."""
    from qvggt.cli.known import say_known
    from qvggt.cli.show import count_text, files_text, save_figures, say
    from qvggt.inference.process_memory import size_text
    from qvggt.postprocess.refine.report import summary

    what = f"{count_text(figures['frames'], 'frame')} of {figures['width_px']}x{figures['height_px']} px"
    say(
        f"{what} with {figures['model']} in {figures['reconstruct_seconds']:.1f} s "
        f"(loading {figures['load_seconds']:.1f} s, writing {figures['write_seconds']:.1f} s), "
        f"peak memory {size_text(figures['peak_memory_bytes'])}"
    )
    for line in summary(figures["refinement"]) if "refinement" in figures else ():
        say(line)
    say_known(figures)
    say(f"{output}: {files_text(figures['files'])}")
    if "quality" in figures:
        faults = [finding["text"] for finding in figures["quality"]["findings"]]
        for text in faults or ["no faults found"]:
            say(f"quality: {text}")
    save_figures(json, figures)
