"""Run one evaluator over all scenes, in this process or on Ray; stored results are not computed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from qvggt.data.dataset import DatasetReader
from qvggt.eval.evaluators import Evaluator
from qvggt.eval.plan import SceneTask
from qvggt.eval.results import SceneResult
from qvggt.eval.store import ResultStore
from qvggt.inference.scenes import Workers, map_scenes
from qvggt.options import ImageOptions, RunOptions, attention_json
from qvggt.types import QvggtError


@dataclass(frozen=True)
class EvaluationPass:
    """One evaluator to be run over all scenes; picklable, so that it can be sent to other processes.

    Attributes:
        reader: of the dataset.
        images: how images are made into model input.
        make_evaluator: makes the evaluator and loads the models that it needs.
        memory_bytes: memory of a process that runs it; 0 if that is not known.
    """

    reader: DatasetReader
    images: ImageOptions
    make_evaluator: Callable[[], Evaluator]
    memory_bytes: int = 0

    def task_evaluator(self) -> Callable[[SceneTask], SceneResult]:
        """Make the evaluator, and return the function that reads and evaluates one scene."""
        evaluate = self.make_evaluator()
        return lambda task: evaluate(self.reader.load(task.record, task.frames, self.images))


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
    workers = Workers(
        options.threads,
        options.cluster,
        options.workers,
        memory_bytes=evaluation.memory_bytes,
        uses_gpu=torch.device(options.device).type == "cuda",
    )
    with closing(map_scenes(evaluation.task_evaluator, missing, workers)) as computed:  # an exception stops Ray's too
        for task, result in computed:
            if isinstance(result, QvggtError):
                raise QvggtError(f"scene {task.record.name}: {result}")
            if store is not None:
                store.put(task, result)
            results[task.record.name] = result
            on_result(result, False)
    return [results[task.record.name] for task in tasks]
