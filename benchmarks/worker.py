"""The process that prepares or measures an engine: a job as JSON on standard input, what came of it on output."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from engine import Engine, Source
from onnx_engines import ONNX_ENGINES
from openvino_engines import OPENVINO_ENGINES
from qvggt.inference.process_memory import peak_memory_bytes, resident_memory_bytes
from timing import Failed
from torch_engines import OUR_ENGINES, TORCH_ENGINES
from workloads import Workload

ENGINES: dict[str, Engine] = {**TORCH_ENGINES, **ONNX_ENGINES, **OPENVINO_ENGINES, **OUR_ENGINES}
"""Every engine by name, what all are compared with first."""
ANSWER = "answer.npy"


@dataclass(frozen=True)
class Job:
    """What a process is to do.

    Attributes:
        task: to prepare an engine, or to measure it.
        engine: its name.
        workload: what it runs.
        folder: of the engine and the workload; its parent is shared by the engines of a workload.
        threads: of the CPU.
        calls: that are timed, after one that is not.
    """

    task: Literal["prepare", "measure"]
    engine: str
    workload: Workload
    folder: Path
    threads: int
    calls: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {**asdict(self), "workload": self.workload.to_json(), "folder": str(self.folder)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Job:
        """Rebuild a job from ``to_json``."""
        changed: dict[str, Any] = {"workload": Workload(**values["workload"]), "folder": Path(values["folder"])}
        return cls(**{**values, **changed})


@dataclass(frozen=True)
class Measured:
    """What a process found.

    Attributes:
        seconds: of every call.
        peak_memory_bytes: the largest resident memory above that after imports.
        weight_bytes: of the files that the engine runs from.
    """

    seconds: list[float]
    peak_memory_bytes: int
    weight_bytes: int


def prepare(job: Job) -> None:
    """Let the engine write its files."""
    source = Source(job.workload.module(), job.workload.tokens(), job.folder.parent)
    ENGINES[job.engine].prepare(source, job.folder)


def measure(job: Job) -> Measured:
    """Run the engine's files, leave its last answer in the folder, and return what it took."""
    engine = ENGINES[job.engine]
    tokens = job.workload.tokens().numpy()
    importlib.import_module(engine.runtime)
    weight_bytes = sum(path.stat().st_size for path in job.folder.iterdir() if path.name != ANSWER)
    base = resident_memory_bytes()
    run = engine.open(job.folder, job.threads)
    answer = run(tokens)
    seconds = []
    for _ in range(job.calls):
        started = time.perf_counter()
        answer = run(tokens)
        seconds.append(time.perf_counter() - started)
    peak = peak_memory_bytes() - base
    np.save(job.folder / ANSWER, answer)
    return Measured(seconds, peak, weight_bytes)


def carry_out(job: Job) -> dict[str, Any]:
    """Prepare or measure, and return the fields of ``Measured``, or none."""
    if job.task == "measure":
        return asdict(measure(job))
    prepare(job)
    return {}


def main() -> None:
    """Do one job; on failure leave one sentence as the last line of standard error."""
    job = Job.from_json(json.load(sys.stdin))
    try:
        found = carry_out(job)
    except Exception as error:  # whatever another library raises becomes a row that says so
        sys.stderr.write(f"\n{sentence(error)}\n")
        sys.stderr.flush()
        os._exit(1)  # no library's farewell comes after it
    sys.stdout.write(f"\n{json.dumps(found)}\n")


def sentence(error: BaseException) -> str:
    """Return the first line of what an error says, with the next one where it ends in a colon, after its kind.

    >>> sentence(ValueError("no such operator\\nTraceback ..."))
    'ValueError: no such operator'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    if isinstance(error, Failed):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


if __name__ == "__main__":
    main()
