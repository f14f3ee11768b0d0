import copy

import pytest
import torch
from torch import nn

from golden.make_golden import seeded_model
from qvggt.model import VGGTConfig


@pytest.fixture
def head():
    return copy.deepcopy(seeded_model(VGGTConfig.micro()).camera_head)


@pytest.fixture
def tokens():
    return torch.randn(2, 3, 128, generator=torch.Generator().manual_seed(0))


def with_token(head, value):
    head.compensation = nn.Parameter(value)
    return head


def test_compensation__absent_by_default(head):
    assert head.compensation is None
    assert "compensation" not in head.state_dict()


def test_compensation__is_a_parameter(head):
    state = with_token(head, torch.ones(1, 1, 128)).state_dict()
    assert state["compensation"].shape == (1, 1, 128)


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("iterations", [1, 4])
def test_compensation__its_own_pose_is_dropped(head, tokens, frames, iterations):
    with torch.no_grad():
        plain = head(tokens[:, :frames], iterations)
        found = with_token(head, torch.randn(1, 1, 128))(tokens[:, :frames], iterations)
    assert found.shape == plain.shape == (iterations, 2, frames, 9)
    assert torch.isfinite(found).all()
    assert not torch.allclose(found, plain, atol=1e-4)


def test_compensation__acts_like_one_more_frame(head, tokens):
    with torch.no_grad():
        expected = head(torch.cat((tokens[:1], tokens[:1, :1]), 1))[:, :, :3]
        found = with_token(head, tokens[:1, :1].clone())(tokens[:1])
    assert torch.allclose(found, expected, atol=1e-6)


def test_compensation__scenes_stay_independent(head, tokens):
    head = with_token(head, torch.randn(1, 1, 128))
    with torch.no_grad():
        assert torch.allclose(head(tokens)[:, 1:], head(tokens[1:]), atol=1e-5)


def test_compensation__gradients_reach_it_and_the_tokens(head, tokens):
    head = with_token(head, torch.randn(1, 1, 128))
    tokens.requires_grad_()
    head(tokens).square().sum().backward()
    for gradient in (head.compensation.grad, tokens.grad):
        assert gradient is not None
        assert torch.isfinite(gradient).all()
        assert (gradient != 0).any()


def test_compensation__changes_poses_only():
    model = copy.deepcopy(seeded_model(VGGTConfig.micro()))
    images = torch.rand(1, 2, 3, 28, 28)
    with torch.no_grad():
        plain = model(images)
        with_token(model.camera_head, torch.randn(1, 1, 128))
        found = model(images)
    assert {name: value.shape for name, value in found.items()} == {name: value.shape for name, value in plain.items()}
    assert torch.equal(found["depth"], plain["depth"])
    assert torch.equal(found["world_points"], plain["world_points"])
    assert not torch.equal(found["pose_enc"], plain["pose_enc"])
