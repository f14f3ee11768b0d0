"""Runs the command line, in this process or in one of its own, and looks at what it leaves behind."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from qvggt.model import VGGTConfig
from qvggt.weights.seeded import SeededSource

MODEL = "seeded:micro"
"""Stand-in weights of the smallest architecture: what it says is meaningless, and it says it quickly."""

WEIGHTS = SeededSource(VGGTConfig.micro())


@dataclass(frozen=True)
class Done:
    """What became of a command."""

    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line by which a command says why it failed."""
        assert self.status in (1, 2), self
        assert self.err.startswith("qvggt: "), self
        assert self.err.count("\n") == 1, self
        assert self.err.endswith("\n"), self
        return self.err.removeprefix("qvggt: ").rstrip("\n")


def process(*arguments: object, **options) -> subprocess.Popen:
    """Start the real command in a process that heeds signals, whatever this one does."""

    def heed() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen(
        [sys.executable, "-m", "qvggt", *map(str, arguments)],
        preexec_fn=heed,
        **options,
    )


def finish(running: subprocess.Popen) -> Done:
    """Wait for a process."""
    out, err = running.communicate(timeout=120)
    return Done(running.returncode, out or "", err or "")


def contents(folder: Path) -> dict[str, str]:
    """Return everything below a folder, hidden names included, with a hash of each file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = f"-> {os.readlink(path)}"
        else:
            found[str(path)] = "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def draw(path: Path, seed: int = 0, width: int = 56, height: int = 56) -> Path:
    """Write a picture of smooth colors."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [128 + 100 * np.sin(x / 9 + seed + k) * np.cos(y / 7 - k) for k in range(3)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack(waves, -1).astype(np.uint8)).save(path)
    return path


def weight(name: str) -> torch.Tensor:
    """Return one of the float weights of ``MODEL``."""
    return WEIGHTS.tensor(name)


def write_weights(path: Path, **replaced: torch.Tensor) -> Path:
    """Write the float weights of ``MODEL`` to a file, some of them replaced."""
    save_file({name: weight(name) for name in WEIGHTS.names()} | replaced, path)
    return path


def short_run(command: str, photos: Path, folder: Path) -> list[object]:
    """Return arguments of a command that takes a MODEL, with which it is quick; its outputs lie in ``folder``."""
    store, calibration = folder / "store", ("--calib-scenes", "2", "--calib-frames", "2")
    runs: dict[str, list[object]] = {
        "reconstruct": [photos, "-o", folder / "out"],
        "fidelity": [MODEL, photos],
        "quantize": ["-o", folder / "out", "--group-size", "32"],
        "evaluate": ["--scenes", "1", "--store", store],
        "compare": ["--methods", "rtn", "--group-size", "32", "--scenes", "1", "--store", store],
        "sensitivity": ["-o", folder / "out.json", "--bits", "4", "--group-size", "32", "--granularity", "unit",
                        *calibration],
        "bench": ["--size", "56", "--against", MODEL, "--repeats", "1", "--compute", "float32"],
        "plan": [],
        "export-model": ["-o", folder / "out.onnx", "--check-frames", "1"],
        "inspect": [],
    }  # fmt: skip
    return [MODEL, *runs[command]]
