"""What merged global attention costs in accuracy, by how many of the first global blocks stay exact: nano, on rooms.

python benchmarks/merging.py [--scenes N]
"""

from __future__ import annotations

import argparse

import qvggt
from qvggt.eval.plan import Selection
from qvggt.model import VGGT


def main() -> None:
    """Print a row for every number of exact blocks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=32)
    scenes = parser.parse_args().scenes
    print("| exact global blocks | AUC@30 | AbsRel | points |\n|---|--:|--:|--:|")
    for exact in range(len(qvggt.load("nano").aggregator.global_blocks) + 1):
        figures = qvggt.evaluate(merged_after(exact), "rooms", selection=Selection(scenes=scenes)).model.summary.metrics
        row = f"{figures['auc30']:.1f} | {figures['absrel']:.3f} | {figures['point_error']:.3f}"
        print(f"| the first {exact} | {row} |", flush=True)


def merged_after(exact: int) -> VGGT:
    """Return nano with global attention merged in all blocks but the first ``exact``."""
    model = qvggt.load("nano", global_attention="merged")
    model.aggregator.exact_pairs = exact
    return model


if __name__ == "__main__":
    main()
