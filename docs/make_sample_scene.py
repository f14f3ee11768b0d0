"""Makes the sample scene that qvggt carries: eight photographs of a room, and what is true about them.

Run as ``python docs/make_sample_scene.py``. The photographs are those of

    qvggt render rooms -o DIR --seed 7000124 --scenes 1 --size 518 392 --samples 2 --jpeg 92

and ``truth.npz`` is made of the cameras and the depth that are written beside them.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from qvggt.data.rooms.export import Pictures, write_rooms
from qvggt.data.rooms.family import RoomFamily, RoomSplit

SEED = 7_000_124
"""Chosen by eye among a few hundred; no split holds it."""

SAMPLE = Path(__file__).parents[1] / "src" / "qvggt" / "weights" / "pretrained" / "sample"


def main() -> None:
    """Write the photographs and the truth."""
    with tempfile.TemporaryDirectory() as folder:
        part = RoomSplit(RoomFamily(), SEED, scenes=1, frames=8)
        write_rooms(folder, part, Pictures((392, 518), samples=2, jpeg_quality=92))
        scene = Path(folder) / "room-00000"
        SAMPLE.mkdir(parents=True, exist_ok=True)
        for photo in sorted((scene / "images").iterdir()):
            shutil.copyfile(photo, SAMPLE / photo.name)
        np.savez_compressed(SAMPLE / "truth.npz", **truth_of(scene))


def truth_of(scene: Path) -> dict[str, Any]:
    """Return what ``truth.npz`` holds, of a scene that was rendered to files."""
    frames = json.loads((scene / "cameras.json").read_text())["frames"]
    intrinsics = np.array([frame["intrinsics"] for frame in frames])
    intrinsics[:, :2, 2] -= 0.5  # the first pixel's centre is (0, 0), as everywhere in qvggt
    depth_m = np.stack([np.load(path) for path in sorted((scene / "depth").iterdir())])
    return {
        "names": np.array([frame["name"] for frame in frames]),
        "cam_from_world": np.array([frame["cam_from_world"] for frame in frames]),
        "intrinsics": intrinsics,
        "image_hw": np.array(depth_m.shape[1:]),
        "depth_mm": np.rint(depth_m[:, ::2, ::2] * 1000).astype(np.uint16),
    }


if __name__ == "__main__":
    main()
