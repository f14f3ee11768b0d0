"""``qvggt bench``: time and memory of models, side by side."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from qvggt import options as choices
from qvggt.cli import arguments as given
from qvggt.options import BenchOptions

if TYPE_CHECKING:
    from qvggt.bench.report import BenchReport, BenchRow

Models = Annotated[
    tuple[str, ...], given.Positional, given.argument("MODEL", "contenders: see qvggt --help", "(at least one)")
]
Computes = Annotated[tuple[choices.Compute, ...], tyro.conf.arg(help="arithmetic of products, each for every model")]
Attentions = Annotated[
    tuple[str, ...],
    given.option("NAME|FILE", "global attention as reconstruct takes it, each for every model", None),
]


def bench(
    models: Models,
    compute: Computes = BenchOptions.computes,
    global_attention: Attentions = BenchOptions.global_attention,
    against: Annotated[str, given.option("MODEL", "float model to compare with", None)] = BenchOptions.against,
    autocast: Annotated[
        tuple[choices.HalfType, ...],
        tyro.conf.arg(
            help="run the float model under torch.autocast too, in these types", help_behavior_hint="(optional)"
        ),
    ] = BenchOptions.autocast,
    frames: Annotated[
        tuple[int, ...], given.number("number of images, each for every model", metavar="N")
    ] = BenchOptions.frames,
    size: Annotated[int, given.number("width and height of the images in pixels", metavar="PX")] = BenchOptions.size_px,
    repeats: Annotated[int, given.number("runs of each, in turns", metavar="N")] = BenchOptions.repeats,
    threads: given.TorchThreads = BenchOptions.threads,
    device: given.Device = BenchOptions.device,
    revision: given.RevisionOfModels = BenchOptions.revision,
    json: given.Json = None,
    profile: Annotated[Path | None, given.option("FILE.png", "draw the time by part of the model to this file")] = None,
) -> None:
    """Measure time and memory of models, side by side.

    Every run is a new process, and models take turns. Memory is the process's peak above its level after imports.
    Predictions are compared with the float model's, so that a fast but wrong model shows.
    """
    from qvggt.bench.run import bench as measure
    from qvggt.cli.show import check_figures, check_picture, progress, save_figures, say

    check_figures(json)
    check_picture(profile, "--profile")
    options = BenchOptions(
        models, compute, global_attention, against, autocast=autocast, frames=frames, size_px=size,
        repeats=repeats, threads=threads, device=device, revision=revision,
    )  # fmt: skip
    started = time.perf_counter()
    with progress("bench") as update:
        report = measure(options, update)
    save_figures(json, report.to_json())
    _print(report)
    if profile is not None:
        from qvggt.plots.bench import write_profile

        write_profile(profile, report)
        say(f"picture: {profile}")
    say(f"{time.perf_counter() - started:.0f} s")


def _print(report: BenchReport) -> None:
    from rich.table import Table

    from qvggt.cli.show import say, say_table

    table = Table("model", "compute", box=None, header_style="bold", pad_edge=False)
    titles = ("frames", "s", "least", "most", "faster", "peak memory", "less", "files", "smaller", "loading, s")
    for title in (*titles, "cameras", "depth", "points"):
        table.add_column(title, justify="right")
    ratios = {(ratio.model, ratio.compute, ratio.frames): ratio for ratio in report.ratios}
    for row in report.rows:
        table.add_row(Path(row.model).name, row.compute, str(row.frames), *_cells(row, ratios))
    say_table(table)
    for row in report.rows:
        if row.error:
            say(row.error)
    about = report.environment
    say("")
    say("cameras, depth, points: difference from the float model's predictions, relative to their norm")
    say(
        f"{about['cpu']}, {about['threads']} threads of {about['cores']} cores, {', '.join(about['cpu_features'])}; "
        f"{about.get('gpu', about['device'])}; torch {about['torch']}, qvggt {about['qvggt']}"
    )


def _cells(row: BenchRow, ratios: dict[Any, Any]) -> list[str]:
    from qvggt.bench.run import OUTPUTS
    from qvggt.inference.process_memory import size_text

    if not row.runs:
        return ["failed"]
    ratio = ratios.get((row.model, row.compute, row.frames))
    times = [run.seconds for run in row.runs]
    size = "" if row.checkpoint_bytes is None else size_text(row.checkpoint_bytes)
    smaller = "" if ratio is None or ratio.size_reduction is None else f"{ratio.size_reduction:.2f}x"
    return [
        *(f"{value:.3g}" for value in (row.seconds, min(times), max(times))),
        "" if ratio is None else f"{ratio.speedup:.2f}x",
        size_text(row.peak_memory_bytes),
        "" if ratio is None else f"{ratio.memory_reduction:.2f}x",
        size,
        smaller,
        f"{row.load_seconds:.2f}",
        *(f"{row.differences[name]:.4f}" if name in row.differences else "" for name in OUTPUTS),
    ]
