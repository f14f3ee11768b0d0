"""Pose and depth of a model on rooms that it has never seen, with intervals.

python examples/03_evaluate.py
"""

import qvggt

result = qvggt.evaluate("nano", "rooms", "test", selection=qvggt.Selection(scenes=8))
summary = result.model.summary
for name in ("auc30", "absrel", "point_error"):
    low, high = summary.intervals[name]
    print(f"{name}: {summary.metrics[name]:.3f} ({low:.3f} to {high:.3f})")
