"""What VGGT-1B needs here: memory by number of frames, what fits, and about how long it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from qvggt.backends import Choice, choose, pick
from qvggt.backends.choice import PRODUCT_SIZE, product_seconds
from qvggt.inference.memory_plan import ModelSize, largest_window, plan_memory, size_when_loaded
from qvggt.inference.memory_sums import PassSize
from qvggt.inference.process_memory import resident_memory_bytes
from qvggt.machine.hardware import Gpu, Memory
from qvggt.methods.rtn import Rtn
from qvggt.model import VGGT, VGGTConfig
from qvggt.model.chunking import default_chunk_tokens
from qvggt.nn.convert import model_layers, shell
from qvggt.options import HEADS_FOR, Compute, ExportOptions, QuantizeOptions
from qvggt.quant.recipe import Provenance
from qvggt.types import QvggtError
from qvggt.weights.open import FloatWeights
from qvggt.weights.seeded import SeededSource

FRAMES = (1, 8, 30, 100)
MODEL, WEIGHTS = "VGGT-1B", ("float", "4 bits")

FRAME_OPERATIONS, PAIR_OPERATIONS = 3.154e12, 0.1856e12
"""Floating-point operations of cameras and depth of a 518x518 px frame, and of the global attention of a pair."""
TIME_RANGE = (0.8, 2.0)
"""Measured times of whole passes over the estimate from one product (docs/doctor.md), rounded outwards."""


@dataclass(frozen=True)
class Taken:
    """What ``auto`` takes for a model.

    Attributes:
        model: which one.
        weights: ``float`` or ``4 bits``.
        device: torch's name.
        compute: mode.
        reason: in words.
    """

    model: str
    weights: str
    device: str
    compute: Compute
    reason: str


@dataclass(frozen=True)
class Need:
    """What a reconstruction by VGGT-1B needs.

    Attributes:
        weights: ``float`` or ``4 bits``.
        device: where it runs, as ``auto`` chooses.
        compute: mode, as ``auto`` chooses.
        frames: of 518x518 px, that pass at once.
        peak_bytes: peak memory with the fastest chunks; on a GPU of its memory, which has not been measured.
        usable_bytes: what can be taken here.
        fits: whether it fits, in smaller chunks if need be.
        reduced_bytes: peak memory in smaller chunks (``--memory``); None if they are not needed or do not help.
        window: most frames of windows that fit (``--window``), if not all frames at once do; 0 if none do.
        seconds: least and most of an estimate from one product; None if nothing was measured.
    """

    weights: str
    device: str
    compute: Compute
    frames: int
    peak_bytes: int
    usable_bytes: int
    fits: bool
    reduced_bytes: int | None = None
    window: int = 0
    seconds: tuple[float, float] | None = None


def what_auto_takes() -> tuple[Taken, ...]:
    """Return device and compute mode of VGGT-1B and nano, float and quantized."""
    configs = {MODEL: VGGTConfig.vggt_1b(), "nano": VGGTConfig.nano()}
    found = []
    for model, config in configs.items():
        for weights in WEIGHTS:
            chosen = choose("auto", "auto", config.embed_dim, weights != "float")
            found.append(Taken(model, weights, chosen.device, chosen.compute, reason=chosen.reason))
    return tuple(found)


def what_is_needed(memory: Memory, gpus: Sequence[Gpu], measure: bool) -> tuple[Need, ...]:
    """Return memory, and the time if it is to be measured, of reconstructions by VGGT-1B.

    Args:
        memory: of this machine.
        gpus: that torch can use.
        measure: whether to time one product in each compute mode.
    """
    rows, timed = [], {}
    for weights in WEIGHTS:
        chosen = choose("auto", "auto", VGGTConfig.vggt_1b().embed_dim, weights != "float")
        on_cpu = torch.device(chosen.device).type == "cpu"
        size, usable = _size(weights, chosen), memory.usable_bytes + resident_memory_bytes()
        if not on_cpu:
            free = next((gpu.free_bytes for gpu in gpus if gpu.device.startswith(chosen.device)), None)
            size = replace(size, program_bytes=0)
            usable = memory.usable_bytes if free is None else free
        if measure and on_cpu and chosen.compute not in timed:
            timed[chosen.compute] = product_seconds(chosen.compute)
        rows += [_need(weights, chosen, size, usable, frames=frames, timed=timed) for frames in FRAMES]
    return tuple(rows)


def _size(weights: str, chosen: Choice) -> ModelSize:
    return size_when_loaded(_shell(weights, chosen))


def _shell(weights: str, chosen: Choice) -> VGGT:
    """Return VGGT-1B without values."""
    config = VGGTConfig.vggt_1b()
    if weights == "float":
        return FloatWeights(MODEL, config, SeededSource(config)).shell(chosen.compute, chosen.device)
    recipe = Rtn(QuantizeOptions()).recipe(model_layers(config), Provenance(MODEL, method="rtn"))
    return shell(config, recipe, pick(chosen.device, chosen.compute))


def _need(
    weights: str, chosen: Choice, size: ModelSize, usable: int, *, frames: int, timed: Mapping[Compute, float]
) -> Need:
    side, device = size.config.image_size, torch.device(chosen.device)
    whole = PassSize.of((frames, 3, side, side), HEADS_FOR["depth"], chunk_tokens=default_chunk_tokens(device))
    written = ExportOptions.max_points if device.type == "cpu" else 0
    peak = plan_memory(size, whole, None, written).peak_bytes
    try:
        fitted, window = plan_memory(size, whole, usable, written).peak_bytes, 0
    except QvggtError:
        fitted, window = None, largest_window(size, whole, usable)
    return Need(
        weights, chosen.device, chosen.compute, frames, peak_bytes=peak, usable_bytes=usable,
        fits=fitted is not None, reduced_bytes=fitted if fitted is not None and peak > usable else None,
        window=window, seconds=_seconds(frames, timed.get(chosen.compute)),
    )  # fmt: skip


def _seconds(frames: int, product: float | None) -> tuple[float, float] | None:
    """Return the least and the most that a pass takes if one product takes ``product`` seconds."""
    if product is None:
        return None
    operations = FRAME_OPERATIONS * frames + PAIR_OPERATIONS * frames**2
    passed = operations / (2 * PRODUCT_SIZE) * product
    return passed * TIME_RANGE[0], passed * TIME_RANGE[1]
