"""Procedural rooms with exact geometry: images, depth, cameras and measured overlap, all drawn from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from qvggt.data.rooms.degrade import degrade_images
from qvggt.data.rooms.draw import draw_room
from qvggt.data.rooms.overlap import place_cameras
from qvggt.data.rooms.pack import pack_rooms
from qvggt.data.rooms.paths import PathDrawer
from qvggt.data.rooms.render import render
from qvggt.data.rooms.scene import RoomFamily
from qvggt.options.messages import did_you_mean
from qvggt.types import QvggtError, Scene

__all__ = [
    "MOST_FRAMES", "SPLITS", "RoomBatch", "RoomFamily", "RoomSplit", "check_frames", "choose_rooms", "load_rooms",
    "render_rooms", "room_scene",
]  # fmt: skip

MOST_FRAMES = 1000
"""Most frames of a room, on one path of its camera."""


@dataclass(frozen=True)
class RoomBatch:
    """B rooms seen by S cameras each, as tensors on one device.

    Attributes:
        images: [B, S, 3, H, W] float32 in 0..1.
        depth: [B, S, H, W] float32, meters along the optical axis, of the ray of each pixel.
        valid: [B, S, H, W] bool, where depth is known: everywhere, as a room has no holes.
        cam_from_world: [B, S, 3, 4] float32, OpenCV axes, in room coordinates (z up, origin in the floor's middle).
        intrinsics: [B, S, 3, 3] float32 in pixels, principal point at (W / 2, H / 2).
        overlap: [B, S, S] float32, share of frame i's pixels whose points frame j sees too.
    """

    images: Tensor
    depth: Tensor
    valid: Tensor
    cam_from_world: Tensor
    intrinsics: Tensor
    overlap: Tensor


@torch.no_grad()
def render_rooms(
    seeds: Sequence[int],
    frames: int,
    image_hw: tuple[int, int],
    family: RoomFamily = RoomFamily(),  # noqa: B008  frozen
    device: str | torch.device = "cpu",
    samples: int = 1,
) -> RoomBatch:
    """Render one room for each seed.

    A room depends on its seed, the number of frames, the size and the family only, never on the other seeds.

    Args:
        seeds: one a room, each in 0..2**63-1.
        frames: images of each room.
        image_hw: height and width in pixels.
        family: the distribution that rooms are drawn from.
        device: where to render and where the tensors are.
        samples: samples * samples rays are averaged for the color of a pixel; depth always is of its own ray.

    Raises:
        ValueError: no seeds, frames or pixels, or a seed out of range.
    """
    if not len(seeds) or frames < 1 or min(image_hw) < 2 or samples < 1:
        raise ValueError(
            f"expected seeds, frames >= 1, image sides >= 2 and samples >= 1, got {len(seeds)} seeds, "
            f"{frames} frames, size {image_hw}, samples {samples}"
        )
    place = torch.device(device)
    seeds = [int(seed) for seed in seeds]
    rooms = [draw_room(seed, family) for seed in seeds]
    packed = pack_rooms(rooms, place)
    drawers = [PathDrawer(seed, room, frames, family) for seed, room in zip(seeds, rooms, strict=True)]
    cameras, lenses, overlap = place_cameras(rooms, packed, drawers, image_hw, min_overlap=family.min_overlap)
    cam_from_world, intrinsics, shared = (
        torch.from_numpy(array).to(place, torch.float32) for array in (cameras, lenses, overlap)
    )
    images, depth = render(packed, (cam_from_world, intrinsics), image_hw, samples)
    if family.degrade:
        images = torch.stack([degrade_images(pictures, seed) for pictures, seed in zip(images, seeds, strict=True)])
    valid = torch.ones_like(depth, dtype=torch.bool)
    return RoomBatch(images, depth, valid, cam_from_world, intrinsics=intrinsics, overlap=shared)


def room_scene(
    seed: int,
    frames: int,
    image_hw: tuple[int, int],
    family: RoomFamily = RoomFamily(),  # noqa: B008  frozen
    name: str | None = None,
) -> Scene:
    """Return the room of a seed as a Scene, rendered on the CPU; see ``render_rooms`` for arguments and errors."""
    batch = render_rooms([seed], frames, image_hw, family)
    return Scene(
        name=name or f"room-{seed}",
        images=batch.images[0].numpy(),
        cam_from_world=batch.cam_from_world[0].numpy().astype("float64"),
        intrinsics=batch.intrinsics[0].numpy().astype("float64"),
        depth=batch.depth[0].numpy(),
        valid=batch.valid[0].numpy(),
        group="rooms",
    )


@dataclass(frozen=True)
class RoomSplit:
    """Seeds and family of one part of the data.

    Attributes:
        family: the distribution of its rooms.
        first_seed: its seeds are ``first_seed .. first_seed + scenes - 1``.
        scenes: number of rooms.
        frames: images of each room.
    """

    family: RoomFamily
    first_seed: int
    scenes: int
    frames: int = 8

    @property
    def seeds(self) -> range:
        """The seeds of the split."""
        return range(self.first_seed, self.first_seed + self.scenes)


_MAIN = RoomFamily()
SPLITS: Mapping[str, RoomSplit] = MappingProxyType(
    {
        "calib": RoomSplit(_MAIN, 1_000_000, 512),
        "val": RoomSplit(_MAIN, 2_000_000, 64),
        "test": RoomSplit(_MAIN, 3_000_000, 256),
        "test-landmarks0": RoomSplit(replace(_MAIN, landmarks=0.0), 4_000_000, 256),
        "real-like": RoomSplit(replace(_MAIN, degrade=True), 5_000_000, 256),
        "wide": RoomSplit(replace(_MAIN, baseline=2.0, min_overlap=0.15), 6_000_000, 256),
        "train": RoomSplit(_MAIN, 2**32, 2**60),
    }
)
"""The parts of the data; their seeds are disjoint, and ``train`` never ends."""


def load_rooms(
    split: str,
    image_hw: tuple[int, int],
    scenes: int | None = None,
    frames: int | None = None,
    landmarks: float | None = None,
) -> Iterator[Scene]:
    """Yield the rooms of a split in order.

    Args:
        split: a key of SPLITS.
        image_hw: height and width in pixels.
        scenes: number of rooms, from the first on; None for all.
        frames: images of each room, in place of the split's own number.
        landmarks: 0..1 in place of the family's own value.

    Raises:
        QvggtError: there is no such split, or it has fewer scenes.
    """
    part = choose_rooms(split, scenes, frames, landmarks)
    return (
        room_scene(seed, part.frames, image_hw, part.family, name=f"{split}/{seed - part.first_seed:05d}")
        for seed in part.seeds
    )


def check_frames(frames: int | None) -> None:
    """Raise QvggtError unless a room can have this number of frames; None stands for the split's own number."""
    if frames is not None and not 1 <= frames <= MOST_FRAMES:
        raise QvggtError(f"a room has 1 to {MOST_FRAMES} frames, not {frames} (--frames, --calib-frames)")


def choose_rooms(
    split: str, scenes: int | None = None, frames: int | None = None, landmarks: float | None = None
) -> RoomSplit:
    """Return a split, or a part of it; arguments and errors are those of ``load_rooms``."""
    if split not in SPLITS:
        nearest = did_you_mean(split, SPLITS)
        raise QvggtError(f"there is no rooms split {split!r}: choose one of {', '.join(SPLITS)}{nearest}")
    part = SPLITS[split]
    if scenes is not None and not 1 <= scenes <= part.scenes:
        raise QvggtError(
            f"the rooms split {split!r} has {part.scenes} scenes, not {scenes}: ask for 1 or more, at most that many "
            "(--scenes)"
        )
    check_frames(frames)
    if landmarks is not None and not 0.0 <= landmarks <= 1.0:
        raise QvggtError(f"the landmarks of rooms must lie in 0..1, not at {landmarks} (--landmarks)")
    return RoomSplit(
        part.family if landmarks is None else replace(part.family, landmarks=landmarks),
        part.first_seed,
        part.scenes if scenes is None else scenes,
        part.frames if frames is None else frames,
    )
