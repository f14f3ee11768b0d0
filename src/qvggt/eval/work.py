"""What an evaluation asks of every scene, and how it is computed, in a form that travels to other processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from qvggt.data.dataset import DatasetReader
from qvggt.eval.evaluators import Meter
from qvggt.eval.plan import Job
from qvggt.options import ImageOptions, RunOptions
from qvggt.types import Scene


@dataclass(frozen=True)
class Work:
    """One question about all scenes, in a form that travels to other processes.

    Attributes:
        reader: of the dataset.
        images: how images are made into model input.
        make_meter: makes the meter, loading what it needs.
    """

    reader: DatasetReader
    images: ImageOptions
    make_meter: Callable[[], Meter]

    def scene(self, job: Job) -> Scene:
        """Read one scene."""
        return self.reader.load(job.record, job.frames, self.images)


def run_settings(run: RunOptions) -> Mapping[str, Any]:
    """Return what can affect a scene's results."""
    return {
        "device": torch.device(run.device).type,
        "compute": run.compute,
        "threads": run.threads,
        "dense_frames": run.dense_frames,
        "global_attention": run.global_attention,
        "windows": None if run.windows is None else vars(run.windows),
        "torch": str(torch.__version__),
    }
