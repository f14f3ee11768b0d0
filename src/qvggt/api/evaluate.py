"""The public verb ``evaluate``: any model on any dataset, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from qvggt.api.model_card import describe, describe_loaded
from qvggt.api.reconstruct import load
from qvggt.backends import settled_device, usable_device
from qvggt.checkpoint.open import open_model
from qvggt.eval.code_hash import code_hash
from qvggt.eval.evaluate import References, Subject, evaluate_plan
from qvggt.eval.plan import plan_evaluation
from qvggt.eval.report import Evaluation
from qvggt.inference.memory_plan import model_size
from qvggt.model import VGGT
from qvggt.options import DATASET, REFERENCE_COMPUTE, RunOptions, Selection, attention_of
from qvggt.options.checks import check_arguments
from qvggt.types import OnProgress, PathLike


def evaluate(
    model: VGGT | PathLike,
    dataset: str = DATASET,
    split: str | None = None,
    protocols: Sequence[str] = (),
    selection: Selection | None = None,
    baseline: VGGT | PathLike | None = None,
    fidelity_to: VGGT | PathLike | None = None,
    run: RunOptions | None = None,
    revision: str | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Measure a model on a dataset by published protocols, with 95 % bootstrap intervals over scenes.

    The same model, selection and seed give the same digits with any engine, order or interruption.

    Args:
        model: a model, or whatever ``load`` takes.
        dataset: ``rooms``, or one of ``qvggt.data.registry.DATASETS`` in the folder ``selection.root``.
        split: None for the dataset's default.
        protocols: names in ``qvggt.eval.protocols.PROTOCOLS``, at most one of a kind; none for the dataset's default.
        selection: folder, frames, scenes and seed.
        baseline: another model to measure on the same frames, or ``chance``.
        fidelity_to: a float model to compare the model's predictions with. Given by name it computes in float32 on the
            same device, whatever ``run`` says of the model, so that the figures hold what half precision alone costs.
        run: device, threads, engine, and a folder in which results are kept as they come.
        revision: of ``model``, if it is a hub id.
        on_progress: called with the number of scenes done and the share of all work done.

    Raises:
        QvggtError: a model cannot be read, the dataset or a name does not exist, or a model was calibrated on a scene
            of the evaluation.
    """
    check_arguments(evaluate, locals())
    run = run or RunOptions()
    run = on_usable_device(run)
    if isinstance(model, VGGT):
        run = replace(run, device=next(model.parameters()).device.type)
    plan = plan_evaluation(dataset, split, protocols, selection or Selection())
    plan = plan if run.windows is None else plan.in_order()
    subject = subject_of(model, run, revision)
    other = "chance" if baseline == "chance" else None if baseline is None else subject_of(baseline, run)
    reference = None if fidelity_to is None else subject_of(fidelity_to, replace(run, compute=REFERENCE_COMPUTE))
    return evaluate_plan(
        subject, plan, References(other, reference), run, code=code_hash(__name__), on_progress=on_progress
    )


def on_usable_device(run: RunOptions) -> RunOptions:
    """Return how an evaluation runs with its device settled and, unless that is another machine's, tried.

    Raises:
        QvggtError: there is no such device.
    """
    return replace(run, device=(usable_device if run.cluster is None else settled_device)(run.device))


def subject_of(model: VGGT | PathLike, run: RunOptions, revision: str | None = None) -> Subject:
    """Return a model, or whatever ``load`` takes, as what an evaluation measures.

    Raises:
        QvggtError: it is not found, damaged, or no VGGT.
    """
    if isinstance(model, VGGT):
        return Subject(describe_loaded(model), model.config, partial(_itself, model), partial(model_size, model))
    opened, attention = open_model(model, revision), attention_of(run.global_attention)
    return Subject(
        describe(opened),
        opened.config,
        partial(load, model, run.device, run.compute, revision, global_attention=attention),
        partial(model_size, model, revision, run.compute, attention),
    )


def _itself(model: VGGT) -> VGGT:
    return model.eval()
