"""What users know about a scene: lengths, positions, depth, cameras."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from qvggt.options.checks import check_fields
from qvggt.types import PathLike, QvggtError

_METERS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "km": 1000.0, "in": 0.0254, "ft": 0.3048}
_LENGTH = re.compile(rf"([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?) *({'|'.join(_METERS)})")
_PIXEL = re.compile(r"(.+)@([0-9]*\.?[0-9]+),([0-9]*\.?[0-9]+)")
_DEPTH_SUFFIXES = (".png", ".npy")
SCALE_FORMS = "A:B=1.5m, A@x,y:B@x,y=80cm, FRAME=depth.png, positions.csv or gps"


@dataclass(frozen=True)
class Place:
    """A camera's center, or the point of the scene that a pixel of its photograph shows.

    Attributes:
        frame: name of the frame.
        pixel: (x, y) in pixels of the upright photograph, the first pixel's center at (0.5, 0.5); None for the camera.
    """

    frame: str
    pixel: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    def of(cls, text: str) -> Place:
        """Return the place of a text: ``FRAME`` or ``FRAME@x,y``.

        >>> Place.of("a.jpg@640,360.5")
        Place(frame='a.jpg', pixel=(640.0, 360.5))
        """
        found = _PIXEL.fullmatch(text)
        return cls(text) if found is None else cls(found[1], (float(found[2]), float(found[3])))


@dataclass(frozen=True)
class KnownDistance:
    """A known distance between two places.

    Attributes:
        first: one place.
        second: the other one.
        meters: above 0.

    Raises:
        QvggtError: the distance is not a finite number above 0, or the places are the same.
    """

    first: Place
    second: Place
    meters: float

    def __post_init__(self) -> None:
        check_fields(self)
        if not (math.isfinite(self.meters) and self.meters > 0):
            raise QvggtError(f"a known distance must be a finite length above 0, got {self.meters} m (--scale)")
        if self.first == self.second:
            raise QvggtError(f"a distance needs two places, got {self.first.frame!r} twice (--scale)")

    @classmethod
    def of(cls, text: str) -> KnownDistance:
        """Return the distance of a text such as ``a.jpg:b.jpg=1.5m`` or ``a.jpg@10,20:b.jpg@30,40=80cm``.

        Raises:
            QvggtError: the text has another form.
        """
        places, _, length = text.rpartition("=")
        found, ends = _LENGTH.fullmatch(length.strip()), places.split(":")
        if found is None or len(ends) != 2 or not all(ends):
            units = ", ".join(_METERS)
            raise QvggtError(
                f"invalid distance {text!r}: expected two frames and a length in {units}, "
                "e.g. a.jpg:b.jpg=1.5m between cameras or a.jpg@640,360:b.jpg@100,200=80cm between pixels (--scale)"
            )
        return cls(Place.of(ends[0]), Place.of(ends[1]), float(found[1]) * _METERS[found[2]])


@dataclass(frozen=True)
class ScaleOptions:
    """Where metric scale comes from: exactly one kind of source.

    Attributes:
        distances: known distances; several are averaged robustly.
        positions: CSV file of camera positions in meters: name, x, y, z.
        gps: whether to take camera positions from the photographs' EXIF data.
        depths: (frame, file) pairs: depth images of frames, 16-bit PNG in millimeters or NPY in meters.
        align_world: whether to rotate and move the world into the frame of known positions too, for GPS east-north-up;
            otherwise only the scale changes.

    Raises:
        QvggtError: no kind of source is given, or several, or ``align_world`` without positions.
    """

    distances: tuple[KnownDistance, ...] = ()
    positions: PathLike | None = None
    gps: bool = False
    depths: tuple[tuple[str, PathLike], ...] = ()
    align_world: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        kinds = (bool(self.distances), self.positions is not None, self.gps, bool(self.depths))
        if sum(kinds) != 1:
            raise QvggtError(
                f"metric scale needs one kind of source, got {sum(kinds)} (--scale): give distances, depth images, "
                "a file of positions or gps"
            )
        if self.align_world and self.positions is None and not self.gps:
            raise QvggtError("only known camera positions align the world: give a CSV file or gps (--scale)")

    @property
    def files(self) -> tuple[PathLike, ...]:
        """The files that are read."""
        return tuple(file for _, file in self.depths) + (() if self.positions is None else (self.positions,))

    @classmethod
    def of(cls, texts: Sequence[str], align_world: bool = False) -> ScaleOptions:
        """Return the sources that texts name: distances, ``FRAME=FILE`` depth images, a CSV file, or ``gps``.

        Raises:
            QvggtError: a text has none of these forms, or they are of several kinds.
        """
        depths = [text.rpartition("=") for text in texts if "=" in text and text.endswith(_DEPTH_SUFFIXES)]
        distances = [text for text in texts if "=" in text and not text.endswith(_DEPTH_SUFFIXES)]
        files = [text for text in texts if "=" not in text and text != "gps"]
        unknown = [text for text in files if not text.lower().endswith((".csv", ".txt"))]
        if unknown or len(files) > 1:
            raise QvggtError(f"invalid scale {(unknown or files)[-1]!r}: expected {SCALE_FORMS} (--scale)")
        return cls(
            tuple(map(KnownDistance.of, distances)),
            files[0] if files else None,
            gps="gps" in texts,
            depths=tuple((frame, file) for frame, _, file in depths),
            align_world=align_world,
        )


@dataclass(frozen=True)
class KnownCameras:
    """Known cameras, which replace predicted ones.

    Attributes:
        focal: focal length in pixels of the photographs, ``exif``, or a COLMAP camera file (``cameras.txt`` or
            ``.bin``; several cameras need the image file beside it); None if it is not known.
        poses: COLMAP image file, TUM trajectory (``.txt``, ``.tum``) or ``cameras.json`` of this program; None if they
            are not known.
        rig: JSON file of groups of frames that one rig of cameras took; None if there is none.

    Raises:
        QvggtError: the focal length is not above 0, or poses and a rig are given.
    """

    focal: float | PathLike | None = None
    poses: PathLike | None = None
    rig: PathLike | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if isinstance(self.focal, (int, float)) and not (math.isfinite(self.focal) and self.focal > 0):
            raise QvggtError(f"the focal length must be a finite number of pixels above 0, got {self.focal} (--focal)")
        if self.poses is not None and self.rig is not None:
            raise QvggtError("known poses leave nothing for a rig to average: give --poses or --rig")

    @property
    def files(self) -> tuple[PathLike, ...]:
        """The files that are read."""
        focal = None if isinstance(self.focal, (int, float)) or self.focal == "exif" else self.focal
        return tuple(file for file in (focal, self.poses, self.rig) if file is not None)

    @classmethod
    def of(cls, focal: str | None, poses: PathLike | None = None, rig: PathLike | None = None) -> KnownCameras:
        """Return known cameras from command-line values; a focal length may be a number, ``exif`` or a file."""
        try:
            return cls(None if focal is None else float(focal), poses, rig)
        except ValueError:
            return cls(focal, poses, rig)
