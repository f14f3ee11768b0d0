"""VGGT's architecture, under the parameter names of the published checkpoint."""

from qvggt.model.config import VGGTConfig
from qvggt.model.vggt import VGGT
from qvggt.options import ALL_HEADS, Head

__all__ = ["ALL_HEADS", "VGGT", "Head", "VGGTConfig"]
