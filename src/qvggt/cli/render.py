"""``qvggt render``: procedural rooms as files for any model."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated, Literal

import tyro

from qvggt.cli.arguments import Output, Overwrite


def _option(metavar: str, text: str, hint: str | None = "(optional)"):
    return tyro.conf.arg(metavar=metavar, help=text, help_behavior_hint=hint)


def render(
    data: Annotated[Literal["rooms"], tyro.conf.Positional, _option("rooms", "what to render", "")],
    output: Output,
    split: Annotated[str, _option("NAME", "of the rooms: see docs/rooms.md", None)] = "test",
    scenes: Annotated[int | None, _option("N", "the first N scenes; by default all, but train never ends")] = None,
    frames: Annotated[int | None, _option("N", "pictures of each scene, in place of the split's 8")] = None,
    size: Annotated[tuple[int, ...], _option("PX", "of a picture: one side, or width and height", None)] = (518,),
    samples: Annotated[int, _option("N", "N x N rays make the colour of a pixel: 2 looks smooth", None)] = 1,
    landmarks: Annotated[float | None, _option("0..1", "how much one picture tells its own pose")] = None,
    baseline: Annotated[float | None, _option("FACTOR", "of the camera's motion")] = None,
    path: Annotated[Literal["mixed", "walk", "orbit", "wander"] | None, _option("NAME", "of the camera")] = None,
    seed: Annotated[int | None, _option("N", "of the first scene, in place of the split's own")] = None,
    jpeg: Annotated[int | None, _option("1..95", "write JPEG of this quality in place of PNG")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Render rooms to images, COLMAP cameras and depth; run again with the same options to go on."""
    from qvggt.cli.show import progress, say
    from qvggt.data.rooms.export import Pictures, write_rooms
    from qvggt.data.rooms.family import choose_rooms
    from qvggt.types import QvggtError

    if len(size) not in (1, 2):
        raise QvggtError(f"--size takes one side or width and height, not {len(size)} numbers")
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
    started = time.perf_counter()
    with progress(f"{split}, {part.scenes} scenes") as update:
        written = write_rooms(output, part, pictures, split if seed is None else "room", overwrite, update)
    seconds = time.perf_counter() - started
    kept = f", {written.kept} were there" if written.kept else ""
    say(f"{written.rendered} scenes of {part.frames} frames rendered in {seconds:.1f} s{kept}")
    say(f"in {output}: index.json and one folder a scene; evaluate reads them as --dataset folder")
