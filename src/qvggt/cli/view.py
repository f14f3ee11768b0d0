"""``qvggt view``: a reconstruction in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from qvggt.cli import arguments as given
from qvggt.options import ExportOptions, TurntableOptions, ViewOptions

if TYPE_CHECKING:
    from qvggt.export.result import Result
    from qvggt.types import Prediction

Results = Annotated[
    tuple[Path, ...],
    given.Positional,
    given.argument("RESULT", "one folder that reconstruct wrote, or two to compare", "(one or two)"),
]
Html = Annotated[
    Path | None,
    given.option("FILE", "write one page that needs neither server nor network, and at most 300,000 points, instead"),
]
Turntable = Annotated[
    Path | None,
    given.option(
        "FILE", "write a moving picture (.mp4, .gif or .webp) of the turning scene instead, without a browser"
    ),
]
Turn = Annotated[float, given.number("angle of the turntable; below 360 it swings to both sides", None, "DEGREES")]
Seconds = Annotated[float, given.number("duration of the turntable")]
Size = Annotated[
    tuple[int, ...], given.option("PX", "size of each scene of the turntable: one side, or width and height", None)
]


def view(
    results: Results,
    host: given.Host = ViewOptions.host,
    port: given.Port = ViewOptions.port,
    max_points: given.MaxPoints = ViewOptions.max_points,
    html: Html = None,
    turntable: Turntable = None,
    turn: Turn = TurntableOptions.turn_deg,
    seconds: Seconds = TurntableOptions.seconds,
    size: Size = TurntableOptions.size,
    json: given.Json = None,
) -> None:
    """Show a reconstruction in the browser, or two side by side with their differences."""
    from qvggt.cli.show import check_figures, save_figures, say
    from qvggt.export.moving import moving_kind
    from qvggt.export.result import open_result
    from qvggt.types import QvggtError

    if len(results) not in (1, 2):
        raise QvggtError(f"view takes one result, or two to compare, got {len(results)}")
    options, turning = ViewOptions(host, port, max_points), TurntableOptions(turn, seconds, size)
    check_figures(json)
    if turntable is not None:
        moving_kind(turntable)
    opened, figures = [open_result(path) for path in results], {}
    if html is not None:
        figures["bytes"] = _write_page(html, opened, options.max_points)
    if turntable is not None:
        figures["turntable_bytes"] = _write_turntable(turntable, opened, options.max_points, turning)
    if figures:
        save_figures(json, figures)
        return
    if json is not None:
        raise QvggtError("--json takes the figures of a file: give --html or --turntable too, as the viewer has none")
    from qvggt.app import viewer

    viewer.view(opened, options, lambda url: say(f"{url} shows the scene; Ctrl-C ends"))


def _write_page(path: Path, results: list[Result], max_points: int) -> int:
    """Write the page, and print and return its size in bytes."""
    from qvggt.cli.show import say
    from qvggt.export.page import PAGE_POINTS, write_page
    from qvggt.inference.process_memory import size_text

    predictions, options = _shown(results, min(max_points, PAGE_POINTS))
    write_page(path, predictions, options)
    size = path.stat().st_size
    say(f"{path} shows the scene without server or network ({size_text(size)})")
    return size


def _write_turntable(path: Path, results: list[Result], max_points: int, options: TurntableOptions) -> int:
    """Write the moving picture, and print and return its size in bytes."""
    from qvggt.cli.show import progress, say
    from qvggt.export.turntable import write_turntable
    from qvggt.inference.process_memory import size_text

    predictions, shown = _shown(results, max_points)
    with progress("turntable") as update:
        write_turntable(path, predictions, shown, options, on_progress=update)
    size = path.stat().st_size
    say(f"{path} shows the turning scene ({size_text(size)})")
    return size


def _shown(results: list[Result], max_points: int) -> tuple[dict[str, Prediction], ExportOptions]:
    """Return the predictions by the names of their folders, and what is shown of them."""
    from qvggt.export.result import as_shown

    names = [result.folder.resolve().name for result in results]
    if len(set(names)) < len(names):
        names = [str(result.folder) for result in results]
    if len(set(names)) < len(names):
        names = ["first", "second"]
    shown = as_shown(results)
    info = shown[0].info
    options = ExportOptions(info.points_from, max_points, info.drop_percent, title=" and ".join(names), unit=info.unit)
    return dict(zip(names, (result.prediction for result in shown), strict=True)), options
