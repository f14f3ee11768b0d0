"""Options of the interactive viewer."""

from __future__ import annotations

from dataclasses import dataclass

from qvggt.options.checks import check_fields
from qvggt.types import QvggtError


@dataclass(frozen=True)
class ViewOptions:
    """How the viewer serves a reconstruction.

    Attributes:
        host: address to listen on; ``127.0.0.1`` is reachable from this machine only.
        port: TCP port; the next free one is taken if it is in use.
        max_points: most points per result that are sent to the browser; more are thinned at random.

    Raises:
        QvggtError: a value is out of range.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    max_points: int = 1_000_000

    def __post_init__(self) -> None:
        check_fields(self)
        if not 1 <= self.port <= 65535:
            raise QvggtError(f"the port must be in 1..65535, got {self.port} (--port)")
        if self.max_points < 1:
            raise QvggtError(f"the number of points must be at least 1, got {self.max_points} (--max-points)")

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the viewer."""
        return self.host in ("127.0.0.1", "localhost", "::1")
