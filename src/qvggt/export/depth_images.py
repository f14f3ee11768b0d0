"""Depth as 16-bit PNG with its scale, and as colours for the eye."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from qvggt.export.frames import photo_mask
from qvggt.files import make_folder, new_file, write_json
from qvggt.types import PathLike, Prediction, QvggtError

SCALE_VERSION = 1
NO_DEPTH_COLOUR = (38, 40, 46)
_PREVIEW_SUFFIX = "_preview"
_IMAGE_SUFFIX = re.compile(r"\.(jpe?g|png|webp|tiff?|hei[cf]|bmp|gif|avif)$", re.IGNORECASE)
_RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_NAME_BYTES = 120


@dataclass(frozen=True)
class DepthRange:
    """The depths between which colours run, logarithmically: bright and warm is near.

    Attributes:
        near: smallest depth that has a colour of its own, in the model's unit.
        far: largest such depth, above ``near``.
    """

    near: float
    far: float

    @classmethod
    def robust(cls, depth: np.ndarray, valid: np.ndarray) -> DepthRange:
        """Return the range of the middle 96 percent of ``depth`` where ``valid``; 1..2 where nothing is."""
        values = depth[valid]
        if values.size == 0:
            return cls(1.0, 2.0)
        near, far = (float(v) for v in np.percentile(values, (2, 98)))
        return cls(near, far if far > near * 1.001 else near * 1.001)

    def colours(self, depth: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Return sRGB uint8 [..., 3] of depths [...]; grey where not ``valid``."""
        safe = np.where(valid, depth, self.near)
        position = np.log(safe / self.near) / math.log(self.far / self.near)
        rgb = depth_colour_map(position)
        rgb[~valid] = NO_DEPTH_COLOUR
        return rgb


def depth_colour_map(position: np.ndarray) -> np.ndarray:
    """Return sRGB uint8 [..., 3] for positions [...] in 0 (near) .. 1 (far); beyond, the end's colour."""
    return colormaps["Spectral"](np.clip(position, 0, 1), bytes=True)[..., :3]


def valid_depth(prediction: Prediction) -> np.ndarray:
    """Return [S, H, W] bool: finite, positive depth on the photograph.

    Raises:
        QvggtError: if the prediction has no depth.
    """
    if prediction.depth is None:
        raise QvggtError("The prediction has no depth; reconstruct with the depth head (heads=camera,depth).")
    return np.isfinite(prediction.depth) & (prediction.depth > 0) & photo_mask(prediction)


def stored_per_unit(max_depth: float) -> float:
    """Return the largest of 1, 2, 5 x 10^k that keeps ``max_depth`` times it within 16 bits.

    >>> stored_per_unit(3.0), stored_per_unit(65.535)
    (20000.0, 1000.0)
    """
    if not (math.isfinite(max_depth) and max_depth > 0):
        raise ValueError(f"expected a positive finite depth, got {max_depth}")
    limit = 65535 / max_depth
    power = math.floor(math.log10(limit))
    candidates = [float(f"{digit}e{k}") for k in (power - 1, power, power + 1) for digit in (1, 2, 5)]
    return max(c for c in candidates if c <= limit)


def safe_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return one file-name stem a frame: portable, unique even where case does not count, and still recognisable.

    Letters of any script, digits, dots, dashes and underscores stay; image suffixes go; everything else becomes an
    underscore. No stem equals another one followed by ``_preview``.
    """
    taken: set[str] = set()
    stems = []
    for name in names:
        base = _portable(name)
        stem, number = base, 1
        while not taken.isdisjoint(_file_keys(stem)):
            number += 1
            stem = f"{base}-{number}"
        taken |= _file_keys(stem)
        stems.append(stem)
    return tuple(stems)


def _file_keys(stem: str) -> set[str]:
    return {unicodedata.normalize("NFKC", s).casefold() for s in (stem, stem + _PREVIEW_SUFFIX)}


def _portable(name: str) -> str:
    text = unicodedata.normalize("NFC", _IMAGE_SUFFIX.sub("", name))
    text = re.sub(r"[^\w.-]+", "_", text)
    text = text.encode("utf-8", "ignore")[:_NAME_BYTES].decode("utf-8", "ignore").strip("._-") or "frame"
    return f"_{text}" if _RESERVED.match(text) else text


def write_depth_images(folder: PathLike, prediction: Prediction) -> list[Path]:
    """Write ``NAME.png`` (16 bits), ``NAME_preview.png`` (colours) of each frame, and ``scale.json``.

    A stored value is round(depth x stored_per_unit), at least 1; 0 means no depth: padding, or not finite. The scale
    and the colours' range are the same for all frames; the scale is in ``scale.json``, with the file of each frame, and
    in each PNG's text as ``stored_per_unit``.

    Returns:
        The paths written.

    Raises:
        QvggtError: if the prediction has no depth, or a file cannot be written.
    """
    valid = valid_depth(prediction)
    depth = prediction.depth
    assert depth is not None
    folder = make_folder(folder)
    scale = stored_per_unit(float(depth.max(where=valid, initial=0)) or 1.0)
    colour_range = DepthRange.robust(depth, valid)
    text = PngInfo()
    text.add_text("stored_per_unit", repr(scale))
    text.add_text("Description", "depth along the optical axis x stored_per_unit, in the model's unit; 0 = no depth")
    written, frames = [], []
    for index, (name, stem) in enumerate(zip(prediction.names, safe_names(prediction.names), strict=True)):
        # In double precision, or the largest depths could round above 16 bits.
        values = np.where(valid[index], depth[index], 0).astype(np.float64) * scale
        stored = np.where(valid[index], np.clip(np.rint(values), 1, 65535), 0).astype(np.uint16)
        paths = folder / f"{stem}.png", folder / f"{stem}{_PREVIEW_SUFFIX}.png"
        _write_png(paths[0], stored, text)
        _write_png(paths[1], colour_range.colours(depth[index], valid[index]))
        written += paths
        frames.append({"name": name, "depth": paths[0].name, "preview": paths[1].name})
    document = {
        "format": "qvggt-depth",
        "version": SCALE_VERSION,
        "conventions": "depth in the model's unit = stored value / stored_per_unit; 0 = no depth",
        "stored_per_unit": scale,
        "preview_near": colour_range.near,
        "preview_far": colour_range.far,
        "frames": frames,
    }
    write_json(folder / "scale.json", document)
    return [*written, folder / "scale.json"]


def _write_png(path: Path, pixels: np.ndarray, text: PngInfo | None = None) -> None:
    with new_file(path, overwrite=True) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", pnginfo=text)
