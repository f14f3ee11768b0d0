"""Save and load a prediction as one ``.npz`` file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from qvggt.files import finish_folder, new_file
from qvggt.files.arrays import read_npz, write_npz
from qvggt.files.read import reading
from qvggt.options.checks import check_arguments
from qvggt.types import PREDICTION_SHAPES, FrameMap, PathLike, Prediction

_TEXT_AND_MAPS = ("names", "map_original_size", "map_scale", "map_offset")


def save_prediction(prediction: Prediction, path: PathLike, overwrite: bool = False) -> None:
    """Write a prediction atomically.

    The arrays are named like the fields of ``Prediction``; fields that are None are omitted. ``names`` [S] is text, and
    ``map_original_size``, ``map_scale``, ``map_offset`` [S, 2] are the FrameMaps. Nothing is pickled.

    Raises:
        QvggtError: if the file exists and ``overwrite`` is false, or cannot be written.
    """
    check_arguments(save_prediction, locals())
    arrays = {name: value for name in PREDICTION_SHAPES if (value := getattr(prediction, name)) is not None}
    arrays["names"] = np.array(prediction.names, dtype=np.str_)
    arrays["map_original_size"] = _pairs([m.original_size for m in prediction.maps], np.int64)
    arrays["map_scale"] = _pairs([m.scale for m in prediction.maps], np.float64)
    arrays["map_offset"] = _pairs([m.offset for m in prediction.maps], np.float64)
    with new_file(path, overwrite) as temporary, open(temporary, "xb") as file:
        write_npz(file, arrays)


def load_prediction(path: PathLike) -> Prediction:
    """Read a prediction written by ``save_prediction``; nothing is unpickled.

    Raises:
        QvggtError: if the file cannot be read or is not a prediction.
    """
    check_arguments(load_prediction, locals())
    finish_folder(Path(path).parent)
    remedy, what = "reconstruct again", "the prediction"
    arrays = read_npz(path, (*PREDICTION_SHAPES, *_TEXT_AND_MAPS), remedy, what)
    with reading(path, remedy, what):
        names, sizes, scales, offsets = (arrays.pop(name) for name in _TEXT_AND_MAPS)
        _check_shapes(arrays)
        frames = len(arrays["images"])
        if names.shape != (frames,) or names.dtype.kind != "U":
            raise ValueError(f"names of {frames} frames, got {names.dtype} {names.shape}")
        maps = [_frame_map(size, scale, offset) for size, scale, offset in zip(sizes, scales, offsets, strict=True)]
        if len(maps) != frames:
            raise ValueError(f"expected {frames} frame maps, got {len(maps)}")
        return Prediction(names=tuple(map(str, names)), maps=tuple(maps), **arrays)


def _check_shapes(arrays: Mapping[str, np.ndarray]) -> None:
    frames, _, height, width = arrays["images"].shape
    sizes = {"S": frames, "H": height, "W": width}
    for name, array in arrays.items():
        shape = tuple(sizes.get(str(axis), axis) for axis in PREDICTION_SHAPES[name])
        kind = "b" if name == "mask" else "f"
        if array.dtype.kind != kind or array.shape != shape or 0 in shape:
            what = "bool" if name == "mask" else "floats"
            raise ValueError(f"expected {name} as {what} {shape}, got {array.dtype} {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite")


def _frame_map(size: np.ndarray, scale: np.ndarray, offset: np.ndarray) -> FrameMap:
    (width, height), (scale_x, scale_y), (offset_x, offset_y) = size.tolist(), scale.tolist(), offset.tolist()
    if not (min(width, height, scale_x, scale_y) > 0 and np.isfinite((scale_x, scale_y, offset_x, offset_y)).all()):
        raise ValueError(f"a frame map of size {width}x{height}, scale {scale_x}, {scale_y}")
    return FrameMap((int(width), int(height)), (float(scale_x), float(scale_y)), (float(offset_x), float(offset_y)))


def _pairs(values: list[tuple], dtype: type) -> np.ndarray:
    return np.array(values, dtype=dtype).reshape(-1, 2)
