"""Options of the interactive viewer, and of turntables."""

from __future__ import annotations

from dataclasses import dataclass

from qvggt.options.checks import check_fields
from qvggt.types import QvggtError

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
"""Names under which only this machine reaches itself."""


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
        check_port(self.port)
        if self.max_points < 1:
            raise QvggtError(f"the number of points must be at least 1, got {self.max_points} (--max-points)")

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the viewer."""
        return self.host in LOCAL_HOSTS


@dataclass(frozen=True)
class TurntableOptions:
    """How a scene turns.

    Attributes:
        turn_deg: angle of the turn; below 360 the scene swings to both sides over that angle.
        seconds: duration.
        size: of each scene in pixels: one side, or width and height.

    Raises:
        QvggtError: a value is out of range.
    """

    turn_deg: float = 360.0
    seconds: float = 6.0
    size: tuple[int, ...] = (640, 480)

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.turn_deg <= 360:
            raise QvggtError(f"a turntable turns by more than 0 and at most 360 degrees, got {self.turn_deg} (--turn)")
        if not 0.5 <= self.seconds <= 120:
            raise QvggtError(f"a turntable takes 0.5 to 120 seconds, got {self.seconds} (--seconds)")
        if len(self.size) not in (1, 2) or not all(64 <= side <= 4096 for side in self.size):
            raise QvggtError(f"a turntable's size is one side, or a width and a height, in 64..4096, got {self.size}")

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of each scene."""
        return self.size[0], self.size[-1]


def check_port(port: int) -> None:
    """Raise QvggtError unless a TCP port can have this number."""
    if not 1 <= port <= 65535:
        raise QvggtError(f"the port must be in 1..65535, got {port} (--port)")
