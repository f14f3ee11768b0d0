"""What a long computation costs, stage by stage: time, and memory."""

from __future__ import annotations

import ctypes
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from qvggt.types import OnProgress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's mallopt: how many free bytes at the end of the heap are kept, and from how many bytes on memory has a
mapping of its own, which ends when it is freed."""
_LARGE_BYTES, _SPARE_BYTES = 8 << 20, 64 << 20
"""The least piece that goes back at once, and how much of smaller ones may stay at the heap's end."""
_KEPT_BYTES, _MOST_BYTES = 66 << 20, 32 << 20
"""The largest piece that is kept, and the largest that can be by older versions of glibc."""


@dataclass(frozen=True)
class StageCost:
    """What one stage took.

    Attributes:
        stage: its name, without what changes within it.
        seconds: of wall clock.
        peak_memory_bytes: the largest resident memory of the process up to the stage's end.
    """

    stage: str
    seconds: float
    peak_memory_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


class StageClock:
    """A progress callback that passes on what it is told, and measures each stage from its first call to the next's.

    Args:
        on_progress: what is told in turn.
        together: beginnings of names that are one stage each.
    """

    def __init__(self, on_progress: OnProgress, together: tuple[str, ...] = ()) -> None:
        self.on_progress, self.together = on_progress, together
        self._stage, self._since = "", time.perf_counter()
        self._costs: dict[str, StageCost] = {}

    def __call__(self, what: str, share: float) -> None:
        """Take note of what is being done and the share of it that is done."""
        stage = next((name for name in self.together if what.startswith(name)), what)
        if stage != self._stage:
            self._end()
            self._stage = stage
        self.on_progress(what, share)

    def costs(self) -> tuple[StageCost, ...]:
        """End the stage under way and return all of them, in the order in which they first came."""
        self._end()
        self._stage = ""
        return tuple(self._costs.values())

    def _end(self) -> None:
        now = time.perf_counter()
        if self._stage:
            before = self._costs.get(self._stage)
            seconds = now - self._since + (before.seconds if before else 0.0)
            self._costs[self._stage] = StageCost(self._stage, seconds, peak_memory_bytes())
        self._since = now


def release_freed_memory() -> None:
    """Let what this process has freed, and frees from now on, go back to the system, but for some small pieces.

    As a rule the C library keeps some of it for later, and how much is hard to foresee. Does nothing where the C
    library is not glibc.
    """
    if _mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES) and _mallopt(_M_TRIM_THRESHOLD, _SPARE_BYTES):
        ctypes.CDLL(None).malloc_trim(0)


def retain_freed_memory() -> None:
    """Let what this process frees from now on stay with it for later.

    A pass through the model frees and takes the same large pieces again and again; new ones from the system are cleared
    page by page, which takes a twentieth of the time of a pass with integers and more of one with floats. The few that
    are larger than any of a layer's still go back: gaps where they were would not be filled. Does nothing where the C
    library is not glibc.
    """
    if _mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES) or _mallopt(_M_MMAP_THRESHOLD, _MOST_BYTES):
        _mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def _mallopt(parameter: int, value: int) -> bool:
    """Return whether the C library agreed."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and bool(mallopt(parameter, value))


def peak_memory_bytes() -> int:
    """Return the largest resident memory that this process has had."""
    try:  # not getrusage, whose peak includes that of the process that started this one
        status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_memory_bytes() -> int:
    """Return the resident memory of this process now."""
    return psutil.Process().memory_info().rss


@dataclass(frozen=True)
class MappedFile:
    """A file, or a piece of one, that is mapped into this process.

    Attributes:
        start: its first address.
        end: the address after its last.
        resident_bytes: of it that are in memory now.
    """

    start: int
    end: int
    resident_bytes: int


def mapped_files() -> list[MappedFile]:
    """Return what of files is mapped into this process, by address; nothing where the system does not tell."""
    try:
        lines = Path("/proc/self/smaps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found, address = [], ""
    for line in lines:
        words = line.split()
        if not words[0].endswith(":"):
            address = words[0] if len(words) > 5 and words[5].startswith("/") else ""
        elif address and words[0] == "Rss:":
            start, end = (int(side, 16) for side in address.split("-"))
            found.append(MappedFile(start, end, 1024 * int(words[1])))
    return found


def size_text(count: float) -> str:
    """Return a number of bytes as people read it.

    >>> size_text(749_900_000), size_text(11_500), size_text(5_030_000_000)
    ('749.9 MB', '11.5 kB', '5.03 GB')
    """
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
