"""Measure everything that docs/nano.md says, and write it there.

    python docs/make_nano_page.py [--scenes N] [--log docs/nano-training.jsonl]

Results are kept as they come (in the cache of ``qvggt evaluate``), so that a second run goes on. All scenes take about
half an hour on one core.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from marked import replace_between
from token_norms import token_norms

import qvggt
from qvggt.data.rooms.family import SPLITS, load_rooms, room_scene
from qvggt.eval.evaluators import model_evaluator
from qvggt.eval.protocols import PROTOCOLS
from qvggt.eval.report import Evaluation
from qvggt.eval.stats import Summary, summarize
from qvggt.eval.store import default_store
from qvggt.model import VGGTConfig
from qvggt.options import QuantizeOptions, RunOptions, Selection
from qvggt.plots.training import plot_log
from qvggt.train.step import SCENES_A_STEP

PAGE = Path(__file__).parent / "nano.md"
HEADS = {
    "auc30": "AUC@30",
    "auc15": "AUC@15",
    "auc5": "AUC@5",
    "auc3": "AUC@3",
    "absrel": "AbsRel",
    "delta1": "δ < 1.25",
    "point_error": "points",
    "consistency": "consistency",
}
PROTOCOLS_SHOWN = ("pose-standard", "depth-scale", "points-consistent")
SPLITS_SHOWN = (("test", None), ("test", 0.0), ("real-like", None), ("wide", None))
BITS = (4, 3, 2)
SIDE = VGGTConfig.nano().image_size


def main() -> None:
    """Measure, and replace the marked parts of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=None)
    parser.add_argument("--log", type=Path, default=None)
    options = parser.parse_args()
    if options.log is not None:
        plot_log(options.log, PAGE.parent / "images" / "nano-curve.png")
    parts = {"splits": splits_table(options.scenes), "bits": bits_table(options.scenes), "norms": norms_table()}
    text = PAGE.read_text(encoding="utf-8")
    for name, table in parts.items():
        text = replace_between(text, name, table)
    PAGE.write_text(text, encoding="utf-8")
    sys.stdout.write("\n\n".join(parts.values()) + "\n")


def measure(model: str, split: str, landmarks: float | None, scenes: int | None) -> Evaluation:
    """Evaluate a model on a split of rooms, and keep the results."""
    selection = Selection(landmarks=landmarks, scenes=scenes)
    return qvggt.evaluate(model, "rooms", split, selection=selection, run=RunOptions(store=default_store()))


def measure_training_rooms(scenes: int) -> Summary:
    """Measure nano on rooms that it was trained on; ``evaluate`` would refuse to."""
    protocols = [PROTOCOLS[name] for name in PROTOCOLS_SHOWN]
    evaluator = model_evaluator(lambda: qvggt.load("nano"), protocols)
    first = SPLITS["train"].first_seed
    seeds = range(first, first + scenes * SCENES_A_STEP, SCENES_A_STEP)  # the first room of the first steps
    return summarize(evaluator(room_scene(seed, 8, (SIDE, SIDE))) for seed in seeds)


def row(title: str, summary: Summary) -> str:
    """Return a table row of metrics with their 95 % intervals."""
    cells = []
    for name in HEADS:
        value, (low, high) = summary.metrics.get(name, np.nan), summary.intervals.get(name, (np.nan, np.nan))
        digits = 1 if name.startswith("auc") else 3
        known = np.isfinite(value)
        cells.append(f"{value:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})" if known else "")
    return f"| {title} | " + " | ".join(cells) + " |"


def head(first: str) -> list[str]:
    """Return a table's head."""
    return [f"| {first} | " + " | ".join(HEADS.values()) + " |", "|---|" + "--:|" * len(HEADS)]


def splits_table(scenes: int | None) -> str:
    """Return nano's figures on every split, and chance."""
    rows = head("rooms")
    for split, landmarks in SPLITS_SHOWN:
        result = measure("nano", split, landmarks, scenes)
        shown = SPLITS[split].family.landmarks if landmarks is None else landmarks
        rows.append(row(f"`{split}`, landmarks {shown:g}", result.model.summary))
        if split == "test" and landmarks is None and result.chance is not None:
            rows.append(row("chance on `test`", result.chance.summary))
    rows.append(row("rooms of the training", measure_training_rooms(min(scenes or 64, 64))))
    return "\n".join(rows)


def bits_table(scenes: int | None) -> str:
    """Return both carried models' figures as rounded to 4, 3 and 2 bits."""
    rows = head("model")
    with tempfile.TemporaryDirectory() as folder:
        for model in ("nano", "nano-hard"):
            rows.append(row(f"{model}, float16", measure(model, "test", None, scenes).model.summary))
            for bits in BITS:
                checkpoint = Path(folder) / f"{model}-{bits}"
                report = qvggt.quantize_to(model, checkpoint, "rtn", QuantizeOptions(qvggt.Scheme(bits, 64)))
                summary = measure(str(checkpoint), "test", None, scenes).model.summary
                rows.append(row(f"{model}, RTN-{bits} ({report.average_bits:.2f} bits)", summary))
    return "\n".join(rows)


def norms_table() -> str:
    """Return the norms of special and patch tokens layer by layer."""
    scenes = list(load_rooms("val", (SIDE, SIDE), scenes=8))
    rows = ["| AA pair | camera | registers | patches | special / patch |", "|--:|--:|--:|--:|--:|"]
    for norms in token_norms(qvggt.load("nano"), scenes):
        rows.append(
            f"| {norms.layer} | {norms.camera:.0f} | {norms.register:.0f} | {norms.patch:.0f} | {norms.ratio:.1f} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
