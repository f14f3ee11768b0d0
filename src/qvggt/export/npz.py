"""Save and load a prediction as one ``.npz`` file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from qvggt.files import explain, finish_folder, new_file
from qvggt.types import FrameMap, PathLike, Prediction, QvggtError

_ARRAYS = (
    "images",
    "cam_from_world",
    "intrinsics",
    "pose_enc",
    "depth",
    "depth_conf",
    "world_points",
    "world_points_conf",
)


def save_prediction(prediction: Prediction, path: PathLike, overwrite: bool = False) -> None:
    """Write a prediction atomically.

    The arrays are named like the fields of ``Prediction``; fields that are None are omitted. ``names`` [S] is text, and
    ``map_original_size``, ``map_scale``, ``map_offset`` [S, 2] are the FrameMaps. Nothing is pickled.

    Raises:
        QvggtError: if the file exists and ``overwrite`` is false, or cannot be written.
    """
    arrays = {name: value for name in _ARRAYS if (value := getattr(prediction, name)) is not None}
    arrays["names"] = np.array(prediction.names, dtype=np.str_)
    arrays["map_original_size"] = _pairs([m.original_size for m in prediction.maps], np.int64)
    arrays["map_scale"] = _pairs([m.scale for m in prediction.maps], np.float64)
    arrays["map_offset"] = _pairs([m.offset for m in prediction.maps], np.float64)
    with new_file(path, overwrite) as temporary, open(temporary, "xb") as file:
        np.savez(file, **arrays)


def load_prediction(path: PathLike) -> Prediction:
    """Read a prediction written by ``save_prediction``; nothing is unpickled.

    Raises:
        QvggtError: if the file cannot be read or is not a prediction.
    """
    finish_folder(Path(path).parent)
    try:
        opened = np.load(Path(path), allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise ValueError("a single array")
        with opened as stored:
            arrays = {name: stored[name] for name in _ARRAYS if name in stored.files}
            names = tuple(str(name) for name in stored["names"])
            maps = zip(stored["map_original_size"], stored["map_scale"], stored["map_offset"], strict=True)
            frames = tuple(
                FrameMap((int(size[0]), int(size[1])), (float(scale[0]), float(scale[1])), (float(at[0]), float(at[1])))
                for size, scale, at in maps
            )
            images = arrays.pop("images")
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise QvggtError(f"{path} is not a prediction or is damaged: reconstruct again") from error
    except OSError as error:
        raise explain(error, path, "read") from error
    return Prediction(images=images, names=names, maps=frames, **arrays)


def _pairs(values: list[tuple], dtype: type) -> np.ndarray:
    return np.array(values, dtype=dtype).reshape(-1, 2)
