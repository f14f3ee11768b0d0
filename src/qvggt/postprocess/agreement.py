"""How far frames agree: how much they share, how alike they look there, and which of them shows less detail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from qvggt.postprocess.covisibility import Sight, Surfaces, confident_pixels, see
from qvggt.postprocess.frames import frame_photo_mask
from qvggt.postprocess.percentiles import percentiles
from qvggt.types import OnProgress, Prediction

DEPTH_TOLERANCE = 0.1
"""Relative difference of depth up to which two frames see the same point; predicted depth differs by a few percent."""

_SAMPLES, _LEAST_SAMPLES, _ALL_SAMPLES = 400, 64, 20_000
"""Most and fewest points of a frame, and the number of points of all frames between these limits."""

FAR_DEPTH, UNSURE_CONFIDENCE = 20.0, 0.05
"""Multiple of near depths beyond which depth is unreliable, and share of high confidence, counted from its least value
of 1, below which it is."""
_NEAR_PERCENT, _SURE_PERCENT, _THINNED_PX = 25, 90, 128
"""Percentiles that are the near depth and the high confidence, and least width of maps that are thinned for them."""

_PARTNERS, _NEIGHBORS, _COARSE_SAMPLES, _COARSE_OVERLAP = 64, 2, 16, 0.1
"""Most frames that a frame chooses to be compared with; how many before and after it in the sequence are always among
them; points by which the others are chosen, and the share of them that the other frame must cover."""

_LEAST_SHARE = 0.15
"""Share of a frame's points that another must see for the two to be compared."""

_MAP_PX = 96
_FINEST, _COARSEST, _COARSE_DETAIL, _AROUND = 0.03, 0.15, 0.025, 0.03
"""Standard deviations of Gaussian filters, as shares of the width: of the band of colors that are compared, of what
counts as coarse detail, and of the neighborhood in which detail is averaged."""
_FAR = 1e5
_GRAY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Agreement:
    """Comparisons of each frame i with each frame j, at points of frame i on a random grid.

    Of many frames only some pairs are compared, in both directions: see ``_partners``.

    Attributes:
        overlap: [S, S], share of the points that project into frame j's photograph; of few points where the frames are
            not compared.
        seen: [S, S], share of the points that lie on the surface that frame j sees; 0 where they are not compared.
        likeness: [S, S], correlation of colors, of -1..1, in the two frames at the points that project into frame j,
            of structures between 3 and 15 % of the width; NaN where these are too few.
        parallax: [S, S], by how much the likeness falls if frame j's camera is moved to the center of frame i's; NaN
            where points are too few.
        detail: [S, S], logarithm of frame i's fine over coarse detail less that of frame j's, on what both see; NaN
            where that is too little.
    """

    overlap: np.ndarray
    seen: np.ndarray
    likeness: np.ndarray
    parallax: np.ndarray
    detail: np.ndarray


Reliable = Callable[[int], np.ndarray]
"""Returns [H, W] bool of a frame: valid pixels that are neither far away nor of low confidence, as a sky is."""


