"""Weight files as named tensors that are read one at a time: safetensors and PyTorch's ``.pt``, whole or sharded."""

from __future__ import annotations

import hashlib
import logging
import pickle
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from qvggt.files.read import read_json_object, reading
from qvggt.types import QvggtError
from qvggt.weights.tensor_file import read_header

log = logging.getLogger(__name__)

SAFETENSORS, INDEX = ".safetensors", ".index.json"
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
FILE_NAMES = (
    "model.safetensors", "model.safetensors.index.json", "model.pt",
    "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
"""Usual names of weights in a folder or a hub repository, the preferred first."""

_OTHER_STATE = ("optimizer", "scheduler", "scaler", "rng_state", "random_states", "training_args")
_STATE_KEYS = ("model", "state_dict", "model_state_dict", "module", "ema_state_dict")
"""Where training loops keep the weights in what they save, the preferred first."""

_CHUNK = 1 << 22
_ZIP = b"PK"  # first bytes of a .pt file, and below of one written before torch 1.6
_TORCH_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_WANTS_CODE = ("unsupported global", "call reduce", "can only")  # in messages of torch


class SafetensorsSource:
    """Tensors of one or several safetensors files, memory-mapped: tensors are the file's pages, not copies.

    Attributes:
        files: the files; a tensor of a later one replaces an earlier one's.
        metadata: strings of the first header that has any.

    Raises:
        QvggtError: a file is missing, truncated, or no safetensors file.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        headers = [read_header(path) for path in self.files]
        self.metadata: Mapping[str, str] = next((file.metadata for file in headers if file.metadata), {})
        self._entries = {name: entry for file in headers for name, entry in file.entries.items()}
        opened = [(file, _open(file.path)) for file in headers]
        self._handles = {name: handle for file, handle in opened for name in file.entries}

    def names(self) -> list[str]:
        """Return the names of all tensors."""
        return list(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        return self._entries[name].shape

    def tensor(self, name: str) -> Tensor:
        """Return a tensor, memory-mapped."""
        return self._handles[name].get_tensor(name)


class TorchSource:
    """Tensors of one or several ``.pt`` files, memory-mapped; nothing but tensors is ever unpickled.

    Raises:
        QvggtError: a file is missing, damaged, not a checkpoint, or wants to run code.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self.metadata: Mapping[str, str] = {}
        self._tensors = {name: tensor for path in self.files for name, tensor in _load_torch(path).items()}

    def names(self) -> list[str]:
        """Return the names of all tensors."""
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return tuple(self._tensors[name].shape)

    def tensor(self, name: str) -> Tensor:
        """Return a tensor."""
        return self._tensors[name]


def open_weight_file(path: Path) -> SafetensorsSource | TorchSource:
    """Open a file of weights, or the index of a sharded one, by its suffix.

    Raises:
        QvggtError: it is missing, damaged, or of an unknown kind.
    """
    if not path.exists():
        raise QvggtError(f"there is no file {str(path)!r}; check the path")
    kind = Path(path.name.removesuffix(INDEX)).suffix
    files = _shards(path) if path.name.endswith(INDEX) else [path]
    if kind == SAFETENSORS:
        return SafetensorsSource(files)
    if kind in TORCH_SUFFIXES:
        return TorchSource(files)
    raise QvggtError(
        f"{str(path)!r} is not a checkpoint: give a {SAFETENSORS}, {SAFETENSORS}{INDEX} or .pt file, or a folder"
    )


def choose_file(names: Collection[str], place: str) -> str:
    """Return the weights among the names of a folder's or a repository's files; of shards, their index.

    Args:
        names: of all files.
        place: the folder or repository, for errors.

    Raises:
        QvggtError: there are none, or several between which nothing decides.
    """
    for name in FILE_NAMES:
        if name in names:
            return name
    others = sorted(name for name in names if "/" not in name and not name.startswith(_OTHER_STATE))
    suffixes = [(f"{SAFETENSORS}{INDEX}",), (SAFETENSORS,), (f".bin{INDEX}",), TORCH_SUFFIXES]
    for kind in suffixes:
        found = [name for name in others if name.endswith(kind)]
        if len(found) == 1:
            return found[0]
        if found:
            several = f"{', '.join(found[:3])}{', ...' if len(found) > 3 else ''}"
            raise QvggtError(f"{place} holds several files of weights ({several}): give the path of one")
    raise QvggtError(f"{place} holds no weights: expected {', '.join(FILE_NAMES[:3])} or one other such file")


def hash_files(files: Sequence[Path]) -> str:
    """Return one SHA-256 over all bytes of some files, as ``sha256:...``."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(_CHUNK):
                digest.update(block)
    return f"sha256:{digest.hexdigest()}"


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise QvggtError(f"{path} cannot be read ({error}): get an intact copy") from None


def _shards(index: Path) -> list[Path]:
    remedy = "get an intact copy of the index and of all shards"
    contents = read_json_object(index, remedy)
    with reading(index, remedy):
        names = sorted({str(name) for name in contents["weight_map"].values()})
        if not names:
            raise ValueError("it names no shards")
        if any(Path(name).name != name or name in ("", "..") for name in names):
            raise ValueError("it names shards outside its own folder")
    return [index.parent / name for name in names]


def _load_torch(path: Path) -> dict[str, Tensor]:
    start = b""
    try:
        with path.open("rb") as file:
            start = file.read(len(_TORCH_LEGACY))
        zipped = start.startswith(_ZIP)  # torch's older format, a bare pickle, cannot be mapped
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except OSError as error:
        raise QvggtError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a pickle is a program: a damaged one can raise anything
        raise QvggtError(_why_not_torch(path, start, error)) from None
    values = _state(loaded)
    tensors = {
        name: value.detach() for name, value in values.items() if isinstance(name, str) and isinstance(value, Tensor)
    }
    if not tensors:
        raise QvggtError(f"{str(path)!r} holds no named tensors, so it is not a checkpoint of a model")
    return tensors


def _state(loaded: object) -> Mapping[Any, Any]:
    """Return the innermost mapping of weights in what a training loop saved; counters beside them may remain."""
    while isinstance(loaded, dict):
        keys = [key for key in _STATE_KEYS if isinstance(loaded.get(key), dict) and loaded[key]]
        if not keys:
            return loaded
        if len(keys) > 1:
            log.info("read the weights under %r; left out %s", keys[0], ", ".join(map(repr, keys[1:])))
        loaded = loaded[keys[0]]
    return {}


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # its directory is there, and damaged
        return True


def _why_not_torch(path: Path, start: bytes, error: Exception) -> str:
    text = str(error).lower()
    if isinstance(error, pickle.UnpicklingError) and any(sign in text for sign in _WANTS_CODE):
        # torch advises to load without this check, which would run any code in the file.
        return (
            f"{str(path)!r} wants to run code when it is loaded, which qvggt does not allow; "
            "convert it to .safetensors on a machine where you trust it"
        )
    begun = len(start) < len(_TORCH_LEGACY) and (_ZIP.startswith(start) or _TORCH_LEGACY.startswith(start))
    if begun or (start.startswith(_ZIP) and not _is_zip(path)):
        return f"{str(path)!r} is truncated; get an intact copy"
    if start.startswith((_ZIP, _TORCH_LEGACY)):
        reason = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        return f"{str(path)!r} is damaged, or not a PyTorch checkpoint ({reason}); get an intact copy"
    return f"{str(path)!r} is not a PyTorch checkpoint; give a .safetensors or .pt file of a model's weights"
