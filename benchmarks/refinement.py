"""What refinement does to wrong cameras: errors before and after, on rooms rendered at 518 px (into --folder, once).

The cameras are a model's (--model), or exact ones that are disturbed as a 4-bit VGGT's are: each is turned, and moved
in proportion to its distance from the first, by 0.5 to 5 degrees (one level a room); focal lengths are off by 1 to 5 %,
depth maps by 5 % each.

python benchmarks/refinement.py [--model MODEL] [--rooms N] [--first N] [--frames N] [--split NAME] [--seed N]
    [--distortion K] [--hold-focal] [--json FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

import qvggt
from qvggt import geometry
from qvggt.data.rooms.export import Pictures, write_rooms
from qvggt.data.rooms.family import choose_rooms
from qvggt.options import RefineOptions
from qvggt.postprocess.frames import camera_centers
from qvggt.postprocess.refine.refinement import refine_prediction
from qvggt.postprocess.refine.tracks import Tracks
from qvggt.postprocess.refine.views import Views
from qvggt.postprocess.robust import align_cameras
from qvggt.types import FrameMap, Prediction

SIZE = 518
LEVELS_DEG = (0.5, 1.0, 2.0, 5.0)
NAMES = ("rotation_deg", "direction_deg", "focal_percent", "depth_percent")


@dataclass(frozen=True)
class Room:
    """Photographs of a room with exact cameras [S, 3, 4], intrinsics [S, 3, 3] and depth [S, H, W]."""

    photographs: list[Image.Image]
    cameras: np.ndarray
    intrinsics: np.ndarray
    depth: np.ndarray


def main() -> None:
    """Print a table, one line for each range of disturbances."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="refine its predictions, not disturbed cameras")
    parser.add_argument("--rooms", type=int, default=64)
    parser.add_argument("--first", type=int, default=0, help="number of the split's first room")
    parser.add_argument("--frames", type=int, default=8, help="the first N of a room's 8")
    parser.add_argument("--split", default="test", help="see docs/rooms.md")
    parser.add_argument("--seed", type=int, default=1000, help="of the disturbances")
    parser.add_argument("--folder", type=Path, default=Path("out/refinement-rooms"))
    parser.add_argument("--distortion", type=float, default=0.0, help="bend the photographs: r becomes r (1 + K r^2)")
    parser.add_argument("--json", type=Path, help="also write every room's figures")
    parser.add_argument("--hold-focal", action="store_true", help="focal lengths are exact, and held")
    chosen = parser.parse_args()
    part = choose_rooms(chosen.split, chosen.first + chosen.rooms)
    write_rooms(chosen.folder / chosen.split, part, Pictures((SIZE, SIZE), samples=2), chosen.split)
    options = RefineOptions(hold_focal=chosen.hold_focal)
    model = None if chosen.model is None else qvggt.load(chosen.model)
    rows = []
    for index in range(chosen.first, chosen.first + chosen.rooms):
        room = read_room(chosen.folder / chosen.split / f"{chosen.split}-{index:05d}", chosen.frames)
        if chosen.distortion:
            room = bent(room, chosen.distortion)
        prediction, level = disturbed(room, chosen.seed + index, options.hold_focal)
        if model is not None:
            prediction, level = qvggt.reconstruct(model, room.photographs), None
        rows.append({"room": index, "level_deg": level, **measured(room, prediction, options)})
        print(json.dumps(rows[-1]), flush=True)
    print_table(rows)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(rows, indent=1))


def read_room(folder: Path, frames: int) -> Room:
    """Return the first frames of a rendered room, in the first camera's world."""
    listed = json.loads((folder / "cameras.json").read_text())["frames"][:frames]
    cameras = torch.tensor([frame["cam_from_world"] for frame in listed], dtype=torch.float64)[:, :3]
    cameras = geometry.compose_cameras(cameras, geometry.invert_camera(cameras[:1]))
    return Room(
        [Image.open(folder / "images" / frame["name"]).convert("RGB") for frame in listed],
        cameras.numpy(),
        np.array([frame["intrinsics"] for frame in listed]),
        np.stack([np.load(folder / "depth" / f"{Path(frame['name']).stem}.npy") for frame in listed]),
    )


def bent(room: Room, radial: float) -> Room:
    """Return the room with distorted photographs, and the intrinsics of the pinholes that see them most alike."""
    count, focal = len(room.cameras), room.intrinsics[:, (0, 1), (0, 1)]
    center = np.full((count, 2), SIZE / 2)
    lenses = Views(room.cameras, focal, center, np.full(count, radial))
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    xy = np.column_stack((columns.ravel(), rows.ravel()))
    pixels = Tracks(np.arange(len(xy)), np.zeros(len(xy), np.int64), xy, len(xy))
    column, row = ((lenses.rays(pixels) * focal[0] + center[0]).T - 0.5).reshape(2, SIZE, SIZE)
    pictures = []
    for photograph in room.photographs:
        channels = np.asarray(photograph, np.float32).transpose(2, 0, 1)
        seen = [map_coordinates(each, (row, column), order=1, mode="nearest") for each in channels]
        pictures.append(Image.fromarray(np.rint(np.stack(seen, -1)).astype(np.uint8)))
    intrinsics = room.intrinsics.copy()
    intrinsics[:, (0, 1), (0, 1)] = lenses.pinholes().focal
    return replace(room, photographs=pictures, intrinsics=intrinsics)


