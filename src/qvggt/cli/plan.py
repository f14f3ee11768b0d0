"""``qvggt plan``: what a reconstruction will hold in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import tyro

from qvggt.cli import arguments as given
from qvggt.options import HEADS_FOR, ExportOptions, Head, InferenceOptions, LoadOptions, WindowOptions

if TYPE_CHECKING:
    from qvggt.inference.memory_plan import MemoryPlan

Size = Annotated[
    tuple[int, ...], given.number("width of the images in pixels, or width and height", "(default: the model's)", "PX")
]


def plan(
    model: given.Model,
    frames: Annotated[int, given.number("number of images", metavar="N")] = 8,
    size: Size = (),
    heads: Annotated[tuple[Head, ...], tyro.conf.arg(help="what to compute")] = HEADS_FOR[ExportOptions.points_from],
    max_points: given.MaxPoints = ExportOptions.max_points,
    memory: given.Memory = None,
    compute: given.Compute = LoadOptions.compute,
    dense_frames: given.DenseFrames = InferenceOptions.dense_frames,
    window: given.WindowFrames = None,
    revision: given.Revision = None,
    json: given.Json = None,
) -> None:
    """Predict a reconstruction's memory, stage by stage, without running it.

    With --memory, chunk sizes are reduced to fit. No weights are loaded.
    """
    from qvggt.cli.show import check_figures, save_figures, size_bytes
    from qvggt.inference.memory_plan import model_size, plan_memory
    from qvggt.inference.memory_sums import PassSize
    from qvggt.inference.windows import check_window_heads
    from qvggt.types import QvggtError

    if len(size) > 2 or min(1, *size, frames, max_points) < 1:
        raise QvggtError("frames and points must be at least 1, and the size a width, or a width and a height")
    options = InferenceOptions(dense_frames, WindowOptions.of(window))
    if window is not None and window < frames:
        check_window_heads(heads)
    limit = None if memory is None else size_bytes(memory)
    check_figures(json)
    what = model_size(model, revision, compute)
    size, patch = size or (what.config.image_size,), what.config.patch_size
    if any(side % patch for side in size):
        raise QvggtError(f"the model cuts images into patches of {patch} px: give a size in multiples of that")
    planned = plan_memory(what, PassSize.of((frames, 3, size[-1], size[0]), heads, options), limit, max_points)
    save_figures(json, planned.to_json())
    _print(planned)


def _print(planned: MemoryPlan) -> None:
    from rich.table import Table

    from qvggt.cli.show import count_text, say, say_table
    from qvggt.inference.process_memory import size_text

    parts = ("images", "tokens", "maps", "layers", "answers")
    table = Table("stage", *parts, "total", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = [(stage, planned.standing_bytes + stage.total) for stage in planned.stages]
    rows += [(planned.writing, planned.writing_bytes)] if planned.writing else []
    for stage, total in rows:
        cells = [size_text(getattr(stage, part)) if getattr(stage, part) else "" for part in parts]
        table.add_row(stage.stage, *cells, size_text(total))
    say_table(table)
    say(
        f"in every stage: program {size_text(planned.program_bytes)}, weights {size_text(planned.weight_bytes)}, "
        f"libraries {size_text(planned.working_bytes)}; files are written after the model is released"
    )
    size = planned.size
    say(
        f"peak {size_text(planned.peak_bytes)} with chunks of {size.chunk_tokens} tokens in blocks and of "
        f"{count_text(size.dense_frames, 'frame')} in dense heads"
    )
