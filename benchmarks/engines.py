"""Run the same piece of VGGT, with the same weights and input, through every engine that is installed.

    python benchmarks/engines.py [--workloads NAME ...] [--engines NAME ...] [--threads N] [--repeats N] [--json FILE]

Every engine first writes its files in a process of its own; then all take turns, each turn in a fresh process. An
engine that is not installed or fails is a row that says why.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qvggt.bench.report import relative_differences
from qvggt.types import OnProgress
from tables import engines_table
from timing import (
    Failed,
    common_options,
    environment,
    show_progress,
    spread,
    take_turns,
    with_speedups,
    write_json,
)
from worker import ANSWER, ENGINES, Job, Measured
from workloads import SMALL, WORKLOADS

BASE = next(iter(ENGINES))
PACKAGES = ("torchao", "onnx", "onnxruntime", "openvino", "nncf")
WORKER = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class Contender:
    """An engine on a workload.

    Attributes:
        job: what its processes are told.
        limit_s: seconds after which a process is ended.
    """

    job: Job
    limit_s: float

    def prepare(self) -> None:
        """Write its files.

        Raises:
            Failed: it is not installed, or cannot do it.
        """
        if reason := ENGINES[self.job.engine].missing():
            raise Failed(reason)
        self.job.folder.mkdir()
        in_a_process(replace(self.job, task="prepare"), self.limit_s)

    def measure(self) -> Measured:
        """Run its files.

        Raises:
            Failed: it cannot.
        """
        return Measured(**in_a_process(self.job, self.limit_s))

    def answer(self) -> dict[str, np.ndarray]:
        """Return what it last answered."""
        return {"answer": np.load(self.job.folder / ANSWER)}


def in_a_process(job: Job, limit_s: float) -> dict[str, Any]:
    """Let a process carry out a job, and return what it found.

    Raises:
        Failed: it could not; the sentence is the process's own.
    """
    try:
        done = subprocess.run(
            [sys.executable, str(WORKER)], input=json.dumps(job.to_json()), capture_output=True, text=True,
            check=False, timeout=limit_s, env=os.environ | {"OMP_NUM_THREADS": str(job.threads)},
        )  # fmt: skip
    except subprocess.TimeoutExpired as expired:
        raise Failed(f"did not {job.task} within {limit_s:.0f} s") from expired
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() if done.returncode > 0 else []
        raise Failed(said[-1] if said else f"its process was ended by signal {-done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def measure_workload(name: str, contenders: dict[str, Contender], repeats: int) -> list[dict[str, Any]]:
    """Return a JSON-ready row for every contender on one workload, the first of which all are compared with."""
    prepared, reasons = take_turns(
        {engine: each.prepare for engine, each in contenders.items()}, 1, _progress(f"{name}, preparing")
    )
    found, failures = take_turns({engine: contenders[engine].measure for engine in prepared}, repeats, _progress(name))
    reasons |= failures
    expected = contenders[BASE].answer() if BASE in found else None
    rows = []
    for engine, each in contenders.items():
        row: dict[str, Any] = {"group": name, "workload": each.job.workload.title, "contender": engine}
        if engine in reasons:
            rows.append({**row, "reason": reasons[engine]})
            continue
        runs = found[engine]
        difference = None if expected is None else relative_differences(each.answer(), expected)["answer"]
        row |= spread([float(np.median(run.seconds)) for run in runs])
        row["peak_memory_bytes"] = round(float(np.median([run.peak_memory_bytes for run in runs])))
        rows.append({**row, "weight_bytes": runs[0].weight_bytes, "relative_difference": difference})
    return with_speedups(rows, BASE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES), metavar="NAME")
    parser.add_argument("--calls", type=int, default=3, help="timed calls a process; their median counts")
    parser.add_argument("--limit-s", type=float, default=900, help="seconds after which a process is ended")
    parser.add_argument("--small", action="store_true", help="the smallest architecture: says nothing of speed")
    options = common_options(parser, repeats=3).parse_args(arguments)
    if min(options.threads, options.repeats, options.calls) < 1:
        parser.error("threads, repeats and calls must all be at least 1")
    about = environment(options.threads, PACKAGES)
    names = list(dict.fromkeys((BASE, *options.engines)))
    rows: list[dict[str, Any]] = []
    for name in options.workloads:
        workload = (SMALL if options.small else WORKLOADS)[name]
        with tempfile.TemporaryDirectory(prefix="qvggt-engines-") as folder:
            contenders = {
                engine: Contender(
                    Job(
                        "measure",
                        engine=engine,
                        workload=workload,
                        folder=Path(folder) / str(place),
                        threads=options.threads,
                        calls=options.calls,
                    ),
                    options.limit_s,
                )
                for place, engine in enumerate(names)
            }
            rows += measure_workload(name, contenders, options.repeats)
        write_json(options.json, {"environment": about, "rows": rows})
    print(engines_table({"environment": about, "rows": rows}))


def _progress(what: str) -> OnProgress:
    return lambda engine, share: show_progress(f"{what}: {engine}", share)


if __name__ == "__main__":
    main()
