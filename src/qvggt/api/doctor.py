"""The public verb ``doctor``: what this machine has, what runs on it, and whether it computes right."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from qvggt.api.self_test import SelfTest, run_self_test
from qvggt.machine.caches import Cache, read_caches
from qvggt.machine.hardware import Cpu, Gpu, Memory, read_cpu, read_gpus, read_memory
from qvggt.machine.needs import Need, Taken, what_auto_takes, what_is_needed
from qvggt.machine.software import Extra, Software, read_extras, read_software
from qvggt.options.checks import check_arguments
from qvggt.types import OnProgress


@dataclass(frozen=True)
class DoctorReport:
    """What this machine has, what runs on it, and whether it computes right.

    Attributes:
        cpu: the processor.
        memory: of the machine and the container.
        gpus: that torch can use.
        gpu_problem: why there is no GPU; empty if there is one.
        software: Python, torch, the C compiler.
        extras: optional parts of this package; none if its metadata is not installed.
        caches: folders that may be removed.
        auto: device and compute mode that ``auto`` takes.
        needs: memory and estimated time of VGGT-1B by number of frames.
        self_test: None if it was left out.
    """

    cpu: Cpu
    memory: Memory
    gpus: tuple[Gpu, ...]
    gpu_problem: str
    software: Software
    extras: tuple[Extra, ...]
    caches: tuple[Cache, ...]
    auto: tuple[Taken, ...]
    needs: tuple[Need, ...]
    self_test: SelfTest | None = None

    @property
    def passed(self) -> bool:
        """Whether the self test passed, or was left out."""
        return self.self_test is None or self.self_test.passed

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values, with what follows from them."""
        values = asdict(self)
        values["memory"]["usable_bytes"] = self.memory.usable_bytes
        for extra, found in zip(values["extras"], self.extras, strict=True):
            extra |= {"installed": found.installed, "install": found.install}
        if self.self_test is not None:
            values["self_test"]["passed"] = self.self_test.passed
            for check, found in zip(values["self_test"]["checks"], self.self_test.checks, strict=True):
                check["passed"] = found.passed
        return values | {"passed": self.passed}


def doctor(quick: bool = False, on_progress: OnProgress | None = None) -> DoctorReport:
    """Describe this machine, what is installed, what fits, and test whether nano computes right in every mode.

    The C library is compiled if it is not in the cache. Nothing is downloaded.

    Args:
        quick: leave out the self test and the timed products.
        on_progress: called with the stage and the share done.
    """
    check_arguments(doctor, locals())
    update = on_progress or (lambda stage, share: None)
    update("looking at the machine", 0.0)
    memory, (gpus, gpu_problem), software = read_memory(), read_gpus(), read_software()
    update("planning memory", 0.3)
    auto, needs = what_auto_takes(), what_is_needed(memory, gpus, measure=not quick)
    update("looking at caches", 0.5)
    extras, caches = read_extras(), read_caches()
    tested = None if quick else run_self_test(lambda stage, share: update(stage, 0.6 + 0.4 * share))
    return DoctorReport(
        read_cpu(), memory, gpus, gpu_problem, software=software, extras=extras, caches=caches, auto=auto,
        needs=needs, self_test=tested,
    )  # fmt: skip
