"""``qvggt plan``: what a reconstruction will hold in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from qvggt.cli.arguments import (
    ComputeMode,
    DenseFrames,
    Json,
    MaxPoints,
    Memory,
    Model,
    Revision,
    WindowFrames,
    number,
)

if TYPE_CHECKING:
    from qvggt.inference.memory_plan import MemoryPlan


def plan(
    model: Model,
    frames: Annotated[int, number("images of the scene", metavar="N")] = 8,
    size: Annotated[
        tuple[int, ...],
        number("width of the images in pixels, and height if it differs", "(default: the model's)", metavar="PX"),
    ] = (),
    heads: Annotated[tuple[Literal["camera", "depth", "point"], ...], tyro.conf.arg(help="what to compute")] = (
        "camera",
        "depth",
    ),
    max_points: MaxPoints = 1_000_000,
    memory: Memory = None,
    compute: ComputeMode = "float",
    dense_frames: DenseFrames = 8,
    window: WindowFrames = None,
    revision: Revision = None,
    json: Json = None,
) -> None:
    """Say what a reconstruction will hold in memory, stage by stage, before it is run.

    With --memory, less goes through the model at a time where it has to; nothing is loaded.
    """
    from qvggt.cli.show import check_figures, save_figures, size_bytes
    from qvggt.inference.memory_plan import model_size, plan_memory
    from qvggt.inference.memory_sums import PassSize
    from qvggt.inference.windows import check_window_heads
    from qvggt.types import QvggtError

    least = min(1, *size, frames, dense_frames, max_points, frames if window is None else window)
    if len(size) > 2 or least < 1:
        raise QvggtError("frames, windows and points are at least 1, and the size is a width, or a width and a height")
    if window is not None and window < frames:
        check_window_heads(heads)
    limit = None if memory is None else size_bytes(memory)
    check_figures(json)
    what = model_size(model, revision, compute)
    size, patch = size or (what.config.image_size,), what.config.patch_size
    if any(side % patch for side in size):
        raise QvggtError(f"the model cuts images into patches of {patch} px: give a size in multiples of that")
    shape = (frames, 3, size[-1], size[0])
    pass_size = PassSize.of(shape, window, heads, dense_frames)
    planned = plan_memory(what, pass_size, limit, max_points)
    save_figures(json, planned.to_json())
    _print(planned)


def _print(planned: MemoryPlan) -> None:
    from rich.table import Table

    from qvggt.cli.show import count_text, say, say_table
    from qvggt.inference.process_memory import size_text

    parts = ("images", "tokens", "maps", "layers", "answers")
    table = Table("stage", *parts, "with all that stands", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = [(stage, planned.standing_bytes + stage.total) for stage in planned.stages]
    rows += [(planned.writing, planned.writing_bytes)] if planned.writing else []
    for stage, total in rows:
        cells = [size_text(getattr(stage, part)) if getattr(stage, part) else "" for part in parts]
        table.add_row(stage.stage, *cells, size_text(total))
    say_table(table)
    say(
        f"standing: program {size_text(planned.program_bytes)}, weights {size_text(planned.weight_bytes)}, "
        f"libraries {size_text(planned.working_bytes)}; files are written when the model is let go"
    )
    size = planned.size
    say(
        f"peak {size_text(planned.peak_bytes)} with {size.chunk_tokens} tokens at a time in blocks and "
        f"{count_text(size.dense_frames, 'frame')} at most in dense heads"
    )
