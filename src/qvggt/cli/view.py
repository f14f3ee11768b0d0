"""``qvggt view``: a reconstruction in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from qvggt.cli import arguments as given
from qvggt.options import ViewOptions

Results = Annotated[
    tuple[Path, ...],
    given.Positional,
    given.argument("RESULT", "one folder that reconstruct wrote, or two to compare", "(one or two)"),
]
Host = Annotated[str, given.option("ADDRESS", "address to listen on; 0.0.0.0 lets other machines see the scene", None)]
Port = Annotated[int, given.number("port to listen on, or the next free one")]


def view(
    results: Results,
    host: Host = ViewOptions.host,
    port: Port = ViewOptions.port,
    max_points: given.MaxPoints = ViewOptions.max_points,
) -> None:
    """Show a reconstruction in the browser, or two side by side with their differences."""
    from qvggt.app import viewer
    from qvggt.cli.show import say
    from qvggt.export.result import open_result
    from qvggt.types import QvggtError

    if len(results) not in (1, 2):
        raise QvggtError(f"view takes one result, or two to compare, got {len(results)}")
    viewer.view(
        [open_result(path) for path in results],
        ViewOptions(host, port, max_points),
        lambda url: say(f"{url} shows the scene; Ctrl-C ends"),
    )
