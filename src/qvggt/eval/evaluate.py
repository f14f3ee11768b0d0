"""A whole evaluation: a model, perhaps a baseline and a float model, and chance, on the same frames."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch

from qvggt.data.splits import check_disjoint
from qvggt.eval.evaluators import LoadModel, chance_meter, fidelity_meter, model_meter
from qvggt.eval.plan import Plan
from qvggt.eval.report import CHANCE, Evaluation, Figures, Measured, ModelCard
from qvggt.eval.results import SceneResult, summarize
from qvggt.eval.runner import run
from qvggt.eval.work import Work, run_settings
from qvggt.model import VGGTConfig
from qvggt.options import ImageOptions, RunOptions
from qvggt.types import OnProgress, QvggtError
from qvggt.version import __version__

FLOAT, FIDELITY = "float", "fidelity"


@dataclass(frozen=True)
class Subject:
    """A model that can be evaluated.

    Attributes:
        card: which one it is.
        config: its architecture.
        load: loads it; travels to other processes.
    """

    card: ModelCard
    config: VGGTConfig
    load: LoadModel

    @property
    def images(self) -> ImageOptions:
        """How images become its input."""
        return ImageOptions(self.config.image_size, self.config.patch_size)


@dataclass(frozen=True)
class Comparison:
    """What stands beside a model's figures.

    Attributes:
        baseline: another model on the same frames, or chance.
        fidelity_to: the float model that the model's predictions are compared with.
    """

    baseline: Subject | Literal["chance"] | None = None
    fidelity_to: Subject | None = None


def evaluate_plan(
    subject: Subject,
    plan: Plan,
    comparison: Comparison,
    options: RunOptions,
    code: str,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Measure a model and what it is compared with.

    Chance is measured beside every model on rooms, where it costs little.

    Args:
        subject: the model.
        plan: the scenes.
        comparison: what else to measure.
        options: how.
        code: hash of the code that the figures depend on.
        on_progress: called with the number of scenes done in words, and the share of all the work.

    Raises:
        QvggtError: the model was calibrated on a scene of the plan, there is nothing to measure, or a scene or a model
            cannot be read.
    """
    _check(subject, plan, comparison)
    baseline = comparison.baseline
    by_chance = bool(plan.protocols) and (baseline == "chance" or plan.dataset == "rooms")
    wanted = [plan.protocols, isinstance(baseline, Subject), by_chance, comparison.fidelity_to]
    rounds = _Rounds(plan, options, code, sum(map(bool, wanted)), on_progress)
    model = baseline_figures = chance = fidelity = None
    if plan.protocols:
        model = rounds.model(subject)
    if isinstance(baseline, Subject):
        baseline_figures = rounds.model(baseline)
    if by_chance:
        chance = rounds.chance(subject.images)
    if comparison.fidelity_to is not None:
        fidelity = rounds.fidelity(subject, comparison.fidelity_to)
    main = model or fidelity
    assert main is not None
    return Evaluation(
        model=main,
        on=_measured(subject, plan, options),
        baseline=chance if baseline == "chance" else baseline_figures,
        chance=None if baseline == "chance" else chance,
        fidelity=fidelity if model is not None else None,
        fidelity_to=comparison.fidelity_to.card if comparison.fidelity_to else None,
        notes=rounds.notes.get(subject.card.name, {}),
        stored=rounds.stored,
    )


@dataclass
class _Rounds:
    """Rounds over all scenes, one a question, with progress over all of them."""

    plan: Plan
    options: RunOptions
    code: str
    count: int
    on_progress: OnProgress | None
    done: int = 0
    stored: int = 0
    notes: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)

    def model(self, subject: Subject) -> Figures:
        make = partial(model_meter, subject.load, self.plan.protocols, self.options.dense_frames, self.options.windows)
        return self._round(subject.card, subject.images, make, {"model": _identity(subject)})

    def chance(self, images: ImageOptions) -> Figures:
        return self._round(CHANCE, images, partial(chance_meter, self.plan.protocols), {"model": "chance"})

    def fidelity(self, subject: Subject, reference: Subject) -> Figures:
        make = partial(fidelity_meter, subject.load, reference.load, self.options.dense_frames)
        identity = {"model": _identity(subject), "reference": _identity(reference), "protocols": [FIDELITY]}
        return self._round(subject.card, subject.images, make, identity)

    def _round(self, card: ModelCard, images: ImageOptions, make_meter: Any, identity: Mapping[str, Any]) -> Figures:
        size = {"size": images.size, "patch": images.patch, "mode": images.mode}
        how = {**run_settings(self.options), "code": self.code, "images": size}
        settings = {**self.plan.settings(), **how, **identity}
        jobs, here = self.plan.jobs, 0

        def on_result(result: SceneResult, stored: bool) -> None:
            nonlocal here
            here += 1
            self.done += 1
            self.stored += stored
            if self.on_progress is not None:
                share = self.done / (self.count * len(jobs))
                self.on_progress(f"{card.name}, {here} of {len(jobs)} scenes", share)

        results = run(Work(self.plan.reader, images, make_meter), jobs, self.options, settings, on_result)
        self.notes.setdefault(card.name, {}).update({r.scene: r.notes for r in results if r.notes})
        return Figures(card, summarize(results), tuple(results))


def _identity(subject: Subject) -> dict[str, Any]:
    return {"hash": subject.card.hash, "config": subject.config.to_json()}


def _check(subject: Subject, plan: Plan, comparison: Comparison) -> None:
    if not plan.protocols and comparison.fidelity_to is None:
        raise QvggtError(
            f"nothing is usual to measure on {plan.dataset}: name a protocol, or a float model to compare with "
            "(--fidelity-to)."
        )
    if not plan.protocols and comparison.baseline is not None:
        raise QvggtError("a baseline is compared by a protocol: name one (--protocol).")
    reference = comparison.fidelity_to
    if reference is not None and reference.images != subject.images:
        raise QvggtError(
            f"{reference.card.name} takes images of {reference.images.size} px and {subject.card.name} of "
            f"{subject.images.size} px: compare models of one architecture."
        )
    scenes = [job.record.name for job in plan.jobs]
    for other in (subject, comparison.baseline):
        if isinstance(other, Subject):
            check_disjoint(other.card.name, other.card.calibration, plan.reader.name, plan.reader.split, scenes)


def _measured(subject: Subject, plan: Plan, options: RunOptions) -> Measured:
    counts = [len(job.frames) for job in plan.jobs]
    machine = {
        "device": options.device,
        "compute": options.compute,
        "threads": options.threads,
        "qvggt": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "processor": platform.machine(),
    }
    return Measured(
        dataset=plan.dataset,
        split=plan.reader.split,
        frames=plan.choice,
        frames_per_scene=(min(counts), max(counts)),
        seed=plan.selection.seed,
        landmarks=plan.landmarks,
        image_size_px=subject.images.size,
        machine=machine,
    )
