"""A reconstruction in the browser while it is running."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from qvggt.app.server import serving, url_of
from qvggt.app.viewer import Viewer, wait_for_interrupt
from qvggt.export.result import Result
from qvggt.options import PointsFrom, ViewOptions
from qvggt.types import Prediction, QvggtError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LiveView:
    """A viewer that is open while a reconstruction is running.

    Attributes:
        viewer: to be filled.
        points_from: source of its points.
    """

    viewer: Viewer
    points_from: PointsFrom

    def add(self, part: Prediction) -> None:
        """Show the frames of a window; if they have no points, a log message says why."""
        try:
            self.viewer.add(part, self.points_from)
        except QvggtError as error:
            log.warning("the viewer shows nothing yet: %s", error)

    def finish(self, result: Result) -> None:
        """Show the finished result until the user ends the program.

        Raises:
            QvggtError: it has no points.
        """
        self.viewer.show([result])
        wait_for_interrupt()


@contextmanager
def live_view(
    folder: Path, points_from: PointsFrom, options: ViewOptions, on_ready: Callable[[str], None]
) -> Iterator[LiveView]:
    """Serve a scene that is filled window by window.

    Args:
        folder: that will hold the result.
        points_from: source of its points.
        options: where to listen, and how many points to send.
        on_ready: called with the address.

    Raises:
        QvggtError: viser is not installed, or no port is free.
    """
    with serving(options) as server, closing(Viewer(server, options, folder)) as viewer:
        viewer.controls.status.content = "No window is finished yet."
        on_ready(url_of(server))
        yield LiveView(viewer, points_from)
