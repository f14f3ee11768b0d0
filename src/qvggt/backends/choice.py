"""Choice of device and compute mode: the fastest that is near-lossless on the machine at hand.

What is known about processors is a table; where it names several modes, they are measured once on this machine and the
result is kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from qvggt.backends.dense import has_half_units
from qvggt.backends.native.library import unavailable_reason
from qvggt.backends.native.processors import features
from qvggt.backends.pick import canonical, pick
from qvggt.backends.plain import HALF_DTYPES
from qvggt.files import user_cache, write_json
from qvggt.files.read import read_json
from qvggt.options import Compute
from qvggt.quant.affine import quantize
from qvggt.quant.packing import pack
from qvggt.quant.scheme import Scheme
from qvggt.types import QvggtError

SMALL_WIDTH = 512
"""Models whose tokens have fewer channels compute in float32 on a CPU: their time is that of many small operations."""

_BFLOAT16_GPU = (8, 0)
"""First compute capability with fast bfloat16 products (Ampere)."""
_TRIAL_TOKENS, _TRIAL_WIDTH, _TRIAL_RUNS = 1374, 1024, 3
PRODUCT_SIZE = _TRIAL_TOKENS * _TRIAL_WIDTH**2
"""Multiplications of the product that ``product_seconds`` measures."""


@dataclass(frozen=True)
class CpuSpeed:
    """The compute modes that are fast and near-lossless on a kind of CPU.

    Attributes:
        units: CPU features, any of which is enough; none for any other CPU.
        packed: modes for models with packed layers; more than one are measured on the machine.
        floating: the same for float models.
        reason: what is known about them, in words.
    """

    units: Sequence[str]
    packed: Sequence[Compute]
    floating: Sequence[Compute]
    reason: str


CPU_SPEEDS = (
    CpuSpeed(
        ("amx_bf16",),
        ("bfloat16",),
        ("bfloat16",),
        "the CPU multiplies it in tiles (AMX), 8 times as fast as float32",
    ),
    CpuSpeed(("avx512_bf16",), ("bfloat16",), ("bfloat16",), "the CPU has AVX-512 BF16, 4 times as fast as float32"),
    CpuSpeed(("bf16",), ("float32", "bfloat16"), ("float32", "bfloat16"), "measured on this CPU, which has BF16"),
    CpuSpeed(("avx2",), ("int8",), ("float32",), "the CPU has no units for half precision"),
    CpuSpeed((), ("float32", "int8"), ("float32",), "measured on this CPU, which has no units for half precision"),
)
"""Kinds of CPU, the first that fits; docs/benchmarks.md has the measurements."""


@dataclass(frozen=True)
class Choice:
    """Where and how a model computes.

    Attributes:
        device: a torch device.
        compute: a mode other than ``auto``.
        reason: why, in words; empty if both were given.
    """

    device: str
    compute: Compute
    reason: str = ""


def choose(device: str, compute: Compute, width: int, is_packed: bool) -> Choice:
    """Return the device and compute mode that ``auto`` stands for.

    Args:
        device: a torch device, or ``auto``.
        compute: a mode, or ``auto``.
        width: channels of the model's tokens.
        is_packed: whether the model has packed layers.
    """
    place = settled_device(device)
    if compute != "auto":
        return Choice(place, canonical(compute), "the fastest device" if device != place != "cpu" else "")
    kind = torch.device(place).type
    if kind == "cuda":
        ampere = torch.cuda.get_device_capability(place) >= _BFLOAT16_GPU
        return Choice(place, "bfloat16" if ampere else "float16", "the GPU multiplies it fastest")
    if kind == "mps":
        return Choice(place, "float16", "the GPU multiplies it fastest")
    if kind != "cpu":
        return Choice(place, "float32", f"nothing is known about {kind}")
    if width < SMALL_WIDTH:
        return Choice(place, "float32", "the model is small")
    return _on_cpu(is_packed)


def settled_device(device: str) -> str:
    """Return a device itself; for ``auto`` the best one: ``cuda`` or ``mps`` if there is such a GPU, or ``cpu``.

    Raises:
        QvggtError: torch knows no such device.
    """
    if device != "auto":
        try:
            torch.device(device)
        except RuntimeError:
            raise QvggtError(
                f"device {device!r} cannot be used here (torch knows none of that name): expected auto, cpu, cuda, "
                "cuda:1 or mps (--device)"
            ) from None
        return device
    for name, is_there in (("cuda", torch.cuda.is_available), ("mps", torch.backends.mps.is_available)):
        try:
            if is_there():
                torch.empty(0, device=name)
                return name
        except (RuntimeError, AssertionError):
            continue
    return "cpu"


def usable_device(device: str) -> str:
    """Return what ``settled_device`` does, after checking that tensors can be made there.

    Raises:
        QvggtError: they cannot.
    """
    place = settled_device(device)
    try:
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        reason, way = str(error).splitlines()[0], "choose cpu (--device); qvggt doctor says more"
        raise QvggtError(f"device {device!r} cannot be used here ({reason}): {way}") from None
    return place


def _on_cpu(is_packed: bool) -> Choice:
    found = set(features())
    speed = next(speed for speed in CPU_SPEEDS if not speed.units or found & set(speed.units))
    modes: list[Compute] = [mode for mode in (speed.packed if is_packed else speed.floating) if _runs(mode)]
    if not modes:
        return Choice("cpu", "float32", "this installation makes no use of the CPU's other units")
    seconds = _measured(modes) if len(modes) > 1 else dict.fromkeys(modes, 0.0)
    return Choice("cpu", min(modes, key=seconds.__getitem__), speed.reason)


def _runs(mode: Compute) -> bool:
    if mode == "int8":
        return unavailable_reason() is None
    return mode not in HALF_DTYPES or has_half_units(HALF_DTYPES[mode])


def _measured(modes: Sequence[Compute]) -> Mapping[Compute, float]:
    """Return the seconds that a product takes in each mode, from the user's cache or measured now."""
    key = hashlib.sha256(repr((features(), torch.__version__, torch.get_num_threads(), modes)).encode()).hexdigest()
    path = user_cache() / "compute" / f"{key[:16]}.json"
    try:
        seconds = {mode: float(read_json(path)[mode]) for mode in modes}
        if all(0 < value < math.inf for value in seconds.values()):
            return seconds
    except (QvggtError, OSError, KeyError, TypeError, ValueError):
        pass
    seconds = {mode: product_seconds(mode) for mode in modes}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, seconds)
    except (QvggtError, OSError):  # measured again next time
        pass
    return seconds


@torch.inference_mode()
def product_seconds(mode: Compute) -> float:
    """Measure the product of a layer of VGGT-1B with the tokens of one frame on this CPU, unpacking included."""
    backend = pick("cpu", mode)
    generator = torch.Generator().manual_seed(0)
    sizes = _TRIAL_TOKENS + _TRIAL_WIDTH, _TRIAL_WIDTH
    drawn = torch.randn(sizes, generator=generator, dtype=torch.float32, device="cpu")
    tokens, weight = drawn.split((_TRIAL_TOKENS, _TRIAL_WIDTH))
    tokens, packed = tokens.to(backend.dtype or torch.float32), pack(quantize(weight, Scheme()))
    seconds = []
    for _ in range(_TRIAL_RUNS):
        started = time.perf_counter()
        backend.linear(tokens, backend.prepare(packed, len(tokens)), None)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
