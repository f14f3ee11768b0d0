"""One measurement: what is to run, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from qvggt.options import ALL_HEADS, Compute, GlobalAttention, Head, ImageOptions, LoadOptions


@dataclass(frozen=True)
class Job:
    """One run of one model in a process of its own.

    Attributes:
        model: whatever ``load`` takes.
        compute: how packed layers multiply.
        frames: images of the scene.
        size_px: width and height of the images.
        heads: what is computed.
        threads: of the CPU; torch's own choice if None.
        device: where to compute.
        seed: of the images.
        global_attention: among all tokens, or merged ones.
        answers: file that samples of the answer are written to; none if empty.
    """

    model: str
    compute: Compute = LoadOptions.compute
    frames: int = 1
    size_px: int = ImageOptions.size
    heads: Sequence[Head] = ALL_HEADS
    threads: int | None = None
    device: str = LoadOptions.device
    seed: int = 0
    global_attention: GlobalAttention = LoadOptions.global_attention
    answers: str = ""

    @property
    def how(self) -> str:
        """How it computes, in a few words."""
        return self.compute + (", merged" if self.global_attention == "merged" else "")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {**asdict(self), "heads": list(self.heads)}


@dataclass(frozen=True)
class Measured:
    """What one run took.

    Attributes:
        seconds: of the model's forward pass, from images in memory to answers in memory.
        load_seconds: from the model's name to the model in memory.
        peak_memory_bytes: the process's largest resident memory above that after imports.
        base_memory_bytes: resident memory after imports.
        weight_bytes: of the model's tensors.
        parts: seconds by part of the model.
    """

    seconds: float
    load_seconds: float
    peak_memory_bytes: int
    base_memory_bytes: int
    weight_bytes: int
    parts: Mapping[str, float] = field(default_factory=dict)
