"""What an engine is: something that makes a file of a piece of the model, and something that runs the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from torch import Tensor, nn

Run = Callable[[np.ndarray], np.ndarray]
"""The piece as an engine runs it: the input's numbers to the output's, both float32."""


@dataclass(frozen=True)
class Source:
    """What an engine makes its file of.

    Attributes:
        module: the piece, in float32; the engine may change it.
        tokens: an input.
        shared: folder for what several engines make in the same way.
    """

    module: nn.Module
    tokens: Tensor
    shared: Path


@dataclass(frozen=True)
class Engine:
    """A way to run a piece of the model.

    Attributes:
        prepare: writes whatever it needs into a folder, which is all that ``open`` sees. Raises ``Failed``, or anything
            else, where the engine cannot do it.
        open: reads the folder and returns how to run it with so many threads.
        runtime: the package that runs it; what it takes in memory is not counted.
        tools: packages besides that are needed to prepare.
    """

    prepare: Callable[[Source, Path], None]
    open: Callable[[Path, int], Run]
    runtime: str = "torch"
    tools: tuple[str, ...] = ()

    def missing(self) -> str | None:
        """Return why the engine cannot be tried on this machine, or None."""
        absent = [name for name in (self.runtime, *self.tools) if find_spec(name) is None]
        return f"not installed: {', '.join(absent)} (pip install 'qvggt[bench]')" if absent else None
