"""Scenes on a Ray cluster: Ray places the workers, restarts those that die, and retries their scenes.

Workers read models and data and write results themselves, so on several machines paths must hold on all of them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from qvggt.inference.process_memory import size_text
from qvggt.inference.scenes import Result, Task, Workers
from qvggt.options.messages import missing_extra
from qvggt.types import QvggtError

log = logging.getLogger(__name__)

_RETRIES = 2
"""Times that a scene is computed again whose worker died."""
_STORE_BYTES = 256 * 2**20
"""Ray's memory for objects of a cluster that is started here: results are small, and scenes are never sent."""


class _Worker:
    """A Ray actor, which makes its function with the first task and keeps it for the others."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]], threads: int) -> None:
        torch.set_num_threads(threads)
        self._make = make
        self._function: Callable[[Any], Any] | None = None

    def run(self, task: Any) -> Any:
        """Return the result of a task."""
        if self._function is None:
            self._function = self._make()
        return self._function(task)


def map_on_ray(
    make: Callable[[], Callable[[Task], Result]], tasks: Sequence[Task], workers: Workers
) -> Generator[tuple[Task, Result | QvggtError]]:
    """Yield each task with its result when it is done: see ``map_scenes``."""
    ray = _import_ray()
    with _cluster(ray, workers):
        memory = 0 if workers.uses_gpu else workers.memory_bytes  # the plan's is then the GPU's
        needs = {"CPU": workers.threads, "GPU": int(workers.uses_gpu), "memory": memory}
        actor_class = ray.remote(
            num_cpus=needs["CPU"],
            num_gpus=needs["GPU"],
            memory=needs["memory"],
            max_restarts=-1,
            max_task_retries=_RETRIES,
        )(_Worker)
        count = min(len(tasks), _worker_count(ray, needs, workers.most))
        actors = [actor_class.remote(make, workers.threads) for _ in range(count)]
        try:
            yield from _results(ray, actors, tasks)
        finally:
            for actor in actors:
                ray.kill(actor)


def _results(ray: Any, actors: Sequence[Any], tasks: Sequence[Task]) -> Generator[tuple[Task, Any | QvggtError]]:
    """Give each actor one task at a time."""
    waiting = iter(tasks)
    running = {actor.run.remote(task): (actor, task) for actor, task in zip(actors, waiting, strict=False)}
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        actor, task = running.pop(done)
        for following in waiting:
            running[actor.run.remote(following)] = actor, following
            break
        try:
            result = ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError:
            result = QvggtError(
                f"{1 + _RETRIES} workers died on it, probably because memory ran out: use fewer workers or frames "
                "(--workers, --frames)"
            )
        yield task, result


def _worker_count(ray: Any, needs: Mapping[str, int], most: int | None) -> int:
    """Return how many workers fit the machines of the cluster, or the most that are wanted."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    needed = {name: need for name, need in needs.items() if need}
    count = sum(min(int(has.get(name, 0) // need) for name, need in needed.items()) for has in machines)
    memory = f" and {size_text(needs['memory'])} of memory" if needs["memory"] else ""
    what = f"{needs['CPU']} CPUs{', a GPU' if needs['GPU'] else ''}{memory}"
    if count == 0:
        raise QvggtError(
            f"no machine of the Ray cluster has room for a worker, which takes {what}: use fewer threads or frames "
            "(--threads, --frames), or a smaller model"
        )
    if most is not None and most > count:
        log.warning("%d workers fit the Ray cluster, not %d: each takes %s", count, most, what)
    return count if most is None else min(most, count)


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise missing_extra("a Ray cluster", "ray") from error
    return ray


@contextmanager
def _cluster(ray: Any, workers: Workers) -> Iterator[None]:
    """Use the connection to a cluster that exists, or connect and disconnect again."""
    if ray.is_initialized():
        yield
        return
    try:
        _connect(ray, workers)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        raise QvggtError(
            f"Ray cannot be reached or started ({str(error).splitlines()[0]}): check the address (--ray, RAY_ADDRESS), "
            "and set RAY_AUTH_MODE=token if the cluster asks for a token"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _connect(ray: Any, workers: Workers) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if workers.ray != "local":
        try:
            ray.init(address=workers.ray, **quiet)
            return
        except ConnectionError:
            if workers.ray != "auto" or os.environ.get("RAY_ADDRESS"):
                raise
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send no usage statistics
    cpus = max(os.cpu_count() or 1, (workers.most or 1) * workers.threads)
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
