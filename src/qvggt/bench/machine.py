"""Description of the machine that a measurement was made on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

import psutil
import torch

from qvggt.version import __version__

FEATURES = ("avx2", "avx_vnni", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "neon", "i8mm", "sve")
"""CPU features that determine the speed of matrix products."""


def describe_machine(device: str = "cpu", threads: int | None = None) -> dict[str, Any]:
    """Return processor, features, threads, memory and versions, JSON-ready."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    about = {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads or torch.get_num_threads(),
        "cpu_features": [name for name in FEATURES if capabilities.get(name)],
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "qvggt": __version__,
        "device": device,
    }
    if torch.device(device).type == "cuda" and torch.cuda.is_available():
        about["gpu"] = torch.cuda.get_device_name(device)
    return about


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    found = {name: re.search(rf"^{name}\s*: (.*)$", text, re.M) for name in ("model name", "cpu family", "model")}
    name, family, model = (match.group(1) if match else "?" for match in found.values())
    return f"{name} (family {family}, model {model})"
