"""Map a function that holds a loaded model over scenes, in this process or on Ray."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from qvggt.inference.memory_plan import ModelSize, plan_memory
from qvggt.inference.memory_sums import PassSize
from qvggt.options import Head, InferenceOptions
from qvggt.types import QvggtError

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Workers:
    """The processes that compute scenes, one scene at a time each.

    Attributes:
        threads: CPU threads of each.
        ray: address of a Ray cluster, as in ``WorkerOptions``; None for this process alone.
        most: most processes on Ray; None for as many as fit.
        memory_bytes: memory that each reserves on Ray; 0 for none.
        uses_gpu: whether each reserves a GPU on Ray.
    """

    threads: int = 1
    ray: str | None = None
    most: int | None = None
    memory_bytes: int = 0
    uses_gpu: bool = False


def map_scenes(
    make: Callable[[], Callable[[Task], Result]], tasks: Sequence[Task], workers: Workers
) -> Generator[tuple[Task, Result | QvggtError]]:
    """Yield each task with its result: in order in this process, and in order of completion on Ray.

    Closing the generator stops all workers. A result does not depend on the other tasks or on where it is computed.

    Args:
        make: loads the model and returns the function of a task; called once in each process, and on Ray pickled.
        tasks: one per scene; on Ray pickled.
        workers: where they are computed.

    Yields:
        A task and its result, or the error that says that its workers died.

    Raises:
        QvggtError: Ray is not installed, its cluster is not found, or no machine of it has room for a worker. Also
            whatever ``make`` and the function raise.
    """
    if workers.ray is not None and tasks:
        from qvggt.inference.ray_workers import map_on_ray

        yield from map_on_ray(make, tasks, workers)
        return
    function = None
    for task in tasks:
        with cpu_threads(workers.threads):
            function = function or make()
            result = function(task)
        yield task, result


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Set the number of CPU threads of torch inside the ``with``."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def worker_bytes(
    model: ModelSize, frames: int, heads: Collection[Head], options: InferenceOptions, *, written_points: int = 0
) -> int:
    """Return the peak memory of a process that keeps a model and passes scenes of square images through it.

    Args:
        model: memory of the model and its process.
        frames: of the largest scene.
        heads: which heads are run.
        options: how a scene passes through the model; its memory limit, if there is one, is what is returned.
        written_points: most points in files that are written; 0 if none are written.
    """
    if options.memory_bytes is not None:
        return options.memory_bytes
    side = model.config.image_size
    size = PassSize.of((frames, 3, side, side), heads, options, stored=options.windows is not None)
    return plan_memory(replace(model, stays=True), size, written_points=written_points).peak_bytes
