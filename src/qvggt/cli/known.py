"""What users know about a scene, as options of commands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from qvggt.cli import arguments as given
from qvggt.options import ScaleOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qvggt.export.result import ResultInfo
    from qvggt.types import PathLike, Prediction

Scale = Annotated[
    tuple[str, ...],
    given.option(
        "SOURCE",
        "make it metric: A:B=1.5m (cameras of two frames), A@x,y:B@x,y=80cm (pixels), FRAME=depth.png, positions.csv, "
        "or gps (EXIF)",
    ),
]
AlignWorld = Annotated[bool, given.Flag, given.flag("with --scale: rotate and move the world to the known positions")]


@dataclass(frozen=True)
class KnownValues:
    """What is known about the scene."""

    scale: Scale = ()
    align_world: AlignWorld = ScaleOptions.align_world

    def check(self) -> None:
        """Raise QvggtError if a value has no known form, before the work."""
        if self.scale or self.align_world:
            ScaleOptions.of(self.scale, self.align_world)

    def applied(self, prediction: Prediction, info: ResultInfo) -> tuple[Prediction, ResultInfo]:
        """Return a reconstruction that agrees with what is known, and how it came to be."""
        if self.scale:
            sources = ScaleOptions.of(self.scale, self.align_world)
            prediction, info = metric(prediction, info, sources, info.images)
        return prediction, info


def metric(
    prediction: Prediction, info: ResultInfo, scale: ScaleOptions, images: Sequence[PathLike]
) -> tuple[Prediction, ResultInfo]:
    """Return a reconstruction in meters, and how it came to be."""
    from qvggt.api.metric_scale import to_meters

    prediction, details = to_meters(prediction, scale, images)
    return prediction, replace(info, unit="meter", details={**info.details, "scale": details})


def say_scale(details: dict[str, Any]) -> None:
    """Print the scale, what it is from, and how well that agrees."""
    from qvggt.cli.show import count_text, say

    noun = {"depth": "pixel", "gps": "GPS position"}.get(details["source"], str(details["source"]))
    lost = details["rejected"]
    say(
        f"scale: {details['meters_per_unit']:.4g} m per unit, from {count_text(details['used'], noun)}; residual "
        f"{details['median_residual_m']:.3g} m in the median, {details['worst_residual_m']:.3g} m at most"
        + (f"; rejected {', '.join(lost)}" if lost else "")
    )
