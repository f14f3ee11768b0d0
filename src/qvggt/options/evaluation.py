"""Options of what measures a model: evaluation and benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qvggt.options.attention import GlobalAttention, attention_of
from qvggt.options.checks import check_fields
from qvggt.options.choices import Compute, Engine, HalfType, check_choice
from qvggt.options.inference import ImageOptions, InferenceOptions, LoadOptions, WindowOptions
from qvggt.types import PathLike, QvggtError


@dataclass(frozen=True)
class Selection:
    """Which part of a dataset is measured.

    Attributes:
        root: the dataset's folder; None for rooms.
        frames: number of frames per scene, drawn at random.
        every: take every n-th frame instead. With neither, the dataset's published choice.
        seed: random seed of the choice of frames and scenes.
        id_map: file with the frames of an earlier run, which are used again; if it does not exist, the choice is
            written to it.
        scenes: most scenes, chosen by the seed; None for all.
        landmarks: of rooms, 0..1, instead of the split's own value.

    Raises:
        QvggtError: both ``frames`` and ``every`` are given, or a number is below 1.
    """

    root: PathLike | None = None
    frames: int | None = None
    every: int | None = None
    seed: int = 0
    id_map: PathLike | None = None
    scenes: int | None = None
    landmarks: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.frames is not None and self.every is not None:
            raise QvggtError(
                "a number of frames and a step between frames exclude each other: give one of them (--frames, --every)"
            )


@dataclass(frozen=True)
class RunOptions:
    """How an evaluation is computed. ``global_attention`` and ``windows`` change results; ``threads``, ``device`` and
    ``compute`` change their last digits.

    Attributes:
        store: folder in which results are kept as they come, and looked for first; None keeps nothing.
        fresh: measure everything again, and replace what is stored.
        engine: ``local``, this process, or ``ray``, a cluster (extra ``ray``).
        workers: most Ray workers; None for as many as fit.
        threads: CPU threads per process. Partial sums are rounded differently for another number, so the default is
            one.
        device: where models run; not ``auto``, so that digits do not depend on the machine.
        compute: arithmetic of products; not ``auto`` for the same reason.
        dense_frames: most frames that the dense heads process at a time.
        global_attention: as in ``LoadOptions``.
        windows: windows in which a scene is reconstructed, with its frames in the order of the sequence; None for all
            frames at once.
        ray: address of a Ray cluster, as in ``WorkerOptions``; None for ``auto`` with the engine ``ray``.

    Raises:
        QvggtError: a value is out of range.
    """

    store: PathLike | None = None
    fresh: bool = False
    engine: Engine = "local"
    workers: int | None = None
    threads: int = 1
    device: str = "cpu"
    compute: Compute = "float32"
    dense_frames: int = InferenceOptions.dense_frames
    global_attention: GlobalAttention = LoadOptions.global_attention
    windows: WindowOptions | None = None
    ray: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("engine", self.engine, Engine)
        check_choice("compute mode", self.compute, Compute)
        attention_of(self.global_attention)
        if self.threads < 1 or (self.workers is not None and self.workers < 1):
            raise QvggtError("an evaluation needs at least one thread and one worker (--threads, --workers)")
        InferenceOptions(self.dense_frames, self.windows)  # raises for impossible ones

    @property
    def cluster(self) -> str | None:
        """Address of the Ray cluster; None for this process."""
        return self.ray or ("auto" if self.engine == "ray" else None)

    @property
    def inference(self) -> InferenceOptions:
        """How each scene passes through the model."""
        return InferenceOptions(self.dense_frames, self.windows)


@dataclass(frozen=True)
class BenchOptions:
    """What a benchmark measures.

    Attributes:
        models: contenders, whatever ``load`` takes.
        computes: arithmetic of products, each for every contender.
        global_attention: names, presets or files as in ``LoadOptions``, each for every contender.
        against: the float model that all are compared with.
        autocast: half types in which that model runs as well, under ``torch.autocast``: what half precision gives
            without this package.
        frames: numbers of images, each for every contender.
        size_px: width and height of the images.
        repeats: runs of each, in turns.
        threads: CPU threads; torch's own choice if None.
        device: where models run.
        revision: branch, tag or commit of the contenders that are hub ids.

    Raises:
        QvggtError: there is nothing to measure, or a number is below 1.
    """

    models: Sequence[str]
    computes: tuple[Compute, ...] = ("float32", "auto")
    global_attention: tuple[str, ...] = (str(LoadOptions.global_attention),)
    against: str = "seeded:vggt-1b"
    autocast: tuple[HalfType, ...] = ()
    frames: tuple[int, ...] = (1,)
    size_px: int = ImageOptions.size
    repeats: int = 3
    threads: int | None = None
    device: str = LoadOptions.device
    revision: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.models or not self.computes or not self.global_attention:
            raise QvggtError("there is nothing to measure: give at least one model, compute mode and kind of attention")
        threads = 1 if self.threads is None else self.threads
        for compute in self.computes:
            check_choice("compute mode", compute, Compute)
        for half in self.autocast:
            check_choice("half type", half, HalfType)
        for attention in self.global_attention:
            attention_of(attention)
        if not self.frames or min(*self.frames, self.size_px, self.repeats, threads) < 1:
            raise QvggtError(
                "frames, size, repeats and threads must all be at least 1 (--frames, --size, --repeats, --threads)"
            )
