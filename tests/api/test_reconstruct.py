"""What is asked of a reconstruction, answered right: kinds of images, heads, windows, memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import qvggt
from qvggt.model import VGGT, VGGTConfig
from qvggt.train.optim import initialize
from qvggt.types import QvggtError

PIXELS = np.random.default_rng(0).integers(0, 256, (42, 56, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    network = VGGT(VGGTConfig.micro())
    initialize(network, seed=0)
    return network.eval()


def test_reconstruct__one_array_image_or_tensor(model):
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1)
    expected = qvggt.reconstruct(model, [PIXELS])
    for images in (PIXELS, Image.fromarray(PIXELS), tensor, tensor[None], PIXELS[None]):
        found = qvggt.reconstruct(model, images)
        np.testing.assert_array_equal(found.images, expected.images)
        np.testing.assert_array_equal(found.depth, expected.depth)


def test_reconstruct__a_head_by_its_name(model):
    found = qvggt.reconstruct(model, PIXELS, heads="depth")
    assert found.depth is not None
    assert found.cam_from_world is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": "dept"}, r"unknown heads 'dept'.*camera, depth, point"),
        ({"heads": ["depth", "color"]}, r"unknown heads 'color'"),
        ({"points_from": "x"}, r"'x'"),
        ({"windows": 2}, r"windows.*WindowOptions.*2"),
        ({"mode": "stretch"}, r"crop.*pad"),
    ],
)
def test_reconstruct__impossible_options_are_named(model, options, words):
    with pytest.raises(QvggtError, match=words):
        qvggt.reconstruct(model, PIXELS, **options)


RUN = """
import sys, qvggt, logging
logging.basicConfig(level="WARNING", format="%(message)s")
from qvggt.inference.process_memory import peak_memory_bytes
prediction = qvggt.reconstruct("nano", sys.argv[1], memory_bytes=int(sys.argv[2]))
print(prediction.maps[0].original_size, peak_memory_bytes())
"""


@pytest.mark.process
def test_reconstruct__a_large_photograph_stays_within_the_memory_limit(tmp_path):
    limit_bytes = 450_000_000
    Image.new("RGB", (8000, 6000), (90, 120, 60)).save(tmp_path / "a.jpg")
    command = [sys.executable, "-c", RUN, str(tmp_path / "a.jpg"), str(limit_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    size, peak = done.stdout.strip().rsplit(" ", 1)
    assert size == "(8000, 6000)"
    assert int(peak) <= limit_bytes
    assert "1/2 of its size" in done.stderr
