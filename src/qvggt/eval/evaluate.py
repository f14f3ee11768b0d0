"""Evaluate a model and, on the same frames, a baseline, its fidelity to a float model, and chance."""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch

from qvggt.data.splits import check_disjoint
from qvggt.eval.evaluators import LoadModel, chance_evaluator, fidelity_evaluator, model_evaluator, passed_heads
from qvggt.eval.plan import EvaluationPlan
from qvggt.eval.report import CHANCE, Evaluation, EvaluationSetup, Figures, ModelCard
from qvggt.eval.results import FIDELITY, SceneResult
from qvggt.eval.run import EvaluationPass, run, run_settings
from qvggt.eval.stats import summarize
from qvggt.inference.memory_plan import ModelSize
from qvggt.inference.scenes import worker_bytes
from qvggt.model import VGGTConfig
from qvggt.options import ALL_HEADS, REFERENCE_COMPUTE, Head, ImageOptions, RunOptions
from qvggt.types import OnProgress, QvggtError
from qvggt.version import __version__


@dataclass(frozen=True)
class Subject:
    """A model to evaluate.

    Attributes:
        card: its name, hash, size and provenance.
        config: its architecture.
        load: loads it; picklable, so that it can be sent to other processes.
        size: returns its memory.
    """

    card: ModelCard
    config: VGGTConfig
    load: LoadModel
    size: Callable[[], ModelSize]

    @property
    def images(self) -> ImageOptions:
        """How images are made into its input."""
        return ImageOptions(self.config.image_size, self.config.patch_size)


@dataclass(frozen=True)
class References:
    """What a model is compared with.

    Attributes:
        baseline: another model, evaluated on the same frames, or chance.
        fidelity_to: the float model whose predictions the model's are compared with; it computes in
            ``REFERENCE_COMPUTE``, whatever the options say.
    """

    baseline: Subject | Literal["chance"] | None = None
    fidelity_to: Subject | None = None


