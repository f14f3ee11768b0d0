"""How well the matches determine cameras: standard deviations of relative poses and focal lengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from qvggt.postprocess.refine.rig import RigFrames
from qvggt.postprocess.refine.tracks import Tracks
from qvggt.postprocess.refine.views import Views, triangulate

_PRIOR_ROTATION_RAD, _PRIOR_POSITION, _PRIOR_FOCAL, _PRIOR_RADIAL = 0.2, 0.5, 0.05, 0.03
"""Standard deviations assumed without any match: of rotations, of positions relative to the depth of the scene, of
focal lengths relative to themselves, and of distortions. They matter only for what the matches leave open."""

_EXACT = 1e-5
"""Factor of these for what is known."""

_LEAST_NOISE_PX = 0.3
"""Least standard deviation of features: what is systematic in their errors does not average out."""

_SURE, _LIKELY = 2.5, 1.5
"""Standard deviations of the new cameras that a change must exceed: over all frames, and for each."""

_NEGLIGIBLE_RAD = np.radians((0.05, 0.2))
"""Standard deviations of rotation and direction below which a change of any size is taken."""

_NO_DIRECTION_RAD = 1.0
"""Standard deviation of a direction from which on it is none."""


@dataclass(frozen=True)
class Certainty:
    """Covariance of cameras that were adjusted to tracks.

    Attributes:
        frames: [F] int64, the adjusted frames.
        covariance: [6 F + 2 L, 6 F + 2 L]: for each frame a rotation and a translation in its own axes,
            x -> exp(w) x + t; then the logarithms of the focal lengths; then the distortions.
        lens: [F] int64, which focal length each frame has.
        moment: [F] int64, frames of one number move together.
    """

    frames: np.ndarray
    covariance: np.ndarray
    lens: np.ndarray
    moment: np.ndarray

    def focal_deviations(self) -> np.ndarray:
        """Return the standard deviations [F] of the frames' focal lengths, relative to themselves."""
        return np.sqrt(np.diag(self.covariance)[6 * len(self.frames) :])[self.lens]

    def radial_deviations(self) -> np.ndarray:
        """Return the standard deviations [F] of the distortions of the frames' lenses."""
        return np.sqrt(np.diag(self.covariance)[-(self.lens.max() + 1) :])[self.lens]


