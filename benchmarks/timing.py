"""Time taken in turns: every contender once, then every contender again, so that a busy minute falls on all alike."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch

from qvggt.bench.machine import describe_machine
from qvggt.files import new_file
from qvggt.types import OnProgress

T = TypeVar("T")


class Failed(Exception):
    """A contender cannot be measured; the words say why, in one sentence."""


def take_turns(
    contenders: Mapping[str, Callable[[], T]], repeats: int, on_progress: OnProgress
) -> tuple[dict[str, list[T]], dict[str, str]]:
    """Call every contender in turn, ``repeats`` times; one that fails is left out from then on.

    Args:
        contenders: what gives a result of any kind, or raises ``Failed``.
        repeats: turns, at least 1.
        on_progress: called with a name and the share of all calls that is done.

    Returns:
        The results of each contender that never failed, and of the others the reason.
    """
    results: dict[str, list[T]] = {name: [] for name in contenders}
    reasons: dict[str, str] = {}
    for turn in range(repeats):
        for place, (name, call) in enumerate(contenders.items()):
            if name in reasons:
                continue
            on_progress(name, (turn * len(contenders) + place) / (repeats * len(contenders)))
            try:
                results[name].append(call())
            except Failed as failure:
                reasons[name] = str(failure)
                del results[name]
    return results, reasons


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Return median, least and most of some times, JSON-ready.

    >>> spread([3.0, 1.0, 2.0])
    {'seconds': 2.0, 'seconds_least': 1.0, 'seconds_most': 3.0, 'repeats': 3}
    """
    return {
        "seconds": statistics.median(seconds),
        "seconds_least": min(seconds),
        "seconds_most": max(seconds),
        "repeats": len(seconds),
    }


def with_speedups(rows: Sequence[dict[str, Any]], base: str) -> list[dict[str, Any]]:
    """Return the rows of one workload with how many times faster than the contender ``base`` each is.

    Where ``base`` has no time nobody has a speedup.
    """
    seconds = next((row["seconds"] for row in rows if row["contender"] == base and "seconds" in row), None)
    return [
        {**row, "speedup": seconds / row["seconds"]} if seconds is not None and "seconds" in row else row
        for row in rows
    ]


def environment(threads: int, packages: Sequence[str] = ()) -> dict[str, Any]:
    """Return the machine, how busy it is before the run (processes that want a core), and versions, JSON-ready."""
    about = {**describe_machine(threads=threads), "load_before": round(os.getloadavg()[0], 1)}
    return {**about, **{name: _version(name) for name in packages}}


def common_options(parser: argparse.ArgumentParser, repeats: int) -> argparse.ArgumentParser:
    """Give a parser the options that both scripts have."""
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go")
    return parser


def write_json(path: Path | None, values: Mapping[str, Any]) -> None:
    """Write figures to a file, if there is to be one, over what was there."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path, overwrite=True) as temporary:
            Path(temporary).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def show_progress(what: str, share: float) -> None:
    """Say on a terminal what is being measured."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{share:4.0%} {what}\r")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
