import math

import numpy as np
import pytest
import torch

from qvggt.eval.evaluators import chance_evaluator, chance_prediction, fidelity_evaluator, heads_for, model_evaluator
from qvggt.eval.protocols import PROTOCOLS, measure
from qvggt.weights.open import load_float, open_weights

ROOMS = tuple(PROTOCOLS[name] for name in ("pose-standard", "depth-scale", "points-consistent"))


@pytest.fixture
def small_scene(scene):
    from dataclasses import replace

    images = np.random.default_rng(0).random((4, 3, 28, 28), dtype=np.float32)
    lens = np.tile(np.array([[20.0, 0, 14], [0, 22.0, 14], [0, 0, 1]]), (4, 1, 1))
    return replace(scene, images=images, intrinsics=lens, depth=np.ones((4, 28, 28), np.float32), valid=None)


def micro():
    return load_float(open_weights("seeded:micro"))


@pytest.mark.parametrize(
    ("names", "heads"),
    [
        (["pose-standard"], ("camera",)),
        (["depth-median"], ("depth",)),
        (["points-crop224"], ("point",)),
        (["points-umeyama"], ("camera", "depth")),
        (["pose-vggt", "points-crop224"], ("camera", "point")),
        (["points-consistent"], ("camera", "depth", "point")),
    ],
)
def test_heads_for_returns_only_needed_heads(names, heads):
    assert heads_for([PROTOCOLS[name] for name in names]) == heads


def test_heads_for_every_protocol():
    assert all(heads_for([protocol]) for protocol in PROTOCOLS.values())


def test_model_evaluator_loads_the_model_once(small_scene):
    loaded = []

    def load():
        loaded.append(1)
        return micro()

    evaluator = model_evaluator(load, ROOMS)
    assert evaluator(small_scene) == evaluator(small_scene)
    assert len(loaded) == 1
    assert set(evaluator(small_scene).values) == {"absrel", "delta1", "point_error", "consistency"}


def test_model_evaluator_scores_a_broken_model_worst(small_scene):
    def load():
        model = micro()
        model.camera_head.pose_branch.fc2.bias.fill_(torch.nan)
        return model

    result = model_evaluator(load, ROOMS[:1])(small_scene)
    assert len(result.rotation_deg) == 6
    assert np.isnan(result.rotation_deg).all()


def test_fidelity_evaluator_of_a_model_and_itself(small_scene):
    result = fidelity_evaluator(micro, micro)(small_scene)
    assert result.protocols == ("fidelity",)
    assert result.values["fidelity_depth_rel"] == 0


def test_chance_prediction_is_deterministic_and_ignores_images(small_scene):
    first, again = chance_prediction(small_scene), chance_prediction(small_scene)
    np.testing.assert_array_equal(first.cam_from_world, again.cam_from_world)
    assert (first.depth == 1).all()
    assert (first.cam_from_world[:, :, :3] == np.eye(3)).all()
    assert len(np.unique(first.cam_from_world[:, 0, 3])) == 4


def test_chance_prediction_can_be_measured_by_every_protocol(small_scene):
    for protocol in PROTOCOLS.values():
        assert measure(small_scene, chance_prediction(small_scene), [protocol]).protocols == (protocol.name,)


def test_chance_evaluator_leaves_consistency_nan(small_scene):
    values = chance_evaluator(ROOMS)(small_scene).values
    assert math.isnan(values["consistency"])
    assert math.isfinite(values["point_error"])
