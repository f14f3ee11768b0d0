"""The process of one benchmark run: the run as JSON on standard input, its measurement on standard output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qvggt.api import reconstruct as api
from qvggt.backends import choose
from qvggt.bench.measurement import BenchRun, Measurement
from qvggt.checkpoint.open import open_model
from qvggt.inference.process_memory import peak_memory_bytes, resident_memory_bytes, retain_freed_memory
from qvggt.model import chunking
from qvggt.types import QvggtError

_PARTS = {
    "patch_embed": "patch embedding", "frame": "frame attention", "global": "global attention",
    "camera": "camera head", "depth": "depth head", "point": "point head",
}  # fmt: skip
"""The part of the model that each unit of the forward pass belongs to."""

SAMPLED = 4096
"""Most values kept of each output, evenly spaced, to compare models by."""


def measure(run: BenchRun) -> Measurement:
    """Load the model, warm it up, and run it once.

    On a CPU one small image is enough to warm up. On other devices kernels are compiled and selected by shape, so the
    warm-up pass has the size of the measured one.

    Raises:
        QvggtError: the model cannot be loaded, or the image size is not a multiple of its patch size.
    """
    opened = open_model(run.model, run.revision)
    chosen = choose(run.device, run.compute, opened.config.embed_dim, opened.recipe is not None)
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    retain_freed_memory()  # as the command line does
    base = resident_memory_bytes()
    started = time.perf_counter()
    model = api.load(
        run.model, run.device, chosen.compute, revision=run.revision, global_attention=run.global_attention
    )
    load_seconds = time.perf_counter() - started
    patch = model.config.patch_size
    if run.size_px % patch:
        raise QvggtError(
            f"images of {run.size_px} px cannot be cut into patches of {patch} px: choose a multiple (--size)"
        )
    generator = torch.Generator().manual_seed(run.seed)
    images = torch.rand(
        1, run.frames, 3, run.size_px, run.size_px, generator=generator, dtype=torch.float32, device="cpu"
    )
    images = images.to(run.device)
    with torch.inference_mode(), _autocast(run):
        small = torch.device(run.device).type == "cpu"
        model(images[:, :1, :, : 4 * patch, : 4 * patch] if small else images, heads=run.heads)
        _wait(run.device)
        clock = PartClock(run.device)
        started = time.perf_counter()
        outputs = chunking.run(model, images, run.heads, observe=clock)
        _wait(run.device)
        seconds = time.perf_counter() - started
    peak = peak_memory_bytes() - base
    if torch.device(run.device).type == "cuda":
        peak += torch.cuda.max_memory_allocated()
    if run.outputs:
        kept: dict[str, Any] = {name: sampled(value) for name, value in outputs.items()}
        np.savez(run.outputs, **kept)
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    parts = {**clock.seconds, "other": max(0.0, seconds - sum(clock.seconds.values()))}
    return Measurement(
        seconds,
        load_seconds=load_seconds,
        peak_memory_bytes=peak,
        base_memory_bytes=base,
        weight_bytes=weights,
        parts=parts,
        compute=chosen.compute if run.compute == "auto" else "",
    )


class PartClock:
    """An observer of the forward pass that adds up the time of each part of the model, in ``seconds``."""

    def __init__(self, device: str) -> None:
        self.device, self.seconds = device, dict[str, float]()

    @contextmanager
    def __call__(self, unit: str) -> Iterator[None]:
        """Time a unit as a share of its part of the model."""
        part = _PARTS[unit.partition("/")[0]]
        _wait(self.device)
        since = time.perf_counter()
        yield
        _wait(self.device)
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - since


def _autocast(run: BenchRun) -> AbstractContextManager[object]:
    if not run.autocast:
        return nullcontext()
    return torch.autocast(torch.device(run.device).type, getattr(torch, run.autocast))


def sampled(value: Tensor) -> np.ndarray:
    """Return at most ``SAMPLED`` values of an output, evenly spaced, as float32."""
    flat = value.float().flatten()
    return flat[:: max(1, len(flat) // SAMPLED)][:SAMPLED].cpu().numpy()


def _wait(device: str) -> None:
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize(device)


def main() -> None:
    """Measure one run."""
    run = BenchRun(**json.load(sys.stdin))
    try:
        found = measure(run)
    except (QvggtError, RuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        sys.stderr.write(f"{Path(run.model).name}: {reason}\n")
        sys.exit(1)
    json.dump(asdict(found), sys.stdout)


if __name__ == "__main__":
    main()
