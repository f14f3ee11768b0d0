"""Results of scenes on disk, one file each, so that an interrupted evaluation can be resumed.

STORE/<dataset>-<split>-<key>/settings.json           everything that determines the figures; the key is its hash
STORE/<dataset>-<split>-<key>/<scene>.<frames>.json   one scene's result, the names of its frames, and a hash

Files are written atomically. Several processes may write to one store: equal keys mean equal contents.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qvggt.eval.plan import SceneTask
from qvggt.eval.results import SceneResult
from qvggt.files import new_file, user_cache
from qvggt.files.read import read_json_object, reading
from qvggt.types import PathLike, QvggtError

log = logging.getLogger(__name__)

_KEY_CHARACTERS = 16
_NAME_CHARACTERS = 80
_AGAIN = "the scene is evaluated again"


def default_store() -> Path:
    """Return the folder for results in the user's cache."""
    return user_cache() / "eval"


class ResultStore:
    """Results of one model under one set of settings.

    Args:
        root: folder of all stores.
        settings: JSON-ready values; everything that determines the figures of a scene besides its frames.

    Raises:
        QvggtError: the folder cannot be written.
    """

    def __init__(self, root: PathLike, settings: Mapping[str, Any]) -> None:
        text = json.dumps(settings, sort_keys=True, indent=1)
        key = hashlib.sha256(text.encode()).hexdigest()[:_KEY_CHARACTERS]
        name = "-".join(str(settings[part]) for part in ("dataset", "split") if part in settings)
        self.folder = Path(root) / f"{_plain(name)}-{key}"
        if not (self.folder / "settings.json").exists():
            _write(self.folder / "settings.json", text + "\n")

    def get(self, task: SceneTask) -> SceneResult | None:
        """Return the result of a scene with exactly these frames, or None if it is missing or damaged."""
        path = self._path(task)
        if not path.exists():
            return None
        what = "the stored result"
        try:
            stored = read_json_object(path, _AGAIN, what)
            with reading(path, _AGAIN, what):
                if stored["hash"] != _hash(stored["result"]):
                    raise ValueError("its hash differs")
                if stored["frame_names"] != task.frame_names or stored["result"]["scene"] != task.record.name:
                    raise ValueError("it is another scene's")
                return SceneResult.from_json(stored["result"])
        except QvggtError as error:
            log.warning("%s", error)
            return None

    def put(self, task: SceneTask, result: SceneResult) -> None:
        """Store a result atomically.

        Raises:
            QvggtError: it cannot be written.
        """
        values = result.to_json()
        stored = {"frame_names": task.frame_names, "result": values, "hash": _hash(values)}
        _write(self._path(task), json.dumps(stored) + "\n")

    def _path(self, task: SceneTask) -> Path:
        identity = json.dumps([task.record.name, task.frame_names])
        digest = hashlib.sha256(identity.encode()).hexdigest()[:_KEY_CHARACTERS]
        return self.folder / f"{_plain(task.record.name)}.{digest}.json"


def _hash(values: Mapping[str, Any]) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()}"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:_NAME_CHARACTERS]


def _write(path: Path, text: str) -> None:
    with new_file(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