def certainty(
    views: Views,
    tracks: Tracks,
    lens: np.ndarray,
    rig: RigFrames,
    *,
    known_focal: bool = False,
    known_poses: bool = False,
) -> Certainty:
    """Return how well tracks determine the cameras that were adjusted to them.

    Args:
        views: adjusted cameras.
        tracks: that they were adjusted to.
        lens: [S], frames of one number share a focal length.
        rig: which frames move together.
        known_focal: whether focal lengths are exact, instead of known to ``_PRIOR_FOCAL``.
        known_poses: whether poses are exact.
    """
    frames, place = np.unique(tracks.frame, return_inverse=True)
    lenses, lens_of_frame = np.unique(lens[frames], return_inverse=True)
    points, errors = triangulate(views, tracks)
    poses, focal = views.cam_from_world[tracks.frame], views.focal[tracks.frame]
    local = np.einsum("nij,nj->ni", poses[:, :, :3], points[tracks.track]) + poses[:, :, 3]
    depth = np.maximum(local[:, 2], 1e-9)
    noise = max(_LEAST_NOISE_PX, float(np.median(errors)))
    weight = (1.0 / (noise * np.sqrt(1.0 + (errors / (3 * noise)) ** 2)))[:, None, None]
    flat = np.zeros((len(depth), 2, 3))
    flat[:, 0, 0], flat[:, 1, 1] = focal.T / depth
    flat[:, :, 2] = -focal * local[:, :2] / depth[:, None] ** 2
    by_pose = np.concatenate((-flat @ _cross(local), flat), 2) * weight  # [N, 2, 6]
    plane = local[:, :2] / depth[:, None]
    by_lens = np.stack((focal * plane, focal * plane * (plane**2).sum(1, keepdims=True)), 2) * weight  # [N, 2, 2]
    by_point = flat @ poses[:, :, :3] * weight  # [N, 2, 3]

    size = 6 * len(frames) + 2 * len(lenses)
    of_lens = 6 * len(frames) + lens_of_frame[place][:, None] + np.array([0, len(lenses)])
    columns = np.concatenate((6 * place[:, None] + np.arange(6), of_lens), 1)
    jacobian = _sparse(np.concatenate((by_pose, by_lens), 2), columns, size)
    whitened = _whitened(by_point, tracks)
    inner = _sparse(whitened, 3 * tracks.track[:, None] + np.arange(3), 3 * tracks.count)
    mixed = inner.T @ jacobian  # [3 count, 6 F + 2 L]
    information = (jacobian.T @ jacobian - mixed.T @ mixed).toarray()
    reach = float(np.median(depth))
    pose = np.repeat([_PRIOR_ROTATION_RAD, _PRIOR_POSITION * reach], 3) * (_EXACT if known_poses else 1.0)
    focal_prior = _PRIOR_FOCAL * (_EXACT if known_focal else 1.0)
    moves = _moves(rig, frames, 2 * len(lenses))
    bodies = (moves.shape[1] - 2 * len(lenses)) // 6
    prior = np.concatenate((np.tile(pose, bodies), np.repeat((focal_prior, _PRIOR_RADIAL), len(lenses))))
    scale = 1.0 / prior  # the matrix is inverted in units of the prior, in which it is well conditioned
    inverse = np.linalg.inv(np.eye(len(prior)) + (moves.T @ information @ moves) * np.outer(prior, prior))
    covariance = moves @ (inverse / np.outer(scale, scale)) @ moves.T
    return Certainty(frames, covariance, lens_of_frame, rig.moment[frames])


def _moves(rig: RigFrames, frames: np.ndarray, others: int) -> np.ndarray:
    """Return [6 F + others, 6 B + others], how frames move with their bodies; other parameters stay as they are.

    A body is a frame that moves alone, or the frames of a rig at one moment.
    """
    bodies, body = np.unique(rig.moment[frames], return_inverse=True)
    moves = np.zeros((6 * len(frames) + others, 6 * len(bodies) + others))
    moves[6 * len(frames) :, 6 * len(bodies) :] = np.eye(others)
    for index, (frame, number) in enumerate(zip(frames, body, strict=True)):
        rotation, shift = rig.cam_from_rig[frame, :, :3], rig.cam_from_rig[frame, :, 3]
        part = moves[6 * index : 6 * index + 6, 6 * number : 6 * number + 6]
        part[:3, :3] = part[3:, 3:] = rotation
        part[3:, :3] = _cross(shift[None])[0] @ rotation
    return moves


def sure_frames(views: Views, old: Views, found: Certainty) -> np.ndarray:
    """Return which frames [S] changed by more than their new poses are uncertain.

    The square of a change is the sum of the squared errors of the old and the new pose on average, so a change well
    above the new pose's own error means that the old one was worse. Rotations and directions of translation relative
    to all other adjusted frames count, their squares averaged. No frame is sure if all frames together are not.
    """
    figures = np.array([_relative(views, old, found, index) for index in range(len(found.frames))])  # [F, 2, 2]
    sure = np.zeros(len(views), bool)
    if _exceeds(np.sqrt((figures**2).mean(0)), _SURE):
        sure[found.frames] = [_exceeds(each, _LIKELY) for each in figures]
    return sure


def _exceeds(figures: np.ndarray, factor: float) -> bool:
    """Return whether changes [0] are above a multiple of the deviations [1], or these are negligible."""
    changes, deviations = figures
    return bool(((changes > factor * deviations) | (deviations < _NEGLIGIBLE_RAD)).all())


