"""Two results of the same images: the second in the world of the first, and how far their points are apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qvggt.export.colors import heat_limit
from qvggt.export.points import pixel_points
from qvggt.export.result import Result
from qvggt.geometry import Similarity
from qvggt.options import PointsFrom
from qvggt.postprocess.similarity import aligned
from qvggt.types import Prediction


@dataclass(frozen=True)
class Comparison:
    """Differences of a second result from a first one.

    Attributes:
        first: the first result, with the points that were compared.
        aligned: the second prediction, in the world and unit of the first.
        by: the similarity transform that was applied to it.
        differences: [S, H, W] float32, distance between the two points of a pixel over its depth in the first result;
            NaN where either has no point.
    """

    first: Result
    aligned: Prediction
    by: Similarity
    differences: np.ndarray

    def quantile(self, share: float) -> float:
        """Return the difference below which a share of the pixels lies."""
        return float(np.nanquantile(self.differences, share))

    @property
    def top(self) -> float:
        """The last value of a readable color scale: the 95th percentile, rounded up to 1, 2 or 5 x 10^k."""
        return heat_limit(self.differences)


def compare_results(first: Result, second: Result) -> Comparison:
    """Align the second result with the first, by cameras and depth, and compare them pixel by pixel.

    Compared are the points that the first is said to have; see ``as_shown``.

    Raises:
        QvggtError: they are of different images, or lack cameras or depth.
    """
    second_aligned, by = aligned(first.prediction, second.prediction)
    differences = point_differences(first.prediction, second_aligned, first.info.points_from)
    return Comparison(first, second_aligned, by, differences)


def point_differences(first: Prediction, second: Prediction, source: PointsFrom = "depth") -> np.ndarray:
    """Return [S, H, W] float32: distances between the points of two predictions in one world, over the first's depth.

    NaN where either has no point.
    """
    assert first.depth is not None
    distance = np.linalg.norm(pixel_points(first, source) - pixel_points(second, source), axis=-1)
    return np.divide(distance, first.depth, out=np.full_like(distance, np.nan), where=first.depth > 0)
