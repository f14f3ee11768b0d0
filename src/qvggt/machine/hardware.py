"""Processor, memory and GPUs of this machine."""

from __future__ import annotations

import os
import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

FEATURES = ("avx2", "avx_vnni", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "neon", "i8mm", "sve")
"""CPU features that determine the speed of matrix products."""

_CGROUPS, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_NO_LIMIT = 1 << 60
"""Version 1 of cgroups states a number near 2**63 where there is no limit."""


@dataclass(frozen=True)
class Cpu:
    """The processor.

    Attributes:
        name: with family and model.
        cores: logical processors that this process may use.
        threads: that torch uses.
        features: those that determine the speed of matrix products.
    """

    name: str
    cores: int
    threads: int
    features: tuple[str, ...]


@dataclass(frozen=True)
class Memory:
    """The memory of the machine, and of the container.

    Attributes:
        total_bytes: of the machine.
        free_bytes: that programs can take without swapping.
        limit_bytes: of the container or control group; None if there is none below the machine's memory.
        limit_free_bytes: what the limit leaves.
    """

    total_bytes: int
    free_bytes: int
    limit_bytes: int | None = None
    limit_free_bytes: int | None = None

    @property
    def usable_bytes(self) -> int:
        """Memory that this process can still take."""
        return self.free_bytes if self.limit_free_bytes is None else min(self.free_bytes, self.limit_free_bytes)


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch can use.

    Attributes:
        device: torch's name, ``cuda:0`` or ``mps``.
        name: of the product.
        total_bytes: its memory; None if it is the machine's own.
        free_bytes: what is free of it.
        capability: CUDA's compute capability, such as ``9.0``; empty elsewhere.
    """

    device: str
    name: str
    total_bytes: int | None = None
    free_bytes: int | None = None
    capability: str = ""


def read_cpu() -> Cpu:
    """Return the processor."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Cpu(cpu_name(), usable, torch.get_num_threads(), cpu_features())


def cpu_features() -> tuple[str, ...]:
    """Return those of ``FEATURES`` that the processor has."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return tuple(name for name in FEATURES if capabilities.get(name))


def cpu_name() -> str:
    """Return the processor's name, with family and model where the system states them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = {name: re.search(rf"^{name}\s*: (.*)$", text, re.M) for name in ("model name", "cpu family", "model")}
    name, family, model = (match.group(1) if match else "?" for match in found.values())
    return f"{name} (family {family}, model {model})"


def read_memory() -> Memory:
    """Return the memory of the machine, and the limit of the container."""
    memory = psutil.virtual_memory()
    limits = [(limit, limit - used) for limit, used in _limits() if limit < memory.total]
    if not limits:
        return Memory(memory.total, memory.available)
    return Memory(memory.total, memory.available, min(limits)[0], max(0, min(free for _, free in limits)))


def _limits() -> list[tuple[int, int]]:
    """Return (limit, use) in bytes of each control group that holds this process."""
    found = []
    for folder, limit_name, use_name in _groups():
        limit, used = _number(folder / limit_name), _number(folder / use_name)
        if limit is not None and used is not None and limit < _NO_LIMIT:
            found.append((limit, used - _reclaimable(folder / "memory.stat")))
    return found


def _groups() -> list[tuple[Path, str, str]]:
    try:
        lines = _OWN_CGROUP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    groups = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers not in ("", "memory") and "memory" not in controllers.split(","):
            continue
        root = _CGROUPS if controllers == "" else _CGROUPS / "memory"
        names = ("memory.max", "memory.current") if controllers == "" else _VERSION_1
        own = root / place.lstrip("/")
        groups += [(folder, *names) for folder in (own, *own.parents) if folder.is_relative_to(root)]
    return groups


_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # "max" is no limit
        return None


def _reclaimable(path: Path) -> int:
    """Return the bytes of cached files that a control group counts as used and gives up when memory is needed."""
    try:
        found = re.search(r"^(?:total_)?inactive_file (\d+)$", path.read_text(encoding="utf-8"), re.M)
    except OSError:
        return 0
    return int(found.group(1)) if found else 0


def read_gpus() -> tuple[tuple[Gpu, ...], str]:
    """Return the GPUs that torch can use, and if there are none the reason."""
    if torch.cuda.is_available():
        return tuple(_cuda(index) for index in range(torch.cuda.device_count())), ""
    if torch.backends.mps.is_available():
        return (Gpu("mps", "Apple GPU, which shares the machine's memory"),), ""
    return (), _why_no_gpu()


def _cuda(index: int) -> Gpu:
    free, total = torch.cuda.mem_get_info(index)
    capability = ".".join(map(str, torch.cuda.get_device_capability(index)))
    return Gpu(f"cuda:{index}", torch.cuda.get_device_name(index), total, free, capability=capability)


def _why_no_gpu() -> str:
    if torch.version.cuda is None and torch.version.hip is None:
        if shutil.which("nvidia-smi"):
            return "this build of torch is for the CPU only: install torch with CUDA (pip install torch)"
        return "none found; this build of torch is for the CPU only"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return f"torch cannot use one: {(str(error) or type(error).__name__).splitlines()[0]}"
    return "none found"
