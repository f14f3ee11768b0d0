"""Draw the rooms of the code and the two trips through them: docs/images/architecture.png.

python docs/make_architecture_figure.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

OUTPUT = Path(__file__).parent / "images" / "architecture.png"

ROWS = (
    (("cli", "one file a command"), ("bench", "time, memory"), ("plots", "matplotlib"), ("train", "nano's training")),
    (("api", "load · reconstruct · quantize · evaluate · compare · fidelity · sensitivity"),),
    (("methods", "rtn awq gptq smoothquant\nquarot qvggt qvggt+"), ("eval", "metrics, protocols,\nstored results")),
    (
        ("calibration", "units, statistics,\nobjective"),
        ("inference", "prediction, windows,\nmemory plan"),
        ("export", "ply glb npz\ncameras depth overview"),
    ),
    (("checkpoint", "quantized models on disk"), ("weights", "float models on disk"), ("data", "datasets, rooms")),
    (("nn", "packed layers"), ("backends", "products of packed layers,\nnative/ in C"), ("images", "photos, video")),
    (("model", "VGGT, architecture only"), ("quant", "schemes, packing, recipe")),
    (
        ("options", "every option, its default"),
        ("files", "whole or not at all"),
        ("geometry", "camera conventions"),
        ("types", "Prediction, Scene"),
    ),
)
"""Rooms from top to bottom with a note; imports point downwards."""

RECONSTRUCT = {
    "images": "decode and resize",
    "checkpoint": "open MODEL",
    "inference": "plan memory, run windows",
    "model": "forward pass",
    "backends": "products from packed words",
    "export": "write files",
}
QUANTIZE = {
    "weights": "open MODEL",
    "data": "calibration scenes",
    "calibration": "statistics, unit by unit",
    "methods": "choose schemes, round",
    "quant": "pack integers",
    "checkpoint": "write",
}
TRIPS = (("photographs to prediction", "#1f77b4", RECONSTRUCT), ("float model to checkpoint", "#d95f02", QUANTIZE))


def main() -> None:
    """Draw the picture."""
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 10}):
        figure = Figure(figsize=(11, 8.2), dpi=120)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 11), ylim=(0, 8.2))
        axes.axis("off")
        for row, rooms in enumerate(ROWS):
            width = 7.4 / len(rooms)
            for column, (name, note) in enumerate(rooms):
                box = 0.2 + column * width, 7.3 - 0.97 * row, width - 0.15, 0.82
                draw_room(axes, name, note, box)
        draw_legend(axes)
        FigureCanvasAgg(figure).print_png(str(OUTPUT))


def draw_room(axes, name: str, note: str, box: tuple[float, float, float, float]) -> None:
    """Draw one room, and the number of each trip's step in it."""
    x, y, width, height = box
    shape = FancyBboxPatch((x, y), width, height, "round,pad=0,rounding_size=0.08", fc="#f5f5f2", ec="#888")
    axes.add_patch(shape)
    axes.text(x + 0.12, y + height - 0.14, name, weight="bold", va="top")
    axes.text(x + 0.12, y + height - 0.36, note, va="top", size=8, color="#444")
    badges = [(color, list(steps).index(name) + 1) for _, color, steps in TRIPS if name in steps]
    for place, (color, number) in enumerate(badges):
        at = x + width - 0.2 - 0.34 * place, y + height - 0.2
        axes.plot(*at, "o", ms=16, color=color)
        axes.text(*at, str(number), ha="center", va="center_baseline", color="white", size=9, weight="bold")


def draw_legend(axes) -> None:
    """Write what each step of a trip does."""
    y = 8.0
    for title, color, steps in TRIPS:
        axes.text(7.8, y, title, weight="bold", color=color, va="top")
        for number, (room, what) in enumerate(steps.items(), 1):
            axes.text(7.8, y - 0.34 * number, f"{number}  {room}: {what}", va="top", size=9)
        y -= 3.0
    axes.text(7.8, 1.6, "A room imports only\nrooms below it.", va="top", size=9, color="#444")


if __name__ == "__main__":
    main()
