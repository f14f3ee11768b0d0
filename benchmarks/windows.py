"""What windows cost in accuracy: nano, on rooms of 24 frames.

python benchmarks/windows.py [--scenes N]
"""

from __future__ import annotations

import argparse

import qvggt
from qvggt.options import RunOptions, Selection, WindowOptions

FRAMES = 24
WINDOWS = ((FRAMES, 1), (8, 2), (8, 4), (12, 4))
"""Frames of a window, and of its overlap with the next; the first is one of all frames."""


def main() -> None:
    """Print a row for each kind of windows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=24)
    selection = Selection(frames=FRAMES, scenes=parser.parse_args().scenes)
    print("| | AUC@30 | AbsRel | points |\n|---|--:|--:|--:|")
    for frames, overlap in WINDOWS:
        run = RunOptions(windows=WindowOptions(frames, overlap))
        figures = qvggt.evaluate("nano", selection=selection, run=run).model.summary.metrics
        name = "all frames at once" if frames == FRAMES else f"windows of {frames}, overlap {overlap}"
        print(
            f"| {name} | {figures['auc30']:.1f} | {figures['absrel']:.3f} | {figures['point_error']:.3f} |", flush=True
        )


if __name__ == "__main__":
    main()
