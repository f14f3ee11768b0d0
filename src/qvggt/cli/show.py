"""What commands print: progress, sizes, times, and figures as JSON."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from qvggt.inference import OnProgress

console = Console(highlight=False)


@contextmanager
def progress(title: str) -> Iterator[OnProgress]:
    """Show a line with stage, share, elapsed and remaining time on a terminal; nothing where output is a file."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=1.0)

        def update(stage: str, share: float) -> None:
            bars.update(task, description=f"{title}: {stage}", completed=share)

        yield update


def size_text(count: float) -> str:
    """Return a number of bytes as people read it.

    >>> size_text(749_900_000), size_text(11_500), size_text(5_030_000_000)
    ('749.9 MB', '11.5 kB', '5.03 GB')
    """
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def peak_memory_bytes() -> int:
    """Return the largest resident memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
