"""Cache of quantized checkpoints, keyed by everything that determines their bytes.

ROOT/<model>-<method>-<bits>-<key>/settings.json            everything that determines the bytes; the key is its hash
ROOT/<model>-<method>-<bits>-<key>/checkpoint               the checkpoint, once it is complete
ROOT/<model>-<method>-<bits>-<key>/checkpoint.unfinished    intermediate results of an interrupted quantization
ROOT/<model>-<method>-<bits>-<key>/seconds.json             time spent on it, without interruptions
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qvggt.api.quantize import quantize_to
from qvggt.checkpoint.folder import is_checkpoint, open_checkpoint
from qvggt.data.registry import DATASETS
from qvggt.eval.code_hash import code_hash
from qvggt.files import make_folder, write_json
from qvggt.files.read import read_json, reading
from qvggt.images.files import list_images, match_paths
from qvggt.methods.base import SensitivityCache
from qvggt.methods.common import current_versions
from qvggt.methods.registry import METHODS, find_method
from qvggt.options import CalibrationOptions, QuantizeOptions, RunOptions
from qvggt.types import OnProgress, PathLike, QvggtError

log = logging.getLogger(__name__)

CHECKPOINT, SETTINGS, SECONDS = "checkpoint", "settings.json", "seconds.json"
_KEY_CHARACTERS = 16
_NAME_CHARACTERS = 40
_BYTES_COME_FROM = "qvggt.api.quantize"
_NOTED_EVERY_S = 10.0


@dataclass(frozen=True)
class KeptCheckpoint:
    """A cached checkpoint.

    Attributes:
        folder: the checkpoint.
        minutes: time that quantizing took, summed over interrupted runs.
    """

    folder: Path
    minutes: float


class CheckpointStore:
    """The quantized checkpoints of one float model, which share measured sensitivities.

    Args:
        root: folder of the checkpoints of all models; created when needed.
        model: whatever ``load`` takes as a float model.
        source_hash: hash of its weights.
        revision: branch, tag or commit of a hub id.
        device: where models are calibrated.
    """

    def __init__(
        self,
        root: PathLike,
        model: PathLike,
        source_hash: str,
        revision: str | None = None,
        device: str = RunOptions.device,
    ) -> None:
        self.root, self.model, self.source_hash, self.revision = Path(root), model, source_hash, revision
        self.device = device
        self.sensitivities: SensitivityCache = {}

    def get(self, method: str, options: QuantizeOptions) -> KeptCheckpoint | None:
        """Return a cached checkpoint, or None if there is none or it is damaged.

        Raises:
            QvggtError: the method or the photographs to calibrate on do not exist.
        """
        folder = self._folder(self._settings(method, options))
        if not is_checkpoint(folder / CHECKPOINT):
            return None
        try:
            open_checkpoint(folder / CHECKPOINT)
        except QvggtError as error:
            log.warning("the cached checkpoint is quantized again: %s", error)
            return None
        return KeptCheckpoint(folder / CHECKPOINT, _seconds(folder) / 60)

    def make(self, method: str, options: QuantizeOptions, on_progress: OnProgress | None = None) -> KeptCheckpoint:
        """Quantize, resuming an interrupted run; the bytes are the same as without interruption.

        Raises:
            QvggtError: the method cannot observe the options, or the cache cannot be written.
        """
        settings = self._settings(method, options)
        folder = self._folder(settings)
        make_folder(folder)
        write_json(folder / SETTINGS, settings)
        with _timed(folder, on_progress) as watch:
            quantize_to(
                self.model,
                folder / CHECKPOINT,
                method,
                options,
                overwrite=True,
                resume=True,
                revision=self.revision,
                on_progress=watch,
                sensitivities=self.sensitivities,
                device=self.device,
            )
        return KeptCheckpoint(folder / CHECKPOINT, _seconds(folder) / 60)

    def _settings(self, method: str, options: QuantizeOptions) -> dict[str, Any]:
        """Return everything that determines a checkpoint's bytes, JSON-ready."""
        calibrated = find_method(method).needs_calibration
        return {
            "source": self.source_hash,
            "method": method,
            "options": options.to_json() if calibrated else options.layers_json(),
            "calibration": _calibration(options.calibration) if calibrated else None,
            "sensitivities": _content(options.sensitivities) if calibrated else None,
            "device": self.device if calibrated else None,
            "versions": current_versions(),
            "code": code_hash(_BYTES_COME_FROM),
            "method_code": _package_code(method),
        }

    def _folder(self, settings: dict[str, Any]) -> Path:
        key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:_KEY_CHARACTERS]
        bits = settings["options"]["scheme"].get("bits", "float")
        name = re.sub(r"[^A-Za-z0-9._+-]", "_", f"{Path(self.model).name}-{settings['method']}-{bits}")
        return self.root / f"{name[-_NAME_CHARACTERS:].lstrip('.')}-{key}"


def _calibration(options: CalibrationOptions) -> dict[str, Any]:
    """Return what determines the calibration scenes, including size and time of photographs' files."""
    values = asdict(options) | {"root": None if options.root is None else str(Path(options.root).resolve())}
    if options.source in DATASETS:
        return values
    path = Path(options.source)
    files = list_images(path, quiet=True) if path.is_dir() else [path]
    if not path.exists():
        files = match_paths(options.source, quiet=True)
    states = [(file.resolve(), file.stat()) for file in files]
    return values | {"files": [[str(file), state.st_size, state.st_mtime_ns] for file, state in states]}


def _content(file: PathLike | None) -> str | None:
    """Return a hash of a file; None if there is none, which is said where it is read."""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file is not None and Path(file).is_file() else None


def _package_code(method: str) -> str | None:
    """Return a hash of the file of another package's method; built-in methods are part of ``code``."""
    found = find_method(method)
    if method in METHODS:
        return None
    try:
        return hashlib.sha256(Path(inspect.getfile(found)).read_bytes()).hexdigest()
    except (OSError, TypeError):  # not from a file
        return f"{found.__module__}.{found.__qualname__}"


@contextmanager
def _timed(folder: Path, on_progress: OnProgress | None) -> Iterator[OnProgress]:
    """Add the elapsed time to the folder's total every few seconds, so that a kill loses little of it."""
    before, started = _seconds(folder), time.monotonic()
    noted = started

    def note() -> None:
        write_json(folder / SECONDS, {"seconds": before + time.monotonic() - started})

    def watch(stage: str, share: float) -> None:
        nonlocal noted
        if time.monotonic() - noted > _NOTED_EVERY_S:
            noted = time.monotonic()
            note()
        if on_progress is not None:
            on_progress(stage, share)

    try:
        yield watch
    finally:
        note()


def _seconds(folder: Path) -> float:
    try:
        with reading(folder / SECONDS):
            return float(read_json(folder / SECONDS)["seconds"])
    except QvggtError:
        return 0.0
