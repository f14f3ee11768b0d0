"""Memory that ``qvggt plan`` predicts against the peak of ``qvggt reconstruct``, as a table of docs/decisions.md.

    python benchmarks/memory_plan.py [MODEL ...] [--frames N ...] [--compute NAME ...] [--window N] [--repeats N]

Without MODEL: nano, and nano in 4 bits. The images are those of the sample scene; each run is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qvggt
from qvggt.weights.pretrained import SAMPLE_SCENE

_SAID = {"nano": "nano", "nano-4bit": "nano in 4 bits"}


@dataclass(frozen=True)
class PlannedRun:
    """A reconstruction that is planned and run.

    Attributes:
        model: name or place.
        compute: arithmetic.
        frames: number of images.
        window: frames of a window, or None for all at once.
        memory: limit of both, such as ``1.2GB``, or None.
    """

    model: str
    compute: str
    frames: int
    window: int | None = None
    memory: str | None = None

    def options(self) -> list[str]:
        """Return what both commands are given."""
        options = ["--frames", str(self.frames), "--compute", self.compute]
        options += [] if self.window is None else ["--window", str(self.window)]
        return options + ([] if self.memory is None else ["--memory", self.memory])

    def row(self, planned: int, peaks: Sequence[int]) -> str:
        """Return a row of the table.

        Args:
            planned: bytes.
            peaks: bytes, of every run.
        """
        least, most = min(peaks), max(peaks)
        off = dict.fromkeys(f"{100 * (planned / peak - 1):+.1f} %" for peak in (most, least))
        shown = dict.fromkeys(f"{peak / 1e6:.0f}" for peak in (least, most))
        name, window = Path(self.model).name, "" if self.window is None else f", windows of {self.window}"
        cells = (
            _SAID.get(name, name), self.compute, f"{self.frames}{window}", self.memory or "none",
            f"{planned / 1e6:.0f} MB", f"{' to '.join(shown)} MB", " to ".join(off),
        )  # fmt: skip
        return f"| {' | '.join(cells)} |"


def runs(
    models: Sequence[str], computes: Sequence[str], frames: Sequence[int], window: int, memory: str | None
) -> list[PlannedRun]:
    """Return what is run: each model in each arithmetic with each number of images, at once and in windows.

    Models that are not quantized have no int8, and no more frames than a window holds need windows.
    """
    found = []
    for model in models:
        for compute in computes:
            if compute == "int8" and not Path(model, "recipe.json").exists():
                continue
            found += [PlannedRun(model, compute, count, None, memory=memory) for count in frames]
            found += [PlannedRun(model, compute, count, window, memory=memory) for count in frames if count > window]
    return found


def figures(arguments: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run a command of qvggt with one thread and return the figures that it saves."""
    command = [sys.executable, "-m", "qvggt", *arguments, "--json", str(folder / "figures.json")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads((folder / "figures.json").read_text(encoding="utf-8"))


def measure(run: PlannedRun, repeats: int) -> tuple[int, list[int]]:
    """Return the planned and the measured peaks of a run, in bytes."""
    peaks = []
    with tempfile.TemporaryDirectory(prefix="qvggt-plan-") as place:
        planned = figures(["plan", run.model, str(SAMPLE_SCENE), *run.options()], Path(place))
        for repeat in range(repeats):
            output = ["-o", f"{place}/{repeat}"]
            found = figures(["reconstruct", run.model, str(SAMPLE_SCENE), *output, *run.options()], Path(place))
            peaks.append(found["peak_memory_bytes"])
    return planned["peak_bytes"], peaks


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--compute", nargs="+", default=["float32", "bfloat16", "int8"])
    parser.add_argument("--window", type=int, default=4)
    parser.add_argument("--memory", help="limit of both commands, such as 1.2GB")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print("| model | compute | images | limit | plan | peak | plan against peak |\n|---|---|---|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory(prefix="qvggt-plan-") as place:
        models = options.models
        if not models:
            qvggt.quantize_to("nano", f"{place}/nano-4bit", "rtn")
            models = ["nano", f"{place}/nano-4bit"]
        for run in runs(models, options.compute, options.frames, options.window, memory=options.memory):
            print(run.row(*measure(run, options.repeats)), flush=True)


if __name__ == "__main__":
    main()
