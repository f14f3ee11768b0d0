"""Output of commands: progress, tables, sizes, and results as JSON."""

from __future__ import annotations

import json
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

from qvggt.api.progress import progress_bar
from qvggt.files import json_text, new_file, write_json
from qvggt.types import OnProgress, QvggtError

# Names of files and models are printed literally, even with "[bold]" or ":smile:" in them.
_plain_console = partial(Console, highlight=False, markup=False, emoji=False)
console = _plain_console()
_WIDEST = 1000
_STDOUT = Path("-")
_SIZE = re.compile(r"(\d+\.?\d*|\.\d+) *([kmgt])?(i)?b?")


class _Tried(Exception):
    """Cancels a trial write."""


def progress(title: str) -> AbstractContextManager[OnProgress]:
    """Return the ``progress_bar`` of a command; there is none if the command is to be quiet."""
    return nullcontext(lambda stage, share: None) if console.quiet else progress_bar(title)


def say(text: str) -> None:
    """Print a line of results without wrapping it, so that names in it can be copied."""
    console.print(text, soft_wrap=True)


def say_rich(text: RenderableType) -> None:
    """Print styled text or a table as wide as the terminal, whose cells wrap; words are never cut."""
    console.print(text)


def say_table(table: Table) -> None:
    """Print a table without truncating its cells, even on a narrow terminal."""
    needed = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
    _plain_console(width=max(console.width, needed), stderr=console.stderr, quiet=console.quiet).print(table)


def count_text(count: int, noun: str) -> str:
    """Return a number with its noun.

    >>> count_text(1, "frame"), count_text(8, "frame")
    ('1 frame', '8 frames')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def files_text(names: list[str]) -> str:
    """Return the names of a result's files, its depth images as one.

    >>> files_text(["points.ply", "depth/0.png", "depth/1.png"])
    'points.ply, depth/'
    """
    return ", ".join(dict.fromkeys("depth/" if name.startswith("depth/") else name for name in names))


def size_bytes(text: str) -> int:
    """Return a size in bytes, given in decimal or binary units.

    >>> size_bytes("4GB"), size_bytes("1.5 GiB"), size_bytes("800m")
    (4000000000, 1610612736, 800000000)

    Raises:
        QvggtError: the text is not a size.
    """
    found = _SIZE.fullmatch(text.strip().lower())
    if found is None or float(found[1]) == 0:
        raise QvggtError(f"invalid size {text!r}: expected e.g. 4GB, 1.5GiB or 800MB")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** " kmgt".index(found[2] or " "))


def check_figures(*paths: Path | None) -> None:
    """Check that results files can be written, before the work; leaves nothing behind.

    If one is ``-``, the standard output, what ``say`` prints goes to standard error from now on.

    Raises:
        QvggtError: a path is a folder, or cannot be written.
    """
    console.stderr = _STDOUT in paths
    for path in paths:
        if path is not None and path != _STDOUT:
            _check_writable(path)


def _check_writable(path: Path) -> None:
    try:
        with new_file(path, overwrite=True) as temporary:
            temporary.touch()
            raise _Tried
    except _Tried:
        pass


def check_picture(path: Path | None, option: str) -> None:
    """Check that a picture can be written as PNG, before the work; leaves nothing behind.

    Args:
        path: of the picture, or None.
        option: the option that names it.

    Raises:
        QvggtError: the name does not end in .png, the path is a folder, or it cannot be written.
    """
    if path is not None and path.suffix.lower() != ".png":
        raise QvggtError(f"{option} expects a name that ends in .png, got {str(path)!r}")
    if path is not None:
        _check_writable(path)


def save_figures(path: Path | None, figures: dict[str, Any]) -> None:
    """Write the results that a command printed as JSON to a file or, for ``-``, to standard output, if one is given."""
    if path == _STDOUT:
        # In ASCII, which is JSON in any terminal's encoding.
        sys.stdout.write("".join(c if c.isascii() else json.dumps(c)[1:-1] for c in json_text(figures)))
    elif path is not None:
        write_json(path, figures)