def sure_focal(views: Views, old: Views, found: Certainty) -> bool:
    """Return whether focal lengths changed by more than the new ones are uncertain; see ``sure_frames``."""
    changes = np.log(views.pinholes().focal[found.frames] / old.focal[found.frames]).mean(1)
    return bool(np.sqrt((changes**2).mean()) > _LIKELY * np.sqrt((found.focal_deviations() ** 2).mean()))


def _relative(views: Views, old: Views, found: Certainty, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return changes [2] and standard deviations [2] of a frame's rotation and direction to the others, in radians.

    A frame at the same place has no direction, and does not count for it; if all are, the deviation is infinite.
    """
    turns, sides = [], []  # squared changes and variances
    for other in range(len(found.frames)):
        if found.moment[other] == found.moment[index]:
            continue
        rotation, shift = _between(views.cam_from_world, found.frames[index], found.frames[other])
        rotation_old, shift_old = _between(old.cam_from_world, found.frames[index], found.frames[other])
        length = max(float(np.linalg.norm(shift)), 1e-12)
        across = np.eye(3) - np.outer(shift, shift) / length**2
        turn = across / length
        blocks = np.zeros((6, 12))  # of this frame's and the other's rotation and translation
        blocks[:3, :3], blocks[:3, 6:9] = np.eye(3), -rotation
        blocks[3:, :6], blocks[3:, 9:] = turn @ np.hstack((-_cross(shift[None])[0], np.eye(3))), -turn @ rotation
        both = np.concatenate((6 * index + np.arange(6), 6 * other + np.arange(6)))
        variance = np.einsum("ij,jk,ik->i", blocks, found.covariance[np.ix_(both, both)], blocks)
        turned, aside, length_old = variance[:3].sum(), variance[3:].sum(), float(np.linalg.norm(shift_old))
        turns.append((_angle((np.trace(rotation_old.T @ rotation) - 1) / 2) ** 2, turned))
        if aside < _NO_DIRECTION_RAD**2 and length_old > 0:
            sides.append((_angle(float(shift @ shift_old) / length / length_old) ** 2, aside))
    if not turns:  # all frames move together
        return np.zeros(2), np.zeros(2)
    both = np.sqrt([np.mean(turns, axis=0), np.mean(sides, axis=0) if sides else (0.0, np.inf)])
    return both[:, 0], both[:, 1]


def _angle(cosine: float) -> float:
    return float(np.arccos(np.clip(cosine, -1, 1)))


def _between(poses: np.ndarray, one: int, other: int) -> tuple[np.ndarray, np.ndarray]:
    rotation = poses[one, :, :3] @ poses[other, :, :3].T
    return rotation, poses[one, :, 3] - rotation @ poses[other, :, 3]


def _whitened(by_point: np.ndarray, tracks: Tracks) -> np.ndarray:
    """Return ``by_point`` [N, 2, 3] times the inverse transposed Cholesky factor of its track's normal matrix."""
    starts = np.searchsorted(tracks.track, np.arange(tracks.count))
    normal = np.add.reduceat(np.einsum("nij,nik->njk", by_point, by_point), starts, axis=0)
    normal += (1e-9 * np.trace(normal, axis1=1, axis2=2) + 1e-300)[:, None, None] * np.eye(3)
    back = np.linalg.inv(np.linalg.cholesky(normal))  # [T, 3, 3]
    return by_point @ back.transpose(0, 2, 1)[tracks.track]


def _sparse(values: np.ndarray, columns: np.ndarray, width: int) -> csr_matrix:
    """Return a matrix [2 N, width] with ``values`` [N, 2, K] in the columns [N, K]."""
    count, _, each = values.shape
    indices = np.repeat(columns[:, None, :], 2, 1).reshape(-1)
    return csr_matrix((values.reshape(-1), indices, np.arange(0, 2 * count * each + 1, each)), shape=(2 * count, width))


def _cross(vectors: np.ndarray) -> np.ndarray:
    """Return the matrices [N, 3, 3] of cross products with vectors [N, 3]."""
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    return np.stack((zero, -z, y, z, zero, -x, -y, x, zero), 1).reshape(-1, 3, 3)
