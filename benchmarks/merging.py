"""What merged global attention costs in accuracy: nano, on rooms.

By how many of the first global blocks stay exact, and by the side of the patch groups over which keys, or queries, are
averaged.

python benchmarks/merging.py [--scenes N] [--frames N]
"""

from __future__ import annotations

import argparse

from torch import Tensor

import qvggt
from qvggt.model import VGGT
from qvggt.model.token_merging import Merging, exact_pairs, patch_groups
from qvggt.options import Selection

KEYS = 2
"""Patches along the side of nano's key groups."""


def main() -> None:
    """Print a row for every way to merge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--frames", type=int, help="of a scene; all by default")
    chosen = parser.parse_args()
    selection = Selection(scenes=chosen.scenes, frames=chosen.frames)
    blocks = len(qvggt.load("nano").aggregator.global_blocks)
    usual = exact_pairs(blocks)
    print("| exact global blocks | patch group of keys | of queries | AUC@30 | AbsRel | points |")
    print("|---|--:|--:|--:|--:|--:|")
    ways = [(exact, KEYS, 1) for exact in range(blocks + 1)] + [(usual, 3, 1), (usual, 2, 2), (usual, 3, 3)]
    for exact, keys, queries in ways:
        figures = qvggt.evaluate(merged(exact, keys, queries), "rooms", selection=selection).model.summary.metrics
        row = f"{figures['auc30']:.1f} | {figures['absrel']:.3f} | {figures['point_error']:.3f}"
        print(f"| the first {exact} | {keys}x{keys} | {queries}x{queries} | {row} |", flush=True)


def merged(exact: int, keys: int, queries: int) -> VGGT:
    """Return nano with global attention merged in all blocks but the first ``exact``, over groups of these sides."""
    model = qvggt.load("nano", global_attention="merged")
    aggregator = model.aggregator
    aggregator.exact_pairs = exact

    def merging(images: Tensor) -> Merging:
        scene = images.shape[1], aggregator.special_tokens, *aggregator.grid(images)
        return Merging(patch_groups(*scene, keys), patch_groups(*scene, queries) if queries > 1 else None)

    aggregator.merging = merging
    return model


if __name__ == "__main__":
    main()