def evaluate_plan(
    subject: Subject,
    plan: EvaluationPlan,
    references: References,
    options: RunOptions,
    code: str,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Evaluate a model and its references on all scenes of a plan.

    On rooms chance is always evaluated too: it costs little there.

    Args:
        subject: the model.
        plan: protocols, scenes and frames.
        references: what the model is compared with.
        options: how figures are computed.
        code: hash of the code that the figures depend on.
        on_progress: called with text such as ``nano, 3 of 8 scenes`` and the share of all passes done.

    Raises:
        QvggtError: the model was calibrated on a scene of the plan, there is no protocol, or a scene or model cannot
            be read.
    """
    _check(subject, plan, references)
    baseline = references.baseline
    by_chance = bool(plan.protocols) and (baseline == "chance" or plan.dataset == "rooms")
    wanted = [plan.protocols, isinstance(baseline, Subject), by_chance, references.fidelity_to]
    passes = _Passes(plan, options=options, code=code, count=sum(map(bool, wanted)), on_progress=on_progress)
    model = baseline_figures = chance = fidelity = None
    if plan.protocols:
        model = passes.model(subject)
    if isinstance(baseline, Subject):
        baseline_figures = passes.model(baseline)
    if by_chance:
        chance = passes.chance(subject.images)
    if references.fidelity_to is not None:
        fidelity = passes.fidelity(subject, references.fidelity_to)
    main = model or fidelity
    assert main is not None
    return Evaluation(
        model=main,
        on=_setup(subject, plan, references, options),
        baseline=chance if baseline == "chance" else baseline_figures,
        chance=None if baseline == "chance" else chance,
        fidelity=fidelity if model is not None else None,
        fidelity_to=references.fidelity_to.card if references.fidelity_to else None,
        notes=passes.notes.get(subject.card.name, {}),
        stored=passes.stored,
    )


@dataclass
class _Passes:
    """Runs each requested evaluation over all scenes and reports progress over all of them."""

    plan: EvaluationPlan
    options: RunOptions
    code: str
    count: int
    on_progress: OnProgress | None
    done: int = 0
    stored: int = 0
    notes: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)

    def model(self, subject: Subject) -> Figures:
        make = partial(model_evaluator, subject.load, self.plan.protocols, self.options.inference)
        heads = passed_heads(self.plan.protocols, self.options.inference)
        needed = self._memory_bytes(subject, heads)
        return self._run(subject.card, subject.images, make, {"model": _identity(subject)}, memory_bytes=needed)

    def chance(self, images: ImageOptions) -> Figures:
        return self._run(CHANCE, images, partial(chance_evaluator, self.plan.protocols), {"model": "chance"})

    def fidelity(self, subject: Subject, reference: Subject) -> Figures:
        make = partial(fidelity_evaluator, subject.load, reference.load, self.options.inference)
        against = {**_identity(reference), "compute": REFERENCE_COMPUTE}
        identity = {"model": _identity(subject), "reference": against, "protocols": [FIDELITY]}
        needed = self._memory_bytes(subject, ALL_HEADS, reference)
        return self._run(subject.card, subject.images, make, identity, memory_bytes=needed)

    def _memory_bytes(self, subject: Subject, heads: Collection[Head], reference: Subject | None = None) -> int:
        """Return the memory of a worker on Ray with one or two models; 0 in this process."""
        if self.options.cluster is None:
            return 0
        frames = max(len(task.frames) for task in self.plan.tasks)
        other = 0 if reference is None else reference.size().weight_bytes
        return worker_bytes(subject.size(), frames, heads, self.options.inference) + other

    def _run(
        self,
        card: ModelCard,
        images: ImageOptions,
        make_evaluator: Any,
        identity: Mapping[str, Any],
        memory_bytes: int = 0,
    ) -> Figures:
        size = {"size": images.size, "patch": images.patch, "mode": images.mode}
        how = {**run_settings(self.options), "code": self.code, "images": size}
        settings = {**self.plan.settings(), **how, **identity}
        tasks, count = self.plan.tasks, 0

        def on_result(result: SceneResult, stored: bool) -> None:
            nonlocal count
            count += 1
            self.done += 1
            self.stored += stored
            if self.on_progress is not None:
                share = self.done / (self.count * len(tasks))
                self.on_progress(f"{card.name}, {count} of {len(tasks)} scenes", share)

        evaluation = EvaluationPass(self.plan.reader, images, make_evaluator, memory_bytes)
        results = run(evaluation, tasks, self.options, settings, on_result=on_result)
        notes = self.notes.setdefault(card.name, {})
        notes |= {each.scene: (*notes.get(each.scene, ()), *each.notes) for each in results if each.notes}
        return Figures(card, summarize(results), tuple(results))


def _identity(subject: Subject) -> dict[str, Any]:
    return {"hash": subject.card.hash, "config": subject.config.to_json()}


def _check(subject: Subject, plan: EvaluationPlan, references: References) -> None:
    if not plan.protocols and references.fidelity_to is None:
        raise QvggtError(
            f"{plan.dataset} has no default protocol: name one (--protocol), or a float model to compare with "
            "(--fidelity-to)"
        )
    if not plan.protocols and references.baseline is not None:
        raise QvggtError("a baseline is compared by a protocol: name one (--protocol)")
    reference = references.fidelity_to
    if reference is not None and reference.images != subject.images:
        raise QvggtError(
            f"{reference.card.name} takes images of {reference.images.size} px and {subject.card.name} of "
            f"{subject.images.size} px: compare models of one architecture"
        )
    scenes = [task.record.name for task in plan.tasks]
    for other in (subject, references.baseline):
        if isinstance(other, Subject):
            check_disjoint(other.card.name, other.card.calibration, plan.reader.name, plan.reader.split, scenes=scenes)


def _setup(subject: Subject, plan: EvaluationPlan, references: References, options: RunOptions) -> EvaluationSetup:
    counts = [len(task.frames) for task in plan.tasks]
    machine = {
        "device": options.device,
        "compute": options.compute,
        "threads": options.threads,
        "qvggt": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "processor": platform.machine(),
    }
    machine |= {} if references.fidelity_to is None else {"float_compute": REFERENCE_COMPUTE}
    return EvaluationSetup(
        dataset=plan.dataset,
        split=plan.reader.split,
        frames=plan.choice,
        frames_per_scene=(min(counts), max(counts)),
        seed=plan.selection.seed,
        landmarks=plan.landmarks,
        image_size_px=subject.images.size,
        machine=machine,
    )
