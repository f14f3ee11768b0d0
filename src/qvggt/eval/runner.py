"""Scenes through a meter, one after the other or over processes; what is stored already is not measured again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import torch

from qvggt.eval.plan import Job
from qvggt.eval.results import SceneResult
from qvggt.eval.store import ResultStore
from qvggt.eval.work import Work
from qvggt.options import RunOptions


def run(
    work: Work,
    jobs: Sequence[Job],
    options: RunOptions,
    settings: Mapping[str, Any],
    on_result: Callable[[SceneResult, bool], None] = lambda result, stored: None,
) -> list[SceneResult]:
    """Measure scenes.

    The figures of a scene depend on nothing but the work, its frames and the settings: not on the other scenes, their
    order, the engine or an interruption.

    Args:
        work: what to measure.
        jobs: the scenes.
        options: how.
        settings: everything that determines the figures besides a scene's frames; the store's key.
        on_result: called with each result and whether it was stored before.

    Returns:
        One result a job, in the order of the jobs.

    Raises:
        QvggtError: a scene or the model cannot be read, the store cannot be written, or Ray is missing.
    """
    store = None if options.store is None else ResultStore(options.store, settings)
    results: dict[str, SceneResult] = {}
    for job in jobs if store is not None and not options.fresh else ():
        stored = store.get(job) if store is not None else None
        if stored is not None:
            results[job.record.name] = stored
            on_result(stored, True)
    left = [job for job in jobs if job.record.name not in results]
    with closing(_measured(work, left, options)) as measured:
        for job, result in measured:
            if store is not None:
                store.put(job, result)
            results[job.record.name] = result
            on_result(result, False)
    return [results[job.record.name] for job in jobs]


Measured = Generator[tuple[Job, SceneResult], None, None]


def _measured(work: Work, jobs: Sequence[Job], options: RunOptions) -> Measured:
    if jobs and options.engine == "ray":
        from qvggt.eval.ray import run_ray

        yield from run_ray(work, jobs, options)
    elif jobs:
        yield from run_local(work, jobs, options)


def run_local(work: Work, jobs: Sequence[Job], options: RunOptions) -> Measured:
    """Yield the result of each job as it comes, in order."""
    with cpu_threads(options.threads):
        meter = work.make_meter()
    for job in jobs:
        with cpu_threads(options.threads):
            result = meter(work.scene(job))
        yield job, result


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads of the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
