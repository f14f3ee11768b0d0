"""Run one evaluator over all scenes, in this process or on Ray; stored results are not computed again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from qvggt.data.dataset import DatasetReader
from qvggt.eval.evaluators import Evaluator
from qvggt.eval.plan import SceneTask
from qvggt.eval.results import SceneResult
from qvggt.eval.store import ResultStore
from qvggt.options import ImageOptions, RunOptions, attention_json
from qvggt.types import Scene


@dataclass(frozen=True)
class EvaluationPass:
    """One evaluator to be run over all scenes; picklable, so that it can be sent to other processes.

    Attributes:
        reader: of the dataset.
        images: how images are made into model input.
        make_evaluator: makes the evaluator and loads the models that it needs.
    """

    reader: DatasetReader
    images: ImageOptions
    make_evaluator: Callable[[], Evaluator]

    def scene(self, task: SceneTask) -> Scene:
        """Read one scene."""
        return self.reader.load(task.record, task.frames, self.images)


def run_settings(options: RunOptions) -> Mapping[str, Any]:
    """Return every option that can change a scene's figures."""
    return {
        "device": torch.device(options.device).type,
        "compute": options.compute,
        "threads": options.threads,
        "dense_frames": options.dense_frames,
        "global_attention": attention_json(options.global_attention),
        "windows": None if options.windows is None else vars(options.windows),
        "torch": str(torch.__version__),
    }


def run(
    evaluation: EvaluationPass,
    tasks: Sequence[SceneTask],
    options: RunOptions,
    settings: Mapping[str, Any],
    on_result: Callable[[SceneResult, bool], None] = lambda result, stored: None,
) -> list[SceneResult]:
    """Evaluate scenes.

    The figures of a scene depend on the evaluator, its frames and the settings only: not on the other scenes, their
    order, the engine or an interruption.

    Args:
        evaluation: what to compute.
        tasks: the scenes.
        options: how to compute it.
        settings: everything that determines the figures besides a scene's frames; the store's key.
        on_result: called with each result and whether it was read from the store.

    Returns:
        One result per task, in the order of the tasks.

    Raises:
        QvggtError: a scene or the model cannot be read, the store cannot be written, or Ray is missing.
    """
    store = None if options.store is None else ResultStore(options.store, settings)
    results: dict[str, SceneResult] = {}
    for task in tasks if store is not None and not options.fresh else ():
        stored = store.get(task) if store is not None else None
        if stored is not None:
            results[task.record.name] = stored
            on_result(stored, True)
    missing = [task for task in tasks if task.record.name not in results]
    with closing(_compute(evaluation, missing, options)) as computed:  # an exception here stops Ray's workers at once
        for task, result in computed:
            if store is not None:
                store.put(task, result)
            results[task.record.name] = result
            on_result(result, False)
    return [results[task.record.name] for task in tasks]


Results = Generator[tuple[SceneTask, SceneResult], None, None]


def _compute(evaluation: EvaluationPass, tasks: Sequence[SceneTask], options: RunOptions) -> Results:
    if tasks and options.engine == "ray":
        from qvggt.eval.ray import run_ray

        yield from run_ray(evaluation, tasks, options)
    elif tasks:
        yield from run_local(evaluation, tasks, options)


def run_local(evaluation: EvaluationPass, tasks: Sequence[SceneTask], options: RunOptions) -> Results:
    """Yield the result of each task, in order."""
    with cpu_threads(options.threads):
        evaluate = evaluation.make_evaluator()
    for task in tasks:
        with cpu_threads(options.threads):
            result = evaluate(evaluation.scene(task))
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
