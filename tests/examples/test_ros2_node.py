"""What the ROS 2 node computes, without ROS."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "ros2_node.py"


@pytest.fixture(scope="module")
def node():
    assert len(SCRIPT.read_text().splitlines()) <= 60
    return runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_to_rgb_reads_padded_rows(node, encoding):
    rgb = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    if encoding == "mono8":
        rgb = np.repeat(rgb[..., :1], 3, 2)
    stored = {"rgb8": rgb, "bgr8": rgb[..., ::-1], "mono8": rgb[..., :1]}[encoding].reshape(2, -1)
    padded = np.pad(stored, ((0, 0), (0, 5)), constant_values=255)
    message = SimpleNamespace(encoding=encoding, height=2, width=3, step=padded.shape[1], data=padded.tobytes())
    np.testing.assert_array_equal(node["to_rgb"](message), rgb)


def test_to_rgb_names_an_unknown_encoding(node):
    with pytest.raises(ValueError, match="yuv422"):
        node["to_rgb"](SimpleNamespace(encoding="yuv422"))


def test_fill_writes_position_and_quaternion(node):
    half = np.sqrt(0.5)
    pose = np.array([[0, -1, 0, 1.5], [1, 0, 0, -2], [0, 0, 1, 3], [0, 0, 0, 1]])  # 90 degrees about z
    message = SimpleNamespace(position=SimpleNamespace(), orientation=SimpleNamespace())
    node["fill"](message, pose)
    assert vars(message.position) == {"x": 1.5, "y": -2, "z": 3}
    assert vars(message.orientation) == pytest.approx({"x": 0, "y": 0, "z": half, "w": half})
