"""Append the figures of a run to benchmarks/history.jsonl, and draw all runs so far.

    python benchmarks/history.py out/kernels.json out/engines.json
    python benchmarks/history.py                                    draws only

A line is a JSON object: commit, date, machine, how busy it was, and by group of workloads how many times faster than
float32 each contender was (the geometric mean over the group).
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from matplotlib import colormaps

from qvggt.export.sheet import FAINT, PANEL, TEXT, Sheet

ROOT = Path(__file__).parents[1]
HISTORY = ROOT / "benchmarks" / "history.jsonl"
PICTURE = ROOT / "docs" / "images" / "bench-history.png"
_WIDTH, _LEFT, _RIGHT, _TOP, _PANEL, _GAP = 11.0, 0.8, 3.6, 0.75, 2.6, 0.85
_MARKERS = "osD^vP*"

log = logging.getLogger(__name__)


def line_of(runs: Sequence[Mapping[str, Any]], commit: str, date: str) -> dict[str, Any]:
    """Return a line of the history.

    Args:
        runs: what the scripts wrote, all on one machine with the same number of threads.
        commit: that was measured.
        date: and time, ISO 8601.

    Raises:
        ValueError: there are no runs, or they are from several machines.
    """
    machines = {machine_of(values["environment"]) for values in runs}
    if len(machines) != 1:
        raise ValueError(f"expected runs of one machine, got {len(machines)}: {', '.join(sorted(machines))}")
    speedups: dict[str, dict[str, list[float]]] = {}
    for row in (row for values in runs for row in values["rows"] if "speedup" in row):
        speedups.setdefault(row["group"], {}).setdefault(row["contender"], []).append(row["speedup"])
    figures = {
        group: {name: round(statistics.geometric_mean(values), 3) for name, values in found.items()}
        for group, found in speedups.items()
    }
    load = max(values["environment"]["load_before"] for values in runs)
    return {"commit": commit, "date": date, "machine": machines.pop(), "load_before": load, "figures": figures}


def machine_of(about: Mapping[str, Any]) -> str:
    """Return which figures may be compared with one another: those of the same processor and number of threads."""
    features = ", ".join(name for name in about["cpu_features"] if "vnni" in name or "amx" in name) or "no VNNI"
    return f"{about['cpu']}, {features}, {about['threads']} thread" + "s" * (about["threads"] != 1)


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to a history; one that was cut off before it stays as it is, on a line of its own."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    ending = "" if not before or before.endswith("\n") else "\n"
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{ending}{json.dumps(line)}\n")


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a history; one that is no JSON, because writing it was cut off, is warned of and left out."""
    found = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(json.loads(text))
        except json.JSONDecodeError:
            log.warning("%s: line %d is cut off, and left out", path, number)
    return found


def draw(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw a panel for every machine and group of workloads, with a line for every contender, over commits.

    Raises:
        ValueError: there are no lines.
        QvggtError: the picture cannot be written.
    """
    panels = list(dict.fromkeys((line["machine"], group) for line in lines for group in line["figures"]))
    if not panels:
        raise ValueError("there is nothing to draw: append a run first")
    sheet = Sheet(_WIDTH, _TOP + len(panels) * (_PANEL + _GAP))
    sheet.text(0.4, 0.2, "times faster than float32 eager, over commits", fontsize=14, weight="bold")
    for place, (machine, group) in enumerate(panels):
        of_machine = [line for line in lines if line["machine"] == machine and group in line["figures"]]
        _panel(sheet, _TOP + place * (_PANEL + _GAP), f"{group}: {machine}", of_machine, group=group)
    sheet.save(path)


def _panel(sheet: Sheet, top: float, title: str, lines: Sequence[Mapping[str, Any]], group: str) -> None:
    sheet.text(_LEFT, top, title, fontsize=10, color=FAINT)
    axes = sheet.axes(_LEFT, top + 0.25, _WIDTH - _LEFT - _RIGHT, _PANEL)
    axes.set_axis_on()
    axes.set_facecolor(PANEL)
    axes.tick_params(colors=FAINT, labelsize=8)
    names = _in_order(line["figures"][group] for line in lines)
    for number, name in enumerate(names):
        points = [(x, line["figures"][group][name]) for x, line in enumerate(lines) if name in line["figures"][group]]
        style = {"color": colormaps["tab20"](number % 20), "marker": _MARKERS[number % len(_MARKERS)]}
        axes.plot(*zip(*points, strict=True), label=name, markersize=5, linewidth=1.3, **style)
    axes.axhline(1.0, color=FAINT, linewidth=0.8, linestyle=":")
    axes.set_xlim(-0.5, len(lines) - 0.5)
    axes.set_ylim(bottom=0)
    axes.set_xticks(range(len(lines)), [line["commit"] for line in lines])
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.02), fontsize=7.5, frameon=False, labelcolor=TEXT, borderaxespad=0
    )


def _in_order(figures: Iterable[Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for each in figures for name in each))


def current_commit() -> str:
    """Return the short name of the commit that is checked out, with ``-dirty`` where files have changed since."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def main(arguments: Sequence[str] | None = None) -> None:
    """Append, if there are runs, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="JSON")
    parser.add_argument("--history", type=Path, default=HISTORY)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args(arguments)
    if options.runs:
        runs = [json.loads(path.read_text(encoding="utf-8")) for path in options.runs]
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        append(options.history, line_of(runs, current_commit(), now))
    draw(read(options.history), options.picture)


if __name__ == "__main__":
    main()
