"""Nano is for demonstration: a warning if a model of its kind is given photographs."""

from __future__ import annotations

import logging

from qvggt.images.rendered import has_photographs
from qvggt.images.sources import ImageSource
from qvggt.model import VGGTConfig

log = logging.getLogger(__name__)

_WIDTH = VGGTConfig.nano().embed_dim
"""Of nano, nano-hard, their quantized copies, and what the recipes of nano train: all on synthetic rooms."""


def warn_of_photographs(config: VGGTConfig, source: ImageSource) -> None:
    """Log a warning if a model as wide as nano is given photographs or videos; rooms that qvggt rendered are none."""
    if config.embed_dim == _WIDTH and has_photographs(source):
        log.warning("nano is a demonstration model of synthetic rooms; use facebook/VGGT-1B for photographs")
