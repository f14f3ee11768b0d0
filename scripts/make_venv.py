"""Make a virtual environment with the PyTorch that suits this machine: its GPU's build, or the small CPU build.

    python3 scripts/make_venv.py .venv [torch-requirement]

Only the standard library is used, for nothing is installed yet.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CPU_TORCH = "torch==2.13.0+cpu"
"""The newest release that all tests ran on; a CPU build is a twentieth of the size of one for GPUs."""


def main() -> int:
    """Make the environment, choose, install; return the exit status."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 14):
        sys.stderr.write(
            f"Python 3.10 to 3.14 is needed and this is {platform.python_version()}: call make PYTHON=python3.12\n"
        )
        return 1
    folder = Path(sys.argv[1])
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
    options = ["--disable-pip-version-check", "install", "--quiet"]
    pip = [str(folder / "bin" / "python"), "-m", "pip", *options]
    has_torch = [str(folder / "bin" / "python"), "-c", "import torch"]
    if subprocess.run(has_torch, capture_output=True, check=False).returncode == 0:
        return 0
    for requirement in requirements():
        sys.stdout.write(f"installing {requirement[0]}\n")
        sys.stdout.flush()
        if subprocess.run([*pip, *requirement], check=False).returncode == 0:
            return 0
    sys.stderr.write("PyTorch could not be installed; install it into .venv by hand, then call make again\n")
    return 1


def requirements() -> list[list[str]]:
    """Return what to try, the best first, as arguments of pip."""
    if len(sys.argv) > 2:
        return [[sys.argv[2]]]
    if shutil.which("nvidia-smi") or platform.system() != "Linux":
        return [["torch>=2.9"]]
    # The index of CPU builds is looked at besides the usual one, and may be out of reach.
    extra = ["--extra-index-url", CPU_INDEX, "--retries", "0", "--timeout", "15"]
    return [[CPU_TORCH], [CPU_TORCH, *extra], ["torch>=2.9"]]


if __name__ == "__main__":
    sys.exit(main())
