"""Draws ``images/turntable.webp``: the sample scene of the float nano, of the 4-bit nano, and their difference.

Run as ``python docs/make_turntable.py``.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

from qvggt.api import reconstruct as api
from qvggt.api.quantize import quantize_to
from qvggt.export.freeview import Viewpoint, draw_from
from qvggt.export.points import gather_points, usable_pixels
from qvggt.export.sheet import FAINT, FONT, PANEL, TEXT
from qvggt.export.topview import view_rotation
from qvggt.inference.process_memory import size_text
from qvggt.options import METHOD, ExportOptions, QuantizeOptions
from qvggt.postprocess.frames import camera_centers, level_rotation
from qvggt.postprocess.similarity import aligned
from qvggt.quant.scheme import Scheme
from qvggt.types import Prediction
from qvggt.weights.pretrained import sample_images

PAGE = Path(__file__).parent / "images" / "turntable.webp"
SIZE, HEADER, GAP = (400, 300), 30, 6
FRAMES, SWING_RAD, FRAME_MS, QUALITY = 32, 0.5, 90, 62


def predictions() -> tuple[Prediction, Prediction, str, str]:
    """Return the float model's prediction, the aligned 4-bit one, and the sizes of both models' weights."""
    with tempfile.TemporaryDirectory() as folder:
        report = quantize_to("nano", Path(folder) / "nano-4bit", METHOD, QuantizeOptions(Scheme(4, 64)))
        whole, packed = (
            api.reconstruct(model, sample_images(), heads=("camera", "depth"))
            for model in ("nano", str(Path(folder) / "nano-4bit"))
        )
    return whole, aligned(whole, packed)[0], size_text(report.float_bytes), size_text(report.checkpoint_bytes)


def panels(whole: Prediction, packed: Prediction) -> tuple[list[tuple[np.ndarray, np.ndarray]], Viewpoint, float]:
    """Return points and colors of each panel in upright axes, the first viewpoint, and the end of the heat map."""
    usable, confidence = usable_pixels(whole, "depth")
    usable &= usable_pixels(packed, "depth")[0]
    sure = confidence >= np.percentile(confidence[usable], ExportOptions.drop_percent)
    chosen = np.flatnonzero(usable & sure)
    clouds = [gather_points(each, "depth", chosen, confidence) for each in (whole, packed)]
    apart = np.linalg.norm(clouds[0].points - clouds[1].points, axis=1) / whole.depth.reshape(-1)[chosen]
    limit = float(np.ceil(100 * np.percentile(apart, 95)) / 100)
    heat = colormaps["inferno"](0.12 + 0.88 * np.clip(apart / limit, 0, 1), bytes=True)[:, :3]
    rotation = view_rotation(clouds[0], level_rotation(whole.cam_from_world))
    first, second = (cloud.points @ rotation.T for cloud in clouds)
    colors = clouds[0].colors
    view = Viewpoint.fitting(first, camera_centers(whole.cam_from_world)[:0] @ rotation.T, SIZE)
    return [(first, colors), (second, colors), (second, heat)], view, limit


def turned(view: Viewpoint, middle: np.ndarray, angle: float) -> Viewpoint:
    """Return a viewpoint turned about the vertical axis through the scene's middle."""
    sine, cosine = np.sin(angle), np.cos(angle)
    about_up = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    return replace(view, eye=middle + about_up @ (view.eye - middle), axes=view.axes @ about_up.T)


def main() -> None:
    """Draw all frames and write them."""
    whole, packed, whole_size, packed_size = predictions()
    contents, view, limit = panels(whole, packed)
    middle = contents[0][0].mean(0)
    titles = (
        ("float32", f"{whole_size} of weights"),
        ("4 bits", f"{packed_size} of weights"),
        ("difference", f"0 to {100 * limit:.0f} % of depth"),
    )
    font, small = (ImageFont.truetype(findfont(FontProperties(family=[FONT])), size) for size in (15, 12))
    frames = []
    for step in range(FRAMES):
        viewpoint = turned(view, middle, SWING_RAD * np.sin(2 * np.pi * step / FRAMES))
        frame = Image.new("RGB", (3 * SIZE[0] + 2 * GAP, SIZE[1] + HEADER), PANEL)
        draw = ImageDraw.Draw(frame)
        for i, ((points, colors), (title, note)) in enumerate(zip(contents, titles, strict=True)):
            left = i * (SIZE[0] + GAP)
            picture = Image.fromarray(draw_from(viewpoint, points, colors))
            frame.paste(picture, (left, HEADER), picture)
            draw.text((left + 12, 8), title, TEXT, font)
            draw.text((left + 22 + draw.textlength(title, font), 10), note, FAINT, small)
        frames.append(frame)
    frames[0].save(PAGE, save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0, quality=QUALITY, method=6)


if __name__ == "__main__":
    main()
