"""Picture of a training run: its learning curve."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from qvggt.files import new_file
from qvggt.files.read import read_json_lines
from qvggt.types import QvggtError


def plot_log(log: Path, picture: Path) -> Path:
    """Draw a run's ``log.jsonl`` (losses, and figures on held-out rooms, over images seen) and return the picture.

    Raises:
        QvggtError: the log does not exist.
    """
    if not log.exists():
        raise QvggtError(f"no training log {str(log)!r}: train first")
    lines = read_json_lines(log, what="the training log")
    losses = [line for line in lines if "loss_total" in line]
    checks = [line for line in lines if "auc30" in line]
    rooms = sorted({line.get("landmarks", 1.0) for line in checks}, reverse=True)
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    for name in ("pose", "direction", "depth", "points"):
        left.plot([x["images"] / 1e3 for x in losses], [x[f"loss_{name}"] for x in losses], label=name, linewidth=1)
    left.set(title="training loss", xlabel="thousand images")
    left.legend(fontsize=8)
    for landmarks in rooms:
        some = [line for line in checks if line.get("landmarks", 1.0) == landmarks]
        images = [line["images"] / 1e3 for line in some]
        which = f", landmarks {landmarks:g}" if len(rooms) > 1 else ""
        for name, label in (("auc30", "AUC@30"), ("auc5", "AUC@5")):
            middle.plot(images, [line[name] for line in some], marker=".", label=label + which)
        right.plot(images, [line["absrel"] for line in some], marker=".", label=f"landmarks {landmarks:g}")
    middle.set(title="pose, held-out rooms", xlabel="thousand images", ylim=(0, 100))
    if checks:  # matplotlib warns of legends without lines
        middle.legend(fontsize=8)
        right.legend(fontsize=8)
    right.set(title="AbsRel, held-out rooms", xlabel="thousand images")
    right.set_ylim(bottom=0)
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
    with new_file(picture, overwrite=True) as temporary:
        figure.savefig(temporary, dpi=120)
    return picture
