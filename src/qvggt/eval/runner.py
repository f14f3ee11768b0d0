"""Scenes through a meter, one after the other or over processes; what is stored already is not measured again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch

from qvggt.backends import Compute
from qvggt.data.dataset import DatasetReader
from qvggt.eval.meters import Meter
from qvggt.eval.plan import Job
from qvggt.eval.results import SceneResult
from qvggt.eval.store import ResultStore, code_hash
from qvggt.images import ImageOptions
from qvggt.model.vggt import DENSE_FRAMES
from qvggt.types import PathLike, QvggtError, Scene

Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class RunOptions:
    """How an evaluation is computed. Only ``threads``, ``device`` and ``compute`` can touch a figure's last digits.

    Attributes:
        store: folder in which results are kept as they come, and looked for first; None keeps nothing.
        fresh: measure everything anew, and replace what is stored.
        engine: ``local``, this process, or ``ray``, a cluster (extra ``ray``).
        workers: of Ray; None for as many as there is room for.
        threads: of the CPU, in each process. Sums over parts are rounded differently for another number, so it is
            one unless asked for.
        device: where models compute.
        compute: how packed layers multiply.
        dense_frames: frames that the dense heads take at a time.
    """

    store: PathLike | None = None
    fresh: bool = False
    engine: Engine = "local"
    workers: int | None = None
    threads: int = 1
    device: str = "cpu"
    compute: Compute = "float"
    dense_frames: int = DENSE_FRAMES

    def __post_init__(self) -> None:
        if self.engine not in ("local", "ray"):
            raise QvggtError(f"there is no engine {self.engine!r}: choose local or ray.")
        if self.threads < 1 or (self.workers is not None and self.workers < 1):
            raise QvggtError("an evaluation needs at least one thread and one worker.")

    def settings(self) -> Mapping[str, Any]:
        """Return what can touch the figures of a scene."""
        return {
            "device": torch.device(self.device).type,
            "compute": self.compute,
            "threads": self.threads,
            "dense_frames": self.dense_frames,
            "torch": str(torch.__version__),
            "code": code_hash(),
        }


@dataclass(frozen=True)
class Work:
    """One question about all scenes, in a form that travels to other processes.

    Attributes:
        reader: of the dataset.
        images: how images are made into model input.
        make_meter: makes the meter, loading what it needs.
    """

    reader: DatasetReader
    images: ImageOptions
    make_meter: Callable[[], Meter]

    def scene(self, job: Job) -> Scene:
        """Read one scene."""
        return self.reader.load(job.record, job.frames, self.images)


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
        from qvggt.eval.engine_ray import run_ray

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
