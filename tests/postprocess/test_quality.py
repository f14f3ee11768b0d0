"""Faults that are put into an exact room are found, named and counted; nothing is found in the room itself."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from qvggt.postprocess.agreement import measure_agreement, reliable_pixels
from qvggt.postprocess.covisibility import Surfaces
from qvggt.postprocess.frames import chosen_frames
from qvggt.postprocess.quality import LEAST_DETAIL, MOST_UNSURE, assess, quality_details


@pytest.fixture(scope="module")
def clean(room_factory):
    return room_factory(width=112, height=84, frames=6)


def with_images(prediction, frames, change):
    images = prediction.images.copy()
    for frame in frames:
        images[frame] = change(images[frame])
    return replace(prediction, images=images)


def blurred(image):
    return ndimage.gaussian_filter(image, (0, 1.5, 1.5))


def noise(image):
    coarse = np.random.default_rng(5).random((3, 12, 16))
    return ndimage.zoom(coarse, (1, image.shape[1] / 12, image.shape[2] / 16), order=1).astype(np.float32)


def found(prediction):
    quality = assess(prediction)
    assert quality is not None
    return {finding.kind: finding for finding in quality.findings}


def test_nothing_is_found_where_all_is_well(clean):
    quality = assess(clean)
    assert quality is not None
    assert quality.findings == ()
    assert {frame.group for frame in quality.frames} == {0}
    assert min(frame.likeness or 0 for frame in quality.frames) > 0.9
    assert quality.parallax is not None
    assert quality.parallax > 0.2


def test_blurred_frames_are_named(clean):
    (finding,) = found(with_images(clean, [2], blurred)).values()
    assert (finding.kind, finding.frames, finding.threshold) == ("blur", (2,), LEAST_DETAIL)
    assert finding.value < 0.4
    assert finding.text.startswith(f"room_03.jpg is blurred: {100 * finding.value:.0f} %")
    assert finding.label == "blurred: 3"
    assert found(with_images(clean, [0, 4], blurred))["blur"].frames == (0, 4)


def test_a_frame_that_shows_another_place_does_not_fit(clean):
    (finding,) = found(with_images(clean, [3], noise)).values()
    assert (finding.kind, finding.frames) == ("misfit", (3,))
    assert finding.value < finding.threshold
    assert "room_04.jpg does not fit" in finding.text


def test_a_frame_that_was_placed_wrongly_does_not_fit(clean):
    cameras = clean.cam_from_world.copy()
    tilt = np.radians(18)
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    cameras[5] = turn @ cameras[5]
    assert found(replace(clean, cam_from_world=cameras))["misfit"].frames == (5,)


def test_frames_that_agree_with_each_other_only_are_another_scene(clean):
    (finding,) = found(with_images(clean, [4, 5], lambda image: 1 - image)).values()
    assert (finding.kind, finding.frames) == ("scene", (4, 5))
    assert finding.value < 0


def test_frames_that_share_nothing_with_the_others(clean):
    cameras = clean.cam_from_world.copy()
    cameras[4:, :, 3] += 100
    (finding,) = found(replace(clean, cam_from_world=cameras)).values()
    assert (finding.kind, finding.frames) == ("overlap", (4, 5))
    assert finding.value == 0


def test_nothing_agrees(clean):
    rng = np.random.default_rng(0)
    (finding,) = found(replace(clean, images=rng.random(clean.images.shape, np.float32))).values()
    assert (finding.kind, finding.frames) == ("misfit", tuple(range(6)))
    assert "no two of the 6 frames agree" in finding.text


def test_all_frames_from_one_place(clean):
    room = replace(chosen_frames(clean, (0, 0, 0)), names=clean.names[:3])
    (finding,) = found(room).values()
    assert finding.kind == "parallax"
    assert finding.value == pytest.approx(0, abs=1e-6)
    assert finding.label == "no parallax"


@pytest.mark.parametrize("sign", ["confidence", "depth"])
def test_a_frame_that_is_mostly_sky(clean, sign):
    depth, confidence = clean.depth.copy(), clean.depth_conf.copy()
    if sign == "depth":
        depth[1, :60] = 1000
    else:
        confidence[1, :60] = 1
    finding = found(replace(clean, depth=depth, depth_conf=confidence))["unsure"]
    assert (finding.frames, finding.threshold) == ((1,), MOST_UNSURE)
    assert finding.value == pytest.approx(60 / 84, abs=0.02)
    assert "sky" in finding.text


def test_what_masks_exclude_is_not_judged(clean):
    mask = np.ones(clean.depth.shape, bool)
    mask[:, :, :40] = False
    rng = np.random.default_rng(1)
    disturbed = np.where(mask[:, None], clean.images, rng.random(clean.images.shape, np.float32))
    depth = np.where(mask, clean.depth, 1000)
    assert found(replace(clean, images=disturbed, depth=depth, mask=mask)) == {}


def test_padding_is_not_judged(clean):
    def padded(values, fill):
        sides = [(0, 0)] * values.ndim
        sides[2 if values.ndim == 3 else 3] = (0, 28)
        return np.pad(values, sides, constant_values=fill)

    room = replace(clean, images=padded(clean.images, 1), depth=padded(clean.depth, 1000), world_points=None,
                   world_points_conf=None, depth_conf=padded(clean.depth_conf, 1))  # fmt: skip
    assert found(room) == {}


def test_a_single_frame_and_a_prediction_without_geometry(clean, room_factory):
    single = assess(room_factory(frames=1))
    assert single is not None
    assert single.findings == ()
    assert single.frames[0].likeness is None
    assert assess(replace(clean, cam_from_world=None)) is None
    assert assess(replace(clean, depth=None, world_points=None)) is None
    from_points = assess(replace(clean, depth=None))
    assert from_points is not None
    assert from_points.findings == ()


def test_the_details_are_json_and_the_same_each_time(clean):
    room = with_images(clean, [2], noise)
    quality = assess(room)
    assert quality is not None
    details = quality_details(quality)
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    assert details["frames"][2]["group"] == 1
    assert details["findings"][0]["kind"] == "misfit"
    assert quality_details(assess(room)) == details


def test_agreement_of_an_exact_room(clean):
    surfaces = Surfaces.of(clean)
    agreement = measure_agreement(clean, surfaces, surfaces.valid)
    assert (np.diag(agreement.seen) > 0.99).all()
    assert (np.diag(agreement.likeness) > 0.999).all()
    np.testing.assert_allclose(np.diag(agreement.detail), 0, atol=1e-6)
    assert (agreement.seen <= agreement.overlap + 1e-9).all()
    neighbors = agreement.likeness[np.arange(5), np.arange(1, 6)]
    assert (neighbors > 0.85).all()


def test_of_many_frames_some_pairs_are_compared_with_the_same_findings(room_factory):
    told = []
    room = room_factory(width=56, height=42, frames=90)
    surfaces = Surfaces.of(room)
    agreement = measure_agreement(room, surfaces, reliable_pixels(room, surfaces))
    compared = np.isfinite(agreement.likeness)
    assert (compared == compared.T).all()
    assert 0.3 < compared.mean() < 0.95
    assert all(compared[i, i + 1] for i in range(89))
    assert (agreement.overlap[~compared] >= 0).all()
    foreign = with_images(room, [20, 70], noise)
    quality = assess(foreign, lambda stage, share: told.append((stage, share)))
    assert quality is not None
    (finding,) = quality.findings
    assert (finding.kind, finding.frames) == ("misfit", (20, 70))
    assert told[-1] == ("quality of 90 frames", 1.0)
    assert [share for _, share in told] == sorted(share for _, share in told)
