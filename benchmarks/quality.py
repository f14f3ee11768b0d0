"""How often faults that are put into rooms are found, and how often faults are found that are not there.

Each room is reconstructed by nano, and by its exact geometry with noise, which stands for a good model.

python benchmarks/quality.py [--rooms N] [--split NAME] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

import qvggt
from qvggt.data.rooms.draw import draw_room
from qvggt.data.rooms.family import SPLITS, room_scene
from qvggt.data.rooms.pack import pack_rooms
from qvggt.data.rooms.render import render
from qvggt.eval.metrics.pose import pose_errors
from qvggt.geometry import invert_camera, unproject_frames
from qvggt.model import VGGT
from qvggt.postprocess.quality import MOST_UNSURE, FindingKind, assess
from qvggt.types import FrameMap, Prediction, Scene

SIZE_HW = (84, 112)
"""Of nano's pictures."""

BLUR_WIDTHS = 0.03
"""Length of the motion blur, as a share of the width."""

SKY_ABOVE_M = 1.1
"""Height above which a room has no walls but a sky."""

DEPTH_NOISE, ROTATION_NOISE_DEG, PLACE_NOISE = 0.02, 0.5, 0.01
"""Standard deviations of a good model's errors: of depth and of places relative to the depth."""

RIGHT_DEG = 10.0
"""Largest rotation error of a pair of cameras in a room that was reconstructed rightly."""

KINDS: tuple[str, ...] = get_args(FindingKind)


@dataclass(frozen=True)
class Case:
    """A room with a fault.

    Attributes:
        scene: with cameras, depth, and sky where ``valid`` is False.
        kinds: kinds of finding that name the fault.
        frames: the frames concerned.
    """

    scene: Scene
    kinds: frozenset[str] = frozenset()
    frames: frozenset[int] = frozenset()


def main() -> None:
    """Print a table for each way to reconstruct."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rooms", type=int, default=128)
    parser.add_argument("--split", default="test", help="split of the rooms")
    parser.add_argument("--json", type=Path, help="also write the counts to this file")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    counts = count_findings(chosen.split, chosen.rooms)
    for name, rows in counts.items():
        print(table(name, rows))
    if chosen.json:
        chosen.json.write_text(json.dumps(counts, indent=2) + "\n")


def count_findings(split: str, rooms: int) -> dict[str, dict[str, dict[str, int]]]:
    """Return for both ways to reconstruct, for each fault, in how many rooms each kind of finding was found."""
    model, counts = qvggt.load("nano"), {}
    for number in range(rooms):
        for fault, case in cases(split, number, rooms).items():
            predictions = {"nano": predicted(model, case.scene), "exact with noise": noisy_truth(case.scene, number)}
            for name, prediction in predictions.items():
                row = fault
                if not case.kinds and name == "nano":
                    row += ", cameras right" if is_right(prediction, case.scene) else ", cameras wrong"
                add(counts.setdefault(name, {}).setdefault(row, {}), prediction, case)
    return counts


def add(row: dict[str, int], prediction: Prediction, case: Case) -> None:
    """Count a room, its kinds of findings, and whether they name exactly the fault's frames."""
    quality = assess(prediction)
    assert quality is not None
    kinds = {finding.kind for finding in quality.findings}
    named = {frame for finding in quality.findings if finding.kind in case.kinds for frame in finding.frames}
    halves = case.kinds == frozenset(("overlap", "misfit", "scene"))
    others = set(range(len(quality.frames))) - case.frames
    events = ["rooms", *kinds, *(["any"] if kinds else []), *(["found"] if kinds & case.kinds else [])]
    if case.kinds and (named == case.frames or (halves and named == others)):
        events.append("exact")
    for event in events:
        row[event] = row.get(event, 0) + 1


