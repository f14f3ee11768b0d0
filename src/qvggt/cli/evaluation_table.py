"""Table of an evaluation: the results, and the setup that a fair comparison needs to know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from qvggt.cli.show import console, say
from qvggt.eval.report import Evaluation, Figures, ModelCard
from qvggt.eval.stats import Summary
from qvggt.inference.process_memory import size_text
from qvggt.options import REFERENCE_COMPUTE

LABELS = {
    "auc30": "AUC@30",
    "auc15": "AUC@15",
    "auc5": "AUC@5",
    "auc3": "AUC@3",
    "rotation_deg": "rotation, deg",
    "translation_deg": "direction, deg",
    "absrel": "AbsRel",
    "delta1": "delta < 1.25",
    "accuracy": "accuracy",
    "completeness": "completeness",
    "normal_consistency": "normal consistency",
    "point_error": "point error",
    "consistency": "points against depth",
    "fidelity_auc30": "AUC@30",
    "fidelity_auc15": "AUC@15",
    "fidelity_auc5": "AUC@5",
    "fidelity_auc3": "AUC@3",
    "fidelity_rotation_deg": "rotation, deg",
    "fidelity_translation_deg": "direction, deg",
    "fidelity_depth_rel": "relative depth",
    "fidelity_point_rel": "relative points",
}
"""Names of metrics in tables."""
_WIDTH = 100
HASH_CHARACTERS = len("sha256:") + 12
"""Of a model's hash that are shown."""
_LEFT_OUT = ("rra", "rta", "fidelity_rra", "fidelity_rta")  # in the JSON only
_SHARES = ("auc", "fidelity_auc")


def print_evaluation(evaluation: Evaluation) -> None:
    """Print an evaluation."""
    _print_table([evaluation.model, evaluation.baseline], evaluation.chance)
    if evaluation.fidelity is not None and evaluation.fidelity_to is not None:
        say(f"\nagainst {evaluation.fidelity_to.name} in {REFERENCE_COMPUTE}, without ground truth:")
        _print_table([evaluation.fidelity])
    say("")
    for line in _facts(evaluation):
        say(line)


def _print_table(models: Sequence[Figures | None], chance: Figures | None = None) -> None:
    shown = [figures for figures in models if figures is not None]
    table = Table("", box=None, header_style="bold", pad_edge=False)
    for figures in shown:
        table.add_column(Path(figures.card.name).name, no_wrap=True)
    if chance is not None:
        table.add_column("chance", no_wrap=True)
    for name in shown[0].summary.metrics:
        if name.startswith(_LEFT_OUT):
            continue
        cells = [_with_interval(name, figures.summary) for figures in shown]
        cells += [] if chance is None else [_number(name, chance.summary.metrics.get(name, math.nan))]
        table.add_row(LABELS.get(name, name.replace("_", " ")), *cells)
    # A figure that is cut off is worse than a long line.
    console.print(table, width=max(console.width, _WIDTH), crop=False, no_wrap=True)


def _facts(evaluation: Evaluation) -> list[str]:
    on, summary = evaluation.on, evaluation.model.summary
    least, most = on.frames_per_scene
    frames = str(most) if least == most else f"{least} to {most}"
    landmarks = "" if on.landmarks is None else f", landmarks {on.landmarks:g}"
    lines = [
        f"data: {on.dataset}, split {on.split}{landmarks}: {summary.scenes} scenes of {frames} frames "
        f"({on.frames}; seed {on.seed}), {summary.pairs} pairs, images {on.image_size_px} px wide",
        f"protocols: {', '.join(summary.protocols)}; in brackets 95 % by bootstrap over scenes",
    ]
    named = {"model": evaluation.model.card, "float model": evaluation.fidelity_to}
    named["baseline"] = evaluation.baseline.card if evaluation.baseline is not None else None
    lines += [f"{role}: {_card(card)}" for role, card in named.items() if card is not None and card.hash]
    machine = on.machine
    lines.append(
        f"computed on {machine['device']}, {machine['compute']}, threads {machine['threads']}, qvggt "
        f"{machine['qvggt']}, torch {machine['torch']}" + _stored(evaluation.stored)
    )
    for name, count in summary.unmeasured.items():
        lines.append(f"{count} scenes have no {LABELS.get(name, name)}")
    if evaluation.notes:
        scene, notes = next(iter(evaluation.notes.items()))
        lines.append(f"{len(evaluation.notes)} scenes have a note, {scene} for one: {notes[0]}")
    return lines


def _card(card: ModelCard) -> str:
    size = "no file" if card.checkpoint_bytes is None else size_text(card.checkpoint_bytes)
    parts = [f"{card.name} ({card.hash[:HASH_CHARACTERS]})", card.method + _options(card.options)]
    parts += [f"{card.average_bits:.2f} bits a weight on average", size] if card.average_bits is not None else []
    parts.append(f"calibrated on {_flat(card.calibration)}" if card.calibration else "no calibration")
    return ", ".join(parts) + (f", made of {card.source}" if card.source else "")


def _options(options: Any) -> str:
    return f" ({_flat(options)})" if options else ""


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_flat(part)}" for name, part in value.items() if part not in (None, {}, [], ()))
    if isinstance(value, list | tuple):
        listed = " ".join(_flat(part) for part in value[:3])
        return listed if len(value) <= 3 else f"{listed} and {len(value) - 3} more"
    return str(value)


def _stored(count: int) -> str:
    return f"; stored results reused: {count}" if count else ""


def _number(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if name.startswith(_SHARES) or name.endswith("_deg") else f"{value:.4f}"


def _with_interval(name: str, summary: Summary) -> str:
    low, high = summary.intervals.get(name, (math.nan, math.nan))
    return f"{_number(name, summary.metrics.get(name, math.nan))} [{_number(name, low)}, {_number(name, high)}]"
