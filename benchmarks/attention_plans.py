"""Attention plans side by side: accuracy and time of nano on test rooms, by the number of frames.

python benchmarks/attention_plans.py --scenes 32 --plans exact merged nano
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch

import qvggt
from qvggt.data.rooms.family import room_scene
from qvggt.eval.stats import paired_difference
from qvggt.model import VGGTConfig
from qvggt.options import RunOptions, Selection

FRAMES = (2, 4, 8, 30, 100)
TURNS, SIZE_HW, SEED = 5, (VGGTConfig.nano().image_size,) * 2, 9_200_000


def seconds(plans: Sequence[str], frames: int) -> dict[str, float]:
    """Return the median processor time of a forward pass for each plan, measured in turns on one thread."""
    torch.set_num_threads(1)
    images = torch.from_numpy(room_scene(SEED, frames, SIZE_HW).images)[None]  # [1, S, 3, H, W]
    models = {plan: qvggt.load("nano", device="cpu", compute="float32", global_attention=plan) for plan in plans}
    times: dict[str, list[float]] = {plan: [] for plan in plans}
    for turn in range(TURNS + 1):  # the first warms up
        for plan, model in models.items():
            start = time.process_time()
            with torch.inference_mode():
                model(images)
            if turn:
                times[plan].append(time.process_time() - start)
    return {plan: sorted(values)[TURNS // 2] for plan, values in times.items()}


def main() -> None:
    """Print the table of docs/attention.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--frames", type=int, nargs="+", default=FRAMES)
    parser.add_argument("--plans", nargs="+", default=["exact", "merged", "nano"])
    options = parser.parse_args()
    print(
        "| frames | plan | AUC@30 | against exact | AUC@5 | AbsRel | processor seconds |\n|--:|---|--:|--:|--:|--:|--:|"
    )
    for frames in options.frames:
        spent, base = seconds(options.plans, frames), None
        for plan in options.plans:
            selection, run = Selection(frames=frames, scenes=options.scenes), RunOptions(global_attention=plan)
            figures = qvggt.evaluate("nano", selection=selection, run=run).model
            base = base or figures
            change = paired_difference([figures.results], base.results)
            low, high = change.intervals["auc30"]
            against = "" if plan == options.plans[0] else f"{change.metrics['auc30']:+.2f} ({low:+.2f} to {high:+.2f})"
            metrics = figures.summary.metrics
            values = f"{metrics['auc30']:.2f} | {against} | {metrics['auc5']:.2f} | {metrics['absrel']:.4f}"
            print(f"| {frames} | {plan} | {values} | {spent[plan]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
