import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from qvggt.data.rooms.family import render_rooms
from qvggt.geometry import unproject
from qvggt.model import VGGT, VGGTConfig
from qvggt.model.layers import Attention, attend
from qvggt.train.grow import begin_from, new_places
from qvggt.train.matching import find_matches, matching_loss, plain_attention, training_attention
from qvggt.train.optim import initialize
from qvggt.train.recipe import Phase, TrainRecipe, load_recipe
from qvggt.train.step import draw_family, render_step
from qvggt.types import QvggtError
from qvggt.weights.open import open_weights

PATCH = 14
MIXED = Phase(3, 56, 8, (2, 3), (-1.0, 1.0), widths_px=(28, 56), families=3, degrade_share=0.5, wide_share=0.5)
MATCHING = TrainRecipe(
    "micro", (MIXED,), matching_weight=0.1, matching_layers=(1, 2), sketch_weight=0.5, validate_steps=100
)


@pytest.fixture(scope="module")
def rooms():
    return render_rooms([5, 6], 3, (112, 112))


def test_families_are_drawn_with_the_shares_asked_for():
    phase = load_recipe("nano-3").phases[0]
    rng = np.random.default_rng(0)
    families = [draw_family(phase, rng) for _ in range(2000)]
    landmarks = np.array([family.landmarks for family in families])
    assert np.mean(landmarks == 0) == pytest.approx(1 / 2, abs=0.04)
    assert np.mean(landmarks == 1) == pytest.approx(1 / 6, abs=0.04)
    assert np.mean([family.degrade for family in families]) == pytest.approx(phase.degrade_share, abs=0.04)
    assert np.mean([family.baseline == 2 for family in families]) == pytest.approx(phase.wide_share, abs=0.04)


def test_a_step_has_several_families_and_fewer_wide_images():
    counts = set()
    for step in range(6):
        images = render_step(MATCHING, step, "cpu")[0].images
        counts.add((images.shape[-1], images.shape[0] * images.shape[1]))
    assert {width for width, _ in counts} == {28, 56}
    assert all(count > 8 if width == 28 else count <= 8 for width, count in counts)


def test_matches_are_where_the_same_point_is(rooms):
    matches = find_matches(rooms, PATCH)
    points = unproject(rooms.depth, rooms.intrinsics, rooms.cam_from_world)[:, :, 7::14, 7::14].flatten(2, 3)
    torch.testing.assert_close(matches.share.sum(-1), torch.ones(matches.seen.shape))
    assert not matches.seen.diagonal(dim1=1, dim2=3).any()
    assert 0.2 < matches.seen.mean() < 0.6
    for scene in range(2):
        for frame in range(3):  # the four patches' points, weighted, are near the point looked for
            there = points[scene, frame][matches.patch[scene, :, :, frame]]  # [S, P, 4, 3]
            guess = (there * matches.share[scene, :, :, frame, :, None]).sum(2)
            error = (guess - points[scene]).norm(dim=-1)[matches.seen[scene, :, :, frame] > 0]
            assert not len(error) or error.median() < 0.15


def test_attention_to_the_true_place_costs_least(rooms):
    matches = find_matches(rooms, PATCH)
    points = unproject(rooms.depth, rooms.intrinsics, rooms.cam_from_world)[:, :, 7::14, 7::14].flatten(2, 3)
    # Scores of -|x - y|^2: 2 x.y - |y|^2, written as a product of queries and keys.
    tokens = torch.cat((torch.zeros(2, 3, 1, 3), points), 2).flatten(1, 2)[:, None]  # one special token a frame
    one = torch.ones_like(tokens[..., :1])
    query, key = torch.cat((2 * tokens, -one), -1), torch.cat((tokens, tokens.square().sum(-1, keepdim=True)), -1)
    blind, near = (float(matching_loss([(gain * query, key)], matches, 1)) for gain in (0.0, 20.0))
    assert blind == pytest.approx(np.log(64), abs=1e-3)
    assert near < blind - 1


def test_training_attends_as_the_model_does():
    model = VGGT(VGGTConfig.micro())
    q, k, v = (torch.randn(2, 3, 7, 8) for _ in range(3))
    torch.testing.assert_close(plain_attention(q, k, v, None), F.scaled_dot_product_attention(q, k, v))
    with training_attention(model, (1, 3), "cpu") as pairs:
        model.aggregator(torch.rand(1, 2, 3, 28, 28), {3})
    assert [q.shape for q, _ in pairs] == [(1, 2, 2 * 9, 32)] * 2
    assert all(m.arithmetic.attend is attend for m in model.modules() if isinstance(m, Attention))


def test_a_deeper_model_begins_as_the_one_it_grew_from(tmp_path):
    config = VGGTConfig.micro()
    old = VGGT(config)
    initialize(old, 1)
    save_file(old.state_dict(), tmp_path / "old.safetensors", {"config": json.dumps(config.to_json())})
    new = VGGT(dataclasses.replace(config, depth=7, dpt_layers=(1, 2, 5, 6)))
    initialize(new, 2)
    begin_from(new, open_weights(tmp_path / "old.safetensors"))
    images = torch.rand(1, 2, 3, 56, 56)
    with torch.inference_mode():
        before, after = old(images), new(images)
    for name, values in before.items():
        torch.testing.assert_close(after[name], values, atol=1e-4, rtol=1e-4)
    with pytest.raises(QvggtError, match="cannot begin"):
        begin_from(VGGT(load_recipe("nano-3").config()), open_weights(tmp_path / "old.safetensors"))


def test_pairs_keep_their_order():
    assert new_places((1, 3, 4, 5), (1, 5, 6, 8)) == [0, 1, 3, 5, 6, 8]
    assert new_places((0, 1, 2, 3), (0, 1, 2, 3)) == [0, 1, 2, 3]
    with pytest.raises(QvggtError, match="cannot begin"):
        new_places((1, 5, 6, 8), (1, 3, 4, 5))
