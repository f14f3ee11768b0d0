"""Scenes spread over a Ray cluster. A worker that dies loses nothing: its scene is measured by another.

``RAY_ADDRESS`` names the cluster (``auto`` for one that runs on this machine); without it, workers run here. Models and
data are read by the workers, so on a cluster their paths must hold on every machine.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from qvggt.eval.evaluators import Meter
from qvggt.eval.plan import Job
from qvggt.eval.results import SceneResult
from qvggt.eval.work import Work
from qvggt.options import RunOptions
from qvggt.types import QvggtError

log = logging.getLogger(__name__)

_MAX_DEATHS = 3  # of workers, on one scene
_STORE_BYTES = 256 * 2**20  # results are small, and scenes are never sent


class Bench:
    """One worker: it makes its meter once, with the first scene, and measures scene after scene."""

    def __init__(self, work: Work, threads: int) -> None:
        torch.set_num_threads(threads)
        self._work = work
        self._meter: Meter | None = None

    def measure(self, job: Job) -> SceneResult:
        """Measure one scene."""
        if self._meter is None:
            self._meter = self._work.make_meter()
        return self._meter(self._work.scene(job))


def run_ray(work: Work, jobs: Sequence[Job], options: RunOptions) -> Iterator[tuple[Job, SceneResult]]:
    """Yield the result of each job as it comes, in any order.

    Raises:
        QvggtError: Ray is not installed or its cluster not found, what a worker raises, or a scene that kills every
            worker that it is given to.
    """
    ray = _import_ray()
    with _cluster(ray, options):
        workers = min(len(jobs), options.workers or _room(ray, options))
        yield from _spread(ray, work, deque(jobs), workers, options)


def _spread(
    ray: Any, work: Work, waiting: deque[Job], workers: int, options: RunOptions
) -> Iterator[tuple[Job, SceneResult]]:
    gpus = 1 if torch.device(options.device).type == "cuda" else 0
    # One task at a time is in a worker, so that a death costs one scene; Ray's own restarts would hide which.
    bench = ray.remote(num_cpus=options.threads, num_gpus=gpus, max_restarts=0)(Bench)
    shared = ray.put(work)
    deaths: Counter[str] = Counter()
    running: dict[Any, tuple[Any, Job]] = {}

    def give(worker: Any) -> None:
        if waiting:
            job = waiting.popleft()
            running[worker.measure.remote(job)] = (worker, job)
        else:
            ray.kill(worker)

    try:
        for _ in range(workers):
            give(bench.remote(shared, options.threads))
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            worker, job = running.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayActorError as error:
                deaths[job.record.name] += 1
                if deaths[job.record.name] >= _MAX_DEATHS:
                    raise _deadly(job) from error
                log.warning("a worker died on scene %s: another one takes it", job.record.name)
                waiting.appendleft(job)
                worker = bench.remote(shared, options.threads)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            else:
                yield job, result
            give(worker)
    finally:
        for worker, _ in running.values():
            ray.kill(worker)


def _deadly(job: Job) -> QvggtError:
    return QvggtError(
        f"{_MAX_DEATHS} workers died on scene {job.record.name}, probably because memory ran out: use fewer workers or "
        "frames."
    )


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise QvggtError('the engine "ray" needs Ray: pip install "qvggt[ray]".') from error
    return ray


@contextmanager
def _cluster(ray: Any, options: RunOptions) -> Iterator[None]:
    """Be connected to a cluster, and leave it as it was found."""
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about a run leaves the machine
            cpus = max(os.cpu_count() or 1, (options.workers or 1) * options.threads)
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise QvggtError(
            f"Ray cannot be reached or started ({str(error).splitlines()[0]}): check RAY_ADDRESS."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _room(ray: Any, options: RunOptions) -> int:
    resources = ray.cluster_resources()
    if torch.device(options.device).type == "cuda":
        return max(1, int(resources.get("GPU", 0)))
    return max(1, int(resources.get("CPU", 1)) // options.threads)
