"""COLMAP models as COLMAP writes them, text and binary."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

MODEL_IDS = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "RADIAL": 3, "OPENCV": 4, "THIN_PRISM_FISHEYE": 10}

Camera = tuple[int, str, int, int, tuple[float, ...]]  # number, model, width, height, parameters
Image = tuple[int, str, int, np.ndarray, np.ndarray]  # number, name, camera, rotation, translation


def quaternion_wxyz(rotation: np.ndarray) -> list[float]:
    """For rotations of less than 180 degrees."""
    w = np.sqrt(1 + np.trace(rotation)) / 2
    x, y, z = rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]
    return [w, x / (4 * w), y / (4 * w), z / (4 * w)]


def write_text(folder: Path, cameras: list[Camera], images: list[Image]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["# Camera list with one line of data per camera:", "#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for number, model, width, height, params in cameras:
        lines.append(" ".join([str(number), model, str(width), str(height), *map(repr, params)]))
    (folder / "cameras.txt").write_text("\n".join(lines) + "\n")
    lines = ["# Image list with two lines of data per image:"]
    for count, (number, name, camera, rotation, translation) in enumerate(images):
        pose = map(repr, [*map(float, quaternion_wxyz(rotation)), *map(float, translation)])
        lines.append(" ".join([str(number), *pose, str(camera), name]))
        lines.append("12.5 7.25 -1 3.5 4.0 17" if count % 2 else "")  # an image may have no observations
    (folder / "images.txt").write_text("\n".join(lines) + "\n")


def write_binary(folder: Path, cameras: list[Camera], images: list[Image]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = struct.pack("<Q", len(cameras))
    for number, model, width, height, params in cameras:
        content += struct.pack(f"<iiQQ{len(params)}d", number, MODEL_IDS[model], width, height, *params)
    (folder / "cameras.bin").write_bytes(content)
    content = struct.pack("<Q", len(images))
    for count, (number, name, camera, rotation, translation) in enumerate(images):
        content += struct.pack("<i7di", number, *quaternion_wxyz(rotation), *translation, camera)
        content += name.encode() + b"\0" + struct.pack("<Q", count)
        content += struct.pack("<ddq", 12.5, 7.25, -1) * count
    (folder / "images.bin").write_bytes(content)