def disturbed(room: Room, seed: int, known_focal: bool) -> tuple[Prediction, float]:
    """Return the prediction of an imperfect model, and the level of its disturbance in degrees."""
    rng = np.random.default_rng(seed)
    level = float(np.exp(rng.uniform(np.log(LEVELS_DEG[0]), np.log(LEVELS_DEG[-1]))))
    count = len(room.cameras)
    cameras, centers = room.cameras.copy(), camera_centers(room.cameras)
    for index in range(1, count):
        turn = Rotation.from_rotvec(_direction(rng) * np.radians(level) * abs(rng.normal(1, 0.3))).as_matrix()
        shift = _direction(rng) * np.tan(np.radians(level)) * abs(rng.normal(1, 0.3))
        center = centers[index] + shift * np.linalg.norm(centers[index] - centers[0])
        rotation = turn @ room.cameras[index, :, :3]
        cameras[index] = np.column_stack((rotation, -rotation @ center))
    intrinsics, bias = room.intrinsics.copy(), 1 + rng.uniform(0.01, 0.05) * rng.choice([-1, 1])
    if not known_focal:
        intrinsics[:, (0, 1), (0, 1)] *= bias * (1 + 0.005 * rng.normal(size=(count, 1)))
    depth = (room.depth * np.exp(0.05 * rng.normal(size=(count, 1, 1)))).astype(np.float32)
    moved, lenses = torch.from_numpy(cameras).float(), torch.from_numpy(intrinsics).float()
    images = np.stack([np.asarray(each, np.float32).transpose(2, 0, 1) / 255 for each in room.photographs])
    prediction = Prediction(
        images=images,
        names=tuple(f"{index:03d}.png" for index in range(count)),
        maps=(FrameMap((SIZE, SIZE), (1.0, 1.0), (0.0, 0.0)),) * count,
        cam_from_world=moved.numpy(),
        intrinsics=lenses.numpy(),
        pose_enc=geometry.cameras_to_pose_encoding(moved, lenses, (SIZE, SIZE)).numpy(),
        depth=depth,
        depth_conf=np.ones_like(depth),
        world_points=geometry.unproject_frames(torch.from_numpy(depth), lenses, moved).numpy(),
        world_points_conf=np.ones_like(depth),
    )
    return prediction, level


def measured(room: Room, prediction: Prediction, options: RefineOptions) -> dict[str, object]:
    """Return the errors of a prediction of a room before and after refinement."""
    result = refine_prediction(prediction, room.photographs, options)
    report = result.report
    return {
        "before": dict(zip(NAMES, errors(prediction, room), strict=True)),
        "after": dict(zip(NAMES, errors(result.prediction, room), strict=True)),
        "kept": report.kept,
        "frames": sum(frame.refined for frame in report.frames),
        "tracks": report.tracks + report.held_out_tracks,
        "held_out_px": [report.error_before_px, report.error_after_px],
    }


def errors(prediction: Prediction, room: Room) -> tuple[float, float, float, float]:
    """Return mean errors: rotation and direction over pairs of frames (degrees), focal length and depth (percent).

    Depth is compared in the scale that the cameras determine.
    """
    assert prediction.cam_from_world is not None
    assert prediction.intrinsics is not None
    assert prediction.depth is not None
    found, true = prediction.cam_from_world.astype(np.float64), room.cameras
    rotations, directions = [], []
    for i, j in itertools.combinations(range(len(true)), 2):
        (turn, shift), (true_turn, true_shift) = _between(found, i, j), _between(true, i, j)
        rotations.append((np.trace(turn.T @ true_turn) - 1) / 2)
        directions.append(shift @ true_shift / np.linalg.norm(shift) / np.linalg.norm(true_shift))
    angles = [np.degrees(np.arccos(np.clip(part, -1, 1))).mean() for part in (rotations, directions)]
    scale = prediction.maps[0].scale[0]  # rooms are square, so that nothing is cropped
    focal = np.abs(prediction.intrinsics[:, 0, 0] / scale / room.intrinsics[:, 0, 0] - 1).mean()
    aligned = align_cameras(found, true)
    assert aligned is not None
    centers = ((np.arange(prediction.depth.shape[1]) + 0.5) / scale).astype(int)
    ratios = np.median(aligned.scale * prediction.depth / room.depth[:, centers][:, :, centers], axis=(1, 2))
    return float(angles[0]), float(angles[1]), 100 * float(focal), 100 * float(np.abs(ratios - 1).mean())


def print_table(rows: list[dict]) -> None:
    """Print medians before and after, and how many rooms got worse, by level of disturbance and for all."""
    print("| disturbance | rooms | rotation, deg | direction, deg | focal, % | depth scale, % | worse | by > 10 % |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    groups = {"all": rows}
    if rows[0]["level_deg"] is not None:
        for low, high in itertools.pairwise(LEVELS_DEG):
            groups[f"{low} to {high} deg"] = [row for row in rows if low <= row["level_deg"] < high]
    for title, some in groups.items():
        if not some:
            continue
        figures = [
            f"{_median(some, lambda row, n=name: row['before'][n]):.2f} -> "
            f"{_median(some, lambda row, n=name: row['after'][n]):.3f}"
            for name in NAMES
        ]
        worse = [sum(_worst(row) > limit for row in some) for limit in (1.0, 1.1)]
        print(f"| {title} | {len(some)} | {' | '.join(figures)} | {worse[0]} | {worse[1]} |")


def _worst(row: dict) -> float:
    """Return the largest ratio of an error of the cameras after to before, without rounding errors."""
    return max((row["after"][name] / (row["before"][name] + 1e-3)) for name in NAMES[:3])


def _median(rows: list[dict], value: Callable[[dict], float]) -> float:
    return float(np.median([value(row) for row in rows]))


def _between(cameras: np.ndarray, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
    rotation = cameras[j, :, :3] @ cameras[i, :, :3].T
    return rotation, cameras[j, :, 3] - rotation @ cameras[i, :, 3]


def _direction(rng: np.random.Generator) -> np.ndarray:
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


if __name__ == "__main__":
    main()
