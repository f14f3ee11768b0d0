"""Photographs and videos as model input, with the way back to original pixels."""

from qvggt.images.preprocess import load_images
from qvggt.options import ImageOptions

__all__ = ["ImageOptions", "load_images"]
