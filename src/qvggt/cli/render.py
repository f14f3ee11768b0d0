"""``qvggt render``: procedural rooms as files for any model."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated, Literal

from qvggt.cli import arguments as given
from qvggt.cli.arguments import option
from qvggt.options import ImageOptions


def render(
    data: Annotated[Literal["rooms"], given.Positional, given.argument("rooms", "what to render", "")],
    output: given.Output,
    split: Annotated[str, option("NAME", "split of the rooms: see docs/rooms.md", None)] = "test",
    scenes: Annotated[
        int | None, option("N", "render the first N scenes", "(default: all; required for train)")
    ] = None,
    frames: Annotated[int | None, option("N", "images per scene", "(default: the split's, 8)")] = None,
    size: Annotated[tuple[int, ...], option("PX", "image size: one side, or width and height", None)] = (
        ImageOptions.size,
    ),
    samples: Annotated[int, option("N", "average N x N rays per pixel; 2 is antialiased", None)] = 1,
    landmarks: Annotated[float | None, option("0..1", "how much a single image reveals its own pose")] = None,
    baseline: Annotated[float | None, option("FACTOR", "scale of the camera's motion")] = None,
    path: Annotated[Literal["mixed", "walk", "orbit", "wander", "loop"] | None, option("NAME", "camera path")] = None,
    seed: Annotated[int | None, option("N", "random seed of the first scene", "(default: the split's)")] = None,
    jpeg: Annotated[int | None, option("1..95", "write JPEG of this quality instead of PNG")] = None,
    overwrite: given.Overwrite = False,
    json: given.Json = None,
) -> None:
    """Render rooms to images, COLMAP cameras and depth; run again with the same options to resume."""
    from qvggt.cli.show import check_figures, progress, save_figures, say
    from qvggt.data.rooms.export import Pictures, write_rooms
    from qvggt.data.rooms.family import choose_rooms
    from qvggt.types import QvggtError

    if len(size) not in (1, 2):
        raise QvggtError(f"--size takes one side, or width and height, not {len(size)} numbers")
    part = choose_rooms(split, scenes, frames, landmarks)
    family = part.family
    if baseline is not None:
        if not 0.0 <= baseline <= 10.0:
            raise QvggtError(f"--baseline takes a factor from 0 to 10, not {baseline}")
        family = replace(family, baseline=baseline)
    if path is not None:
        family = replace(family, path=path)
    part = replace(part, family=family, first_seed=part.first_seed if seed is None else seed)
    pictures = Pictures((size[-1], size[0]), samples, jpeg)
    check_figures(json)
    started = time.perf_counter()
    with progress(f"{split}, {part.scenes} scenes") as update:
        written = write_rooms(
            output, part, pictures, split if seed is None else "room", overwrite=overwrite, on_progress=update
        )
    seconds = time.perf_counter() - started
    kept = f", {written.kept} existed" if written.kept else ""
    say(f"{written.rendered} scenes of {part.frames} frames rendered in {seconds:.1f} s{kept}")
    say(f"in {output}: index.json and one folder a scene; evaluate reads them as --dataset folder")
    figures = {"rendered_scenes": written.rendered, "kept_scenes": written.kept, "frames": part.frames}
    save_figures(json, {**figures, "seconds": seconds})
