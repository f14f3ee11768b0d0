"""``qvggt reconstruct``: photographs to cameras, depth and points."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import tyro

from qvggt.cli.arguments import Device, Images, Json, Model, Output, Overwrite, Revision

HeadName = Literal["camera", "depth", "point"]


def reconstruct(
    model: Model,
    images: Images,
    output: Output,
    heads: Annotated[tuple[HeadName, ...], tyro.conf.arg(help="what to compute; by default what the points need")] = (),
    points_from: Annotated[
        Literal["depth", "head"], tyro.conf.arg(help="depth and cameras, or the point head")
    ] = "depth",
    max_points: Annotated[int, tyro.conf.arg(help="most points in the point cloud")] = 1_000_000,
    confidence: Annotated[float, tyro.conf.arg(help="leave out this share of least confident pixels, percent")] = 25.0,
    mode: Annotated[Literal["crop", "pad"], tyro.conf.arg(help="cut tall images, or fill up to a square")] = "crop",
    fps: Annotated[float | None, tyro.conf.arg(help="of a video, frames per second to take")] = None,
    frames: Annotated[int | None, tyro.conf.arg(help="at most so many frames, evenly spread")] = None,
    compute: Annotated[Literal["float"], tyro.conf.arg(help="how packed layers multiply")] = "float",
    dense_frames: Annotated[int, tyro.conf.arg(help="frames at a time in the dense heads: fewer, less memory")] = 8,
    device: Device = "cpu",
    revision: Revision = None,
    overwrite: Overwrite = False,
    json: Json = None,
) -> None:
    """Reconstruct a scene from photographs or a video.

    Writes prediction.npz, points.ply, scene.glb, cameras.json, depth/ and overview.png.
    """
    from qvggt import api
    from qvggt.artifacts import save_prediction
    from qvggt.cli.show import console, peak_memory_bytes, progress, size_text
    from qvggt.export import CONTENTS, ExportOptions, write_all
    from qvggt.files import new_folder, write_json

    options = ExportOptions(points_from, max_points, confidence, title=model)
    started = time.perf_counter()
    with new_folder(output, ("prediction.npz", *CONTENTS), overwrite) as folder:
        network = api.load(model, device, compute, revision)
        loaded = time.perf_counter()
        with progress(f"{model}, {len(images)} given") as update:
            prediction = api.reconstruct(
                network, images, heads or None, points_from, mode, fps, frames, dense_frames, update
            )
        done = time.perf_counter()
        count, _, height, width = prediction.images.shape
        save_prediction(prediction, folder / "prediction.npz")
        caption = f"{count} frames of {width}x{height} px in {done - loaded:.1f} s"
        written = ["prediction.npz", *write_all(prediction, folder, options, caption)]
    figures = {
        "model": model,
        "frames": count,
        "height_px": height,
        "width_px": width,
        "load_seconds": loaded - started,
        "reconstruct_seconds": done - loaded,
        "write_seconds": time.perf_counter() - done,
        "peak_memory_bytes": peak_memory_bytes(),
        "files": written,
    }
    write_json(json, figures)
    console.print(f"{count} frames of {width}x{height} px, {model}: {figures['reconstruct_seconds']:.1f} s")
    shown = [name for name in written if not name.startswith("depth/")]
    console.print(
        f"in {output}: {', '.join(shown)}" + (", depth/" if len(shown) < len(written) else ""), soft_wrap=True
    )
    console.print(f"loading {loaded - started:.1f} s, peak memory {size_text(figures['peak_memory_bytes'])}")
