"""One benchmark run, and its measured time and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qvggt.options import ALL_HEADS, Compute, Head, ImageOptions, LoadOptions


@dataclass(frozen=True)
class BenchRun:
    """One run of one model in a separate process.

    Attributes:
        model: whatever ``load`` takes.
        compute: arithmetic of products.
        frames: number of images.
        size_px: width and height of the images.
        heads: what to compute.
        threads: CPU threads; torch's default if None.
        device: where the model runs.
        seed: random seed of the images.
        global_attention: as in ``LoadOptions``, by name or file.
        autocast: the half type of ``torch.autocast``, under which the model runs; none if empty.
        outputs: file to write samples of the model's outputs to; none if empty.
        revision: branch, tag or commit of a hub id.
    """

    model: str
    compute: Compute = "float32"
    frames: int = 1
    size_px: int = ImageOptions.size
    heads: Sequence[Head] = ALL_HEADS
    threads: int | None = None
    device: str = "cpu"
    seed: int = 0
    global_attention: str = str(LoadOptions.global_attention)
    autocast: str = ""
    outputs: str = ""
    revision: str | None = None

    @property
    def how(self) -> str:
        """Compute mode and kind of attention in words."""
        usual = self.global_attention in ("auto", "exact")
        compute = f"autocast {self.autocast}" if self.autocast else self.compute
        return compute + ("" if usual else f", {Path(self.global_attention).stem}")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {**asdict(self), "heads": list(self.heads)}


@dataclass(frozen=True)
class Measurement:
    """Time and memory of one run.

    Attributes:
        seconds: of the forward pass, from images in memory to outputs in memory.
        load_seconds: of loading the model by name.
        peak_memory_bytes: peak resident memory of the process above ``base_memory_bytes``.
        base_memory_bytes: resident memory after imports.
        weight_bytes: size of the model's tensors.
        parts: seconds by part of the model.
        compute: the compute mode that was used, where the run left the choice to the machine.
    """

    seconds: float
    load_seconds: float
    peak_memory_bytes: int
    base_memory_bytes: int
    weight_bytes: int
    parts: Mapping[str, float] = field(default_factory=dict)
    compute: str = ""
