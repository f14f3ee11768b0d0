"""The kinds of input that are taken as images, brought to one list."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import Image

from qvggt.types import PathLike, QvggtError

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import TypeIs

    ImageItem: TypeAlias = PathLike | Image.Image | np.ndarray | Tensor
    ImageSource: TypeAlias = ImageItem | Sequence[ImageItem]
else:  # without torch
    ImageItem = ImageSource = Any
"""One image, video, folder or glob pattern, a stack of images [S, ...] as array or tensor, or a list of images; arrays
and tensors are RGB, uint8 or 0..1."""

_CHANNELS = (1, 3, 4)


def items_of(source: ImageSource) -> list[PathLike | Image.Image | np.ndarray]:
    """Return a source as a list of paths, PIL images and arrays with channels last.

    Arrays are [H, W], [H, W, C] or [S, H, W, C] with C of 1, 3 or 4, or [S, H, W]; tensors [H, W], [C, H, W] or
    [S, C, H, W].

    Raises:
        QvggtError: an array or tensor of another shape, or something else.
    """
    if isinstance(source, (str, os.PathLike, Image.Image)):
        return [source]
    if _is_tensor(source):
        return _frames_of(_channels_last(source))
    if isinstance(source, np.ndarray):
        return _frames_of(source)
    if not isinstance(source, Iterable):
        raise QvggtError(f"expected a path, a PIL image, an array, a tensor, or a list of them, got {source!r:.60}")
    return [_channels_last(item) if _is_tensor(item) else item for item in source]


def _frames_of(array: np.ndarray) -> list[PathLike | Image.Image | np.ndarray]:
    """Return the images of an array of one image or a stack of images."""
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS):
        return [array]
    if array.ndim == 3 and array.shape[0] in _CHANNELS:  # a stack of gray images, or one with channels first
        raise QvggtError(f"array {list(array.shape)} is ambiguous: expected [H, W, C] with C of 1, 3 or 4")
    if array.ndim not in (3, 4):
        raise QvggtError(f"expected an array [H, W, C] or [S, H, W, C], got {list(array.shape)}")
    return list(array)


def _is_tensor(value: object) -> TypeIs[Tensor]:
    """Return whether a value is a torch tensor, without importing torch."""
    return type(value).__module__.split(".")[0] == "torch" and hasattr(value, "detach")


def _channels_last(tensor: Any) -> np.ndarray:
    """Return a tensor [..., C, H, W] as an array [..., H, W, C]; [H, W] stays."""
    if tensor.ndim not in (2, 3, 4) or (tensor.ndim > 2 and tensor.shape[-3] not in _CHANNELS):
        raise QvggtError(f"expected a tensor [3, H, W] or [S, 3, H, W], got {list(tensor.shape)}")
    tensor = tensor.detach().cpu()
    array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return array if array.ndim == 2 else np.moveaxis(array, -3, -1)
