"""From a command's arguments to a call: options of every command, examples, suggestions, completion."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal, get_args, get_origin

import tyro

from qvggt.cli import arguments as given
from qvggt.cli.examples import EXAMPLES
from qvggt.cli.messages import say_why
from qvggt.options.messages import did_you_mean
from qvggt.types import QvggtError

log = logging.getLogger(__name__)

Command = Callable[..., Any]
SHELLS = ("bash", "zsh", "fish", "tcsh")
"""Shells for which there are completions; those for tcsh need the package shtab."""

RENAMED = {"--confidence": "--drop-percent"}
"""Former names of options, which still work and are not in the help."""

_CONFIG = (tyro.conf.DisallowNone,)


@dataclass(frozen=True)
class Verbosity:
    """How much a command prints, an option of every command.

    Attributes:
        quiet: errors only, no results.
        verbose: debug messages too, with the logger's name, and the traceback of an error.

    Raises:
        QvggtError: both are asked for.
    """

    quiet: Annotated[bool, given.Flag, given.flag("print errors only", "q")] = False
    verbose: Annotated[bool, given.Flag, given.flag("print debug messages too, and tracebacks of errors", "v")] = False

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise QvggtError("--quiet and --verbose exclude each other: give one of them")

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Print as much as is asked for; the log's level and Python's warnings are the caller's to restore."""
        from qvggt.cli.show import console

        console.quiet = self.quiet
        if self.quiet:
            logging.getLogger("qvggt").setLevel(logging.ERROR)
            warnings.simplefilter("ignore")
        elif self.verbose:
            logging.getLogger("qvggt").setLevel(logging.DEBUG)
        try:
            yield
        except QvggtError:
            log.debug("an error ended the command", exc_info=True)
            raise
        finally:
            console.quiet = False


@dataclass(frozen=True)
class Call:
    """A command with its arguments."""

    function: Callable[[], None]
    verbosity: Verbosity

    def __call__(self) -> None:
        """Run the command."""
        with self.verbosity.applied():
            self.function()


def parse(name: str, command: Command, arguments: Sequence[str]) -> Call:
    """Return the call that a command's arguments ask for.

    Raises:
        SystemExit: the help was requested and printed (0), or the arguments are wrong, which has been said (2).
    """
    try:
        with _plain_where_asked():
            return tyro.cli(
                _call_of(command), prog=f"qvggt {name}", args=_renamed(arguments), config=_CONFIG
            )  # fmt: skip
    except SystemExit as stop:
        if not stop.code:
            lines = "".join(f"  {line}\n" for line in EXAMPLES.get(name, ()))
            sys.stdout.write(f"\nexamples:\n{lines}\n")
        else:
            for sentence in _near_choices(command, arguments):
                say_why(sentence)
        raise


def completion(shell: str, commands: Mapping[str, Command]) -> str:
    """Return the script that makes a shell complete commands and options.

    Raises:
        QvggtError: there is no script for this shell, or it needs a package that is missing.
    """
    if shell not in SHELLS:
        raise QvggtError(f"no completion for {shell!r}: expected {', '.join(SHELLS)}{did_you_mean(shell, SHELLS)}")
    calls = {name: _call_of(command) for name, command in commands.items()}
    arguments = ["--tyro-print-completion", shell]
    with contextlib.redirect_stdout(io.StringIO()) as script, contextlib.suppress(SystemExit, ImportError):
        tyro.extras.subcommand_cli_from_dict(calls, prog="qvggt", args=arguments, config=_CONFIG)
    if not script.getvalue():
        raise QvggtError(f"tyro makes no completion for {shell} by itself: pip install shtab")
    return script.getvalue()


def _call_of(command: Command) -> Callable[..., Call]:
    """Return a function of the command's parameters and those of every command, which returns the call."""

    def call(*, verbosity: Annotated[Verbosity, tyro.conf.arg(name="")] = Verbosity(), **values: Any) -> Call:
        return Call(partial(command, **values), verbosity)

    signature = inspect.signature(command, eval_str=True)
    added = inspect.signature(call, eval_str=True).parameters["verbosity"]
    parameters = [*signature.parameters.values(), added]
    call.__signature__ = signature.replace(parameters=parameters)  # pyrefly: ignore[missing-attribute]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    call.__doc__ = command.__doc__
    return call


def _renamed(arguments: Sequence[str]) -> list[str]:
    """Return arguments with the present names of options that were renamed."""
    parts = [argument.partition("=") for argument in arguments]
    return ["".join((RENAMED.get(option, option), *value)) for option, *value in parts]


@contextmanager
def _plain_where_asked() -> Iterator[None]:
    """Have tyro print without color if NO_COLOR is set or an output is no terminal: it asks standard output only."""
    if not os.environ.get("NO_COLOR") and sys.stdout.isatty() and sys.stderr.isatty():
        yield
        return
    terminal = os.environ.get("TERM")
    os.environ["TERM"] = "dumb"
    try:
        yield
    finally:
        if terminal is None:
            del os.environ["TERM"]
        else:
            os.environ["TERM"] = terminal


def _near_choices(command: Command, arguments: Sequence[str]) -> Iterator[str]:
    """Yield a line for each value that is near one of its option's choices without being one."""
    parameters = inspect.signature(command, eval_str=True).parameters
    choices = {f"--{name.replace('_', '-')}": _choices(each.annotation) for name, each in parameters.items()}
    option = ""
    for argument in arguments:
        option, _, value = argument.partition("=") if argument.startswith("-") else (option, "", argument)
        option, known = option.replace("_", "-"), choices.get(option.replace("_", "-"), ())
        nearest = did_you_mean(value, known) if value and known and value not in known else ""
        if nearest:
            yield f"{option} has no choice {value!r}{nearest}"


def _choices(annotation: Any) -> tuple[str, ...]:
    """Return the strings that a type allows if it is a Literal, or has one in it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return tuple(each for each in inner if isinstance(each, str))
    if origin is Annotated:
        inner = inner[:1]
    return tuple(choice for each in inner for choice in _choices(each))
