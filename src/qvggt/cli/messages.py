"""What the command line says besides its results: the help of all commands, log messages, and why it failed."""

from __future__ import annotations

import logging
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_HELP = """\
usage: qvggt COMMAND ...

VGGT in 4 bits per weight with its geometry intact: photographs in, cameras,
depth and points out.

commands:
{commands}

MODEL is in every command one of
  nano                  a small model that qvggt carries along, for first steps
  facebook/VGGT-1B      an id on the Hugging Face hub (fetched once)
  FILE or FOLDER        weights as .safetensors or .pt
  FOLDER                a checkpoint that `qvggt quantize` wrote
  seeded:vggt-1b        full size with stand-in weights, for speed and memory

examples:
  qvggt reconstruct nano photos/ -o room
  qvggt quantize facebook/VGGT-1B -o vggt-4bit
  qvggt reconstruct vggt-4bit walk.mp4 --frames 20 -o house

options:
  -h, --help            show this; qvggt COMMAND --help shows its options
  --version             show the version
"""
_INDENT = 15


class _Handler(logging.Handler):
    """Writes to what standard error is at the time, so that a progress line knows of it and gives way."""

    def emit(self, record: logging.LogRecord) -> None:
        warning = "warning: " if record.levelno >= logging.WARNING else ""
        say_why(f"{warning}{record.getMessage()}")


def command_help(commands: Mapping[str, Callable[..., Any]]) -> str:
    """Return the help of the whole program, with the first sentence of each command's docstring."""
    lines = []
    for name, command in commands.items():
        summary = (command.__doc__ or "").split("\n\n")[0]
        first = f"  {name:<{_INDENT - 2}}"
        lines.append(
            textwrap.fill(" ".join(summary.split()), 80, initial_indent=first, subsequent_indent=" " * _INDENT)
        )
    return _HELP.format(commands="\n".join(lines))


def say_why(sentence: str) -> None:
    """Write one line to standard error, with the program's name in front."""
    sys.stderr.write(f"qvggt: {' '.join(sentence.split())}\n")
    sys.stderr.flush()


@contextmanager
def messages_on_stderr() -> Iterator[None]:
    """Show what the library logs, one line a message."""
    logger, handler = logging.getLogger("qvggt"), _Handler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
