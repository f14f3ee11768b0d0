"""Options of the refinement of cameras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qvggt.options.checks import check_fields
from qvggt.types import QvggtError


@dataclass(frozen=True)
class RefineOptions:
    """How cameras are refined by feature matches on the original photographs.

    Attributes:
        max_size: longer side in pixels at which features are detected; larger photographs are reduced to it.
        max_features: most features per photograph; those of large scale are kept.
        rounds: rounds of triangulation, filtering and bundle adjustment.
        holdout_percent: percentage of the tracks that the adjustment does not see, and that judge its cameras.
        hold_focal: keep the focal lengths.
        hold_poses: keep the poses.
        rig_moments: for each moment of a rig of fixed cameras the frame of each camera, by the camera's name; frames of
            one moment keep their relative poses.
        seed: of the split and of the robust estimators.

    Raises:
        QvggtError: a value is out of range.
    """

    max_size: int = 1600
    max_features: int = 4096
    rounds: int = 5
    holdout_percent: float = 25.0
    hold_focal: bool = False
    hold_poses: bool = False
    rig_moments: tuple[Mapping[str, str], ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        for what, value, least in (
            ("image size", self.max_size, 64), ("number of features", self.max_features, 100),
            ("number of rounds", self.rounds, 1), ("seed", self.seed, 0),
        ):  # fmt: skip
            if value < least:
                raise QvggtError(f"the {what} of a refinement must be at least {least}, not {value}")
        if not 5 <= self.holdout_percent <= 75:
            raise QvggtError(f"the percentage of tracks held out must lie in 5 to 75, not at {self.holdout_percent}")
