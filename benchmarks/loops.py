"""What closing loops changes: drift and time of nano on rooms of 48 frames whose path returns, or does not.

python benchmarks/loops.py --rooms 16
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

import qvggt
from long_sequences import FRAMES, SIZE_HW, Drift, drifts
from qvggt.data.rooms.family import SPLITS, room_scene
from qvggt.data.rooms.scene import PathKind
from qvggt.options import WindowOptions
from qvggt.types import Scene

WINDOW, CHANGED = 16, 0.02
"""Frames of a window, and the relative change from which on a room counts as better or worse."""


@dataclass(frozen=True)
class Walk:
    """Paths of one kind.

    Attributes:
        name: in the table.
        path: as in ``RoomFamily``.
        returns: whether the camera goes the same way back, seeing it from places between those of the way out.
    """

    name: str
    path: PathKind
    returns: bool


WALKS = (
    Walk("walk, there and back", "walk", returns=True),
    Walk("orbit, there and back", "orbit", returns=True),
    Walk("walk", "walk", returns=False),
    Walk("walk, orbit or wander", "mixed", returns=False),
)


def scene_of(seed: int, walk: Walk) -> Scene:
    """Return a room with the motion and overlap of the split ``wide``, along a path of one kind."""
    scene = room_scene(seed, FRAMES, SIZE_HW, replace(SPLITS["wide"].family, path=walk.path))
    return there_and_back(scene) if walk.returns else scene


def there_and_back(scene: Scene) -> Scene:
    """Return every second frame of a scene, then the others backward."""
    order = [*range(0, len(scene.images), 2), *reversed(range(1, len(scene.images), 2))]
    arrays = {name: getattr(scene, name) for name in ("images", "cam_from_world", "intrinsics", "depth", "valid")}
    return replace(scene, **{name: value[order] for name, value in arrays.items()})


def row(name: str, before: Sequence[Drift], after: Sequence[Drift], seconds: Sequence[float]) -> str:
    """Return a row of the table; ``seconds`` are those without and with closed loops."""
    cells = [str(sum(old != new for old, new in zip(before, after, strict=True)))]
    for field in ("rotation_deg", "translation_percent"):
        old, new = (np.array([getattr(drift, field) for drift in drifts]) for drifts in (before, after))
        better, worse = (new < (1 - CHANGED) * old).sum(), (new > (1 + CHANGED) * old).sum()
        cells += [f"{old.mean():.1f} → {new.mean():.1f}", f"{better}", f"{worse}"]
    return f"| {name} | {' | '.join(cells)} | {seconds[1] / seconds[0]:.2f} |"


def main() -> None:
    """Print the table of docs/long-sequences.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=16)
    parser.add_argument("--first-seed", type=int, default=9_200_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = qvggt.load("nano", device="cpu", compute="float32")
    heads = ("rotation, degrees", "better", "worse", "position, % of the path", "better", "worse", "time")
    print(f"| path | rooms changed | {' | '.join(heads)} |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for walk in WALKS:
        scenes = [scene_of(options.first_seed + index, walk) for index in range(options.rooms)]
        found, clock = [], [time.process_time()]
        for close in (False, True):
            found.append(drifts(model, scenes, WindowOptions(WINDOW, close_loops=close)))
            clock.append(time.process_time())
        print(row(walk.name, *found, seconds=np.diff(clock).tolist()), flush=True)


if __name__ == "__main__":
    main()
