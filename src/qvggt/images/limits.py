"""Limits of decoding: pixels per image, memory, and Pillow's own limit."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image

from qvggt.types import QvggtError

log = logging.getLogger(__name__)

MemoryLeft = Callable[[], int]
"""Returns how many bytes the process may still take."""

MAX_PIXELS = 500_000_000
"""Largest image that is decoded, in pixels: 2 GB in memory, well above the largest panoramas."""


def check_pixels(size: tuple[int, int], label: str) -> None:
    """Check the size of an image before its pixels are decoded.

    Raises:
        QvggtError: more than ``MAX_PIXELS``.
    """
    if size[0] * size[1] > MAX_PIXELS:
        raise QvggtError(
            f"{label} has {size[0]} x {size[1]} pixels, above the limit of {MAX_PIXELS // 10**6} million: "
            "give a smaller copy of it"
        )


class TooLittleMemoryError(QvggtError):
    """An image does not fit in the memory limit at any size that its decoder offers."""


@dataclass(frozen=True)
class DecodingBytes:
    """Memory that decoding one image takes.

    Attributes:
        scaled: at full size; a decoder that divides the sides by d takes d squared times less.
        fixed: at any size.
    """

    scaled: int
    fixed: int = 0

    def at(self, divisor: int) -> int:
        """Return the bytes if the sides are divided by ``divisor``."""
        return self.fixed + self.scaled // divisor**2


def fitting_divisor(needed: DecodingBytes, max_bytes: int | None, divisors: Sequence[int], label: str) -> int:
    """Return the smallest divisor of an image's sides with which decoding fits in a memory limit, and log a reduction.

    Args:
        needed: for decoding.
        max_bytes: the limit, or None.
        divisors: that the decoder offers, ascending from 1.
        label: of the image, for messages.

    Raises:
        TooLittleMemoryError: even the largest divisor does not fit.
    """
    if max_bytes is None:
        return 1
    for divisor in divisors:
        if needed.at(divisor) <= max_bytes:
            if divisor > 1:
                log.warning("%s is decoded at 1/%d of its size to fit the memory limit", label, divisor)
            return divisor
    least = -(-needed.at(divisors[-1]) // 10**6)
    raise TooLittleMemoryError(
        f"{label} needs {least} MB to decode, and the memory limit leaves {max(0, max_bytes) // 10**6} MB: "
        "allow more (--memory), or give a smaller copy of it"
    )


class _PillowLimit:
    """Lifts Pillow's pixel limit while at least one thread decodes; the limit is global to Pillow."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._saved: int | None = None

    @contextmanager
    def lifted(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                self._saved, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0 and Image.MAX_IMAGE_PIXELS is None:
                    Image.MAX_IMAGE_PIXELS = self._saved


pillow_limit = _PillowLimit()
"""Pillow warns from 89 and refuses from 179 million pixels, fewer than large panoramas have."""
