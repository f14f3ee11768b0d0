"""VGGT's architecture, under the parameter names of the published checkpoint."""

from qvggt.model.config import VGGTConfig
from qvggt.model.vggt import ALL_HEADS, VGGT, Head

__all__ = ["ALL_HEADS", "VGGT", "Head", "VGGTConfig"]
