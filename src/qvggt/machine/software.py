"""What is installed: Python, torch, the C compiler, and the extras of this package."""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata

import torch
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from qvggt.backends.native.library import compiler, unavailable_reason
from qvggt.version import __version__

_PACKAGE = "qvggt"
_SECONDS = 20


@dataclass(frozen=True)
class Software:
    """What runs this process.

    Attributes:
        qvggt: version of this package.
        python: version.
        interpreter: path.
        system: name and version of the operating system.
        torch: version.
        torch_build: ``CPU``, ``CUDA 12.8``, ...
        compiler: the C compiler's command; empty if there is none.
        compiler_version: the first line that it prints about itself.
        native_problem: why the native library, which the compiler builds, cannot be used; empty if it can.
    """

    qvggt: str
    python: str
    interpreter: str
    system: str
    torch: str
    torch_build: str
    compiler: str
    compiler_version: str
    native_problem: str


@dataclass(frozen=True)
class Package:
    """A package that an extra needs.

    Attributes:
        name: on the package index.
        needed: versions, such as ``>=1.1``; empty for any.
        version: that is installed; None if it is not.
        fits: whether it is installed in a version that is needed.
    """

    name: str
    needed: str
    version: str | None
    fits: bool


@dataclass(frozen=True)
class Extra:
    """An optional part of this package, as its metadata declares it.

    Attributes:
        name: as in ``qvggt[video]``.
        packages: that it needs on this system.
    """

    name: str
    packages: tuple[Package, ...]

    @property
    def installed(self) -> bool:
        """Whether all packages are there."""
        return all(package.fits for package in self.packages)

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f'pip install "{_PACKAGE}[{self.name}]"'


def read_software() -> Software:
    """Return what runs this process; the native library is compiled if it is not in the cache."""
    found = list(compiler())
    return Software(
        qvggt=__version__,
        python=platform.python_version(),
        interpreter=sys.executable,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        torch=str(torch.__version__),
        torch_build=_torch_build(),
        compiler=" ".join(found),
        compiler_version=_first_line(found) if found else "",
        native_problem=unavailable_reason() or "",
    )


def _torch_build() -> str:
    if torch.version.cuda is not None:
        return f"CUDA {torch.version.cuda}"
    if torch.version.hip is not None:
        return f"ROCm {torch.version.hip}"
    return "CPU and Apple GPU" if torch.backends.mps.is_built() else "CPU"


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"it does not run ({error})"
    return (done.stdout.splitlines() or ["unknown version"])[0]


def read_extras() -> tuple[Extra, ...]:
    """Return the extras in the metadata of the installed package; none if only its source is there."""
    try:
        about, lines = metadata.metadata(_PACKAGE), metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return ()
    requirements = [found for line in lines if (found := _requirement(line)) is not None]
    names = sorted(about.get_all("Provides-Extra") or [])
    return tuple(Extra(name, tuple(map(_package, _needed(name, requirements)))) for name in names)


def _requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def _needed(extra: str, requirements: list[Requirement]) -> list[Requirement]:
    """Return what an extra needs beyond the package itself, extras that it includes taken apart."""
    found = {}
    for each in requirements:
        if each.marker is None or each.marker.evaluate({"extra": ""}) or not each.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(each.name)
        inside = (
            [n for part in sorted(each.extras) for n in _needed(part, requirements)] if name == _PACKAGE else [each]
        )
        found |= {canonicalize_name(inner.name): inner for inner in inside}
    return list(found.values())


def _package(needed: Requirement) -> Package:
    try:
        version = metadata.version(needed.name)
    except metadata.PackageNotFoundError:
        return Package(needed.name, str(needed.specifier), None, fits=False)
    fits = needed.specifier.contains(version, prereleases=True)
    return Package(needed.name, str(needed.specifier), version, fits=fits)
