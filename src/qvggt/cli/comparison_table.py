"""Table of a comparison: one row per method and width, with intervals below the values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from qvggt.cli.evaluation_table import HASH_CHARACTERS, LABELS
from qvggt.cli.show import count_text, say, say_table
from qvggt.eval.comparison import ComparisonReport, ComparisonRow
from qvggt.eval.stats import Summary
from qvggt.inference.process_memory import size_text

_COLUMNS = {
    "auc30": "AUC@30",
    "auc5": "AUC@5",
    "auc3": "AUC@3",
    "absrel": "AbsRel",
    "point_error": "points",
    "accuracy": "accuracy",
    "completeness": "completeness",
    "consistency": "consistency",
}
_FIDELITY = (
    "fidelity_auc30",
    "fidelity_auc15",
    "fidelity_auc5",
    "fidelity_auc3",
    "fidelity_rotation_deg",
    "fidelity_translation_deg",
)
_LOSS_OF = "auc30"


def print_comparison(report: ComparisonReport) -> None:
    """Print a comparison."""
    shown = [name for name in _COLUMNS if name in report.summary.metrics]
    titles = []
    for name in shown:
        titles += [_COLUMNS[name]] + [f"loss of\n{_COLUMNS[name]}"] * (name == _LOSS_OF)
    titles += ["bits,\nlinear", "bits,\nall", "size", "min"]
    _print_rows(report.rows, titles, lambda row: _cells(row, shown))
    if compared := [row for row in report.rows if row.fidelity is not None]:
        say("\nagainst the cameras of the float model, without ground truth:")
        _print_rows(compared, [LABELS[name] for name in _FIDELITY], _fidelity_cells)
    say("")
    for line in _facts(report):
        say(line)


def _print_rows(
    rows: Sequence[ComparisonRow], titles: Sequence[str], cells: Callable[[ComparisonRow], Sequence[Text | str]]
) -> None:
    """Print a table of figures, with a space between widths."""
    table = Table("method", "bits", box=None, header_style="bold", pad_edge=False)
    for title in titles:
        table.add_column(title, justify="right")
    for index, row in enumerate(rows):
        if index and row.bits != rows[index - 1].bits:
            table.add_row()
        bits = "" if row.bits is None else str(row.bits)
        table.add_row(row.method, bits, *(["-"] * len(titles) if row.summary is None else cells(row)))
    say_table(table)


def _cells(row: ComparisonRow, shown: list[str]) -> list[Text | str]:
    assert row.summary is not None
    cells: list[Text | str] = []
    for name in shown:
        cells.append(_figure(row.summary, name, row.seed_ranges.get(name)))
        if name == _LOSS_OF:
            cells.append(_loss(row, name))
    for bits in (row.linear_bits, row.average_bits):
        cells.append("-" if bits is None else f"{bits:.2f}")
    cells.append("-" if row.checkpoint_bytes is None else size_text(row.checkpoint_bytes))
    cells.append("" if row.minutes is None else f"{row.minutes:.1f}")
    return cells


def _fidelity_cells(row: ComparisonRow) -> list[Text | str]:
    assert row.fidelity is not None
    return [_figure(row.fidelity, name) for name in _FIDELITY]


def _figure(summary: Summary, name: str, seed_range: tuple[float, float] | None = None) -> Text:
    """Return a value with its interval and its range over seeds below it."""
    number = _format(name)
    text = Text(number(summary.metrics[name]))
    low, high = summary.intervals[name]
    text.append(f"\n[{number(low)}, {number(high)}]", style="dim")
    if seed_range is not None:
        least, most = seed_range
        text.append(f"\n{number(least)} .. {number(most)}", style="dim")
    return text


def _loss(row: ComparisonRow, name: str) -> Text:
    if row.difference is None or name not in row.difference.metrics:
        return Text("")
    number = _format(name)
    low, high = row.difference.intervals[name]
    text = Text(number(0.0 - row.difference.metrics[name]))
    return text.append(f"\n[{number(0.0 - high)}, {number(0.0 - low)}]", style="dim")


def _format(name: str) -> Callable[[float], str]:
    digits = 2 if name.startswith(("auc", "fidelity_auc")) or name.endswith("_deg") else 4
    return lambda value: "-" if value != value else f"{value:.{digits}f}"  # NaN alone differs from itself


def _facts(report: ComparisonReport) -> list[str]:
    on, summary, shared = report.on, report.summary, report.quantization
    card = report.float_row.trials[0].figures.card
    least, most = on.frames_per_scene
    frames = str(most) if least == most else f"{least} to {most}"
    landmarks = "" if on.landmarks is None else f", landmarks {on.landmarks:g}"
    lines = [
        f"model: {Path(card.name).name} ({card.hash[:HASH_CHARACTERS]})",
        f"data: {on.dataset}, split {on.split}{landmarks}: {count_text(summary.scenes, 'scene')} of {frames} frames "
        f"({on.frames}; seed {on.seed}), {summary.pairs} pairs, images {on.image_size_px} px wide",
        f"protocols: {', '.join(summary.protocols)}; in brackets 95 % by bootstrap over scenes, of losses paired: "
        "the same scenes for both models",
        f"computed on {on.machine['device']} in {on.machine['compute']}, float in {on.machine['float_compute']}",
    ]
    if any(row.seed_ranges for row in report.rows):
        lines.append("with several seeds: mean, its interval, and below it the minimum and maximum")
    if shared:
        calibration, scheme = shared["calibration"], shared["scheme"]
        seeds = " ".join(map(str, calibration["seeds"]))
        several = "s" if len(calibration["seeds"]) > 1 else ""
        lines.append(
            f"quantization: groups of {scheme['group_size']}, calibrated on {calibration['source']}, "
            f"{calibration['scenes']} scenes of {calibration['frames']} frames, seed{several} {seeds}, "
            f"supervised by the {shared['supervision']}"
        )
    if report.reused:
        lines.append(f"checkpoints reused: {report.reused}")
    return lines + [error for row in report.rows for error in row.errors]
