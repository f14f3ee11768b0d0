"""Compare the methods on the carried models, and write the tables into docs/results.md.

    python docs/make_results_page.py [TABLE ...] [--scenes N]

Without names every table is made. Checkpoints and results are kept, so that a second run goes on.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path

from marked import replace_between

import qvggt
from qvggt.eval.comparison import ComparisonRow
from qvggt.options import CalibrationOptions, Selection, Supervision
from qvggt.plots.comparison import write_comparison_picture
from qvggt.quant.scheme import Scheme

PAGE = Path(__file__).parent / "results.md"
COLUMNS = {
    "auc30": ("AUC@30", 1),
    "auc5": ("AUC@5", 1),
    "auc3": ("AUC@3", 1),
    "absrel": ("AbsRel", 4),
    "point_error": ("points", 4),
    "consistency": ("consistency", 4),
}
FIDELITY = {
    "fidelity_auc30": "to float: @30",
    "fidelity_auc5": "@5",
    "fidelity_auc3": "@3",
}
BASELINES = ("rtn", "awq", "gptq", "smoothquant", "quarot")
LADDER = ("awq", "qvggt-filter-compensate-task", "qvggt-compensate-task", "qvggt-compensate", "qvggt")
OURS = ("qvggt+-reorder", "qvggt+-select", "qvggt+-tune", "qvggt+-compensate", "qvggt+")
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class TableOf:
    """What a table shows: a model, methods, and what they are told; a row for every combination.

    Attributes:
        model: its name.
        methods: of quantization.
        bits: of linear layers.
        seeds: of the choice of calibration scenes; a row is the mean over them.
        scenes: numbers of calibration scenes.
        supervision: by the float model, or by the truth.
        picture: whether one is drawn.
    """

    model: str
    methods: tuple[str, ...]
    bits: int = 4
    seeds: tuple[int, ...] = (0,)
    scenes: tuple[int, ...] = (16,)
    supervision: tuple[Supervision, ...] = ("teacher",)
    picture: bool = False


def tables_of(model: str) -> dict[str, TableOf]:
    """Return the tables about a model."""
    return {
        model: TableOf(model, (*BASELINES, "qvggt", "qvggt+"), seeds=SEEDS, picture=True),
        f"{model}-3": TableOf(model, (*BASELINES, "qvggt", "qvggt+"), bits=3, picture=True),
        f"ladder-{model}": TableOf(model, LADDER, seeds=SEEDS),
        f"ours-{model}": TableOf(model, OURS),
        f"scenes-{model}": TableOf(model, ("qvggt+",), seeds=SEEDS, scenes=(4, 16, 64)),
        f"truth-{model}": TableOf(model, ("qvggt+",), supervision=("teacher", "truth")),
    }


TABLES = tables_of("nano") | tables_of("nano-hard")


def main() -> None:
    """Make the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="TABLE")
    parser.add_argument("--scenes", type=int, default=None)
    options = parser.parse_args()
    unknown = sorted(set(options.tables) - set(TABLES))
    if unknown:
        parser.error(f"there is no table {unknown[0]!r}: choose from {', '.join(TABLES)}")
    for name in options.tables or TABLES:
        table = make_table(name, TABLES[name], options.scenes)
        PAGE.write_text(replace_between(PAGE.read_text(encoding="utf-8"), name, table), encoding="utf-8")


def make_table(name: str, what: TableOf, scenes: int | None) -> str:
    """Compare, draw the picture, and return the table."""
    titles = [title for title, _ in COLUMNS.values()]
    heads = [titles[0], "lost, paired", *titles[1:], *FIDELITY.values(), "bits, linear", "bytes", "min"]
    lines = [f"| method | {' | '.join(heads)} |", "|---|" + "--:|" * len(heads)]
    for count, supervision in itertools.product(what.scenes, what.supervision):
        base = qvggt.QuantizeOptions(
            Scheme(what.bits), supervision=supervision, calibration=CalibrationOptions(scenes=count)
        )
        options = qvggt.CompareOptions(what.methods, (what.bits,), what.seeds, base)
        report = qvggt.compare(what.model, options, selection=Selection(scenes=scenes))
        if what.picture:
            write_comparison_picture(PAGE.parent / "images" / f"compare-{name}.png", report)
        told = [f"{count} scenes"] * (len(what.scenes) > 1) + [supervision] * (len(what.supervision) > 1)
        rows = report.rows if len(lines) == 2 else report.quantized
        lines += [table_row(row, ", ".join([row.method, *told] if row.bits else [row.method])) for row in rows]
    return "\n".join(lines)


def table_row(row: ComparisonRow, title: str) -> str:
    """Return a method's figures with their intervals, and where there are several seeds what is lost with each."""
    if row.summary is None:
        return f"| {title} |" + " |" * (len(COLUMNS) + len(FIDELITY) + 4)
    cells = [title]
    for metric, (_, digits) in COLUMNS.items():
        low, high = row.summary.intervals[metric]
        cells.append(f"{row.summary.metrics[metric]:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})")
        if metric == "auc30":
            cells.append(lost(row, metric))
    against = None if row.fidelity is None else row.fidelity.metrics
    cells += ["" if against is None else f"{against[name]:.1f}" for name in FIDELITY]
    bits = "" if row.linear_bits is None else f"{row.linear_bits:.2f}"
    size = "" if row.checkpoint_bytes is None else f"{row.checkpoint_bytes / 1e6:.2f} MB"
    minutes = "" if row.minutes is None else f"{row.minutes:.1f}"
    return f"| {' | '.join([*cells, bits, size, minutes])} |"


def lost(row: ComparisonRow, metric: str) -> str:
    """Return what was lost against the float model on the same scenes, with its interval, and its range over seeds."""
    if row.difference is None or row.summary is None:
        return ""
    low, high = row.difference.intervals[metric]
    text = f"{0.0 - row.difference.metrics[metric]:.2f} ({0.0 - high:.2f}–{0.0 - low:.2f})"
    if metric not in row.seed_ranges:
        return text
    least, most = row.seed_ranges[metric]
    base = row.summary.metrics[metric] - row.difference.metrics[metric]
    return f"{text}, seeds {base - most:.2f}–{base - least:.2f}"


if __name__ == "__main__":
    main()
