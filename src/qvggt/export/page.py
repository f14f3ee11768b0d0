"""One HTML page that shows one reconstruction, or compares two, without server or network."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files as package_files
from typing import Any

import numpy as np
from PIL import Image

from qvggt.export.colors import confidence_color_map, difference_color_map, heat_limit
from qvggt.export.depth_images import DepthRange, depth_color_map
from qvggt.export.freeview import height_below_ceiling, view_angles
from qvggt.export.points import PointCloud, camera_depths, common_points
from qvggt.export.topview import view_rotation
from qvggt.files import new_output
from qvggt.options import ExportOptions
from qvggt.postprocess.frames import camera_centers, cameras_of, frame_colors, level_rotation, to_uint8
from qvggt.postprocess.similarity import aligned
from qvggt.types import PathLike, Prediction

PAGE_POINTS = 300_000
"""Default of the most pixels shown: 5 MB for one result, 8 MB for two."""

_ASSETS = "page_assets"
_ATLAS_PX, _PHOTO_PX = 2048, 320
"""Widest sheet of all photographs, and widest photograph on it."""
_BOX_PERCENT, _BOX_SLACK = (0.5, 99.5), 0.5


@dataclass(frozen=True)
class _Placement:
    """Map from the first result's world to the page's: upright, centered, with a diagonal of 1.

    Attributes:
        rotation: [3, 3] to upright axes.
        middle: [3] in upright axes.
        diagonal: of the box of most points, in the model's unit.
        low: [3] corner of the box in which positions are stored; points outside it are not shown.
        size: [3] of that box.
    """

    rotation: np.ndarray
    middle: np.ndarray
    diagonal: float
    low: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, cloud: PointCloud, cameras: np.ndarray | None) -> _Placement:
        rotation = view_rotation(cloud, level_rotation(cameras))
        level = cloud.points @ rotation.T.astype(np.float32)
        low, high = np.percentile(level, (5, 95), axis=0)
        middle, diagonal = (low + high) / 2, float(np.linalg.norm(high - low)) or 1.0
        low, high = (np.percentile(level, _BOX_PERCENT, axis=0) - middle) / diagonal
        slack = _BOX_SLACK * np.linalg.norm(high - low) + 1e-3
        return cls(rotation, middle, diagonal, low=low - slack, size=high - low + 2 * slack)

    def apply(self, points: np.ndarray) -> np.ndarray:
        return (points @ self.rotation.T - self.middle) / self.diagonal


def write_page(path: PathLike, predictions: Mapping[str, Prediction], options: ExportOptions | None = None) -> None:
    """Write one result, or two results of the same images, as a page that needs neither server nor network.

    Positions have 16 bits, colors and confidence 8. A second result is aligned with the first by a similarity
    transform, and the page offers their difference per pixel as a heat map.

    Args:
        path: of the HTML file; an existing one is replaced.
        predictions: one or two, keyed by the name that the page shows.
        options: where points come from, the most pixels shown, the percentage hidden at first, and the title.

    Raises:
        QvggtError: the results are not of the same images, outputs are missing, or the file cannot be written.
    """
    options = options or ExportOptions(max_points=PAGE_POINTS)
    if len(predictions) not in (1, 2):
        raise ValueError(f"expected one or two predictions, got {len(predictions)}")
    results = dict(predictions)
    if len(results) == 2:
        (_, first), (name, second) = predictions.items()
        results[name] = aligned(first, second)[0]
    document, data = _scene(results, options)
    parts = {
        "title": html.escape(options.title or " and ".join(predictions)),
        "css": _asset("page.css"),
        "scene": json.dumps(document, allow_nan=False).replace("<", "\\u003c"),
        "data": _base64(zlib.compress(data, 9)),
        "js": _asset("view.js") + _asset("page.js"),
    }
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _asset("page.html"))
    with new_output(path, overwrite=True) as unfinished:
        unfinished.write_text(page, encoding="utf-8", newline="\n")


def _asset(name: str) -> str:
    return (package_files("qvggt.export") / _ASSETS / name).read_text(encoding="utf-8")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _scene(predictions: dict[str, Prediction], options: ExportOptions) -> tuple[dict[str, Any], bytes]:
    """Return what the page says about the scene, and its points as bytes (see ``_Points``)."""
    first = next(iter(predictions.values()))
    chosen, clouds, usable = common_points(list(predictions.values()), options)
    place = _Placement.of(clouds[0], first.cam_from_world)
    points = _Points.of(list(predictions.values()), clouds, chosen, place=place, seed=options.seed)
    heights = points.places[0][:, 1]
    centers = np.zeros((0, 3)) if first.cam_from_world is None else place.apply(_centers(first))
    azimuth, elevation = view_angles(np.zeros(3), centers)
    scale, heat = points.depth_range, points.heat
    document = {
        "pixels": len(points.order),
        "pixel": _rounded(_pixel_angle(first) * math.sqrt(usable / len(points.order))),
        "results": [
            {"name": name, "cameras": _cameras(each, place) if each.cam_from_world is not None else []}
            for name, each in predictions.items()
        ],
        "photos": _photos(first),
        "box": {"low": _rounded(place.low), "size": _rounded(place.size)},
        "hidden_percent": options.drop_percent,
        "top": _rounded(np.minimum(height_below_ceiling(heights), heights.max())),
        "heights": _rounded(np.percentile(heights, (1, 99.5))),
        "view": {"azimuth": _rounded(azimuth), "elevation": _rounded(elevation)},
        "depth": scale and {"near": _rounded(scale.near), "far": _rounded(scale.far), "unit": _rounded(place.diagonal)},
        "heat": heat and {"limit": _rounded(heat[0]), "median": _rounded(heat[1])},
        "unit": "m" if options.unit == "meter" else "model units",
        "maps": _color_maps(),
    }
    return document, points.tobytes()


@dataclass(frozen=True)
class _Points:
    """Points of P pixels in one or two results.

    Attributes:
        order: [P] their indices, in random order, so that any first part of them is an even sample.
        places: [N, 3] per result: positions in the page's world, in the order of pixels.
        depths: [N] per result: depth of each point in its own camera; None without cameras.
        clouds: per result, with N points.
        color: [N] uint8 frame of each pixel, 0 the first and 255 the last.
        place: the page's world.
    """

    order: np.ndarray
    places: list[np.ndarray]
    depths: list[np.ndarray | None]
    clouds: list[PointCloud]
    color: np.ndarray
    place: _Placement

    @classmethod
    def of(
        cls,
        predictions: list[Prediction],
        clouds: list[PointCloud],
        chosen: np.ndarray,
        *,
        place: _Placement,
        seed: int,
    ) -> _Points:
        """Return the points that are inside the page's box in every result."""
        places = [place.apply(cloud.points) for cloud in clouds]
        inside = np.all([((p >= place.low) & (p <= place.low + place.size)).all(1) for p in places], axis=0)
        order = np.random.default_rng(seed).permutation(np.flatnonzero(inside))
        frames, _, height, width = predictions[0].images.shape
        frame = chosen // (height * width)
        depths = [camera_depths(each, cloud.points, chosen) for each, cloud in zip(predictions, clouds, strict=True)]
        return cls(order, places, depths, clouds=clouds, color=_bytes(frame, max(frames - 1, 1)), place=place)

    @property
    def depth_range(self) -> DepthRange | None:
        first = self.depths[0]
        return None if first is None else DepthRange.robust(first, first > 0)

    @property
    def apart(self) -> np.ndarray | None:
        """The distance of each pixel's two points as a share of the first one's depth, [P]; None for one result."""
        if len(self.clouds) == 1 or self.depths[0] is None:
            return None
        distance = np.linalg.norm(self.clouds[0].points - self.clouds[1].points, axis=1)
        return (distance / self.depths[0])[self.order]

    @property
    def heat(self) -> tuple[float, float] | None:
        """The difference at the end of the heat map, and the median difference."""
        apart = self.apart
        if apart is None:
            return None
        return heat_limit(apart), float(np.median(apart))

    def tobytes(self) -> bytes:
        """Return all points as the page reads them.

        For each result, [P, 3] uint16 positions in the box, [P] uint8 confidence and [P] uint8 depth, interleaved; then
        [P, 3] uint8 colors and [P] uint8 frame, interleaved; then, of two results, [P] uint8 difference.
        """
        order, place, scale, blocks = self.order, self.place, self.depth_range, []
        for cloud, places, depth in zip(self.clouds, self.places, self.depths, strict=True):
            block = np.zeros(len(order), [("position", "<u2", 3), ("confidence", "u1"), ("depth", "u1")])
            block["position"] = np.rint((places[order] - place.low) / place.size * 65535)
            block["confidence"] = _ranks(cloud.confidence)[order]
            if depth is not None and scale is not None:
                steps = np.log(depth[order] / scale.near) / math.log(scale.far / scale.near)
                block["depth"] = _bytes(steps, 1)
            blocks.append(block)
        shared = np.zeros(len(order), [("color", "u1", 3), ("frame", "u1")])
        shared["color"] = self.clouds[0].colors[order]
        shared["frame"] = self.color[order]
        blocks.append(shared)
        if self.apart is not None and self.heat is not None:
            blocks.append(_bytes(self.apart, self.heat[0]))
        return b"".join(block.tobytes() for block in blocks)


