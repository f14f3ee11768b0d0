"""The public ``progress_bar``: one progress callback for terminals and notebooks."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from qvggt.options.checks import check_arguments
from qvggt.types import OnProgress

_SECONDS_BETWEEN = 0.1
"""Least time between two updates of a notebook's bar; each is a message to the browser."""


def progress_bar(title: str = "") -> AbstractContextManager[OnProgress]:
    """Show the stage and the share done of whatever is given the yielded ``on_progress``, until the ``with`` ends.

    In a notebook the bar stands below the cell; on a terminal it is a line of standard error, with the time elapsed and
    left; elsewhere there is none.

    Args:
        title: in front of the stage, such as a model's name; only the last part of a path is shown.
    """
    check_arguments(progress_bar, locals())
    name = Path(title).name
    display = _notebook_display()
    return _terminal_bar(name) if display is None else _notebook_bar(name, display)


def _notebook_display() -> Callable[..., Any] | None:
    """Return IPython's ``display`` inside a notebook, else None; IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    return display


@contextmanager
def _notebook_bar(title: str, display: Callable[..., Any]) -> Iterator[OnProgress]:
    handle, drawn = display(_Bar(title, 0.0), display_id=True), time.monotonic()

    def update(stage: str, share: float) -> None:
        nonlocal drawn
        if time.monotonic() - drawn >= _SECONDS_BETWEEN:
            drawn = time.monotonic()
            handle.update(_Bar(_described(title, stage), share))

    try:
        yield update
    finally:
        handle.update(_Bar("", None))


class _Bar:
    """What a notebook shows; frontends without HTML get the text.

    Args:
        text: beside the bar.
        share: done, 0 to 1; None for no bar.
    """

    def __init__(self, text: str, share: float | None) -> None:
        self._text, self._share = text, share

    def __repr__(self) -> str:
        return self._text if self._share is None else f"{self._text} {100 * self._share:.0f} %"

    def _repr_html_(self) -> str:
        if self._share is None:
            return ""
        return f'<progress max="1" value="{self._share:.3f}"></progress> {html.escape(self._text)}'


@contextmanager
def _terminal_bar(title: str) -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    screen = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        task = bars.add_task(title, total=1.0)

        def update(stage: str, share: float) -> None:
            # The clock stops at 100 %, and only the caller knows that no other stage follows.
            bars.update(task, description=_described(title, stage), completed=min(share, 0.999))

        yield update


def _described(title: str, stage: str) -> str:
    return f"{title}: {stage}" if title else stage
