"""``qvggt view``: a reconstruction in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from qvggt.cli import arguments as given
from qvggt.options import ViewOptions

if TYPE_CHECKING:
    from qvggt.export.result import Result

Results = Annotated[
    tuple[Path, ...],
    given.Positional,
    given.argument("RESULT", "one folder that reconstruct wrote, or two to compare", "(one or two)"),
]
Host = Annotated[str, given.option("ADDRESS", "address to listen on; 0.0.0.0 lets other machines see the scene", None)]
Port = Annotated[int, given.number("port to listen on, or the next free one")]
Html = Annotated[
    Path | None,
    given.option("FILE", "write one page that needs neither server nor network, and at most 300,000 points, instead"),
]


def view(
    results: Results,
    host: Host = ViewOptions.host,
    port: Port = ViewOptions.port,
    max_points: given.MaxPoints = ViewOptions.max_points,
    html: Html = None,
    json: given.Json = None,
) -> None:
    """Show a reconstruction in the browser, or two side by side with their differences."""
    from qvggt.cli.show import say
    from qvggt.export.result import open_result
    from qvggt.types import QvggtError

    if len(results) not in (1, 2):
        raise QvggtError(f"view takes one result, or two to compare, got {len(results)}")
    options, opened = ViewOptions(host, port, max_points), [open_result(path) for path in results]
    if html is not None:
        _write_page(html, opened, options.max_points, json)
        return
    if json is not None:
        raise QvggtError("--json takes the figures of a page: give --html too, as the viewer has none")
    from qvggt.app import viewer

    viewer.view(opened, options, lambda url: say(f"{url} shows the scene; Ctrl-C ends"))


def _write_page(path: Path, results: list[Result], max_points: int, json: Path | None) -> None:
    """Write the page and print its size."""
    from qvggt.cli.show import check_figures, save_figures, say
    from qvggt.export.page import PAGE_POINTS, write_page
    from qvggt.inference.process_memory import size_text
    from qvggt.options import ExportOptions

    check_figures(json)
    info = results[0].info
    names = [result.folder.resolve().name for result in results]
    if len(set(names)) < len(names):
        names = [str(result.folder) for result in results]
    if len(set(names)) < len(names):
        names = ["first", "second"]
    options = ExportOptions(
        info.points_from, min(max_points, PAGE_POINTS), info.drop_percent, title=" and ".join(names), unit=info.unit
    )
    write_page(path, dict(zip(names, (result.prediction for result in results), strict=True)), options)
    size = path.stat().st_size
    say(f"{path} shows the scene without server or network ({size_text(size)})")
    save_figures(json, {"bytes": size})
