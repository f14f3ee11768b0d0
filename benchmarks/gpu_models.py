"""Whole models on a GPU: the float model, also under autocast, and packed weights by every kernel, one by one.

A model is loaded once for all that runs it, so that minutes of a borrowed GPU go into forward passes.
"""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from qvggt.api import reconstruct as api
from qvggt.backends import BACKENDS
from qvggt.backends.autotune import Autotuner, cuda_seconds
from qvggt.backends.cuda import CudaBackend
from qvggt.backends.plain import HALF_DTYPES
from qvggt.bench.report import relative_differences
from qvggt.bench.worker import sampled
from qvggt.model import VGGT, chunking
from qvggt.options import ALL_HEADS, Compute

OUTPUTS = ("pose_enc", "depth", "world_points")
_HEADS = ("camera", "depth", "point")


@dataclass(frozen=True)
class Way:
    """A way to run a model.

    Attributes:
        title: what a table calls it.
        packed: whether weights are packed.
        compute: mode in which the model is loaded.
        autocast: half-precision type of ``torch.autocast`` around the forward pass; None for no autocast.
        heads_too: whether the heads run under autocast as well; upstream's own forward pass keeps them in float32.
        kernels: beginning of the names of the kernels that packed weights may be multiplied by; empty for the fastest.
    """

    title: str
    packed: bool
    compute: Compute
    autocast: Compute | None = None
    heads_too: bool = False
    kernels: str = ""


HALVES: Collection[Compute] = tuple(HALF_DTYPES)
WAYS = (
    Way("float32", packed=False, compute="float32"),
    *(Way(f"float32, autocast {half}", False, "float32", half, heads_too=True) for half in HALVES),
    *(Way(f"float32, autocast {half} but for the heads", False, "float32", autocast=half) for half in HALVES),
    *(Way(half, False, half) for half in HALVES),
    *(
        Way(f"W4A16 {half}, {kernels or 'fastest'}", True, half, kernels=kernels)
        for half in HALVES
        for kernels in ("expand", "fused", "")
    ),
    Way("W4A16 float32, fastest", packed=True, compute="float32"),
    Way("W4A8 int8", packed=True, compute="int8"),
)
"""In the order in which they run: neighbors share a loaded model."""


@dataclass(frozen=True)
class Load:
    """What all ways are measured on.

    Attributes:
        models: names of the float model, and of its packed one.
        device: a torch device.
        frames: numbers of images.
        size_px: width and height of the images.
        repeats: timed runs, after one that is not.
    """

    models: tuple[str, str]
    device: str
    frames: Sequence[int]
    size_px: int
    repeats: int


def measure_models(load: Load, on_row: Callable[[list[dict[str, Any]]], None]) -> list[dict[str, Any]]:
    """Return a row for every way and number of frames, JSON-ready; one that fails says why.

    ``on_row`` is called with the rows so far after each.
    """
    rows: list[dict[str, Any]] = []
    answers: dict[int, dict[str, np.ndarray]] = {}
    held: tuple[tuple[bool, Compute], VGGT] | None = None
    for way in WAYS:
        if held is None or held[0] != (way.packed, way.compute):
            held = None  # one model at a time
            _release()
            held = (way.packed, way.compute), api.load(load.models[way.packed], load.device, way.compute)
        for frames in load.frames:
            about = {"way": way.title, "frames": frames, "size_px": load.size_px}
            try:
                found, outputs = measure_way(held[1], way, replace(load, frames=(frames,)))
            except Exception as error:  # out of memory, or a kernel that this GPU lacks: the others still count
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                rows.append({**about, "reason": reason})
            else:
                expected = answers.setdefault(frames, outputs)
                rows.append({**about, **found, "relative_differences": relative_differences(outputs, expected)})
            on_row(rows)
    return rows


def measure_way(model: VGGT, way: Way, load: Load) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return time and memory of a way at one number of frames, JSON-ready, and samples of its outputs."""
    (frames,), size, on_gpu = load.frames, load.size_px, torch.device(load.device).type == "cuda"
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, frames, 3, size, size, generator=generator).to(load.device)
    seconds = []
    with torch.inference_mode(), kernels_of(way, on_gpu):
        outputs = run(model, way, images)  # kernels are compiled and chosen
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        for _ in range(load.repeats):
            started = time.perf_counter()
            outputs = run(model, way, images)
            seconds.append(time.perf_counter() - started)
    memory = {"peak_memory_bytes": torch.cuda.max_memory_allocated()} if on_gpu else {}
    times = {"seconds": statistics.median(seconds), "seconds_least": min(seconds), "seconds_most": max(seconds)}
    return {**times, **memory}, {name: sampled(outputs[name]) for name in OUTPUTS}


def run(model: VGGT, way: Way, images: Tensor) -> dict[str, Tensor]:
    """Run a forward pass to its end."""
    if way.autocast is None:
        outputs = chunking.run(model, images, ALL_HEADS)
    else:
        device = images.device.type

        @contextlib.contextmanager
        def observed(unit: str) -> Iterator[None]:
            with torch.autocast(device, enabled=way.heads_too or unit.partition("/")[0] not in _HEADS):
                yield

        with torch.autocast(device, HALF_DTYPES[way.autocast]):
            outputs = chunking.run(model, images, ALL_HEADS, observe=observed)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return outputs


@contextlib.contextmanager
def kernels_of(way: Way, on_gpu: bool) -> Iterator[None]:
    """Let packed weights be multiplied by the way's kernels only, as long as the ``with`` lasts.

    Raises:
        ValueError: the kernels need a CUDA GPU, and there is none.
    """
    if not way.kernels or not on_gpu:
        if way.kernels == "fused":
            raise ValueError("the fused kernel needs a CUDA GPU")
        yield
        return
    every = CudaBackend.candidates

    def candidates(*arguments: Any) -> Mapping[str, Callable[[], Tensor]]:
        found = every(*arguments)
        wanted = {name: call for name, call in found.items() if name.startswith(way.kernels)}
        return wanted or found  # the fused kernel lacks some shapes

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(CudaBackend, "candidates", candidates))
        for backend in BACKENDS.values():
            if isinstance(backend, CudaBackend):
                stack.enter_context(mock.patch.object(backend, "_fastest", Autotuner(cuda_seconds)))
        yield


def _release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
