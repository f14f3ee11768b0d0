"""Weight files as named tensors that are read one at a time: safetensors, its sharded index, and PyTorch's ``.pt``."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from qvggt.types import QvggtError
from qvggt.weights.tensor_file import read_header

SAFETENSORS_INDEX = ".safetensors.index.json"
TORCH_SUFFIXES = (".pt", ".pth", ".bin")
FILE_NAMES = ("model.safetensors", f"model{SAFETENSORS_INDEX}", "model.pt")
"""What a folder or a hub repository is looked through for, in this order."""

_CHUNK = 1 << 22
_ZIP = b"PK"  # how torch's .pt begins, and how it began before torch 1.6
_TORCH_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_WANTS_CODE = ("unsupported global", "call reduce", "can only")  # in torch's words


class SafetensorsSource:
    """Tensors of one or several safetensors files, memory-mapped: what is read is the file's pages, not a copy.

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
        """Return a tensor on the file's own pages."""
        return self._handles[name].get_tensor(name)


class TorchSource:
    """Tensors of a ``.pt`` file, memory-mapped; nothing but tensors is ever unpickled.

    Raises:
        QvggtError: the file is damaged, no checkpoint, or wants to run code.
    """

    def __init__(self, path: Path) -> None:
        self.files = (path,)
        self.metadata: Mapping[str, str] = {}
        self._tensors = _load_torch(path)

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
    """Open a file of weights by its name's ending.

    Raises:
        QvggtError: it is missing, damaged, or of no known kind.
    """
    if not path.exists():
        raise QvggtError(f"there is no file {str(path)!r}; check the path")
    if path.name.endswith(SAFETENSORS_INDEX):
        return SafetensorsSource(_shards(path))
    if path.suffix == ".safetensors":
        return SafetensorsSource([path])
    if path.suffix in TORCH_SUFFIXES:
        return TorchSource(path)
    raise QvggtError(
        f"{str(path)!r} is not a checkpoint: give a .safetensors, .safetensors.index.json or .pt file, or a folder"
    )


def hash_files(files: Sequence[Path]) -> str:
    """Return one hash of all bytes of some files, with the hash's name in front."""
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
    try:
        names = {str(name) for name in json.loads(index.read_text("utf-8"))["weight_map"].values()}
    except OSError as error:
        raise QvggtError(f"{str(index)!r} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise QvggtError(f"{str(index)!r} is no index of safetensors files ({reason}); get an intact copy") from None
    if not names:
        raise QvggtError(f"{str(index)!r} names no shards; get an intact copy")
    if any(Path(name).name != name or name in ("", "..") for name in names):
        raise QvggtError(f"{str(index)!r} names shards outside its own folder; get an intact copy")
    return [index.parent / name for name in sorted(names)]


def _load_torch(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            start = file.read(len(_TORCH_LEGACY))
        zipped = start.startswith(_ZIP)  # torch's older format, a bare pickle, cannot be mapped
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except OSError as error:
        raise QvggtError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # a pickle is a program: a damaged one fails in any way
        raise QvggtError(_why_not_torch(path, start, error)) from None
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    named = isinstance(loaded, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()
    )
    if not named or not loaded:
        raise QvggtError(f"{str(path)!r} holds no named tensors, so it is not a checkpoint of a model")
    return {name: value.detach() for name, value in loaded.items()}


def _why_not_torch(path: Path, start: bytes, error: Exception) -> str:
    text = str(error).lower()
    if isinstance(error, pickle.UnpicklingError) and any(sign in text for sign in _WANTS_CODE):
        # torch's own advice, to load without this check, would run whatever the file says.
        return (
            f"{str(path)!r} wants to run code while it loads, which qvggt never lets a checkpoint do; "
            "convert it to .safetensors where you trust it"
        )
    begun = len(start) < len(_TORCH_LEGACY) and (_ZIP.startswith(start) or _TORCH_LEGACY.startswith(start))
    if begun or (start.startswith(_ZIP) and not zipfile.is_zipfile(path)):
        return f"{str(path)!r} is truncated; get an intact copy"
    if start.startswith((_ZIP, _TORCH_LEGACY)):
        reason = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        return f"{str(path)!r} is damaged, or no PyTorch checkpoint ({reason}); get an intact copy"
    return f"{str(path)!r} is not a PyTorch checkpoint; give a .safetensors or .pt file of a model's weights"