def _ranks(confidence: np.ndarray) -> np.ndarray:
    """Return uint8: the share of points that are at most as confident, so that equal ones are hidden together."""
    return _bytes(np.searchsorted(np.sort(confidence), confidence, side="right"), len(confidence))


def _bytes(values: np.ndarray, limit: float) -> np.ndarray:
    return np.rint(np.clip(values / limit, 0, 1) * 255).astype(np.uint8)


def _pixel_angle(prediction: Prediction) -> float:
    """Return the size of a pixel at distance 1; that of a field of view of 60 degrees without cameras."""
    if prediction.intrinsics is None:
        return 1.155 / prediction.images.shape[-1]
    return float(np.median(1 / prediction.intrinsics[:, 0, 0]))


def _centers(prediction: Prediction) -> np.ndarray:
    return camera_centers(cameras_of(prediction)[0])


def _cameras(prediction: Prediction, place: _Placement) -> list[dict[str, Any]]:
    """Return position and axes of each camera; ``right`` and ``down`` reach the image's edge at distance 1."""
    cameras, intrinsics = cameras_of(prediction)
    height, width = prediction.images.shape[-2:]
    rows = []
    for camera, position, lens in zip(cameras, place.apply(_centers(prediction)), intrinsics, strict=True):
        right, down, forward = camera[:, :3] @ place.rotation.T
        extent = (width / 2 / lens[0, 0], height / 2 / lens[1, 1])
        axes = {"right": right * extent[0], "down": down * extent[1], "forward": forward}
        rows.append({"position": _rounded(position), **{name: _rounded(axis) for name, axis in axes.items()}})
    return rows


