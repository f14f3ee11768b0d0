import pytest
import torch

from qvggt.model import VGGT, VGGTConfig


@pytest.fixture
def config():
    return VGGTConfig.micro()


@pytest.fixture
def model(config):
    generator = torch.Generator().manual_seed(0)
    model = VGGT(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.08, generator=generator)
    return model


@pytest.fixture
def images():
    return torch.rand(1, 2, 3, 28, 42, generator=torch.Generator().manual_seed(1))
