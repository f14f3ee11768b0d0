"""What users know about a scene, as options of commands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from qvggt.cli import arguments as given
from qvggt.options import KnownCameras, ScaleOptions, SceneOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

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

    focal: Annotated[
        str | None,
        given.option("PX|FILE", "known focal length: pixels of the photographs, exif, or a COLMAP cameras.txt"),
    ] = None
    poses: Annotated[
        Path | None, given.option("FILE", "known poses: COLMAP images.txt, a TUM trajectory, or cameras.json")
    ] = None
    rig: Annotated[Path | None, given.option("FILE", "JSON file of frames taken by one rig of fixed cameras")] = None
    scale: Scale = ()
    align_world: AlignWorld = ScaleOptions.align_world

    @property
    def cameras(self) -> KnownCameras:
        """The known cameras."""
        return KnownCameras.of(self.focal, self.poses, self.rig)

    @property
    def scaling(self) -> ScaleOptions | None:
        """Where metric scale comes from; None if none is asked for."""
        return ScaleOptions.of(self.scale, self.align_world) if self.scale or self.align_world else None

    @property
    def of_one_scene(self) -> dict[str, bool]:
        """The options that can hold for one scene only, and whether they are given."""
        scale = self.scale not in ((), ("gps",))
        return {"--poses": self.poses is not None, "--rig": self.rig is not None, "--scale (except gps)": scale}

    def of_all_scenes(self, options: SceneOptions) -> SceneOptions:
        """Return options with the values that can hold for many scenes."""
        return replace(options, focal=self.cameras.focal, gps=bool(self.scale), align_world=self.align_world)

    def check(self) -> None:
        """Raise QvggtError if a value has no known form or a file is missing, before the work."""
        from qvggt.files.read import open_regular, reading

        for path in self.cameras.files + (self.scaling.files if self.scaling else ()):
            with reading(path):
                open_regular(path).close()


def say_known(details: Mapping[str, Any]) -> None:
    """Print a line about each known value: what it is from, and how well predictions agree with it."""
    from qvggt.cli.show import count_text, say

    known, scale = details.get("known", {}), details.get("scale")
    if "focal" in known:
        frames, ratio = known["focal"]["frames"], known["focal"]["median_predicted_over_known"]
        say(f"known focal length of {count_text(frames, 'frame')}; the predicted ones were {ratio:.3g} times as long")
    for name in ("poses", "rig"):
        if name in known:
            say(
                f"known {name}; the predicted poses were {known[name]['median_rotation_deg']:.2g} deg and "
                f"{known[name]['median_residual']:.3g} away in the median"
            )
    if scale is not None:
        lost = f"; rejected {', '.join(scale['rejected'])}" if scale["rejected"] else ""
        noun = {"depth": "pixel", "gps": "GPS position"}.get(scale["source"], str(scale["source"]))
        fit = (
            f"residual {scale['median_residual_m']:.3g} m in the median, {scale['worst_residual_m']:.3g} m at most"
            if scale["used"] > 1
            else "a second one would show how well they agree"
        )
        say(f"scale: {scale['meters_per_unit']:.4g} m per unit, from {count_text(scale['used'], noun)}; {fit}{lost}")
