"""Prints the figures and the table of ``rooms.md`` again; takes less than a minute on one thread.

Run as ``python docs/make_rooms_figures.py``: it writes ``images/rooms*.png`` and renews the table between the markers
in ``rooms.md``. With ``--speed`` it measures rendering on this machine instead and prints a table of it.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from marked import replace_between
from matplotlib import pyplot as plt
from PIL import Image, ImageDraw, ImageFont

from qvggt.data.rooms.family import SPLITS, RoomFamily, render_rooms
from qvggt.geometry import invert_camera

HERE = Path(__file__).parent
IMAGES = HERE / "images"
SCENES = 128
"""Rooms of each split that the statistics are taken from: all pairs of their 8 frames."""

PERCENTILES = (5, 25, 50, 75, 95)
CELL_WH = (200, 150)
GAP, LABEL = 4, 20

SHOWN = (
    ("main family: landmarks 1", "test", 3),
    ("landmarks 0", "test-landmarks0", 14),
    ("real-like: blur, noise, exposure, JPEG", "real-like", 17),
    ("wide: twice the motion", "wide", 14),
)
"""Title, split and number of the scene that the grid shows."""


@dataclass(frozen=True)
class Pairs:
    """What is true of pairs of frames of one split, each [P].

    Attributes:
        baseline_m: distance of the two cameras.
        rotation_deg: angle between their orientations.
        overlap: share that both see of each other's picture, the smaller of the two directions.
    """

    baseline_m: np.ndarray
    rotation_deg: np.ndarray
    overlap: np.ndarray


def measure_pairs(split: str) -> Pairs:
    """Return the statistics of the first rooms of a split; cameras do not depend on the pictures' size."""
    part = SPLITS[split]
    batch = render_rooms(part.seeds[:SCENES], part.frames, (6, 8), replace(part.family, degrade=False))
    centres = invert_camera(batch.cam_from_world)[..., 3]
    rotation = batch.cam_from_world[..., :3].double()
    relative = torch.einsum("bsij,btkj->bstik", rotation, rotation)
    cosine = ((relative.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1)
    i, j = torch.triu_indices(part.frames, part.frames, 1)
    mutual = torch.minimum(batch.overlap, batch.overlap.transpose(1, 2))
    values = (torch.cdist(centres, centres), torch.rad2deg(torch.acos(cosine)), mutual)
    return Pairs(*(table[:, i, j].flatten().double().numpy() for table in values))


def percentile_table(pairs: dict[str, Pairs]) -> str:
    """Return the percentiles of every split as Markdown."""
    head = " | ".join(f"{p} %" for p in PERCENTILES)
    lines = [f"| pairs of frames | split | {head} |", "|---|---|" + "--:|" * len(PERCENTILES)]
    rows = (("baseline, m", "baseline_m", 2), ("rotation, degrees", "rotation_deg", 1), ("overlap", "overlap", 2))
    for title, field, digits in rows:
        for split, values in pairs.items():
            numbers = np.percentile(getattr(values, field), PERCENTILES)
            lines.append(f"| {title} | `{split}` | " + " | ".join(f"{n:.{digits}f}" for n in numbers) + " |")
    return "\n".join(lines)


def draw_histograms(pairs: dict[str, Pairs], path: Path) -> None:
    """Draw baseline, rotation and overlap of three splits side by side."""
    panels = (
        ("baseline_m", "baseline (m)", np.linspace(0, 5, 41)),
        ("rotation_deg", "rotation (degrees)", np.linspace(0, 120, 41)),
        ("overlap", "overlap", np.linspace(0, 1, 41)),
    )
    styles = {"test": ("#1f5fa8", "-"), "test-landmarks0": ("#d9822b", "--"), "wide": ("#2a8a57", "-.")}
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplots(1, 3, figsize=(10, 2.9), layout="constrained")
        for axis, (field, title, bins) in zip(axes, panels, strict=True):
            for split, (color, line) in styles.items():
                values = getattr(pairs[split], field)
                share = np.full(len(values), 100 / len(values))
                axis.hist(
                    values, bins, weights=share, histtype="step", color=color, linestyle=line, label=split, lw=1.6
                )
            axis.set_xlabel(title)
            axis.set_xlim(bins[0], bins[-1])
        axes[0].set_ylabel("pairs of frames (%)")
        axes[0].legend(frameon=False)
        figure.savefig(path, dpi=110)
        plt.close(figure)


def picture(image: torch.Tensor) -> Image.Image:
    """Return an image [3, H, W] in 0..1 for the grid."""
    return Image.fromarray((image.permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8))


def depth_picture(depth_m: torch.Tensor) -> Image.Image:
    """Return depth [H, W] in colour: the nearest bright, the farthest dark."""
    inverse = 1 / depth_m.numpy()
    scaled = (inverse - inverse.min()) / (inverse.max() - inverse.min())
    return Image.fromarray((mpl.colormaps["viridis"](scaled)[..., :3] * 255).astype(np.uint8))


def save_grid(rows: list[tuple[str, list[Image.Image]]], path: Path) -> None:
    """Write rows of pictures, each with a title above, as a PNG with 6 bits a channel, which halves the file."""
    columns = max(len(pictures) for _, pictures in rows)
    width, height = CELL_WH
    size = (columns * (width + GAP) - GAP, len(rows) * (height + LABEL + GAP))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for index, (title, pictures) in enumerate(rows):
        top = index * (height + LABEL + GAP)
        pen.text((2, top + 1), title, fill="black", font=font)
        for column, cell in enumerate(pictures):
            sheet.paste(cell, (column * (width + GAP), top + LABEL))
    few = np.minimum((np.asarray(sheet).astype(np.int64) + 2) // 4 * 4, 255).astype(np.uint8)
    Image.fromarray(few).save(path, optimize=True)


def draw_families(path: Path) -> None:
    """Draw four frames and one depth map of a room of each family."""
    rows = []
    for title, split, number in SHOWN:
        part = SPLITS[split]
        batch = render_rooms([part.first_seed + number], part.frames, (CELL_WH[1], CELL_WH[0]), part.family, samples=2)
        chosen = [picture(batch.images[0, frame]) for frame in (0, 2, 5, 7)]
        rows.append((f"{title} (split {split}, scene {number})", [*chosen, depth_picture(batch.depth[0, 7])]))
    save_grid(rows, path)


def draw_landmarks(path: Path) -> None:
    """Draw the first frames of the same seeds at three values of ``landmarks``."""
    rows = []
    for landmarks in (0.0, 0.5, 1.0):
        family = RoomFamily(landmarks=landmarks)
        batch = render_rooms([8_000_001 + k for k in range(5)], 4, (CELL_WH[1], CELL_WH[0]), family, samples=2)
        rows.append(
            (f"landmarks {landmarks:g}: five rooms, one picture each", [picture(i) for i in batch.images[:, 1]])
        )
    save_grid(rows, path)


def measure_speed() -> str:
    """Return a Markdown table of milliseconds an image on one thread of this machine: the best of several runs."""
    torch.set_num_threads(1)
    lines = ["| pixels | rooms × frames at once | ms an image |", "|---|---|--:|"]
    for size, rooms, frames in (((56, 56), 24, 2), ((56, 56), 6, 8), ((112, 112), 4, 8), ((392, 518), 1, 8)):
        best = float("inf")
        for repeat in range(12 if size[0] < 200 else 3):
            started = time.perf_counter()
            render_rooms(range(9_000_000 + 100 * repeat, 9_000_000 + 100 * repeat + rooms), frames, size)
            best = min(best, time.perf_counter() - started)
        lines.append(f"| {size[1]}×{size[0]} | {rooms} × {frames} | {1e3 * best / (rooms * frames):.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Write the figures and renew the tables, or print the speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speed", action="store_true", help="measure rendering on this machine and print it")
    if parser.parse_args().speed:
        os.write(1, (measure_speed() + "\n").encode())
        return
    torch.set_num_threads(1)
    IMAGES.mkdir(exist_ok=True)
    draw_families(IMAGES / "rooms.png")
    draw_landmarks(IMAGES / "rooms-landmarks.png")
    pairs = {split: measure_pairs(split) for split in ("test", "test-landmarks0", "real-like", "wide")}
    draw_histograms(pairs, IMAGES / "rooms-histograms.png")
    page = HERE / "rooms.md"
    page.write_text(replace_between(page.read_text(), "percentiles", percentile_table(pairs)))


if __name__ == "__main__":
    main()
