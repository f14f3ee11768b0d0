"""Real photographs and a real video, where Debian's opencv-doc package has put them."""

from pathlib import Path

import numpy as np
import pytest

import qvggt
from qvggt.model import VGGT, VGGTConfig
from qvggt.train.optim import initialize

DATA = Path("/usr/share/doc/opencv-doc/examples/data")

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="Debian's opencv-doc, which has the photographs, is absent")


@pytest.fixture(scope="module")
def model():
    network = VGGT(VGGTConfig.micro())
    initialize(network, seed=0)
    return network.eval()


@pytest.mark.parametrize(
    ("names", "shape"), [(("aloeL.jpg", "aloeR.jpg"), (2, 3, 42, 56)), (("leuvenA.jpg", "leuvenB.jpg"), (2, 3, 42, 56))]
)
def test_a_pair_of_photographs_goes_all_the_way(model, names, shape):
    prediction = qvggt.reconstruct(model, [DATA / name for name in names])
    assert prediction.images.shape == shape
    assert prediction.names == names
    assert prediction.world_points is not None
    assert np.isfinite(prediction.world_points).all()


def test_a_video_goes_all_the_way(model):
    prediction = qvggt.reconstruct(model, DATA / "vtest.avi", frames=4)
    assert prediction.images.shape == (4, 3, 42, 56)
    assert prediction.maps[0].original_size == (768, 576)
    assert prediction.depth is not None
    assert np.isfinite(prediction.depth).all()
