"""``qvggt reconstruct``: photographs to cameras, depth and points."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from qvggt.cli.arguments import (
    ComputeMode,
    DenseFrames,
    Device,
    FrameCount,
    FramesPerSecond,
    GlobalAttentionMode,
    Images,
    Json,
    MaxPoints,
    Memory,
    Mode,
    Model,
    Output,
    Overwrite,
    Revision,
    WindowFrames,
    WindowOverlap,
    number,
)

HeadName = Literal["camera", "depth", "point"]
Heads = Annotated[
    tuple[HeadName, ...],
    tyro.conf.arg(help="what to compute", help_behavior_hint="(default: what the points need)"),
]
Confidence = Annotated[float, number("give no points to this share of pixels, the least confident", None, "PERCENT")]


def reconstruct(
    model: Model,
    images: Images,
    output: Output,
    heads: Heads = (),
    points_from: Annotated[
        Literal["depth", "head"], tyro.conf.arg(help="depth and cameras, or the point head")
    ] = "depth",
    max_points: MaxPoints = 1_000_000,
    confidence: Confidence = 25.0,
    mode: Mode = "crop",
    fps: FramesPerSecond = None,
    frames: FrameCount = None,
    compute: ComputeMode = "float",
    global_attention: GlobalAttentionMode = "exact",
    dense_frames: DenseFrames = 8,
    window: WindowFrames = None,
    overlap: WindowOverlap = None,
    memory: Memory = None,
    device: Device = "cpu",
    revision: Revision = None,
    overwrite: Overwrite = False,
    json: Json = None,
) -> None:
    """Reconstruct a scene: prediction.npz, points.ply, scene.glb, cameras.json, depth/ and overview.png."""
    from qvggt.api import reconstruct as api
    from qvggt.cli.show import check_figures, count_text, progress, size_bytes
    from qvggt.export import CONTENTS, write_all
    from qvggt.export.npz import save_prediction
    from qvggt.files import new_folder
    from qvggt.images.preprocess import check_source
    from qvggt.inference import process_memory as costs
    from qvggt.options import ExportOptions, WindowOptions

    options = ExportOptions(points_from, max_points, confidence, title=model)
    windows = None if window is None else WindowOptions(window, overlap)
    limit = None if memory is None else size_bytes(memory)
    check_source(images)
    check_figures(json)
    if limit is None:
        costs.retain_freed_memory()
    clock = [time.perf_counter()]
    with new_folder(output, ("prediction.npz", *CONTENTS), overwrite) as folder, progress(model) as update:
        update("loading", 0.0)
        network = api.load(model, device, compute, revision, global_attention)
        clock.append(time.perf_counter())
        prediction = api.reconstruct(
            network, images, heads or None, points_from, mode, fps, frames, dense_frames, update, windows, limit,
            max_points,
        )  # fmt: skip
        clock.append(time.perf_counter())
        del network  # its place is for what writing needs
        count, _, height, width = prediction.images.shape
        update(f"{count_text(count, 'frame')}, writing files", 1.0)
        save_prediction(prediction, folder / "prediction.npz")
        caption = f"{count_text(count, 'frame')} of {width}x{height} px"
        written = ["prediction.npz", *write_all(prediction, folder, options, caption)]
    clock.append(time.perf_counter())
    _finish(model, (count, height, width), clock, written, output, json)


def _finish(
    model: str, shape: tuple[int, int, int], clock: list[float], written: list[str], output: Path, json: Path | None
) -> None:
    """Print what was done, and write it to a file too if one is named."""
    from qvggt.cli.show import save_figures
    from qvggt.inference import process_memory as costs

    seconds = [end - start for start, end in itertools.pairwise(clock)]
    figures = {
        "model": model,
        **dict(zip(("frames", "height_px", "width_px"), shape, strict=True)),
        **dict(zip(("load_seconds", "reconstruct_seconds", "write_seconds"), seconds, strict=True)),
        "peak_memory_bytes": costs.peak_memory_bytes(),
        "files": written,
    }
    _print(figures, output)
    save_figures(json, figures)


def _print(figures: dict[str, Any], output: Path) -> None:
    from qvggt.cli.show import count_text, say
    from qvggt.inference.process_memory import size_text

    what = f"{count_text(figures['frames'], 'frame')} of {figures['width_px']}x{figures['height_px']} px"
    say(
        f"{what} with {figures['model']} in {figures['reconstruct_seconds']:.1f} s "
        f"(loading {figures['load_seconds']:.1f} s, writing {figures['write_seconds']:.1f} s), "
        f"peak memory {size_text(figures['peak_memory_bytes'])}"
    )
    names = list(dict.fromkeys("depth/" if name.startswith("depth/") else name for name in figures["files"]))
    say(f"{output}: {', '.join(names)}")