def cases(split: str, number: int, rooms: int) -> dict[str, Case]:
    """Return a room of a split without a fault and with each."""
    scene, other = room(split, number), room(split, (number + 17) % max(rooms, 18))
    count = len(scene.images)
    frame, half = int(np.random.default_rng(number).integers(count)), list(range(count // 2, count))
    apart = frozenset(("overlap", "misfit", "scene"))
    found = {
        "none": Case(scene),
        "none, wide": Case(room("wide", number)),
        "none, degraded": Case(room("real-like", number)),
        "a blurred frame": Case(blurred(scene, frame, number), frozenset(("blur",)), frozenset((frame,))),
        "a frame of another room": Case(swapped(scene, other, [frame]), frozenset(("misfit", "overlap")),
                                        frozenset((frame,))),
        "half of another room": Case(swapped(scene, other, half), apart, frozenset(half)),
        "halves that face away": Case(facing_away(scene, split, number, half), apart, frozenset(half)),
        "cameras in one place": Case(turning(scene, split, number), frozenset(("parallax",)),
                                     frozenset(range(count))),
    }  # fmt: skip
    sky = roofless(scene)
    assert sky.valid is not None
    unsure = np.flatnonzero(1 - sky.valid.mean((1, 2)) > MOST_UNSURE)
    if len(unsure):
        found["a sky"] = Case(sky, frozenset(("unsure",)), frozenset(unsure.tolist()))
    return found


def room(split: str, number: int) -> Scene:
    """Return a room of a split."""
    part = SPLITS[split]
    return room_scene(part.first_seed + number, part.frames, SIZE_HW, part.family)


def with_cameras(scene: Scene, split: str, number: int, cam_from_world: np.ndarray) -> Scene:
    """Return the same room seen by other cameras [S, 3, 4]."""
    part = SPLITS[split]
    packed = pack_rooms([draw_room(part.first_seed + number, part.family)], torch.device("cpu"))
    cameras, lenses = (torch.from_numpy(a).float()[None] for a in (cam_from_world, present(scene.intrinsics)))
    images, depth = render(packed, (cameras, lenses), SIZE_HW, 1)
    return replace(scene, images=images[0].numpy(), depth=depth[0].numpy(), cam_from_world=cam_from_world)


def blurred(scene: Scene, frame: int, seed: int) -> Scene:
    """Return a scene with one frame blurred by a motion of ``BLUR_WIDTHS`` in a random direction."""
    angle = np.random.default_rng(seed).uniform(0, np.pi)
    reach = BLUR_WIDTHS * scene.images.shape[3] / 2
    steps = np.linspace(-reach, reach, 9)
    images = scene.images.copy()
    shifts = [(0, step * np.sin(angle), step * np.cos(angle)) for step in steps]
    images[frame] = np.mean([ndimage.shift(images[frame], shift, order=1, mode="nearest") for shift in shifts], 0)
    return replace(scene, images=images)


def swapped(scene: Scene, other: Scene, frames: Sequence[int]) -> Scene:
    """Return a scene some of whose pictures, with their depth, are of another room; cameras stay."""
    images, depth = scene.images.copy(), present(scene.depth).copy()
    images[frames], depth[frames] = other.images[frames], present(other.depth)[frames]
    return replace(scene, images=images, depth=depth)


def facing_away(scene: Scene, split: str, number: int, frames: Sequence[int]) -> Scene:
    """Return a scene some of whose cameras face the opposite direction."""
    cameras = present(scene.cam_from_world).copy()
    about = np.diag((-1.0, -1.0, 1.0))  # half a turn about the vertical; the room has z up
    for frame in frames:
        center = -cameras[frame, :, :3].T @ cameras[frame, :, 3]
        rotation = cameras[frame, :, :3] @ about
        cameras[frame] = np.column_stack((rotation, -rotation @ center))
    return with_cameras(scene, split, number, cameras)


def turning(scene: Scene, split: str, number: int) -> Scene:
    """Return a scene whose cameras turn in the place of the middle one, by 12 degrees a frame and some jitter."""
    cameras = present(scene.cam_from_world).copy()
    rng, count = np.random.default_rng(number), len(cameras)
    middle = cameras[count // 2]
    center = -middle[:, :3].T @ middle[:, 3]
    for frame in range(count):
        angles = (12 * (frame - count // 2) + rng.uniform(-3, 3), rng.uniform(-8, 8))
        rotation = Rotation.from_euler("yx", angles, degrees=True).as_matrix() @ middle[:, :3]
        cameras[frame] = np.column_stack((rotation, -rotation @ center))
    return with_cameras(scene, split, number, cameras)


def roofless(scene: Scene) -> Scene:
    """Return a scene with a sky, brighter toward the horizon, above ``SKY_ABOVE_M``."""
    arrays = [torch.from_numpy(present(values)).double() for values in (scene.depth, scene.intrinsics)]
    cameras = torch.from_numpy(present(scene.cam_from_world)).double()
    points = unproject_frames(arrays[0], arrays[1], cameras).numpy()
    rays = points - invert_camera(cameras)[:, None, None, :, 3].numpy()
    climb = np.clip(rays[..., 2] / np.linalg.norm(rays, axis=-1), -0.3, 1)[:, None]
    sky = np.array([0.75, 0.85, 0.95])[:, None, None] - climb * np.array([0.5, 0.35, 0.1])[:, None, None]
    ground = points[..., 2] <= SKY_ABOVE_M
    images = np.where(ground[:, None], scene.images, sky).astype(np.float32)
    return replace(scene, images=images, valid=ground)


def predicted(model: VGGT, scene: Scene) -> Prediction:
    """Return what nano makes of the images."""
    return qvggt.reconstruct(model, list(np.ascontiguousarray(scene.images.transpose(0, 2, 3, 1))))


def noisy_truth(scene: Scene, seed: int) -> Prediction:
    """Return the exact cameras and depth with the errors of a good model; a sky is far and has confidence 1."""
    rng, depth = np.random.default_rng(seed), present(scene.depth)
    count, height, width = depth.shape
    coarse = rng.standard_normal((count, 5, 6)) * DEPTH_NOISE
    smooth = np.asarray(ndimage.zoom(coarse, (1, height / 5, width / 6), order=3))
    ground = present(scene.valid)
    cameras = present(scene.cam_from_world).copy()
    turns = Rotation.from_rotvec(rng.standard_normal((count, 3)) * np.radians(ROTATION_NOISE_DEG)).as_matrix()
    cameras = turns @ cameras
    cameras[:, :, 3] += rng.standard_normal((count, 3)) * PLACE_NOISE * np.median(depth)
    return Prediction(
        scene.images,
        tuple(f"{index}.png" for index in range(count)),
        (FrameMap((width, height), (1.0, 1.0), (0.0, 0.0)),) * count,
        cam_from_world=cameras.astype(np.float32),
        intrinsics=present(scene.intrinsics).astype(np.float32),
        depth=(np.where(ground, depth, 30 * np.median(depth)) * np.exp(smooth)).astype(np.float32),
        depth_conf=np.where(ground, 6, 1).astype(np.float32),
    )


def is_right(prediction: Prediction, scene: Scene) -> bool:
    """Return whether all pairs of predicted cameras are close to the true ones."""
    errors = pose_errors(present(prediction.cam_from_world), present(scene.cam_from_world))
    return bool(np.nan_to_num(errors.rotation_deg, nan=180.0).max() <= RIGHT_DEG)


def table(name: str, rows: Mapping[str, Mapping[str, int]]) -> str:
    """Return the percentages of rooms, a row for each fault."""

    def percent(row: Mapping[str, int], key: str) -> str:
        return f"{100 * row.get(key, 0) / row['rooms']:.0f}"

    lines = [
        f"| {name}: % of rooms | rooms | found | with its frames | {' | '.join(KINDS)} |",
        "|---|" + "--:|" * (3 + len(KINDS)),
    ]
    for fault, row in rows.items():
        found = [percent(row, key) for key in ("found", "exact")]
        found = [f"any: {percent(row, 'any')}", ""] if fault.startswith("none") else found
        lines.append(f"| {fault} | {row['rooms']} | {' | '.join([*found, *(percent(row, kind) for kind in KINDS)])} |")
    return "\n".join([*lines, ""])


def present(values: np.ndarray | None) -> np.ndarray:
    """Return an array of a scene or a prediction, which has it."""
    assert values is not None
    return values


if __name__ == "__main__":
    main()
