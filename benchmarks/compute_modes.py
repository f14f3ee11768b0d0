"""What half precision and integers cost: accuracy of models by compute mode, against float32 on the same rooms.

qvggt quantize nano -o out/nano-4bit
python benchmarks/compute_modes.py nano out/nano-4bit nano-hard --scenes 64
"""

from __future__ import annotations

import argparse
from pathlib import Path

import qvggt
from qvggt.eval.stats import paired_difference
from qvggt.options import Compute, RunOptions, Selection

MODES: tuple[Compute, ...] = ("bfloat16", "float16", "int8")
METRICS = {"auc30": 2, "auc5": 2, "auc3": 2, "absrel": 5}
"""Metrics of the table, and digits."""


def main() -> None:
    """Print the table of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--scenes", type=int, default=256)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    options = parser.parse_args()
    print("| model | compute | AUC@30 | AUC@5 | AUC@3 | AbsRel |\n|---|---|--:|--:|--:|--:|")
    for model in options.models:
        selection = Selection(scenes=options.scenes)
        base = qvggt.evaluate(model, selection=selection).model
        cells = [f"{base.summary.metrics[name]:.{digits}f}" for name, digits in METRICS.items()]
        print(f"| {Path(model).name} | float32 | {' | '.join(cells)} |", flush=True)
        for mode in options.modes:
            if mode == "int8" and base.card.average_bits == 16:
                continue  # float models have no integer products
            other = qvggt.evaluate(model, selection=selection, run=RunOptions(compute=mode)).model
            change = paired_difference([other.results], base.results)
            cells = [
                f"{change.metrics[name]:+.{digits}f} ({change.intervals[name][0]:+.{digits}f} to "
                f"{change.intervals[name][1]:+.{digits}f})"
                for name, digits in METRICS.items()
            ]
            print(f"| | {mode} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
