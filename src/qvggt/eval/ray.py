"""Evaluate scenes on a Ray cluster. When a worker dies, another one evaluates its scene.

``RAY_ADDRESS`` names the cluster (``auto`` for one that runs on this machine); without it a local one is started.
Workers read models and data themselves, so on a cluster paths must hold on every machine.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from qvggt.eval.evaluators import Evaluator
from qvggt.eval.plan import SceneTask
from qvggt.eval.results import SceneResult
from qvggt.eval.run import EvaluationPass
from qvggt.options import RunOptions
from qvggt.options.messages import missing_extra
from qvggt.types import QvggtError

log = logging.getLogger(__name__)

_MAX_DEATHS = 3  # workers that one scene may kill
_STORE_BYTES = 256 * 2**20  # enough: results are small, and scenes are never sent


class Worker:
    """A Ray actor that makes its evaluator with the first scene and keeps it for the others."""

    def __init__(self, evaluation: EvaluationPass, threads: int) -> None:
        torch.set_num_threads(threads)
        self._evaluation = evaluation
        self._evaluate: Evaluator | None = None

    def evaluate(self, task: SceneTask) -> SceneResult:
        """Evaluate one scene."""
        if self._evaluate is None:
            self._evaluate = self._evaluation.make_evaluator()
        return self._evaluate(self._evaluation.scene(task))


def run_ray(
    evaluation: EvaluationPass, tasks: Sequence[SceneTask], options: RunOptions
) -> Iterator[tuple[SceneTask, SceneResult]]:
    """Yield the result of each task when it is done, in any order.

    Raises:
        QvggtError: Ray is not installed, its cluster is not found, a worker raised it, or a scene killed three workers.
    """
    ray = _import_ray()
    with _cluster(ray, options):
        workers = min(len(tasks), options.workers or _free_workers(ray, options))
        yield from _spread(ray, evaluation, deque(tasks), workers, options=options)


def _spread(
    ray: Any, evaluation: EvaluationPass, waiting: deque[SceneTask], workers: int, options: RunOptions
) -> Iterator[tuple[SceneTask, SceneResult]]:
    gpus = 1 if torch.device(options.device).type == "cuda" else 0
    # A worker has one task at a time, so a death costs one scene. Ray's own restarts would hide which scene it was.
    worker_class = ray.remote(num_cpus=options.threads, num_gpus=gpus, max_restarts=0)(Worker)
    shared = ray.put(evaluation)
    deaths: Counter[str] = Counter()
    running: dict[Any, tuple[Any, SceneTask]] = {}

    def give(worker: Any) -> None:
        if waiting:
            task = waiting.popleft()
            running[worker.evaluate.remote(task)] = (worker, task)
        else:
            ray.kill(worker)

    try:
        for _ in range(workers):
            give(worker_class.remote(shared, options.threads))
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            worker, task = running.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayActorError as error:
                deaths[task.record.name] += 1
                if deaths[task.record.name] >= _MAX_DEATHS:
                    raise _deadly(task) from error
                log.warning("a worker died on scene %s: the scene goes to another worker", task.record.name)
                waiting.appendleft(task)
                worker = worker_class.remote(shared, options.threads)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            else:
                yield task, result
            give(worker)
    finally:
        for worker, _ in running.values():
            ray.kill(worker)


def _deadly(task: SceneTask) -> QvggtError:
    return QvggtError(
        f"{_MAX_DEATHS} workers died on scene {task.record.name}, probably because memory ran out: "
        "use fewer workers or frames"
    )


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise missing_extra("the engine 'ray'", "ray") from error
    return ray


@contextmanager
def _cluster(ray: Any, options: RunOptions) -> Iterator[None]:
    """Use the connection to a cluster that exists, or connect and disconnect again."""
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send no usage statistics
            cpus = max(os.cpu_count() or 1, (options.workers or 1) * options.threads)
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise QvggtError(
            f"Ray cannot be reached or started ({str(error).splitlines()[0]}): check RAY_ADDRESS"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _free_workers(ray: Any, options: RunOptions) -> int:
    resources = ray.cluster_resources()
    if torch.device(options.device).type == "cuda":
        return max(1, int(resources.get("GPU", 0)))
    return max(1, int(resources.get("CPU", 1)) // options.threads)