def _photos(prediction: Prediction) -> dict[str, Any]:
    """Return all photographs as one JPEG, small and in rows."""
    count, _, height, width = prediction.images.shape
    columns = math.ceil(math.sqrt(count * height / width))
    wide = max(1, min(width, _PHOTO_PX, _ATLAS_PX // columns))
    high = max(1, round(wide * height / width))
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * wide, rows * high))
    for i, image in enumerate(prediction.images):
        photo = Image.fromarray(to_uint8(image.transpose(1, 2, 0))).resize((wide, high), Image.Resampling.LANCZOS)
        sheet.paste(photo, (i % columns * wide, i // columns * high))
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=85)
    return {
        "names": list(prediction.names), "columns": columns, "rows": rows, "width": wide, "height": high,
        "jpeg": _base64(file.getvalue()),
    }  # fmt: skip


def _color_maps() -> dict[str, str]:
    """Return 256 sRGB colors per map."""
    steps = np.linspace(0, 1, 256)
    maps = {
        "depth": depth_color_map(steps),
        "confidence": confidence_color_map(steps),
        "frame": to_uint8(frame_colors(256)),
        "difference": difference_color_map(steps),
    }
    return {name: _base64(colors.tobytes()) for name, colors in maps.items()}


def _rounded(value: Any) -> Any:
    """Return a number or an array as plain floats of six digits, equal on every machine."""
    return np.vectorize(lambda number: float(f"{number:.6g}"))(value).tolist()
