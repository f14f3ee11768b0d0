"""Which scenes a model was calibrated or trained on, so that it is never evaluated on them.

The provenance of a quantized checkpoint says it in ``calibration``, a JSON mapping::

    {"dataset": "rooms", "split": "calib", "scenes": ["calib/00003", "calib/00017"], "seed": 0, ...}

- ``dataset``: the ``name`` of the dataset's reader (``seven_scenes`` for both forms of 7-Scenes);
- ``split``: the split that the scenes are from; absent if it is not known;
- ``scenes``: names of the sequences, as the reader lists them; absent or empty if all of the split may have been used;
- everything else (seed, number of images, ...) is the method's own.

Calibration on several datasets or splits is ``{"parts": [mapping, mapping, ...], ...}``. A mapping without ``dataset``
(a user's own photographs, for example) names nothing that could be evaluated on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from qvggt.types import QvggtError

RESERVED: Mapping[str, Mapping[str, str]] = {
    "rooms": {"calib": "is for calibration", "train": "is what the carried models were trained on"},
}
"""Splits that nothing is ever evaluated on, by dataset, and why."""


@dataclass(frozen=True)
class CalibrationSet:
    """Scenes that a model has seen.

    Attributes:
        dataset: name of the dataset's reader.
        split: their split; None if it is not known.
        scenes: their names; empty if all of the split may have been used.
    """

    dataset: str
    split: str | None = None
    scenes: tuple[str, ...] = ()


def calibration_sets(calibration: Mapping[str, Any]) -> tuple[CalibrationSet, ...]:
    """Return what a provenance's ``calibration`` names; nothing for an empty one.

    Raises:
        QvggtError: it has another form than this module describes.
    """
    try:
        return tuple(
            CalibrationSet(str(part["dataset"]), part.get("split"), tuple(map(str, part.get("scenes") or ())))
            for part in calibration.get("parts", [calibration])
            if "dataset" in part
        )
    except (TypeError, AttributeError) as error:
        raise QvggtError(
            f"the recipe does not say clearly what it was calibrated on ({error}): quantize again to evaluate it"
        ) from error


def check_split(dataset: str, split: str) -> None:
    """Raise QvggtError if a split is kept for calibration or training."""
    reason = RESERVED.get(dataset, {}).get(split)
    if reason is not None:
        raise QvggtError(
            f"the {dataset} split {split!r} {reason}, so figures on it would say nothing: evaluate on another split"
        )


def check_disjoint(
    model: str, calibration: Mapping[str, Any], dataset: str, split: str, scenes: Collection[str]
) -> None:
    """Raise QvggtError if a model was calibrated on what it is to be evaluated on.

    Args:
        model: as it was named, for the error.
        calibration: of the model's provenance.
        dataset: name of the dataset's reader.
        split: that is to be evaluated.
        scenes: names of the sequences that are to be evaluated; a name means the same in every split.
    """
    for seen in calibration_sets(calibration):
        if seen.dataset != dataset:
            continue
        if not seen.scenes and seen.split in (None, split):
            raise QvggtError(
                f"{model} was calibrated on {dataset}, split {split!r}, so figures on it would flatter the model: "
                "evaluate on another split"
            )
        shared = sorted(set(seen.scenes) & set(scenes))
        if shared:
            raise QvggtError(
                f"{model} was calibrated on {len(shared)} of the scenes of {dataset}, split {split!r} "
                f"({shared[0]!r} for one), so figures on them would flatter the model: evaluate on other scenes"
            )
