"""The command line: a table of commands, one thin file each, and one place where errors become one-line messages."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from qvggt.cli.app import app
from qvggt.cli.bench import bench
from qvggt.cli.compare import compare
from qvggt.cli.demo import demo
from qvggt.cli.doctor import doctor
from qvggt.cli.evaluate import evaluate
from qvggt.cli.export import export
from qvggt.cli.export_model import export_model
from qvggt.cli.fidelity import fidelity
from qvggt.cli.frames import frames
from qvggt.cli.inspect import inspect
from qvggt.cli.messages import command_help, messages_on_stderr, say_why
from qvggt.cli.parsing import SHELLS, completion, parse
from qvggt.cli.plan import plan
from qvggt.cli.push import push
from qvggt.cli.quantize import quantize
from qvggt.cli.reconstruct import reconstruct
from qvggt.cli.refine import refine
from qvggt.cli.render import render
from qvggt.cli.scale import scale
from qvggt.cli.sensitivity import sensitivity
from qvggt.cli.stopping import Stopped, clean_stop
from qvggt.cli.train import train
from qvggt.cli.view import view
from qvggt.options.messages import did_you_mean
from qvggt.types import QvggtError
from qvggt.version import __version__

COMMANDS: dict[str, Callable[..., Any]] = {
    "reconstruct": reconstruct,
    "frames": frames,
    "view": view,
    "app": app,
    "scale": scale,
    "refine": refine,
    "export": export,
    "export-model": export_model,
    "quantize": quantize,
    "push": push,
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
    "doctor": doctor,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; return on success, else exit.

    The exit status is 1 for an error, 2 for arguments that cannot be parsed, and 128 plus the signal's number if a
    signal stopped the command (130 for Ctrl-C, 143 for SIGTERM); docs/command-line.md lists them.

    Raises:
        SystemExit: with that status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_closed_outputs()
    if hasattr(sys.stdout, "reconfigure"):  # file names may not be valid in the terminal's encoding
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with messages_on_stderr(), clean_stop():
            run(arguments)
            sys.stdout.flush()
    except Stopped as stop:
        fail(f"{stop}; no partial files were left behind", stop.status)
    except KeyboardInterrupt:
        fail("interrupted; no partial files were left behind", 130)
    except QvggtError as error:
        fail(str(error), 1)
    except OSError as error:
        _abandon_stdout()
        if isinstance(error, BrokenPipeError):  # the reader closed the pipe
            sys.exit(1)
        fail(_system_message(error), 1)
    except (MemoryError, RuntimeError) as error:
        from qvggt.inference.process_memory import OUT_OF_MEMORY, is_out_of_memory

        if not is_out_of_memory(error):
            raise
        fail(f"{OUT_OF_MEMORY}; qvggt doctor says what fits here", 1)


def _open_closed_outputs() -> None:
    """Let what goes to an output that the caller closed (``>&-``) vanish; no other file takes its number."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process


def run(arguments: Sequence[str]) -> None:
    """Find the command, parse its arguments and call it.

    Raises:
        SystemExit: the command does not exist, its arguments cannot be parsed, or its help was requested.
    """
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        sys.stdout.write(command_help(COMMANDS))
    elif name == "--version":
        sys.stdout.write(f"qvggt {__version__}\n")
    elif name == "--print-completion":
        if len(rest) != 1:
            fail(f"--print-completion expects one shell: {', '.join(SHELLS)}", 2)
        sys.stdout.write(completion(rest[0], COMMANDS))
    elif name in COMMANDS:
        parse(name, COMMANDS[name], rest)()
    else:
        nearest = did_you_mean(name, (*COMMANDS, "--help", "--version", "--print-completion"))
        choice = nearest or f"; choose one of {', '.join(COMMANDS)}"
        fail(f"unknown command {name!r}: see qvggt --help{choice}", 2)


def fail(sentence: str, status: int) -> None:
    """Print an error message on standard error, and exit."""
    say_why(sentence)
    sys.exit(status)


def _system_message(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full: free some space or choose another place"
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename!r}: {reason}" if error.filename else reason


def _abandon_stdout() -> None:
    """Discard unwritten output; at exit the interpreter would try to write it again, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
