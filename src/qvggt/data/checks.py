"""Checks of names and numbers from dataset files before they become paths, cameras or a `Scene`."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

import numpy as np

from qvggt.types import PathLike, QvggtError

_LONGEST_PART = 255  # bytes of a file's name on all common file systems
_OTHERS = "download its camera files again, or choose other frames"
_ORTHONORMAL = 1e-2  # largest element of R^T R - I; text files round rotations to a few digits


def check_name(name: object, source: PathLike, remedy: str = "download it again") -> str:
    """Return a name that a dataset file gives to a file or folder, relative to the dataset's own folder.

    Args:
        name: as read.
        source: the file that it was read from, for the error.
        remedy: how to fix that file.

    Raises:
        QvggtError: it is not text, is empty, absolute or too long, leads out of the folder, or has characters that no
            file name has.
    """
    reason = _name_fault(name)
    if reason:
        text = name if isinstance(name, str) else type(name).__name__
        text = text if len(text) <= 60 else f"{text[:57]}..."
        raise QvggtError(f"{source} names a file {text!r} that {reason}: {remedy}")
    return str(name)


def _name_fault(name: object) -> str:
    if not isinstance(name, str) or not name:
        return "is not text"
    if any(ord(c) < 32 or 0xD800 <= ord(c) < 0xDC80 or 0xDCFF < ord(c) <= 0xDFFF for c in name):
        return "has characters that no file name has"  # surrogates in between stand for bytes that are not text
    path = PurePosixPath(name)
    if path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts:
        return "leads out of the dataset's folder"
    if any(len(part.encode("utf-8", "surrogateescape")) > _LONGEST_PART for part in path.parts):
        return f"is longer than {_LONGEST_PART} bytes"
    return ""


def check_size(width: int, height: int, source: PathLike, remedy: str = "download it again") -> tuple[int, int]:
    """Return the size of an image if both numbers are above 0, else raise QvggtError."""
    if width <= 0 or height <= 0:
        raise QvggtError(f"{source} gives an image the size {width}x{height}, not above 0: {remedy}")
    return width, height


def check_frame(
    scene: str,
    frame: str,
    cam_from_world: np.ndarray | None,
    intrinsics: np.ndarray | None,
    remedy: str = _OTHERS,
) -> None:
    """Raise QvggtError unless a frame's camera is a pinhole camera at some place in space.

    Args:
        scene: name of the scene, for the error.
        frame: name of the frame, for the error.
        cam_from_world: [3, 4], finite, its rotation orthonormal with determinant +1; None if unknown.
        intrinsics: [3, 3], see ``check_intrinsics``; None if unknown.
        remedy: how to fix it.
    """
    name = f"frame {frame} of {scene}"
    if intrinsics is not None:
        check_intrinsics(intrinsics, name, remedy)
    if cam_from_world is not None:
        rotation = cam_from_world[:, :3]
        if not np.isfinite(cam_from_world).all():
            raise QvggtError(f"{name} has a pose that is not finite: {remedy}")
        with np.errstate(over="ignore", invalid="ignore"):
            error = np.abs(rotation.T @ rotation - np.eye(3)).max()
        if not error <= _ORTHONORMAL or np.linalg.det(rotation) < 0:
            raise QvggtError(f"{name} has a rotation that is not orthonormal with determinant +1: {remedy}")


def check_intrinsics(intrinsics: np.ndarray, name: str, remedy: str = _OTHERS) -> np.ndarray:
    """Return intrinsics [3, 3] if they are finite, with focal lengths above 0 and (0, 0, 1) as their last row.

    Raises:
        QvggtError: they are not.
    """
    if not np.isfinite(intrinsics).all():
        raise QvggtError(f"{name} has intrinsics that are not finite: {remedy}")
    focal = intrinsics[0, 0], intrinsics[1, 1]
    if min(focal) <= 0 or intrinsics[2].tolist() != [0, 0, 1]:
        raise QvggtError(
            f"{name} has intrinsics that no pinhole camera has (focal lengths {focal[0]:g} and {focal[1]:g}): {remedy}"
        )
    return intrinsics
