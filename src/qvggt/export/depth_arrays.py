"""Depth maps as floating-point files: NumPy arrays or OpenEXR images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from qvggt.export.depth_images import safe_names, valid_depth
from qvggt.files import make_folder, new_file, write_json
from qvggt.options import Unit
from qvggt.options.messages import missing_extra
from qvggt.types import Prediction


def write_depth_arrays(
    folder: Path, prediction: Prediction, kind: Literal["npy", "exr"], unit: Unit = "model"
) -> list[Path]:
    """Write ``NAME.npy`` ([H, W] float32) or ``NAME.exr`` (float32 channel Y) for each frame, and ``scale.json``.

    Values are distances along the optical axis; 0 marks pixels without depth (padding, masked or not finite).

    Args:
        folder: created if missing.
        prediction: with depth.
        kind: file type.
        unit: unit of lengths, which ``scale.json`` states.

    Returns:
        The paths written.

    Raises:
        QvggtError: if the prediction has no depth, a file cannot be written, or OpenEXR is not installed.
    """
    valid = valid_depth(prediction)
    assert prediction.depth is not None
    write = np.save if kind == "npy" else _exr_writer()
    make_folder(folder)
    written, frames = [], []
    for name, stem, depth, here in zip(
        prediction.names, safe_names(prediction.names), prediction.depth, valid, strict=True
    ):
        written.append(folder / f"{stem}.{kind}")
        with new_file(written[-1], overwrite=True) as temporary:
            write(temporary, np.where(here, depth, 0).astype(np.float32))
        frames.append({"name": name, "depth": written[-1].name})
    conventions = "float32, distance along the optical axis; 0 = no depth"
    document = {"format": "qvggt-depth-arrays", "version": 1, "conventions": conventions, "unit": unit}
    write_json(folder / "scale.json", {**document, "frames": frames})
    return [*written, folder / "scale.json"]


def _exr_writer() -> Callable[[Path, np.ndarray], None]:
    try:
        import OpenEXR
    except ImportError as error:
        raise missing_extra("choose --depth-files npy, as EXR", "exr") from error

    def write(path: Path, depth: np.ndarray) -> None:
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        with OpenEXR.File(header, {"Y": depth}) as file:
            file.write(str(path))

    return write
