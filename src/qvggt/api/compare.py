"""The public verb ``compare``: every method at every width, quantized and measured on the same frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from qvggt.api.checkpoint_cache import CheckpointStore, KeptCheckpoint
from qvggt.api.evaluate import on_usable_device, subject_of
from qvggt.backends.plain import HALF_DTYPES
from qvggt.calibration.size import storage_of
from qvggt.checkpoint.folder import open_checkpoint
from qvggt.eval.code_hash import code_hash
from qvggt.eval.comparison import FLOAT, ComparisonReport, ComparisonRow, Trial, headline, optimal_rows
from qvggt.eval.evaluate import References, Subject, evaluate_plan
from qvggt.eval.fidelity import camera_fidelity
from qvggt.eval.plan import EvaluationPlan, plan_evaluation
from qvggt.eval.report import Evaluation
from qvggt.eval.stats import paired_difference, summarize_runs
from qvggt.files import user_cache
from qvggt.methods.registry import find_method, parse_variant
from qvggt.options import (
    DATASET,
    REFERENCE_COMPUTE,
    CompareOptions,
    Compute,
    QuantizeOptions,
    RunOptions,
    Selection,
)
from qvggt.options.checks import check_arguments
from qvggt.quant.scheme import FloatScheme, Scheme
from qvggt.types import OnProgress, PathLike, QvggtError

_PASSES = {"rtn": 0.1, "smoothquant": 3, "quarot": 3, "gptq": 8, "awq": 40, "qvggt": 80, "qvggt+": 100}
_OTHER_PASSES = 20
"""Approximate duration of methods, in inferences over the calibration images, as weights of the progress bar."""
_PHASES = {"qvggt": 2, "qvggt+": 3}


@dataclass(frozen=True)
class _Task:
    """One quantization; seed None means that the method is not calibrated. ``variant`` is the method as given."""

    variant: str
    method: str
    bits: int
    seed: int | None
    options: QuantizeOptions

    @property
    def key(self) -> tuple[str, int, int | None]:
        """Identifies it among the quantizations of a comparison."""
        return self.variant, self.bits, self.seed


def _tasks(options: CompareOptions) -> list[_Task]:
    """Return the quantizations, ordered by bits, without repetition."""
    base = options.base
    assert isinstance(base.scheme, Scheme)
    tasks = []
    for bits in dict.fromkeys(options.bits):
        scheme = replace(base.scheme, bits=bits)
        for text in dict.fromkeys(options.methods):
            method, without = parse_variant(text)
            for seed in dict.fromkeys(options.seeds) if find_method(method).needs_calibration else (None,):
                calibration = base.calibration if seed is None else replace(base.calibration, seed=seed)
                chosen = replace(base, scheme=scheme, calibration=calibration, without=(*base.without, *without))
                tasks.append(_Task(variant=text, method=method, bits=bits, seed=seed, options=chosen))
    return tasks


def compare(
    model: PathLike,
    options: CompareOptions | None = None,
    dataset: str = DATASET,
    split: str | None = None,
    protocols: Sequence[str] = (),
    selection: Selection | None = None,
    store: PathLike | None = None,
    run: RunOptions | None = None,
    revision: str | None = None,
    on_progress: OnProgress | None = None,
) -> ComparisonReport:
    """Quantize a model with several methods and measure each result and the float model on the same frames.

    Checkpoints and results of scenes are kept as they come: an interrupted call resumes where it stopped, and results
    of the same options are reused. A method that fails gets a row with the reason; the others are still compared.
    The float model computes in float32, and again in each type of ``options.half`` and in that of ``run`` if it is one
    of half precision. Every other row is compared with the cameras of the first too, without running a model again.

    Args:
        model: whatever ``load`` takes as a float model.
        options: methods, widths, seeds and the options that all methods share.
        dataset: see ``evaluate``; so are ``split``, ``protocols`` and ``selection``.
        split: None for the dataset's default.
        protocols: none for the dataset's default.
        selection: which scenes and frames.
        store: folder for checkpoints and results; the user's cache if None.
        run: how results are computed, and on which device models are calibrated.
        revision: of ``model``, if it is a hub id.
        on_progress: called with the current stage and the share of all work done.

    Raises:
        QvggtError: the model is quantized or cannot be read, the dataset or a name does not exist, or the model was
            calibrated on a scene of the evaluation.
    """
    check_arguments(compare, locals())
    options = options or CompareOptions()
    tasks = _tasks(options)
    root = Path(store) if store is not None else user_cache()
    run = on_usable_device(run or RunOptions())
    run = replace(run, store=run.store or root / "eval")
    plan = plan_evaluation(dataset, split, protocols, selection or Selection())
    plan = plan if run.windows is None else plan.in_order()
    if not plan.protocols:
        raise QvggtError(f"{dataset} has no default protocol: name one (--protocol)")
    subject = _float_subject(model, run, REFERENCE_COMPUTE, revision)
    checkpoints = CheckpointStore(root / "compare", model, subject.card.hash, revision, device=run.device)
    modes = dict.fromkeys((*options.half, run.compute))
    halves: list[Compute] = [mode for mode in modes if mode in HALF_DTYPES]
    work = _Work(checkpoints, plan=plan, run=run, tasks=tasks, halves=len(halves), on_progress=on_progress)
    base = work.measure(subject, REFERENCE_COMPUTE)
    rows = [ComparisonRow(FLOAT, None, (_float_trial(base),), base.model.summary)]
    rows += [_half_row(_float_subject(model, run, half, revision), half, work, base) for half in halves]
    for key in dict.fromkeys((task.bits, task.variant) for task in tasks):
        rows.append(_row([task for task in tasks if (task.bits, task.variant) == key], work, base))
    on = replace(base.on, machine={**base.on.machine, "compute": run.compute, "float_compute": REFERENCE_COMPUTE})
    marked = _with_front(rows, headline(base.model.summary))
    return ComparisonReport(marked, on=on, quantization=options.to_json(), chance=base.chance, reused=len(work.kept))


def _float_subject(model: PathLike, run: RunOptions, compute: Compute, revision: str | None) -> Subject:
    """Return the float model, to be opened to compute in a type, or raise if it is quantized."""
    subject = subject_of(model, replace(run, compute=compute), revision)
    if subject.card.method != FLOAT:
        raise QvggtError(f"{str(model)!r} is quantized already: compare methods on the float model instead")
    return subject


def _with_front(rows: Sequence[ComparisonRow], metric: str) -> tuple[ComparisonRow, ...]:
    """Return the rows with those of the Pareto front marked; the float model is never one of them."""
    quantized = [index for index, row in enumerate(rows) if row.bits is not None]
    front = {quantized[index] for index in optimal_rows([rows[index] for index in quantized], metric)}
    return tuple(replace(row, optimal=index in front) for index, row in enumerate(rows))


def _half_row(subject: Subject, half: Compute, work: _Work, base: Evaluation) -> ComparisonRow:
    """Measure the float model, opened in a half-precision type."""
    named = replace(subject, card=replace(subject.card, name=f"{subject.card.name} in {half}"))
    return _measured(ComparisonRow(half, None, (_float_trial(work.measure(named, half)),)), base)


def _float_trial(measured: Evaluation) -> Trial:
    return Trial(measured.model, linear_bits=measured.model.card.average_bits)


def _row(tasks: Sequence[_Task], work: _Work, base: Evaluation) -> ComparisonRow:
    """Quantize and measure one method at one width, with every seed."""
    trials, errors = [], []
    for task in tasks:
        try:
            trials.append(work.trial(task, work.quantize(task)))
        except QvggtError as error:
            errors.append(f"{work.title(task)}: {error}")
            work.skip()
    first = tasks[0]
    row = ComparisonRow(first.variant, first.bits, tuple(trials), errors=tuple(errors))
    return _measured(row, base) if trials else row


def _measured(row: ComparisonRow, base: Evaluation) -> ComparisonRow:
    """Return a row with the summary of its trials, and how far they are from the float model."""
    runs = [trial.figures.results for trial in row.trials]
    float_results = base.model.results
    against = [found for run in runs if (found := camera_fidelity(float_results, run))]
    return replace(
        row,
        summary=summarize_runs(runs),
        difference=paired_difference(runs, float_results),
        fidelity=summarize_runs(against) if against else None,
    )


class _Work:
    """Quantizations and measurements of one comparison, and their progress."""

    def __init__(
        self,
        checkpoints: CheckpointStore,
        plan: EvaluationPlan,
        run: RunOptions,
        tasks: Sequence[_Task],
        halves: int,
        on_progress: OnProgress | None,
    ) -> None:
        self.checkpoints, self.plan, self.run = checkpoints, plan, run
        self.seeds = len({task.seed for task in tasks} - {None})
        self.on_progress = on_progress or (lambda stage, share: None)
        found = {task.key: checkpoints.get(task.method, task.options) for task in tasks}
        self.kept = {key: checkpoint for key, checkpoint in found.items() if checkpoint is not None}
        # An inference over the calibration images costs one.
        calibration = tasks[0].options.calibration
        images = calibration.scenes * calibration.frames
        self.measuring = sum(len(task.frames) for task in plan.tasks) / images
        self.done, self.total = 0.0, self.measuring * (1 + halves + len(tasks)) + sum(map(self._quantizing, tasks))

    def measure(self, subject: Subject, compute: Compute | None = None) -> Evaluation:
        """Measure a model that was opened to compute in a type, by default in that of the run."""
        run = self.run if compute is None else replace(self.run, compute=compute)
        with self._part("", self.measuring) as update:
            return evaluate_plan(
                subject, self.plan, References(), run, code=code_hash(subject_of.__module__), on_progress=update
            )

    def quantize(self, task: _Task) -> KeptCheckpoint:
        """Return a checkpoint: the kept one, or a new one."""
        if task.key in self.kept:
            return self.kept[task.key]
        with self._part(f"{self.title(task)}: ", self._quantizing(task), _PHASES.get(task.method, 1)) as update:
            return self.checkpoints.make(task.method, task.options, update)

    def trial(self, task: _Task, kept: KeptCheckpoint) -> Trial:
        """Measure a checkpoint."""
        subject = subject_of(kept.folder, self.run)
        figures = self.measure(replace(subject, card=replace(subject.card, name=self.title(task)))).model
        return Trial(figures, task.seed, _linear_bits(kept.folder), kept.minutes)

    def skip(self) -> None:
        """Count a measurement as done: its quantization failed."""
        self.done += self.measuring

    def title(self, task: _Task) -> str:
        """Return a task's name for progress and errors, with its seed if there are several."""
        seed = f", seed {task.seed}" if task.seed is not None and self.seeds > 1 else ""
        return f"{task.variant} at {task.bits} bits{seed}"

    def _quantizing(self, task: _Task) -> float:
        return 0.0 if task.key in self.kept else _PASSES.get(task.method, _OTHER_PASSES)

    @contextmanager
    def _part(self, title: str, cost: float, phases: int = 1) -> Iterator[OnProgress]:
        """Map a part's progress to that of the whole; a share that decreases starts the part's next phase."""
        phase, last = 0, 0.0

        def update(stage: str, share: float) -> None:
            nonlocal phase, last
            phase, last = phase + (share < last), share
            self.on_progress(title + stage, (self.done + cost * min((phase + share) / phases, 1.0)) / self.total)

        yield update
        self.done += cost


def _linear_bits(folder: Path) -> float:
    checkpoint = open_checkpoint(folder)
    storage = storage_of(checkpoint.config, checkpoint.recipe.float_type)
    others = FloatScheme(checkpoint.recipe.float_type)
    return storage.average_bits({layer: checkpoint.recipe.layers.get(layer, others) for layer in storage.shapes})
