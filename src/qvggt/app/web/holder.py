"""The one model that the app holds."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from qvggt.options import Compute
from qvggt.types import OnProgress

if TYPE_CHECKING:
    from qvggt.model import VGGT


class ModelHolder:
    """Loads a model when it is first asked for, and keeps it until another one, or another mode, is.

    Args:
        device: on which models run.
        revision: branch, tag or commit of the models that are hub ids.
    """

    def __init__(self, device: str, revision: str | None = None) -> None:
        self._device, self._revision = device, revision
        self._lock = threading.Lock()
        self._key: tuple[str, Compute] | None = None
        self._model: VGGT | None = None

    def get(self, name: str, compute: Compute, on_progress: OnProgress) -> VGGT:
        """Return a model, after releasing the one before if it is another.

        Raises:
            QvggtError: it cannot be loaded.
        """
        from qvggt.api.reconstruct import load
        from qvggt.inference.process_memory import release_freed_memory

        with self._lock:
            if self._model is None or self._key != (name, compute):
                self._key = self._model = None
                release_freed_memory()
                self._model = load(name, self._device, compute, self._revision, on_progress=on_progress)
                self._key = (name, compute)
            return self._model


def short_names(models: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return what is shown of each model, and its name: only the last part of a path, unless two would look alike."""
    shown = [Path(name).name if Path(name).exists() else name for name in models]
    return [(short if shown.count(short) == 1 else name, name) for short, name in zip(shown, models, strict=True)]
