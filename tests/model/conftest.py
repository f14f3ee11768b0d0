import pytest
import torch

from golden.make_golden import seeded_model
from qvggt.model import VGGTConfig


@pytest.fixture(scope="session")
def micro():
    """Return the micro model on stand-in weights; tests must not change it."""
    return seeded_model(VGGTConfig.micro())


@pytest.fixture
def images():
    return torch.rand(2, 3, 3, 28, 42, generator=torch.Generator().manual_seed(1))
