"""``qvggt bench``: time and memory of models, side by side."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from qvggt.cli.arguments import Device, Json, number, option

if TYPE_CHECKING:
    from qvggt.bench.report import BenchReport, BenchRow


def bench(
    models: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="MODEL", help="contenders: see qvggt --help", help_behavior_hint="(at least one)"),
    ],
    compute: Annotated[
        tuple[Literal["float", "int8"], ...], tyro.conf.arg(help="how packed layers multiply, each for every model")
    ] = ("float", "int8"),
    global_attention: Annotated[
        tuple[Literal["exact", "merged"], ...], tyro.conf.arg(help="among all tokens or merged ones, each likewise")
    ] = ("exact",),
    against: Annotated[str, option("MODEL", "the float model that all are compared with", None)] = "seeded:vggt-1b",
    frames: Annotated[tuple[int, ...], number("images of the scene, each for every model", metavar="N")] = (1,),
    size: Annotated[int, number("width and height of the images in pixels", metavar="PX")] = 518,
    repeats: Annotated[int, number("runs of each, in turns", metavar="N")] = 3,
    threads: Annotated[int | None, option("N", "of the CPU; by default as many as torch takes")] = None,
    device: Device = "cpu",
    json: Json = None,
    profile: Annotated[Path | None, option("FILE.png", "draw where the time goes to this file")] = None,
) -> None:
    """Measure time and memory of models, side by side.

    Every run has a fresh process of its own, and models take turns. Memory is the process's peak above its level after
    imports. Answers are compared with those of the float model, so that nobody is fast by being wrong.
    """
    from qvggt.bench.run import bench as measure
    from qvggt.cli.show import check_figures, check_picture, progress, save_figures, say
    from qvggt.options import BenchOptions

    check_figures(json)
    check_picture(profile, "--profile")
    options = BenchOptions(models, compute, global_attention, against, frames, size, repeats, threads, device)
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
    say("cameras, depth, points: how far answers are from the float model's, relative to their size")
    say(
        f"{about['cpu']}, {about['threads']} threads of {about['cores']} cores, {', '.join(about['cpu_features'])}; "
        f"{about.get('gpu', about['device'])}; torch {about['torch']}, qvggt {about['qvggt']}"
    )


def _cells(row: BenchRow, ratios: dict[Any, Any]) -> list[str]:
    from qvggt.bench.run import ANSWERS
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
        *(f"{row.differences[name]:.4f}" if name in row.differences else "" for name in ANSWERS),
    ]
