"""Messages of the command line besides results: help, log messages and errors."""

from __future__ import annotations

import logging
import sys
import textwrap
import traceback
import warnings
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
  nano                  a small embedded model of synthetic rooms, to try things
  facebook/VGGT-1B      a Hugging Face hub id (downloaded once)
  FILE or FOLDER        weights as .safetensors or .pt
  FOLDER                a checkpoint that `qvggt quantize` wrote
  seeded:vggt-1b        full size with stand-in weights, for speed and memory

examples:
  qvggt reconstruct facebook/VGGT-1B photos/ -o room
  qvggt quantize facebook/VGGT-1B -o vggt-4bit
  qvggt reconstruct vggt-4bit walk.mp4 --frames 20 -o house

options:
  -h, --help            show this; qvggt COMMAND --help shows its options
  --version             show the version
  --print-completion S  print completions for the shell bash, zsh, fish or tcsh
  -q, -v                after any COMMAND: errors only; debug messages too

exit status: 0 done, 1 error, 2 wrong arguments, 130 interrupted by Ctrl-C,
143 terminated; docs/command-line.md has all of it
"""
_INDENT = 15


class _Handler(logging.Handler):
    """Writes to the current standard error, which a progress bar replaces to keep messages apart."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = "warning: " if record.levelno >= logging.WARNING else ""
        place = f"{record.name}: " if record.levelno < logging.INFO else ""
        say_why(f"{kind}{place}{record.getMessage()}")
        if record.exc_info:
            sys.stderr.write("".join(traceback.format_exception(*record.exc_info)))


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
    """Print the library's log messages, one line each; Pillow's warnings about what it could read are not shown."""
    logger, handler = logging.getLogger("qvggt"), _Handler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