def reliable_pixels(prediction: Prediction, surfaces: Surfaces) -> Reliable:
    """Return what is reliable in each frame, by limits that hold for all of them."""
    frames, step = range(len(surfaces.cameras)), max(1, surfaces.depth.shape[2] // _THINNED_PX)
    confidence = prediction.depth_conf if prediction.depth is not None else prediction.world_points_conf

    def some(values: np.ndarray, frame: int) -> np.ndarray:
        return values[frame][::step, ::step][surfaces.valid(frame)[::step, ::step]]

    near = percentiles(lambda: (some(surfaces.depth, frame) for frame in frames), _NEAR_PERCENT)
    if near is None:
        return surfaces.valid
    high = None
    if confidence is not None:
        high = percentiles(lambda: (some(confidence, frame) for frame in frames), _SURE_PERCENT)

    def reliable(frame: int) -> np.ndarray:
        found = surfaces.valid(frame) & (surfaces.depth[frame] <= FAR_DEPTH * near)
        if confidence is not None and high is not None:
            found &= confidence[frame] - 1 >= UNSURE_CONFIDENCE * (high - 1)
        return found

    return reliable


def measure_agreement(
    prediction: Prediction, surfaces: Surfaces, reliable: Reliable, on_progress: OnProgress | None = None
) -> Agreement:
    """Compare every frame with every other, or with some of them if there are many.

    Args:
        prediction: with cameras, and depth or world points.
        surfaces: of the prediction.
        reliable: pixels to take points from; other confident ones only if a frame has too few.
        on_progress: the progress callback.
    """
    count, per_map = len(surfaces.cameras), max(1, round(prediction.images.shape[3] / _MAP_PX))
    number = int(np.clip(_ALL_SAMPLES // count, _LEAST_SAMPLES, _SAMPLES))
    samples = _Samples.of(prediction, surfaces, reliable, number)
    own_colors, own_detail = samples.values(prediction, per_map)
    overlap, compared = _partners(surfaces, samples)
    results = {name: np.full((count, count), np.nan) for name in ("likeness", "parallax", "detail")}
    results |= {"overlap": overlap, "seen": np.zeros((count, count))}
    for j in range(count):
        i = np.flatnonzero(compared[:, j])
        sight = see(surfaces, j, samples.points[i].reshape(-1, 3), DEPTH_TOLERANCE)
        turned = see(surfaces, j, samples.far_points[i].reshape(-1, 3), DEPTH_TOLERANCE)
        shape = samples.pixels[i].shape[:2]
        inside, seen = samples.usable[i] & _inside(sight, shape), samples.usable[i] & sight.visible.reshape(shape)
        both = inside & _inside(turned, shape)
        colors, detail = _maps(prediction, j, per_map)
        theirs, theirs_turned = (_at(colors, s.pixels, per_map).reshape(*shape, 3) for s in (sight, turned))
        energy = _at(detail, sight.pixels, per_map).reshape(*shape, 2)
        results["overlap"][i, j], results["seen"][i, j] = inside.mean(1), seen.mean(1)
        results["likeness"][i, j] = _correlation(own_colors[i], theirs, inside)
        enough = both.mean(1) >= _LEAST_SHARE
        gain = _correlation(own_colors[i], theirs, both) - _correlation(own_colors[i], theirs_turned, both)
        results["parallax"][i, j] = np.where(enough, gain, np.nan)
        ratio = _log_ratio(own_detail[i], seen) - _log_ratio(energy, seen)
        results["detail"][i, j] = np.where(seen.mean(1) >= _LEAST_SHARE, ratio, np.nan)
        if on_progress is not None:
            on_progress(f"quality of {count} frames", (j + 1) / count)
    return Agreement(**results)


def _partners(surfaces: Surfaces, samples: _Samples) -> tuple[np.ndarray, np.ndarray]:
    """Return the overlap [S, S] by few points, and which frames to compare, [S, S] bool and symmetric.

    A frame chooses its neighbors in the sequence, then, of the frames that overlap it, half by the most overlap and
    half at random, so that groups of very similar frames are connected with the others. If there are no more frames
    than it may choose, all are compared, and the overlap is not computed.
    """
    count = len(surfaces.cameras)
    if count <= _PARTNERS + 1:
        return np.zeros((count, count)), np.ones((count, count), bool)
    points = samples.points[:, :_COARSE_SAMPLES]
    overlap = np.stack([_covered(surfaces, j, points).mean(1) for j in range(count)], 1) * samples.usable
    either = np.maximum(overlap, overlap.T)
    place = np.arange(count)
    chosen = abs(place[:, None] - place) <= _NEIGHBORS
    rng, most = np.random.default_rng(0), (_PARTNERS - 2 * _NEIGHBORS) // 2
    for frame in range(count):
        by_overlap = np.argsort(-either[frame], kind="stable")
        others = by_overlap[(either[frame, by_overlap] >= _COARSE_OVERLAP) & ~chosen[frame, by_overlap]]
        chosen[frame, others[:most]] = True
        chosen[frame, rng.permutation(others[most:])[:most]] = True
    return overlap, chosen | chosen.T


def _covered(surfaces: Surfaces, frame: int, points: np.ndarray) -> np.ndarray:
    """Return which points [..., 3] project into a frame's image."""
    camera, lens = surfaces.cameras[frame], surfaces.intrinsics[frame]
    height, width = surfaces.depth.shape[1:]
    local = points @ camera[:, :3].T + camera[:, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = local[..., :2] / local[..., 2:] * (lens[0, 0], lens[1, 1]) + lens[:2, 2]
        return (local[..., 2] > 0) & ((pixels >= 0) & (pixels < (width, height))).all(-1)


@dataclass(frozen=True)
class _Samples:
    """The same number N of points of each frame.

    Attributes:
        pixels: [S, N, 2] in processed pixels.
        points: [S, N, 3] on the frame's surface.
        far_points: [S, N, 3] on the same rays, so far away that cameras see them wherever they are.
        usable: [S, 1] bool, False for frames without valid pixels.
    """

    pixels: np.ndarray
    points: np.ndarray
    far_points: np.ndarray
    usable: np.ndarray

    @classmethod
    def of(cls, prediction: Prediction, surfaces: Surfaces, reliable: Reliable, number: int) -> _Samples:
        count, _, width = surfaces.depth.shape
        rng = np.random.default_rng(0)
        pixels, points, far = np.zeros((count, number, 2)), np.zeros((count, number, 3)), np.zeros((count, number, 3))
        usable = np.zeros((count, 1), bool)
        for frame in range(count):
            places = confident_pixels(prediction, surfaces, frame)
            if not len(places):
                continue
            sure = places[reliable(frame).ravel()[places]]
            places = sure if len(sure) >= _LEAST_SHARE * len(places) else places
            chosen = np.sort(places[rng.integers(len(places), size=number)])
            usable[frame] = True
            pixels[frame] = np.column_stack((chosen % width, chosen // width)) + 0.5
            points[frame] = surfaces.surface_points(frame, chosen)
            depth = surfaces.depth[frame].ravel()[chosen]
            far[frame] = surfaces.points(frame, pixels[frame], depth * _FAR)
        return cls(pixels, points, far, usable)

    def values(self, prediction: Prediction, per_map: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the colors [S, N, 3] and the detail [S, N, 2] of each frame's ``_maps`` at its points."""
        found = []
        for frame, pixels in enumerate(self.pixels):
            found.append([_at(values, pixels, per_map) for values in _maps(prediction, frame, per_map)])
        colors, detail = zip(*found, strict=True)
        return np.stack(colors), np.stack(detail)


def _inside(sight: Sight, shape: tuple[int, ...]) -> np.ndarray:
    return np.isfinite(sight.depth).reshape(shape)


def _at(values: np.ndarray, pixels: np.ndarray, per_map: int) -> np.ndarray:
    """Return the values [N, C] of a map [h, w, C] at pixels [N, 2]; those outside are of its border."""
    height, width = values.shape[:2]
    with np.errstate(invalid="ignore"):
        column, row = np.clip(np.nan_to_num(pixels) / per_map, 0, (width - 1, height - 1)).astype(np.int64).T
    return values[row, column]


def _maps(prediction: Prediction, frame: int, per_map: int) -> tuple[np.ndarray, np.ndarray]:
    """Return band-pass colors [h, w, 3], and fine and coarse detail [h, w, 2], of blocks of a frame's pixels."""
    image, photo = prediction.images[frame], frame_photo_mask(prediction, frame)
    width = image.shape[2] / per_map
    small = np.stack([_blocks(channel, per_map) for channel in image], -1)
    weight = _blocks(photo.astype(np.float32), per_map)
    narrow, wide = (_smooth(small, weight, sigma * width) for sigma in (_FINEST, _COARSEST))
    gray = np.einsum("chw,c->hw", image, _GRAY)
    inner = ndimage.binary_erosion(photo, iterations=2, border_value=1)
    fine = _blocks(ndimage.laplace(gray, mode="nearest") ** 2 * inner, per_map)
    coarse = ndimage.laplace(_smooth(small @ _GRAY, weight, _COARSE_DETAIL * width), mode="nearest") ** 2
    pair = np.stack((fine, coarse * (_blocks(inner.astype(np.float32), per_map) > 0)), -1)
    return narrow - wide, _smooth(pair, np.ones_like(weight), _AROUND * width)


def _blocks(values: np.ndarray, side: int) -> np.ndarray:
    """Return the means of blocks of [H, W]; what is left over at the right and at the bottom is dropped."""
    height, width = (length // side for length in values.shape)
    return values[: height * side, : width * side].reshape(height, side, width, side).mean((1, 3))


def _smooth(values: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """Return a Gaussian average of values [h, w] or [h, w, C] in which pixels count by their weight [h, w]."""
    spread = (sigma, sigma, 0)[: values.ndim]
    if weight.min() == 1:
        return ndimage.gaussian_filter(values, spread, mode="nearest", truncate=3)
    weight = weight if values.ndim == 2 else weight[..., None]
    total = ndimage.gaussian_filter(values * weight, spread, mode="nearest", truncate=3)
    return total / np.maximum(ndimage.gaussian_filter(weight, spread, mode="nearest", truncate=3), 1e-3)


def _correlation(ours: np.ndarray, theirs: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return the correlation [S] of values [S, N, C] where ``kept`` [S, N]; NaN where that is too little."""
    weight = kept[..., None] / np.maximum(kept.sum(1), 1)[:, None, None]
    a, b = (each - (each * weight).sum(1, keepdims=True) for each in (ours, theirs))
    product, ours_squared, theirs_squared = ((x * weight).sum((1, 2)) for x in (a * b, a * a, b * b))
    result = product / np.sqrt(ours_squared * theirs_squared + 1e-12)
    return np.where(kept.mean(1) >= _LEAST_SHARE / 3, result, np.nan)


def _log_ratio(energy: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return [S] the logarithm of fine over coarse detail, of energies [S, N, 2] where ``kept`` [S, N]."""
    fine, coarse = ((energy * kept[..., None]).sum(1) + 1e-8).T
    return np.log(fine / coarse)
