"""Finished windows of a long sequence, kept in a folder: they need no memory, and a killed run goes on after them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qvggt.files import write_json
from qvggt.files.stored import FrameStore
from qvggt.geometry import Similarity
from qvggt.model import VGGT
from qvggt.options import Head, InferenceOptions
from qvggt.postprocess.frames import chosen_frames
from qvggt.postprocess.pose_graph import Relation
from qvggt.postprocess.similarity import transformed
from qvggt.types import ImageSet, PathLike, Prediction
from qvggt.version import __version__

log = logging.getLogger(__name__)

FROM_IMAGES = frozenset(("images", "names", "maps"))
"""Fields of a prediction that are copied from its images."""
_MOVED = {"cam_from_world", "pose_enc", "depth", "world_points"}
"""Fields of a prediction that a similarity transform of its world changes."""
_PROGRESS = "windows.json"
_WEIGHT_SAMPLES = 4096
"""Most values of each tensor that identify a model."""


class WindowsInMemory:
    """The prediction of all frames, filled window by window."""

    def __init__(self, images: ImageSet) -> None:
        self._images = images
        self._arrays: dict[str, np.ndarray] = {}
        self.finished = 0
        """Number of windows that need not be computed again."""
        self.loops: list[Relation] = []
        """Loops that these windows close."""

    def add(self, start: int, window: Prediction, loop: Relation | None = None) -> None:
        """Write a window's new frames, from frame ``start`` on, and the loop that it closes."""
        for name, value in _outputs(window).items():
            self._write(name, start, value)
        self.finished += 1
        self.loops += [] if loop is None else [loop]

    def correct(self, starts: Sequence[int], corrections: Sequence[Similarity]) -> None:
        """Apply a similarity transform to the new frames of each window, which begin at ``starts``."""
        before = self.prediction
        for start, stop, by in zip(starts, (*starts[1:], len(before.names)), corrections, strict=True):
            moved = transformed(chosen_frames(before, range(start, stop)), by)
            for name in sorted(_MOVED & self._arrays.keys()):
                self._write(name, start, getattr(moved, name))

    def _write(self, name: str, start: int, value: np.ndarray) -> None:
        if name not in self._arrays:
            self._arrays[name] = np.empty((len(self._images.names), *value.shape[1:]), value.dtype)
        self._arrays[name][start : start + len(value)] = value

    @property
    def prediction(self) -> Prediction:
        """All frames; those not yet added have no defined values."""
        values: dict[str, Any] = dict(self._arrays)
        return Prediction(self._images.images, self._images.names, self._images.maps, **values)


class WindowsInFolder(WindowsInMemory):
    """The prediction of all frames in the files of a folder, with the number of finished windows.

    Args:
        images: of the sequence.
        folder: which exists; what it holds under another key is written over.
        key: names everything that the result depends on (``windows_key``).
    """

    def __init__(self, images: ImageSet, folder: Path, key: str) -> None:
        super().__init__(images)
        self._folder, self._key = folder, key
        self._store = FrameStore(folder, len(images.names))
        with suppress(OSError, ValueError, KeyError, TypeError):
            progress = json.loads((folder / _PROGRESS).read_text(encoding="utf-8"))
            if progress["key"] == key:
                self._arrays = {name: self._store.array(name) for name in progress["arrays"]}
                self.loops = [Relation.from_json(values) for values in progress["loops"]]
                self.finished = int(progress["finished"])

    def add(self, start: int, window: Prediction, loop: Relation | None = None) -> None:
        """Write a window's new frames, from frame ``start`` on, the loop that it closes, and that it is finished."""
        super().add(start, window, loop)
        self._store.sync()
        progress: dict[str, Any] = {"key": self._key, "finished": self.finished, "arrays": sorted(self._arrays)}
        progress["loops"] = [each.to_json() for each in self.loops]
        write_json(self._folder / _PROGRESS, progress)

    def correct(self, starts: Sequence[int], corrections: Sequence[Similarity]) -> None:
        """Apply a similarity transform to the new frames of each window; files of the finished windows stay."""
        folder = self._folder / "closed"
        folder.mkdir(exist_ok=True)
        self._store = FrameStore(folder, len(self._images.names))
        super().correct(starts, corrections)

    def _write(self, name: str, start: int, value: np.ndarray) -> None:
        self._store.write(name, start, value)
        if start == 0:
            self._arrays[name] = self._store.array(name)


def windows_key(model: VGGT, images: ImageSet, heads: Collection[Head], options: InferenceOptions) -> str:
    """Return a hash of all that a reconstruction in windows depends on; of large tensors only some values."""
    facts = [__version__, torch.__version__, str(model.config), str(model.aggregator.global_attention)]
    facts += [str(next(model.parameters()).device.type), str(model.arithmetic.dtype), str(model.arithmetic.cache_dtype)]
    facts += [str(sorted(heads)), str(options.windows and asdict(options.windows)), *images.names]
    digest = hashlib.sha256("\n".join(facts).encode("utf-8", "surrogateescape"))
    for name, tensor in model.state_dict().items():
        values = tensor.detach().flatten()
        some = values[:: 1 + len(values) // _WEIGHT_SAMPLES].cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(some.view(torch.uint8).numpy().data)
    for image in images.images:
        digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def _outputs(window: Prediction) -> dict[str, np.ndarray]:
    values = {field.name: getattr(window, field.name) for field in fields(Prediction) if field.name not in FROM_IMAGES}
    return {name: value for name, value in values.items() if value is not None}


@contextmanager
def kept_windows(output: PathLike) -> Iterator[Path]:
    """Yield the folder that keeps the windows of a command with an output folder, and remove it at the end.

    If the command stops after a window is finished, the folder stays. It is inside the output folder, or beside it
    while there is none. Call it while the output folder is locked (``new_folder``).
    """
    target = Path(os.path.realpath(output))
    folder = target / ".qvggt-windows" if target.is_dir() else target.with_name(f".{target.name}.qvggt-windows")
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    except BaseException:
        if (folder / _PROGRESS).exists():
            log.warning("finished windows are kept in %s: the same command goes on after them", folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
