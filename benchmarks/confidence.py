"""How well depth confidence predicts the error of depth: nano, on rooms.

Depth is aligned to the truth with one scale a scene; the error of a pixel is |d - truth| / truth. Confidence is
compared with it within each scene, as dropping a share of pixels does, and over all scenes of a split, as a threshold
on confidence would.

python benchmarks/confidence.py [--scenes N] [--splits NAME ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qvggt
from qvggt.data.rooms.family import load_rooms
from qvggt.eval.metrics.depth import fit_depth
from qvggt.model import VGGT, VGGTConfig
from ranks import rank_correlation

SPLITS = ("test", "test-landmarks0", "wide", "real-like")
SIZE_HW = (VGGTConfig.nano().image_size,) * 2
"""Of nano's images."""

DROPPED = (0, 10, 25, 50, 75)
"""Percentages of pixels, the least confident, without which the error of the rest is measured."""

THRESHOLDS = (2.0, 5.0, 10.0, 20.0)
GROUPS = 10


@dataclass(frozen=True)
class SceneErrors:
    """Confidence and error of the pixels of one scene.

    Attributes:
        confidence: [N], at least 1.
        error: [N], relative, at least 0.
    """

    confidence: np.ndarray
    error: np.ndarray


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=64, help="of each split")
    parser.add_argument("--splits", nargs="+", default=SPLITS)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    model = qvggt.load("nano", compute="float32", device="cpu")
    figures = {split: figures_of(measure(model, split, chosen.scenes)) for split in chosen.splits}
    print(tables(figures))
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure(model: VGGT, split: str, scenes: int) -> list[SceneErrors]:
    """Return confidence and error of the depth of rooms."""
    found = []
    for scene in load_rooms(split, SIZE_HW, scenes):
        prediction = qvggt.reconstruct(model, torch.from_numpy(scene.images), heads="depth")
        assert prediction.depth is not None
        assert prediction.depth_conf is not None
        assert scene.depth is not None
        known = np.isfinite(scene.depth) & (scene.depth > 0)
        depth, truth = prediction.depth[known], scene.depth[known]
        error = np.abs(fit_depth(depth, truth, "scale")[0] * depth - truth) / truth
        found.append(SceneErrors(prediction.depth_conf[known], error))
    return found


def figures_of(scenes: Sequence[SceneErrors]) -> dict[str, Any]:
    """Return how well confidence predicts error.

    ``within``: mean rank correlation of confidence and error over the pixels of a scene. ``over``: rank correlation of
    the scenes' medians of both. ``tenths``: mean error of each tenth of a scene's pixels, the least confident first.
    ``dropped`` and ``best``: mean error without a share of the pixels, chosen by confidence and by the error itself.
    ``above``: for each threshold on confidence the share of pixels above it, their mean error, and the share of scenes
    of which less than a tenth is left.
    """
    confidence, error = (np.concatenate([getattr(scene, name) for scene in scenes]) for name in ("confidence", "error"))

    def medians(name: str) -> np.ndarray:
        return np.array([np.median(getattr(scene, name)) for scene in scenes])

    above = {}
    for threshold in THRESHOLDS:
        kept = confidence >= threshold
        empty = [np.mean(scene.confidence >= threshold) < 0.1 for scene in scenes]
        above[threshold] = [
            float(kept.mean()),
            float(error[kept].mean()) if kept.any() else None,
            float(np.mean(empty)),
        ]
    return {
        "scenes": len(scenes),
        "within": float(np.mean([rank_correlation(scene.confidence, scene.error) for scene in scenes])),
        "over": rank_correlation(*(medians(name) for name in ("confidence", "error"))),
        "tenths": np.mean([_by_tenths(scene) for scene in scenes], 0).tolist(),
        "dropped": {share: _mean_without(scenes, share, by_error=False) for share in DROPPED},
        "best": {share: _mean_without(scenes, share, by_error=True) for share in DROPPED},
        "confidence": np.percentile(confidence, (5, 25, 50, 75, 95)).tolist(),
        "above": above,
    }  # fmt: skip


def _by_tenths(scene: SceneErrors) -> list[float]:
    order = np.argsort(scene.confidence, kind="stable")
    return [float(part.mean()) for part in np.array_split(scene.error[order], GROUPS)]


def _mean_without(scenes: Sequence[SceneErrors], percent: int, *, by_error: bool) -> float:
    """Return the mean over scenes of the error without a percentage of the pixels."""
    means = []
    for scene in scenes:
        order = np.argsort(-scene.error if by_error else scene.confidence, kind="stable")
        means.append(scene.error[order[round(percent / 100 * len(order)) :]].mean())
    return float(np.mean(means))


def tables(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the figures as tables in Markdown."""
    names = list(figures)
    lines = [f"| | {' | '.join(f'`{name}`' for name in names)} |", f"|---|{'--:|' * len(names)}"]

    def row(title: str, cells: Sequence[str]) -> None:
        lines.append(f"| {title} | {' | '.join(cells)} |")

    row("rank correlation with the error, within a scene", [f"{figures[name]['within']:.2f}" for name in names])
    row("the same of scenes' medians", [f"{figures[name]['over']:.2f}" for name in names])
    for share in DROPPED:
        cells = [f"{100 * figures[n]['dropped'][share]:.1f} ({100 * figures[n]['best'][share]:.1f})" for n in names]
        row(f"error in %, {share} % dropped (by the error itself)", cells)
    for number in range(GROUPS):
        row(
            f"error in %, tenth {number + 1} by confidence",
            [f"{100 * figures[n]['tenths'][number]:.1f}" for n in names],
        )
    row("confidence, median (5 % to 95 %)", [
        f"{figures[n]['confidence'][2]:.1f} ({figures[n]['confidence'][0]:.1f}–{figures[n]['confidence'][4]:.1f})"
        for n in names
    ])  # fmt: skip
    for threshold in THRESHOLDS:
        cells = []
        for share, error, empty in (figures[name]["above"][threshold] for name in names):
            cells.append(f"{100 * share:.0f}, {'-' if error is None else f'{100 * error:.1f}'}, {100 * empty:.0f}")
        row(f"confidence ≥ {threshold:g}: % of pixels, error in %, % of scenes nearly empty", cells)
    return "\n".join(lines)


if __name__ == "__main__":
    main()
