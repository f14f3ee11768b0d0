"""What qvggt carries with it: the nano model's weights and a sample scene."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent

SAMPLE_SCENE = HERE / "sample"
"""A folder of photographs of a procedural room, with its true cameras and depth in ``truth.npz``."""
