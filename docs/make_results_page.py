"""Compare the methods on the carried models, and write the tables into docs/results.md.

    python docs/make_results_page.py [TABLE ...] [--scenes N] [--seeds N ...]

Without names every table is made. Checkpoints and results are kept, so that a second run goes on.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from marked import replace_between

import qvggt
from qvggt.comparison_picture import write_comparison_picture
from qvggt.comparison_report import ComparisonRow
from qvggt.eval.plan import Selection

PAGE = Path(__file__).parent / "results.md"
COLUMNS = {
    "auc30": ("AUC@30", 1),
    "absrel": ("AbsRel", 4),
    "point_error": ("points", 4),
    "consistency": ("consistency", 4),
}
BASELINES = ("rtn", "awq", "gptq", "smoothquant", "quarot")
LADDER = ("awq", "qvggt-filter-compensate-task", "qvggt-compensate-task", "qvggt-task", "qvggt-compensate", "qvggt")


@dataclass(frozen=True)
class TableOf:
    """What a table shows: a model, methods, and whether a picture is drawn."""

    model: str
    methods: tuple[str, ...]
    picture: bool = False


TABLES = {
    "nano": TableOf("nano", (*BASELINES, "qvggt", "qvggt+"), picture=True),
    "nano-hard": TableOf("nano-hard", (*BASELINES, "qvggt", "qvggt+"), picture=True),
    "ladder-nano": TableOf("nano", LADDER),
    "ladder-nano-hard": TableOf("nano-hard", LADDER),
}


def main() -> None:
    """Make the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="TABLE")
    parser.add_argument("--scenes", type=int, default=None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    unknown = sorted(set(options.tables) - set(TABLES))
    if unknown:
        parser.error(f"there is no table {unknown[0]!r}: choose from {', '.join(TABLES)}")
    for name in options.tables or TABLES:
        table = make_table(name, TABLES[name], options.scenes, tuple(options.seeds))
        PAGE.write_text(replace_between(PAGE.read_text(encoding="utf-8"), name, table), encoding="utf-8")


def make_table(name: str, what: TableOf, scenes: int | None, seeds: tuple[int, ...]) -> str:
    """Compare, draw the picture, and return the table."""
    titles = [title for title, _ in COLUMNS.values()]
    lines = [f"| method | {titles[0]} | lost, paired | {' | '.join(titles[1:])} | bits, linear | bytes | min |"]
    lines.append("|---|" + "--:|" * (len(titles) + 4))
    report = qvggt.compare(
        what.model, qvggt.CompareOptions(what.methods, seeds=seeds), selection=Selection(scenes=scenes)
    )
    if what.picture:
        write_comparison_picture(PAGE.parent / "images" / f"compare-{name}.png", report)
    lines += map(table_row, report.rows)
    return "\n".join(lines)


def table_row(row: ComparisonRow) -> str:
    """Return a method's figures with their intervals."""
    if row.summary is None:
        return f"| {row.method} |" + " |" * (len(COLUMNS) + 4)
    cells = [row.method]
    for metric, (_, digits) in COLUMNS.items():
        low, high = row.summary.intervals[metric]
        cells.append(f"{row.summary.metrics[metric]:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})")
        if metric == "auc30":
            cells.append(lost(row, metric))
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
