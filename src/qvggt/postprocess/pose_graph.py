"""Pose graph in Sim(3): corrections of windows that agree best with what was measured between pairs of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from qvggt.geometry import Similarity

IDENTITY = Similarity(1.0, np.eye(3), np.zeros(3))

_FREE = 7  # log of scale, rotation vector, translation
_DEVIATIONS = np.array((0.02, 0.03, 0.03, 0.03, 0.05, 0.05, 0.05))
"""Standard deviations of the log of scale, the rotation vector in radians and the translation in units of length."""


@dataclass(frozen=True, eq=False)
class Relation:
    """A measurement between two windows of one world.

    Attributes:
        first: index of a window.
        second: index of another one.
        correction: moves the second window to where it fits the first one; the identity if it does already.
        center: [3], where the two were compared.
        length: unit of translations, in the world's unit: the depth of the scene there.
        deviation: standard deviation in units of that of neighboring windows.
    """

    first: int
    second: int
    correction: Similarity
    center: np.ndarray
    length: float
    deviation: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping that ``from_json`` reads."""
        to = self.correction
        return {
            "first": self.first, "second": self.second, "scale": to.scale, "rotation": to.rotation.tolist(),
            "translation": to.translation.tolist(), "center": self.center.tolist(), "length": self.length,
            "deviation": self.deviation,
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Relation:
        """Rebuild a relation from ``to_json``.

        Raises:
            KeyError, TypeError, ValueError: the mapping is none.
        """
        correction = Similarity(values["scale"], *(np.array(values[name]) for name in ("rotation", "translation")))
        center = np.array(values["center"])
        return cls(
            values["first"], values["second"], correction, center,
            length=values["length"], deviation=values["deviation"],
        )  # fmt: skip


def difference(found: Similarity, wanted: Similarity, center: np.ndarray, length: float) -> np.ndarray:
    """Return how two similarity transforms differ at a place [3].

    Returns:
        [7]: log of the ratio of scales, rotation vector in radians, and the distance between the images of ``center``
        in units of ``length``, as seen before ``wanted`` is applied.
    """
    between = wanted.inverse @ found
    turn = Rotation.from_matrix(between.rotation).as_rotvec()
    return np.concatenate(([np.log(between.scale)], turn, (between.apply(center) - center) / length))


def halfway(first: Similarity, second: Similarity, center: np.ndarray) -> Similarity:
    """Return the similarity transform in the middle between two that are much alike at a place [3]."""
    return first @ _about(difference(second, first, center, 1.0) / 2, center, 1.0)


def _about(move: np.ndarray, center: np.ndarray, length: float) -> Similarity:
    """Return the transform that differs from the identity by ``move`` [7] (see ``difference``)."""
    scale, rotation = float(np.exp(move[0])), Rotation.from_rotvec(move[1:4]).as_matrix()
    return Similarity(scale, rotation, center + length * move[4:] - scale * (rotation @ center))


def solve_pose_graph(centers: np.ndarray, relations: Sequence[Relation]) -> list[Similarity]:
    """Return the correction of each window, that of the first being the identity.

    Least squares of the relations' differences in units of their standard deviations, with a loss that grows linearly
    where they are large.

    Args:
        centers: [W, 3], a place in each window, about which it is turned and scaled.
        relations: that connect all windows.
    """
    unit = float(np.median([each.length for each in relations]))
    found = least_squares(
        _Residuals(centers, unit, relations),
        np.zeros(_FREE * (len(centers) - 1)),
        jac_sparsity=_sparsity(len(centers), relations),
        loss="soft_l1",
    )
    return [_about(move, center, unit) for move, center in zip(_with_first(found.x), centers, strict=True)]


class _Residuals:
    """The relations' differences, in units of their deviations, as a function of all windows' moves but the first's."""

    def __init__(self, centers: np.ndarray, unit: float, relations: Sequence[Relation]) -> None:
        self._centers, self._unit = centers, unit
        self._first, self._second = np.array([(each.first, each.second) for each in relations]).T
        self._places = np.stack([each.center for each in relations])
        self._targets = np.stack([each.correction.apply(each.center) for each in relations])
        self._turns = np.stack([each.correction.rotation for each in relations])
        self._scales = np.log([each.correction.scale for each in relations])
        self._lengths = np.array([each.length for each in relations])
        self._deviations = np.array([each.deviation for each in relations])[:, None] * _DEVIATIONS

    def __call__(self, free: np.ndarray) -> np.ndarray:
        moves = _with_first(free)
        rotations = Rotation.from_rotvec(moves[:, 1:4]).as_matrix()  # [W, 3, 3]

        def moved(windows: np.ndarray, points: np.ndarray) -> np.ndarray:
            about = self._centers[windows]
            turned = np.einsum("nij,nj->ni", rotations[windows], points - about)
            return np.exp(moves[windows, :1]) * turned + about + self._unit * moves[windows, 4:]

        back = (rotations[self._first] @ self._turns).swapaxes(1, 2)  # [N, 3, 3]
        turn = Rotation.from_matrix(back @ rotations[self._second]).as_rotvec()
        scale = moves[self._first, 0] + self._scales
        gap = np.einsum("nij,nj->ni", back, moved(self._second, self._places) - moved(self._first, self._targets))
        gap /= (np.exp(scale) * self._lengths)[:, None]
        return (np.column_stack((moves[self._second, 0] - scale, turn, gap)) / self._deviations).ravel()


def _with_first(free: np.ndarray) -> np.ndarray:
    """Return the moves [W, 7] of all windows; the first one stays."""
    return np.concatenate((np.zeros((1, _FREE)), free.reshape(-1, _FREE)))


def _sparsity(windows: int, relations: Sequence[Relation]) -> np.ndarray:
    """Return which residuals depend on which values."""
    pattern = np.zeros((_FREE * len(relations), _FREE * windows), bool)
    for row, relation in enumerate(relations):
        for window in (relation.first, relation.second):
            pattern[_FREE * row : _FREE * (row + 1), _FREE * window : _FREE * (window + 1)] = True
    return pattern[:, _FREE:]
