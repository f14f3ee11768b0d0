"""Compare the methods on the carried models, and write the tables into docs/results.md.

    python docs/make_results_page.py [TABLE ...] [--scenes N] [--seeds N ...]

Without names every table is made. Checkpoints and results are kept, so that a second run goes on.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

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
PLUS = ("gptq", "qvggt+-compensate-tune", "qvggt+-compensate", "qvggt+")


@dataclass(frozen=True)
class TableOf:
    """What a table shows: a model, methods, widths, numbers of calibration scenes, and whether a picture is drawn."""

    model: str
    methods: tuple[str, ...]
    bits: tuple[int, ...] = (4,)
    calibration_scenes: tuple[int, ...] = (16,)
    picture: bool = False


TABLES = {
    "nano": TableOf("nano", (*BASELINES, "qvggt", "qvggt+"), picture=True),
    "nano-hard": TableOf("nano-hard", (*BASELINES, "qvggt", "qvggt+"), picture=True),
    "nano-3": TableOf("nano", ("rtn", "awq", "gptq", "qvggt", "qvggt+"), (3,)),
    "ladder-nano": TableOf("nano", LADDER),
    "ladder-nano-hard": TableOf("nano-hard", LADDER),
    "plus-nano-hard": TableOf("nano-hard", PLUS),
    "scenes-nano-hard": TableOf("nano-hard", ("qvggt", "qvggt+"), calibration_scenes=(4, 16, 64)),
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
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        _, _, after = rest.partition(f"<!-- /{name} -->")
        PAGE.write_text(f"{before}<!-- {name} -->\n{table}\n<!-- /{name} -->{after}", encoding="utf-8")


def make_table(name: str, what: TableOf, scenes: int | None, seeds: tuple[int, ...]) -> str:
    """Compare, draw the picture, and return the table."""
    titles = [title for title, _ in COLUMNS.values()]
    lines = [f"| method | {titles[0]} | lost, paired | {' | '.join(titles[1:])} | bits, linear | bytes | min |"]
    lines.append("|---|" + "--:|" * (len(titles) + 4))
    several = len(what.calibration_scenes) > 1
    for index, count in enumerate(what.calibration_scenes):
        options = qvggt.CompareOptions(what.methods, what.bits, seeds)
        calibration = replace(options.base.calibration, scenes=count)
        options = replace(options, base=replace(options.base, calibration=calibration))
        report = qvggt.compare(what.model, options, selection=Selection(scenes=scenes))
        note = f", {count} scenes" if several else ""
        rows = report.rows[1:] if index else report.rows
        lines += [table_row(row, note if row.bits is not None else "") for row in rows]
        if what.picture:
            write_comparison_picture(PAGE.parent / "images" / f"compare-{name}.png", report)
    return "\n".join(lines)


def table_row(row: ComparisonRow, note: str) -> str:
    """Return a method's figures with their intervals."""
    if row.summary is None:
        return f"| {row.method}{note} |" + " |" * (len(COLUMNS) + 4)
    cells = [f"{row.method}{note}"]
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
