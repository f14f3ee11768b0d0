"""Write rooms as files that other programs can read: images, COLMAP cameras and depth, one folder per scene.

FOLDER/index.json                   options and seeds of the rooms, and the conventions of all files
FOLDER/<scene>/images/000.png, …    8-bit RGB, or .jpg, marked as rendered
FOLDER/<scene>/depth/000.npy, …     float32 [H, W], meters along the optical axis, exact
FOLDER/<scene>/depth_mm/000.png, …  the same rounded to millimeters, 16-bit
FOLDER/<scene>/sparse/0/*.txt       COLMAP text model: cameras, images, and points to start from
FOLDER/<scene>/cameras.json         the same cameras as matrices, and the measured overlap

A scene's folder gets its name when it is complete, so that an interrupted run can be resumed. ``ImageFolder`` reads
these folders.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from qvggt import geometry
from qvggt.data.rooms.family import RoomBatch, RoomSplit, render_rooms
from qvggt.files import check_space, finish_folder, make_folder, new_folder, write_json
from qvggt.files.read import read_json, reading
from qvggt.images.rendered import save_rendered
from qvggt.types import OnProgress, PathLike, QvggtError
from qvggt.version import __version__

INDEX = "index.json"
FORMAT, VERSION = "qvggt-rooms", 1
POINTS = 4096
"""Largest number of points in ``points3D.txt``."""

_MOST_SCENES = 1_000_000
_PIXEL_BYTES = 4
"""Least bytes of a pixel on the disk: those of its exact depth."""
_SCENE = re.compile(r"[\w. -]{1,200}-[0-9]{5,7}")

CONVENTIONS = (
    "cam_from_world = [R|t] takes world points to camera coordinates, x_cam = R x_world + t, with OpenCV axes "
    "(x right, y down, z forward); the world's z points up, its origin is the middle of the floor, and lengths are "
    "meters. Intrinsics in cameras.json and in sparse/0 are in pixels with the center of the top left pixel at "
    "(0.5, 0.5), as COLMAP has it; subtract 0.5 from cx and cy where that center is (0, 0). Depth is measured along "
    "the optical axis through the center of each pixel: depth/*.npy is float32 meters, depth_mm/*.png is the same in "
    "millimeters. overlap[i][j] is the share of what frame i sees that frame j sees too."
)


@dataclass(frozen=True)
class Pictures:
    """How rooms are rendered to files.

    Attributes:
        image_hw: height and width in pixels.
        samples: samples * samples rays are averaged for the color of a pixel.
        jpeg_quality: 1..95 for JPEG images; None for lossless PNG.
    """

    image_hw: tuple[int, int] = (518, 518)
    samples: int = 1
    jpeg_quality: int | None = None

    def __post_init__(self) -> None:
        if min(self.image_hw) < 8 or max(self.image_hw) > 8192:
            raise QvggtError(f"the sides of an image must lie in 8 to 8192 pixels, not {self.image_hw} (--size)")
        if not 1 <= self.samples <= 8:
            raise QvggtError(f"the samples along a pixel's side must lie in 1 to 8, not {self.samples} (--samples)")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 95:
            raise QvggtError(f"the quality of a JPEG must lie in 1 to 95, not {self.jpeg_quality} (--jpeg)")


@dataclass(frozen=True)
class Written:
    """Numbers of scenes that ``write_rooms`` rendered, and that were complete before."""

    rendered: int
    kept: int


def write_rooms(
    folder: PathLike,
    part: RoomSplit,
    pictures: Pictures = Pictures(),
    name: str = "room",
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> Written:
    """Render rooms into a folder, or resume an earlier run with the same options.

    Args:
        folder: the output folder; it is made if it is missing.
        part: seeds, frames and family, e.g. ``SPLITS["test"]``.
        pictures: size, samples and file format.
        name: prefix of the scenes' names: ``test`` gives ``test-00000``.
        overwrite: whether rooms of other options in the folder are removed first.
        on_progress: called with the scene's name and the share of scenes done.

    Raises:
        QvggtError: the folder holds other rooms, or other files; there are too many scenes, or a seed is out of range.
    """
    if part.scenes > _MOST_SCENES:
        raise QvggtError(f"{part.scenes} scenes are too many to write: choose at most {_MOST_SCENES} (--scenes)")
    if not 0 <= part.first_seed < 2**63 - part.scenes:
        raise QvggtError(f"a seed must lie in 0..2**63-1, not at {part.first_seed}: choose another (--seed)")
    folder = Path(folder)
    index = _index(part, pictures, name)
    missing = sum(not (folder / f"{name}-{number:05d}").is_dir() for number in range(part.scenes))
    check_space(folder, missing * part.frames * math.prod(pictures.image_hw) * _PIXEL_BYTES)
    _prepare(folder, index, overwrite)
    scenes = [(f"{name}-{number:05d}", seed) for number, seed in enumerate(part.seeds)]
    rendered = 0
    for count, (scene, seed) in enumerate(scenes):
        if on_progress is not None:
            on_progress(scene, count / len(scenes))
        if (folder / scene).is_dir():
            finish_folder(folder / scene)
        else:
            batch = render_rooms([seed], part.frames, pictures.image_hw, part.family, samples=pictures.samples)
            with new_folder(folder / scene, ()) as temporary:
                _write_scene(temporary, batch, seed, pictures)
            rendered += 1
    return Written(rendered, len(scenes) - rendered)


def _index(part: RoomSplit, pictures: Pictures, name: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "made_by": f"qvggt {__version__}",
        "conventions": CONVENTIONS,
        "name": name,
        "first_seed": part.first_seed,
        "frames": part.frames,
        "height_px": pictures.image_hw[0],
        "width_px": pictures.image_hw[1],
        "samples": pictures.samples,
        "jpeg_quality": pictures.jpeg_quality,
        "family": json.loads(json.dumps(asdict(part.family))),
        "scenes": [{"name": f"{name}-{number:05d}", "seed": seed} for number, seed in enumerate(part.seeds)],
    }


def _prepare(folder: Path, index: dict[str, Any], overwrite: bool) -> None:
    """Write the index into the folder, and remove scenes of other rooms."""
    path = folder / INDEX
    if path.is_file():
        old = _read_index(path)
        if _identity(old) != _identity(index):
            if not overwrite:
                raise QvggtError(
                    f"{folder} holds rooms of other options: choose another folder, or allow overwriting (--overwrite)"
                )
            _remove_scenes(folder, old)
        elif len(old["scenes"]) > len(index["scenes"]):
            return  # an earlier run asked for more scenes: keep its index
    elif folder.is_dir() and any(folder.iterdir()):
        raise QvggtError(f"{folder} holds other files: choose another folder")
    make_folder(folder)
    write_json(path, index)


def _read_index(path: Path) -> dict[str, Any]:
    remedy = "remove it, or choose another folder"
    index = read_json(path, remedy, "the index of rooms")
    with reading(path, remedy, "the index of rooms"):
        if index["format"] != FORMAT:
            raise ValueError("not an index of rooms")
        for scene in index["scenes"]:
            if not _SCENE.fullmatch(scene["name"]):
                raise ValueError(f"a scene named {scene['name']!r:.60}")
        return index


def _identity(index: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in index.items() if key not in ("scenes", "made_by", "conventions")}


def _remove_scenes(folder: Path, index: dict[str, Any]) -> None:
    for scene in index["scenes"]:
        if (folder / scene["name"] / "cameras.json").is_file():
            shutil.rmtree(folder / scene["name"])


def _write_scene(folder: Path, batch: RoomBatch, seed: int, pictures: Pictures) -> None:
    for name in ("images", "depth", "depth_mm", "sparse/0"):
        (folder / name).mkdir(parents=True)
    images = (batch.images[0].permute(0, 2, 3, 1).numpy() * 255 + 0.5).astype(np.uint8)  # [S, H, W, 3]
    depth = batch.depth[0].numpy()
    ending = ".png" if pictures.jpeg_quality is None else ".jpg"
    names = [f"{frame:03d}{ending}" for frame in range(len(images))]
    for frame, name in enumerate(names):
        stem = Path(name).stem
        save_rendered(Image.fromarray(images[frame]), folder / "images" / name, pictures.jpeg_quality)
        np.save(folder / "depth" / f"{stem}.npy", depth[frame])
        millimeters = np.clip(np.rint(depth[frame] * 1000), 1, 65534).astype(np.uint16)
        Image.fromarray(millimeters).save(folder / "depth_mm" / f"{stem}.png")
    cameras = batch.cam_from_world[0].double()
    intrinsics = batch.intrinsics[0].double().numpy().copy()
    intrinsics[:, :2, 2] += 0.5  # from a first pixel centerd at (0, 0) to one at (0.5, 0.5)
    _write_cameras(folder / "cameras.json", names, (cameras, intrinsics), batch.overlap[0], seed=seed)
    _write_colmap(folder / "sparse" / "0", names, (cameras, intrinsics), pictures.image_hw)
    points = geometry.unproject(batch.depth[0], batch.intrinsics[0], batch.cam_from_world[0]).reshape(-1, 3).numpy()
    _write_points(folder / "sparse" / "0" / "points3D.txt", points, images.reshape(-1, 3))


def _write_cameras(
    path: Path, names: list[str], cameras: tuple[torch.Tensor, np.ndarray], overlap: torch.Tensor, seed: int
) -> None:
    frames = [
        {"name": name, "cam_from_world": pose.tolist(), "intrinsics": lens.tolist()}
        for name, pose, lens in zip(names, *cameras, strict=True)
    ]
    write_json(path, {"seed": seed, "frames": frames, "overlap": overlap.tolist()})


def _write_colmap(
    folder: Path, names: list[str], cameras: tuple[torch.Tensor, np.ndarray], image_hw: tuple[int, int]
) -> None:
    poses, intrinsics = cameras
    lens = intrinsics[0]  # the same for all frames of a scene
    numbers = " ".join(repr(float(lens[at])) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
    (folder / "cameras.txt").write_text(
        f"# CAMERA_ID MODEL WIDTH HEIGHT fx fy cx cy\n1 PINHOLE {image_hw[1]} {image_hw[0]} {numbers}\n",
        encoding="utf-8", newline="\n",
    )  # fmt: skip
    lines = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of observations, which is empty"]
    quaternions = geometry.matrix_to_quaternion(poses[:, :, :3])
    for number, name in enumerate(names, 1):
        x, y, z, w = quaternions[number - 1].tolist()
        pose = " ".join(map(repr, (w, x, y, z, *poses[number - 1, :, 3].tolist())))
        lines += [f"{number} {pose} 1 {name}", ""]
    (folder / "images.txt").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _write_points(path: Path, points: np.ndarray, colors: np.ndarray) -> None:
    """Write evenly picked points, from which other programs initialize a reconstruction."""
    picked = np.linspace(0, len(points) - 1, min(len(points), POINTS)).astype(np.int64)
    lines = ["# POINT3D_ID X Y Z R G B ERROR, without tracks"]
    for number, index in enumerate(picked, 1):
        x, y, z = points[index]
        r, g, b = colors[index]
        lines.append(f"{number} {x:.5f} {y:.5f} {z:.5f} {r} {g} {b} 0")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
