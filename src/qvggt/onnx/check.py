"""An ONNX file in ONNX Runtime, beside the model that it was made of."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from qvggt.model import VGGT
from qvggt.options import Head
from qvggt.types import QvggtError

_RUNS = 3
_ENOUGH_S = 20.0
"""No further runs once all took this long together: noise is small in such a time."""


@dataclass(frozen=True)
class OnnxCheck:
    """What ONNX Runtime computed on random images.

    Attributes:
        frames: number of images.
        differences: of each output from the model's, in norms, relative to the model's.
        seconds: of a pass in ONNX Runtime: median of three, or of fewer where they take over 20 seconds together.
        model_seconds: of a pass of the model, the same.
    """

    frames: int
    differences: Mapping[str, float]
    seconds: float
    model_seconds: float


def open_session(path: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Return a function that runs an ONNX file on a CPU with torch's number of threads: images to outputs by name.

    Raises:
        QvggtError: ONNX Runtime does not accept the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has no common class of its own
        raise QvggtError(f"ONNX Runtime does not accept {path.name}: {str(error).splitlines()[0]}") from error
    names = [output.name for output in session.get_outputs()]

    def run(images: np.ndarray) -> dict[str, np.ndarray]:
        return {
            name: np.asarray(value) for name, value in zip(names, session.run(names, {"images": images}), strict=True)
        }

    return run


def check(path: Path, model: VGGT, heads: tuple[Head, ...], image_hw: tuple[int, int], frames: int) -> OnnxCheck:
    """Run a file and its model in turns on the same random images.

    Raises:
        QvggtError: an output has another shape than the model's, or is not finite.
    """
    run = open_session(path)
    images = torch.rand(1, frames, 3, *image_hw, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    times: list[tuple[float, float]] = []
    found, expected = {}, {}
    with torch.inference_mode():
        while len(times) < _RUNS and sum(map(sum, times)) < _ENOUGH_S:
            started = time.perf_counter()
            found = run(images.numpy())
            between = time.perf_counter()
            expected = model(images, heads=heads)
            times.append((between - started, time.perf_counter() - between))
    differences = {}
    for name, value in found.items():
        wanted = expected[name].numpy()
        if value.shape != wanted.shape or not np.isfinite(value).all():
            raise QvggtError(f"ONNX Runtime computes {name} wrongly with {frames} frames: please report this")
        differences[name] = float(np.linalg.norm(value - wanted) / np.linalg.norm(wanted))
    seconds, model_seconds = (statistics.median(column) for column in zip(*times, strict=True))
    return OnnxCheck(frames, differences, seconds=seconds, model_seconds=model_seconds)
