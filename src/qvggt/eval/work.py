"""What an evaluation asks of every scene, and how it is computed, in a form that travels to other processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from qvggt.backends import Compute
from qvggt.data.dataset import DatasetReader
from qvggt.eval.evaluators import Meter
from qvggt.eval.plan import Job
from qvggt.images.preprocess import ImageOptions
from qvggt.inference.windows import WindowOptions
from qvggt.model.merging import GlobalAttention
from qvggt.model.vggt import DENSE_FRAMES
from qvggt.types import PathLike, QvggtError, Scene

Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class RunOptions:
    """How an evaluation is computed. ``global_attention`` and ``windows`` change figures; ``threads``, ``device`` and
    ``compute`` can touch them too.

    Attributes:
        store: folder in which results are kept as they come, and looked for first; None keeps nothing.
        fresh: measure everything anew, and replace what is stored.
        engine: ``local``, this process, or ``ray``, a cluster (extra ``ray``).
        workers: of Ray; None for as many as there is room for.
        threads: of the CPU, in each process. Sums over parts are rounded differently for another number, so it is
            one unless asked for.
        device: where models compute.
        compute: how packed layers multiply.
        dense_frames: frames that the dense heads take at a time.
        global_attention: among all tokens, or merged ones.
        windows: in which a model reconstructs a scene; None for all frames at once.
    """

    store: PathLike | None = None
    fresh: bool = False
    engine: Engine = "local"
    workers: int | None = None
    threads: int = 1
    device: str = "cpu"
    compute: Compute = "float"
    dense_frames: int = DENSE_FRAMES
    global_attention: GlobalAttention = "exact"
    windows: WindowOptions | None = None

    def __post_init__(self) -> None:
        if self.engine not in ("local", "ray"):
            raise QvggtError(f"there is no engine {self.engine!r}: choose local or ray.")
        if self.threads < 1 or (self.workers is not None and self.workers < 1):
            raise QvggtError("an evaluation needs at least one thread and one worker.")

    def settings(self) -> Mapping[str, Any]:
        """Return what can touch the figures of a scene."""
        return {
            "device": torch.device(self.device).type,
            "compute": self.compute,
            "threads": self.threads,
            "dense_frames": self.dense_frames,
            "global_attention": self.global_attention,
            "windows": None if self.windows is None else vars(self.windows),
            "torch": str(torch.__version__),
        }


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
