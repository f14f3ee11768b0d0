"""The command line: a table of commands, one thin file for each, and one place where errors become sentences."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

from qvggt import __version__
from qvggt.cli.demo import demo
from qvggt.cli.inspect import inspect
from qvggt.cli.quantize import quantize
from qvggt.cli.reconstruct import reconstruct
from qvggt.cli.train import train
from qvggt.types import QvggtError

COMMANDS: dict[str, Callable[..., Any]] = {
    "reconstruct": reconstruct,
    "quantize": quantize,
    "inspect": inspect,
    "train": train,
    "demo": demo,
}

DESCRIPTION = (
    "VGGT in 4 bits per weight with its geometry intact: photographs in, cameras, depth and points out. "
    "Every MODEL may be nano (carried along), a hub id such as facebook/VGGT-1B, a .safetensors or .pt file, a folder, "
    "a quantized checkpoint, or seeded:vggt-1b (full size, stand-in weights, for speed and memory)."
)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 could not be done, 2 not understood, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        sys.stdout.write(f"qvggt {__version__}\n")
        return
    _set_up_logging()
    try:
        run(arguments or ["--help"])
    except KeyboardInterrupt:
        fail("interrupted; nothing half written was left behind", 130)
    except QvggtError as error:
        fail(str(error), 1)
    except BrokenPipeError:
        sys.exit(1)
    except MemoryError:
        fail("memory ran out; use fewer or smaller images, or a smaller model", 1)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            fail("the disk is full; free some space or choose another place", 1)
        fail(f"{error.strerror or error}: {error.filename!r}" if error.filename else str(error), 1)


def run(arguments: Sequence[str]) -> None:
    """Parse the arguments and call their command."""
    import tyro  # takes a moment, which --version need not wait for

    tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="qvggt", description=DESCRIPTION, args=list(arguments))


def fail(sentence: str, status: int) -> None:
    """Say what is wrong in one line on standard error, and exit."""
    sys.stderr.write(f"qvggt: {' '.join(sentence.split())}\n")
    sys.exit(status)


def _set_up_logging() -> None:
    logging.basicConfig(level=logging.WARNING, format="qvggt: %(message)s", stream=sys.stderr)
    logging.getLogger("qvggt").setLevel(logging.INFO)
