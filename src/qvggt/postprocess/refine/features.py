"""SIFT features of photographs, and their verified matches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from qvggt.options import RefineOptions
from qvggt.options.messages import missing_extra
from qvggt.types import QvggtError

MIN_MATCHES = 15
"""Verified matches below which a pair counts as not overlapping, as in COLMAP."""

_RATIO, _DISTANCE = 0.8, 0.7
"""Largest distance of a match relative to the second best, and absolute, between unit descriptors; as in COLMAP."""


@dataclass(frozen=True)
class Features:
    """Features of one photograph.

    Attributes:
        xy: [N, 2] float64, in pixels of the searched image, the first pixel's center at (0.5, 0.5).
        descriptors: [N, 128] uint8.
        size: (width, height) of the searched image.
    """

    xy: np.ndarray
    descriptors: np.ndarray
    size: tuple[int, int]


@dataclass(frozen=True)
class PairMatches:
    """Verified matches of two photographs: [M, 2] indices of features of frames ``first`` and ``second``."""

    first: int
    second: int
    matches: np.ndarray


def pycolmap_module() -> Any:
    """Return pycolmap.

    Raises:
        QvggtError: it is not installed, or too old.
    """
    try:
        import pycolmap
    except ImportError as error:
        raise missing_extra("refinement", "colmap") from error
    if not hasattr(pycolmap, "FeatureExtractor"):
        raise QvggtError(f'pycolmap {pycolmap.__version__} is too old: pip install --upgrade "qvggt[colmap]"')
    return pycolmap


@contextmanager
def quiet_pycolmap() -> Iterator[Any]:
    """Yield pycolmap, which logs nothing below an error inside this context."""
    pycolmap = pycolmap_module()
    logging = pycolmap.logging
    level, logging.minloglevel = logging.minloglevel, logging.Level.ERROR.value
    try:
        yield pycolmap
    finally:
        logging.minloglevel = level


def searched_size(size: tuple[int, int], max_size: int) -> tuple[int, int]:
    """Return the (width, height) at which a photograph of ``size`` is searched for features."""
    factor = min(1.0, max_size / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def find_features(photographs: Iterable[Image.Image], options: RefineOptions) -> Iterator[Features]:
    """Yield the SIFT features of each photograph.

    Raises:
        QvggtError: pycolmap is not installed.
    """
    with quiet_pycolmap() as pycolmap:
        settings = pycolmap.FeatureExtractionOptions()
        settings.use_gpu, settings.num_threads = False, 1
        settings.sift.max_num_features = options.max_features
        settings.sift.max_num_orientations = 1  # a second one at the same place would leak into what is held out
        extractor = pycolmap.FeatureExtractor.create(settings, pycolmap.Device.cpu)
        for photograph in photographs:
            size = searched_size(photograph.size, options.max_size)
            gray = photograph.convert("L")
            if size != gray.size:
                gray = gray.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
            bitmap = pycolmap.Bitmap.from_array(np.ascontiguousarray(np.asarray(gray)))
            keypoints, descriptors = extractor.extract(bitmap)
            xy = pycolmap.keypoints_to_matrix(keypoints)[:, :2].astype(np.float64).reshape(-1, 2)
            yield Features(xy, np.asarray(descriptors.data, np.uint8).reshape(-1, 128), size)


def match_pairs(features: Sequence[Features], pairs: Iterable[tuple[int, int]], seed: int = 0) -> Iterator[PairMatches]:
    """Yield the matches of each pair of frames that one epipolar geometry or homography explains.

    The cameras take no part, so that wrong ones cannot reject right matches.
    """
    with quiet_pycolmap() as pycolmap:
        settings = pycolmap.TwoViewGeometryOptions()
        settings.ransac.random_seed = seed
        settings.min_num_inliers = MIN_MATCHES
        lenses = [
            pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", max(each.size), *each.size) for each in features
        ]
        for first, second in pairs:
            one, other = features[first], features[second]
            found = _mutual_matches(one.descriptors, other.descriptors)
            if len(found) >= MIN_MATCHES:
                geometry = pycolmap.estimate_two_view_geometry(
                    lenses[first], one.xy, lenses[second], other.xy, found.astype(np.uint32), settings
                )
                found = np.asarray(geometry.inlier_matches, np.int64).reshape(-1, 2)
            yield PairMatches(first, second, found if len(found) >= MIN_MATCHES else found[:0])


def _mutual_matches(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return pairs of indices [M, 2] of descriptors that are each other's nearest, and much nearer than the second."""
    if min(len(one), len(other)) < 2:
        return np.empty((0, 2), np.int64)
    cosine = _unit(one) @ _unit(other).T  # [N, M]
    nearest, back = cosine.argmax(1), cosine.argmax(0)
    rows = np.arange(len(one))
    best = _angle(cosine[rows, nearest])
    cosine[rows, nearest] = -1.0
    kept = (back[nearest] == rows) & (best <= _DISTANCE) & (best <= _RATIO * _angle(cosine.max(1)))
    return np.stack((rows[kept], nearest[kept]), 1)


def _unit(descriptors: np.ndarray) -> np.ndarray:
    values = descriptors.astype(np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1.0)


def _angle(cosine: np.ndarray) -> np.ndarray:
    return np.arccos(np.clip(cosine, -1.0, 1.0))
