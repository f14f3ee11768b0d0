"""Memory of this process, now and at its peak; time and peak memory of each stage of a long computation."""

from __future__ import annotations

import ctypes
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from qvggt.types import OnProgress

OUT_OF_MEMORY = "out of memory: use fewer images, --memory or --window, or a smaller model"
"""What the user reads then."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt: how many free bytes are retained at the end of the heap, and from which size on an
allocation gets a mapping of its own, which is released when it is freed."""
_LARGE_BYTES, _SPARE_BYTES = 8 << 20, 64 << 20
"""Their values for releasing: the smallest allocation with its own mapping, and the free bytes retained."""
_RETAINED_BYTES, _MOST_BYTES = 66 << 20, 32 << 20
"""The largest allocation that is retained, and the most that older versions of glibc allow."""


@dataclass(frozen=True)
class StageCost:
    """Time and memory of one stage.

    Attributes:
        stage: its name.
        seconds: wall-clock time.
        peak_memory_bytes: peak resident memory of the process up to the end of the stage.
    """

    stage: str
    seconds: float
    peak_memory_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


class StageClock:
    """A progress callback that measures each stage, from its first report to that of the next stage.

    Args:
        on_progress: called with every report in turn.
        together: prefixes of stage names; stages that share one are measured as one.
    """

    def __init__(self, on_progress: OnProgress, together: tuple[str, ...] = ()) -> None:
        self.on_progress, self.together = on_progress, together
        self._stage, self._since = "", time.perf_counter()
        self._costs: dict[str, StageCost] = {}

    def __call__(self, stage: str, share: float) -> None:
        """Note the stage and pass the report on."""
        name = next((prefix for prefix in self.together if stage.startswith(prefix)), stage)
        if name != self._stage:
            self._end()
            self._stage = name
        self.on_progress(stage, share)

    def costs(self) -> tuple[StageCost, ...]:
        """End the current stage and return all stages in the order of their first report."""
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


_releasing = False
"""Whether freed memory is returned to the system."""


def release_freed_memory() -> None:
    """Return freed memory to the system, now and from now on, except for small allocations.

    By default the C library retains part of it for reuse, and how much is hard to predict. Sets glibc's malloc
    thresholds for the whole process; does nothing with another C library.
    """
    global _releasing
    _releasing = _mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES) and _mallopt(_M_TRIM_THRESHOLD, _SPARE_BYTES)
    trim_freed_memory()


def trim_freed_memory() -> None:
    """Return small allocations that were freed to the system too, if ``release_freed_memory`` was called last."""
    if _releasing:
        ctypes.CDLL(None).malloc_trim(0)


def retain_freed_memory() -> None:
    """Retain memory that is freed from now on, so that later allocations reuse it.

    A forward pass frees and allocates the same large tensors again and again. The system clears new memory page by
    page, which takes a twentieth of the time of an int8 pass and more of a float one. The few allocations that are
    larger than any within a layer are still released, since the gaps that they leave would not be filled. Sets glibc's
    malloc thresholds for the whole process; does nothing with another C library.
    """
    global _releasing
    _releasing = False
    if _mallopt(_M_MMAP_THRESHOLD, _RETAINED_BYTES) or _mallopt(_M_MMAP_THRESHOLD, _MOST_BYTES):
        _mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def _mallopt(parameter: int, value: int) -> bool:
    """Set a parameter of glibc's malloc and return whether it was accepted."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and bool(mallopt(parameter, value))


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process."""
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
    """Return the resident memory of this process."""
    return psutil.Process().memory_info().rss


@dataclass(frozen=True)
class MappedFile:
    """A memory-mapped file of this process, or a part of one.

    Attributes:
        start: first address.
        end: address after the last.
        resident_bytes: how much of it is in memory.
    """

    start: int
    end: int
    resident_bytes: int


def mapped_files() -> list[MappedFile]:
    """Return the memory-mapped files of this process by address; none where the system does not report them."""
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
    """Format a number of bytes with a decimal unit.

    >>> size_text(749_900_000), size_text(11_500), size_text(5_030_000_000)
    ('749.9 MB', '11.5 kB', '5.03 GB')
    """
    if count >= 1e9:
        return f"{count / 1e9:.2f} GB"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory, of the machine or of a GPU, did not suffice."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text
