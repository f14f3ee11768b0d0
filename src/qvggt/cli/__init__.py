"""The command line: a table of commands, one thin file for each, and one place where errors become sentences."""

from __future__ import annotations

import difflib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from qvggt.cli.bench import bench
from qvggt.cli.compare import compare
from qvggt.cli.demo import demo
from qvggt.cli.evaluate import evaluate
from qvggt.cli.fidelity import fidelity
from qvggt.cli.inspect import inspect
from qvggt.cli.messages import command_help, messages_on_stderr, say_why
from qvggt.cli.plan import plan
from qvggt.cli.quantize import quantize
from qvggt.cli.reconstruct import reconstruct
from qvggt.cli.render import render
from qvggt.cli.sensitivity import sensitivity
from qvggt.cli.stopping import Stopped, clean_stop
from qvggt.cli.train import train
from qvggt.types import QvggtError
from qvggt.version import __version__

COMMANDS: dict[str, Callable[..., Any]] = {
    "reconstruct": reconstruct,
    "quantize": quantize,
    "evaluate": evaluate,
    "compare": compare,
    "fidelity": fidelity,
    "sensitivity": sensitivity,
    "bench": bench,
    "plan": plan,
    "inspect": inspect,
    "train": train,
    "render": render,
    "demo": demo,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line: return if all went well, else exit.

    The status is 1 if it could not be done, 2 if it was not understood, and 128 and the signal's number if it was
    stopped (130 for Ctrl-C, 143 for a polite kill).

    Raises:
        SystemExit: with that status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if hasattr(sys.stdout, "reconfigure"):  # a file's name need not be text in the terminal's encoding
        sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with messages_on_stderr(), clean_stop():
            run(arguments)
            sys.stdout.flush()
    except Stopped as stop:
        fail(f"{stop}; nothing half written was left behind", stop.status)
    except KeyboardInterrupt:
        fail("interrupted; nothing half written was left behind", 130)
    except QvggtError as error:
        fail(str(error), 1)
    except OSError as error:
        _abandon_stdout()
        if isinstance(error, BrokenPipeError):  # who reads our output has seen enough of it
            sys.exit(1)
        fail(_system_sentence(error), 1)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        fail("the memory ran out: use fewer images, say --memory or --window, or take a smaller model", 1)


def run(arguments: Sequence[str]) -> None:
    """Find the command, parse its arguments and call it.

    Raises:
        SystemExit: there is no such command, its arguments are not understood, or its help was asked for.
    """
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        sys.stdout.write(command_help(COMMANDS))
    elif name == "--version":
        sys.stdout.write(f"qvggt {__version__}\n")
    elif name in COMMANDS:
        tyro.cli(COMMANDS[name], prog=f"qvggt {name}", args=rest, config=(tyro.conf.DisallowNone,))
    else:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(COMMANDS)}"
        fail(f"there is no command {name!r}: {meant} (qvggt --help says more)", 2)


def fail(sentence: str, status: int) -> None:
    """Say what is wrong in one line on standard error, and exit."""
    say_why(sentence)
    sys.exit(status)


def _system_sentence(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full: free some space or choose another place"
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename!r}: {reason}" if error.filename else reason


def _is_out_of_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def _abandon_stdout() -> None:
    """Give up what could not be written to standard output, or the interpreter would try, and complain, once more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
