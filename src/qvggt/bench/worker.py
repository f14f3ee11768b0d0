"""The process in which one run is measured: a job as JSON on standard input, what it took on standard output."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from qvggt.api import reconstruct as api
from qvggt.bench.job import Job, Measured
from qvggt.inference.process_memory import keep_memory, peak_memory_bytes, resident_memory_bytes
from qvggt.model import VGGT
from qvggt.types import QvggtError

SAMPLED = 4096
"""At most so many numbers of each answer are kept, evenly spread, to compare models by."""


def measure(job: Job) -> Measured:
    """Load the model, warm it up, and run it once.

    A CPU is warm after one small image. On other devices kernels are compiled and chosen for their shapes: there the
    first pass is as large as the second.

    Raises:
        QvggtError: the model cannot be loaded, or the images are of an impossible size.
    """
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    keep_memory()  # as the command line does
    base = resident_memory_bytes()
    started = time.perf_counter()
    model = api.load(job.model, job.device, job.compute, global_attention=job.global_attention)
    load_seconds = time.perf_counter() - started
    patch = model.config.patch_size
    if job.size_px % patch:
        raise QvggtError(f"images of {job.size_px} px cannot be cut into patches of {patch} px: choose a multiple")
    generator = torch.Generator().manual_seed(job.seed)
    images = torch.rand(1, job.frames, 3, job.size_px, job.size_px, generator=generator).to(job.device)
    with torch.inference_mode():
        small = torch.device(job.device).type == "cpu"
        model(images[:, :1, :, : 4 * patch, : 4 * patch] if small else images, heads=job.heads)
        _wait(job.device)
        with timed_parts(model, job.device) as parts:
            started = time.perf_counter()
            answers = model(images, heads=job.heads)
            _wait(job.device)
            seconds = time.perf_counter() - started
    peak = peak_memory_bytes() - base
    if torch.device(job.device).type == "cuda":
        peak += torch.cuda.max_memory_allocated()
    if job.answers:
        np.savez(job.answers, **{name: sampled(value) for name, value in answers.items()})  # pyright: ignore
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    parts["other"] = max(0.0, seconds - sum(parts.values()))
    return Measured(seconds, load_seconds, peak, base, weights, parts)


@contextmanager
def timed_parts(model: VGGT, device: str) -> Iterator[dict[str, float]]:
    """Measure what each part of a model takes, as long as the ``with`` lasts."""
    parts: dict[str, float] = {}
    since: dict[str, float] = {}

    def watch(name: str, module: nn.Module) -> list[torch.utils.hooks.RemovableHandle]:
        def before(*_: object) -> None:
            _wait(device)
            since[name] = time.perf_counter()

        def after(*_: object) -> None:
            _wait(device)
            parts[name] = parts.get(name, 0.0) + time.perf_counter() - since[name]

        return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]

    aggregator = model.aggregator
    watched = [("patch embedding", aggregator.patch_embed), ("camera head", model.camera_head)]
    watched += [("depth head", model.depth_head), ("point head", model.point_head)]
    watched += [("frame attention", block) for block in aggregator.frame_blocks]
    watched += [("global attention", block) for block in aggregator.global_blocks]
    handles = [handle for name, module in watched for handle in watch(name, module)]
    dense = {"depth head": model.depth_head, "point head": model.point_head}
    for name, head in dense.items():  # they read pairs of blocks as these come, outside of their forward pass
        head.begin = _timed(head.begin, name, parts, device)
    try:
        yield parts
    finally:
        for handle in handles:
            handle.remove()
        for head in dense.values():
            del head.begin


def _timed(function: Callable[..., Tensor], name: str, parts: dict[str, float], device: str) -> Callable[..., Tensor]:
    def run(*arguments: object) -> Tensor:
        _wait(device)
        since = time.perf_counter()
        result = function(*arguments)
        _wait(device)
        parts[name] = parts.get(name, 0.0) + time.perf_counter() - since
        return result

    return run


def sampled(value: Tensor) -> np.ndarray:
    """Return at most ``SAMPLED`` numbers of an answer, evenly spread, as float32."""
    flat = value.float().flatten()
    return flat[:: max(1, len(flat) // SAMPLED)][:SAMPLED].cpu().numpy()


def _wait(device: str) -> None:
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize(device)


def main() -> None:
    """Measure one job."""
    job = Job(**json.load(sys.stdin))
    try:
        found = measure(job)
    except (QvggtError, RuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        sys.stderr.write(f"{Path(job.model).name}: {reason}\n")
        sys.exit(1)
    json.dump(asdict(found), sys.stdout)


if __name__ == "__main__":
    main()
