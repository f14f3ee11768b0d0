"""``qvggt fidelity``: how far two models are apart on one's own photographs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from qvggt.cli import arguments as given
from qvggt.options import ImageOptions, InferenceOptions, RunOptions

if TYPE_CHECKING:
    from qvggt.api.fidelity import FidelityReport

Reference = Annotated[
    str, given.Positional, given.argument("MODEL_A", "compare with this model, usually the float one")
]
Other = Annotated[str, given.Positional, given.argument("MODEL_B", "model to compare, usually a quantized one")]


def fidelity(
    model: Reference,
    other: Other,
    images: given.Images,
    mode: given.Mode = ImageOptions.mode,
    fps: given.FramesPerSecond = ImageOptions.fps,
    frames: given.FrameCount = ImageOptions.frames,
    dense_frames: given.DenseFrames = InferenceOptions.dense_frames,
    device: given.Device = RunOptions.device,
    compute: given.Compute = RunOptions.compute,
    threads: given.TorchThreads = None,
    revision: Annotated[str | None, given.option("NAME", "branch, tag or commit of MODEL_A, if it is a hub id")] = None,
    json: given.Json = None,
    plot: Annotated[Path | None, given.option("FILE.png", "draw the differences to this file")] = None,
    card: Annotated[bool, given.Flag, given.flag("write the means into the model card of MODEL_B")] = False,
) -> None:
    """Measure how far two models' predictions differ on your own photographs.

    For every frame: the angles between the cameras' rotations and between their translations, both relative to the
    first frame, the mean relative difference of depth, and the mean distance between points in percent of their mean
    distance from the origin; and pose AUC over all pairs of frames with MODEL_A's cameras as the truth. No ground
    truth is needed. MODEL_A computes in float32, --compute is of MODEL_B. Only one model is in memory at a time.
    """
    from qvggt.api.fidelity import fidelity as measure
    from qvggt.api.fidelity import open_for_card
    from qvggt.checkpoint.card import write_fidelity
    from qvggt.cli.show import check_figures, check_picture, progress, save_figures, say
    from qvggt.images.preprocess import check_source
    from qvggt.inference.process_memory import peak_memory_bytes, size_text
    from qvggt.plots.fidelity import write_fidelity_picture

    check_picture(plot, "--plot")
    check_source(images)
    check_figures(json)
    given.use_threads(threads)
    checkpoint = open_for_card(other) if card else None
    started = time.perf_counter()
    with progress("fidelity") as update:
        report = measure(
            model, other, images, mode=mode, fps=fps, frames=frames, device=device, dense_frames=dense_frames,
            compute=compute, revision=revision, on_progress=update,
        )  # fmt: skip
    seconds, peak = time.perf_counter() - started, peak_memory_bytes()
    save_figures(json, report.to_json() | {"seconds": seconds, "peak_memory_bytes": peak})
    if plot is not None:
        write_fidelity_picture(plot, report)
    _print(report)
    if checkpoint is not None:
        say(f"model card: {write_fidelity(checkpoint, report.for_card(device, compute))}")
    say(f"{seconds:.1f} s, peak memory {size_text(peak)}")
    if plot is not None:
        say(f"picture: {plot}")


def _print(report: FidelityReport) -> None:
    from rich.table import Table

    from qvggt.cli.show import count_text, say, say_table

    measures = report.measures
    table = Table("", "image", box=None, header_style="bold", pad_edge=False)
    for each in measures:
        table.add_column(f"{each.title}, {each.unit}", justify="right")
    for index, name in enumerate(report.names):
        table.add_row(str(index + 1), name, *(_cell(each.values[index]) for each in measures))
    table.add_section()
    table.add_row("", "mean", *(_cell(each.mean) for each in measures), style="bold")
    say_table(table)
    say("")
    if report.pairs:
        scores = ", ".join(f"{value:.2f} @{name.removeprefix('auc')}" for name, value in report.auc.items())
        say(f"pose AUC against {report.short_names[0]}, {count_text(report.pairs, 'pair')}: {scores}")
    say(report.in_words())


def _cell(value: float) -> str:
    return "-" if value != value else f"{value:.2f}"  # NaN alone differs from itself
