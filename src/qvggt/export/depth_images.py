"""Depth maps as 16-bit PNG with their scale, and as color previews."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from qvggt.files import make_folder, new_file, write_json
from qvggt.images.files import IMAGE_SUFFIXES, RAW_SUFFIXES
from qvggt.options import Unit
from qvggt.postprocess.frames import frame_photo_mask
from qvggt.postprocess.percentiles import Parts, percentiles
from qvggt.types import PathLike, Prediction, QvggtError

SCALE_VERSION = 1
NO_DEPTH_COLOR = (38, 40, 46)
_PREVIEW_SUFFIX = "_preview"
_RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_NAME_BYTES = 120


@dataclass(frozen=True)
class DepthRange:
    """Depth range of the color map, which is logarithmic; warm colors are near.

    Attributes:
        near: depth at the first color, in the model's unit; smaller depths share that color.
        far: depth at the last color, above ``near``.
    """

    near: float
    far: float

    @classmethod
    def robust(cls, depth: np.ndarray, valid: np.ndarray) -> DepthRange:
        """Return the 2nd and 98th percentile of ``depth`` where ``valid``, or 1..2 if no pixel is valid."""
        return cls.robust_of(lambda: [depth[valid]])

    @classmethod
    def robust_of(cls, parts: Parts) -> DepthRange:
        """Return the 2nd and 98th percentile of depths in parts, or 1..2 if there are none."""
        found = percentiles(parts, (2, 98))
        if found is None:
            return cls(1.0, 2.0)
        near, far = (float(value) for value in found)
        return cls(near, far if far > near * 1.001 else near * 1.001)

    def colors(self, depth: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Return sRGB uint8 [..., 3] of depths [...]; gray where not ``valid``."""
        safe = np.where(valid, depth, self.near)
        position = np.log(safe / self.near) / math.log(self.far / self.near)
        rgb = depth_color_map(position)
        rgb[~valid] = NO_DEPTH_COLOR
        return rgb


def depth_color_map(position: np.ndarray) -> np.ndarray:
    """Return sRGB uint8 [..., 3] for positions [...] in 0 (near) .. 1 (far), clipped to that range."""
    return colormaps["Spectral"](np.clip(position, 0, 1), bytes=True)[..., :3]


def valid_depth(prediction: Prediction) -> np.ndarray:
    """Return [S, H, W] bool: where depth is finite, positive and not on padding.

    Raises:
        QvggtError: if the prediction has no depth.
    """
    return np.stack([valid for _, valid in depth_frames(prediction)])


def depth_frames(
    prediction: Prediction, frames: Sequence[int] | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the depth [H, W] of all or some frames, and where it is valid; see ``valid_depth``."""
    depth = prediction.depth
    if depth is None:
        raise QvggtError("the prediction has no depth: reconstruct with the depth head (--heads camera depth)")
    for frame in range(len(depth)) if frames is None else frames:
        values = depth[frame]
        yield values, np.isfinite(values) & (values > 0) & frame_photo_mask(prediction, frame)


def stored_per_unit(max_depth: float) -> float:
    """Return the largest scale of the form 1, 2, 5 x 10^k with which ``max_depth`` fits in 16 bits.

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
    """Return one portable file-name stem per frame, unique on case-insensitive file systems too.

    Image suffixes are removed, and characters other than letters, digits, dots, dashes and underscores are replaced by
    underscores. No stem equals another one followed by ``_preview``.
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
    stem, dot, ending = name.rpartition(".")
    is_image = f"{dot}{ending}".lower() in IMAGE_SUFFIXES | RAW_SUFFIXES
    text = unicodedata.normalize("NFC", stem if is_image else name)
    text = re.sub(r"[^\w.-]+", "_", text)
    text = text.encode("utf-8", "ignore")[:_NAME_BYTES].decode("utf-8", "ignore").strip("._-") or "frame"
    return f"_{text}" if _RESERVED.match(text) else text


def write_depth_images(folder: PathLike, prediction: Prediction, unit: Unit = "model") -> list[Path]:
    """Write ``NAME.png`` (16 bits) and ``NAME_preview.png`` (colors) for each frame, and ``scale.json``.

    A stored value is round(depth x stored_per_unit), at least 1; 0 marks pixels without depth (padding, or not finite).
    Scale and color range are the same for all frames. The scale is stored in ``scale.json``, next to the file names of
    each frame, and in each PNG's text as ``stored_per_unit``.

    Args:
        folder: created if missing.
        prediction: with depth.
        unit: unit of lengths, which the files state.

    Returns:
        The paths written.

    Raises:
        QvggtError: if the prediction has no depth, or a file cannot be written.
    """
    most = max(float(depth.max(where=valid, initial=0)) for depth, valid in depth_frames(prediction))
    folder = make_folder(folder)
    scale = stored_per_unit(most or 1.0)
    color_range = DepthRange.robust_of(lambda: (depth[valid] for depth, valid in depth_frames(prediction)))
    text = PngInfo()
    text.add_text("stored_per_unit", repr(scale))
    words = {"model": "the model's unit", "meter": "meters"}[unit]
    text.add_text("Description", f"depth along the optical axis x stored_per_unit, in {words}; 0 = no depth")
    written, frames = [], []
    stems = safe_names(prediction.names)
    for name, stem, (depth, valid) in zip(prediction.names, stems, depth_frames(prediction), strict=True):
        # In float64: in float32 the largest depths could round above 16 bits.
        values = np.where(valid, depth, 0).astype(np.float64) * scale
        stored = np.where(valid, np.clip(np.rint(values), 1, 65535), 0).astype(np.uint16)
        paths = folder / f"{stem}.png", folder / f"{stem}{_PREVIEW_SUFFIX}.png"
        _write_png(paths[0], stored, text)
        _write_png(paths[1], color_range.colors(depth, valid))
        written += paths
        frames.append({"name": name, "depth": paths[0].name, "preview": paths[1].name})
    document = {
        "format": "qvggt-depth",
        "version": SCALE_VERSION,
        "conventions": f"depth in {words} = stored value / stored_per_unit; 0 = no depth",
        "unit": unit,
        "stored_per_unit": scale,
        "preview_near": color_range.near,
        "preview_far": color_range.far,
        "frames": frames,
    }
    write_json(folder / "scale.json", document)
    return [*written, folder / "scale.json"]


def _write_png(path: Path, pixels: np.ndarray, text: PngInfo | None = None) -> None:
    with new_file(path, overwrite=True) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", pnginfo=text)
