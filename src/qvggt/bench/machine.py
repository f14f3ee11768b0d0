"""Description of the machine that a measurement was made on."""

from __future__ import annotations

import os
import platform
from typing import Any

import psutil
import torch

from qvggt.machine.hardware import cpu_features, cpu_name
from qvggt.version import __version__


def describe_machine(device: str = "cpu", threads: int | None = None) -> dict[str, Any]:
    """Return processor, features, threads, memory and versions, JSON-ready."""
    about = {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads or torch.get_num_threads(),
        "cpu_features": list(cpu_features()),
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
