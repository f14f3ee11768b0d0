"""The rooms of fixed seeds look as they always did: a model in training counts on it, and so do published figures."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from qvggt.data.rooms.family import SPLITS, RoomFamily, render_rooms

pytestmark = pytest.mark.render


@dataclass(frozen=True)
class Golden:
    """What three frames of 56 x 56 pixels of one seed are."""

    seed: int
    family: RoomFamily
    mean_rgb: tuple[float, ...]
    pixel: tuple[float, ...]
    depth_m: tuple[float, ...]
    camera: tuple[float, ...]
    focal_px: float
    overlap: tuple[float, ...]


GOLDEN = (
    Golden(
        2**32 + 7,
        RoomFamily(),
        (0.64881, 0.541681, 0.419658),
        (0.820573, 0.684768, 0.42388),
        (4.182159, 4.377197, 4.248657),
        (
            *(0.19784, -0.979466, 0.038798, 0.417263, -0.297986, -0.097803),
            *(-0.949547, 1.077119, 0.933843, 0.176297, -0.311217, 1.581734),
        ),
        47.256752,
        (1.0, 0.901042, 0.5625),
    ),
    Golden(
        SPLITS["test-landmarks0"].first_seed,
        SPLITS["test-landmarks0"].family,
        (0.484118, 0.469299, 0.419313),
        (0.655124, 0.56227, 0.384002),
        (5.005768, 5.329102, 5.648315),
        (
            *(0.446278, 0.89343, -0.051182, -1.045469, 0.155572, -0.133778),
            *(-0.978724, 1.326573, -0.881268, 0.428821, -0.198694, 1.725089),
        ),
        37.328461,
        (1.0, 0.963542, 0.90625),
    ),
    Golden(
        SPLITS["wide"].first_seed + 1,
        SPLITS["wide"].family,
        (0.570709, 0.56483, 0.423324),
        (0.523041, 0.543022, 0.314997),
        (4.446014, 3.865723, 5.588715),
        (
            *(-0.877202, -0.479315, -0.027812, 0.68682, -0.10073, 0.240366),
            *(-0.965442, 1.018852, 0.469436, -0.844086, -0.259131, 2.733799),
        ),
        41.039551,
        (1.0, 0.442708, 0.458333),
    ),
)


@pytest.mark.parametrize("golden", GOLDEN)
def test_rooms_of_fixed_seeds_never_change(golden: Golden):
    batch = render_rooms([golden.seed], 3, (56, 56), golden.family)
    seen = (
        (batch.images[0].mean((0, 2, 3)), golden.mean_rgb),
        (batch.images[0, 1, :, 40, 20], golden.pixel),
        (batch.depth[0, :, 30, 28], golden.depth_m),
        (batch.cam_from_world[0, 2].flatten(), golden.camera),
        (batch.intrinsics[0, 0, 0, :1], (golden.focal_px,)),
        (batch.overlap[0, 0], golden.overlap),
    )
    for values, expected in seen:
        torch.testing.assert_close(values, torch.tensor(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("image_hw", [(13, 17), (56, 56)])
def test_no_digit_of_a_room_depends_on_its_batch(image_hw: tuple[int, int]):
    seeds = [2**32 + k for k in range(9)]
    together = render_rooms(seeds, 2, image_hw)
    for index in (0, 4, 8):
        alone = render_rooms(seeds[index : index + 1], 2, image_hw)
        for name in ("images", "depth", "cam_from_world", "intrinsics", "overlap"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[index]), name
