"""``qvggt plan``: what a reconstruction will hold in memory."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import tyro

from qvggt.cli import arguments as given
from qvggt.options import HEADS_FOR, ExportOptions, Head, ImageOptions, InferenceOptions, LoadOptions, WindowOptions

if TYPE_CHECKING:
    from qvggt.inference.memory_plan import MemoryPlan, ModelSize
    from qvggt.inference.memory_sums import StageMemory

Images = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    given.argument("IMAGES", "plan for these photographs or this video, in place of --frames and --size", "(optional)"),
]

Size = Annotated[
    tuple[int, ...], given.number("width of the images in pixels, or width and height", "(default: the model's)", "PX")
]


def plan(
    model: given.Model,
    images: Images = (),
    frames: Annotated[int | None, given.number("number of images, or most of IMAGES", "(default: 8)", "N")] = None,
    size: Size = (),
    mode: given.Mode = ImageOptions.mode,
    fps: given.FramesPerSecond = ImageOptions.fps,
    heads: Annotated[tuple[Head, ...], tyro.conf.arg(help="what to compute")] = HEADS_FOR[ExportOptions.points_from],
    max_points: given.MaxPoints = ExportOptions.max_points,
    memory: given.Memory = None,
    compute: given.Compute = LoadOptions.compute,
    global_attention: given.GlobalAttention = str(LoadOptions.global_attention),
    dense_frames: given.DenseFrames = InferenceOptions.dense_frames,
    window: given.WindowFrames = None,
    revision: given.Revision = None,
    json: given.Json = None,
) -> None:
    """Predict a reconstruction's memory, stage by stage, without running it.

    With --memory, chunk sizes are reduced to fit. IMAGES are decoded; no weights are loaded.
    """
    import qvggt.export.result  # noqa: F401  in memory when `reconstruct` loads a model, so it counts as program
    from qvggt.cli.show import check_figures, save_figures, size_bytes
    from qvggt.inference.memory_plan import model_size, plan_memory
    from qvggt.inference.memory_sums import PassSize
    from qvggt.inference.windows import check_window_heads
    from qvggt.types import QvggtError

    count = 8 if frames is None else frames
    if len(size) > 2 or min(1, *size, count, max_points) < 1:
        raise QvggtError(
            "frames and points must be at least 1 (--frames, --max-points), and --size a width, or a width and a height"
        )
    if images and size:
        raise QvggtError("IMAGES decide the size: give either them or --size")
    options = InferenceOptions(dense_frames, WindowOptions.of(window))
    limit = None if memory is None else size_bytes(memory)
    check_figures(json)
    what = model_size(model, revision, compute, global_attention)
    size, patch = size or (what.config.image_size,), what.config.patch_size
    if any(side % patch for side in size):
        raise QvggtError(f"the model cuts images into patches of {patch} px: give a size in multiples of that (--size)")
    shape, reading = (count, 3, size[-1], size[0]), None
    if images:
        form = ImageOptions(what.config.image_size, patch, mode, fps=fps, frames=frames)
        with nullcontext() if window is None else TemporaryDirectory() as folder:
            shape, reading = _read(images, form, what, limit, folder=None if folder is None else Path(folder))
    if window is not None and window < shape[0]:
        check_window_heads(heads)
    pass_size = PassSize.of(shape, heads, options, stored=window is not None)
    planned = plan_memory(what, pass_size, limit, max_points, reading=reading)
    save_figures(json, planned.to_json())
    _print(planned)


def _read(
    images: tuple[str, ...], form: ImageOptions, what: ModelSize, limit: int | None, *, folder: Path | None
) -> tuple[tuple[int, ...], StageMemory]:
    """Return the shape of the images, and the memory that reading them took."""
    from qvggt.images.preprocess import load_images
    from qvggt.inference.memory_sums import StageMemory
    from qvggt.inference.process_memory import peak_memory_bytes, resident_memory_bytes

    before = resident_memory_bytes()
    left = None if limit is None else lambda: limit - what.weight_bytes - resident_memory_bytes()
    arrays = load_images(images, form, left, folder).images
    held = arrays.nbytes if folder is None else 0
    decoding = max(0, peak_memory_bytes() - before - held)
    return arrays.shape, StageMemory("reading images", images=held, layers=decoding)


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
