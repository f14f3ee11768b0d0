"""How a command shows what it computes, as options."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from qvggt.cli import arguments as given
from qvggt.options import ViewOptions

if TYPE_CHECKING:
    from qvggt.app.live import LiveView
    from qvggt.export.result import ResultInfo


@dataclass(frozen=True)
class ViewValues:
    """Whether and where the scene can be seen in the browser."""

    view: Annotated[
        bool, given.Flag, given.flag("show the scene in the browser, window by window as it is computed")
    ] = False
    host: given.Host = ViewOptions.host
    port: given.Port = ViewOptions.port

    def opened(
        self, folder: Path, info: ResultInfo, max_points: int, limit: int | None
    ) -> AbstractContextManager[LiveView | None]:
        """Open the viewer, which prints its address, if that is asked for.

        Args:
            folder: that will hold the result.
            info: of the result.
            max_points: most points in the browser.
            limit: memory limit of the process, which the viewer has no part in.
        """
        from qvggt.cli.show import say
        from qvggt.types import QvggtError

        options = ViewOptions(self.host, self.port, max_points)
        if not self.view:
            return nullcontext()
        if limit is not None:
            raise QvggtError("--view needs memory that --memory does not count: leave it out, or use qvggt view later")
        from qvggt.app.live import live_view

        return live_view(folder, info.points_from, options, lambda url: say(f"{url} shows the scene; Ctrl-C ends"))
