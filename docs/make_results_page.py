"""Compare the methods on the carried models, and write the tables into docs/results.md.

    python docs/make_results_page.py [TABLE ...] [--scenes N]

Without names every table is made. Checkpoints and results are kept, so that a second run goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from marked import replace_between

import qvggt
from qvggt.eval.comparison import ComparisonRow
from qvggt.options import Selection
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
METHODS = ("rtn", "awq", "gptq", "smoothquant", "quarot", "qvggt", "qvggt+")
TABLES = {"nano": ("nano", 4), "nano-hard": ("nano-hard", 4), "nano-3": ("nano", 3)}
"""Model and bits of linear layers of each table."""

SCENES = 64
"""Rooms that every table is measured on."""


def main() -> None:
    """Make the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="TABLE")
    parser.add_argument("--scenes", type=int, default=SCENES)
    options = parser.parse_args()
    unknown = sorted(set(options.tables) - set(TABLES))
    if unknown:
        parser.error(f"there is no table {unknown[0]!r}: choose from {', '.join(TABLES)}")
    for name in options.tables or TABLES:
        table = make_table(name, *TABLES[name], options.scenes)
        PAGE.write_text(replace_between(PAGE.read_text(encoding="utf-8"), name, table), encoding="utf-8")


def make_table(name: str, model: str, bits: int, scenes: int) -> str:
    """Compare, draw the picture, and return the table."""
    titles = [title for title, _ in COLUMNS.values()]
    heads = [titles[0], "lost, paired", *titles[1:], *FIDELITY.values(), "bits, linear", "bytes", "min"]
    options = qvggt.CompareOptions(METHODS, (bits,), base=qvggt.QuantizeOptions(Scheme(bits)))
    report = qvggt.compare(model, options, selection=Selection(scenes=scenes))
    write_comparison_picture(PAGE.parent / "images" / f"compare-{name}.png", report)
    lines = [f"| method | {' | '.join(heads)} |", "|---|" + "--:|" * len(heads)]
    return "\n".join(lines + [table_row(row) for row in report.rows])


def table_row(row: ComparisonRow) -> str:
    """Return a method's figures with their intervals."""
    if row.summary is None:
        return f"| {row.method} |" + " |" * (len(COLUMNS) + len(FIDELITY) + 4)
    cells = [row.method]
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
    """Return what was lost against the float model on the same scenes, with its interval."""
    if row.difference is None:
        return ""
    low, high = row.difference.intervals[metric]
    return f"{0.0 - row.difference.metrics[metric]:.2f} ({0.0 - high:.2f}–{0.0 - low:.2f})"


if __name__ == "__main__":
    main()
