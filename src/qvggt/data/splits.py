"""Keep calibration and training scenes out of evaluations.

The provenance of a quantized checkpoint lists its calibration scenes in ``calibration``, a JSON mapping::

    {"dataset": "rooms", "split": "calib", "scenes": ["calib/00003", "calib/00017"], "seed": 0, ...}

- ``dataset``: the ``name`` of the dataset's reader (``seven_scenes`` for both forms of 7-Scenes);
- ``split``: the split of the scenes; absent if unknown;
- ``scenes``: names of the sequences, as the reader lists them; absent or empty if all of the split may have been used;
- other keys (seed, number of images, ...) belong to the method.

Calibration on several datasets or splits is ``{"parts": [mapping, mapping, ...], ...}``. A mapping without ``dataset``
(a user's own photographs, for example) excludes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from qvggt.types import QvggtError

RESERVED: Mapping[str, Mapping[str, str]] = {
    "rooms": {"calib": "is for calibration", "train": "is what the carried models were trained on"},
}
"""Dataset -> splits that are never evaluated on, and why."""


@dataclass(frozen=True)
class CalibrationSet:
    """Scenes that a model was calibrated on.

    Attributes:
        dataset: name of the dataset's reader.
        split: their split; None if unknown.
        scenes: their names; empty if all of the split may have been used.
    """

    dataset: str
    split: str | None = None
    scenes: tuple[str, ...] = ()


def calibration_sets(calibration: Mapping[str, Any]) -> tuple[CalibrationSet, ...]:
    """Return the scenes that a provenance's ``calibration`` names.

    Raises:
        QvggtError: it does not have the form that this module describes.
    """
    try:
        return tuple(
            CalibrationSet(str(part["dataset"]), part.get("split"), tuple(map(str, part.get("scenes") or ())))
            for part in calibration.get("parts", [calibration])
            if "dataset" in part
        )
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise QvggtError(
            f"the recipe's calibration data is damaged ({error}): quantize again to evaluate it"
        ) from error


def check_split(dataset: str, split: str) -> None:
    """Raise QvggtError if a split is kept for calibration or training."""
    reason = RESERVED.get(dataset, {}).get(split)
    if reason is not None:
        raise QvggtError(
            f"the {dataset} split {split!r} {reason}, so figures on it are not valid: evaluate on another split "
            "(--split)"
        )


def check_disjoint(
    model: str, calibration: Mapping[str, Any], dataset: str, split: str, scenes: Collection[str]
) -> None:
    """Raise QvggtError if a model was calibrated on scenes that it is to be evaluated on.

    Args:
        model: its name, for the error.
        calibration: of the model's provenance.
        dataset: name of the dataset's reader.
        split: the split to evaluate.
        scenes: names of the sequences to evaluate; a name means the same in every split.
    """
    for seen in calibration_sets(calibration):
        if seen.dataset != dataset:
            continue
        if not seen.scenes and seen.split in (None, split):
            raise QvggtError(
                f"{model} was calibrated on {dataset}, split {split!r}, so figures on it would flatter the model: "
                "evaluate on another split (--split)"
            )
        shared = sorted(set(seen.scenes) & set(scenes))
        if shared:
            raise QvggtError(
                f"{model} was calibrated on {len(shared)} of the scenes of {dataset}, split {split!r} "
                f"({shared[0]!r} for one), so figures on them would flatter the model: evaluate on other scenes"
            )
