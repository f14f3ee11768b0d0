"""Products with packed weights: one backend per device type and compute mode; `pick` chooses one."""

from qvggt.backends.base import Backend, ConvGeometry
from qvggt.backends.choice import Choice, choose, settled_device, usable_device
from qvggt.backends.pick import BACKENDS, pick
from qvggt.options import Compute

__all__ = [
    "BACKENDS",
    "Backend",
    "Choice",
    "Compute",
    "ConvGeometry",
    "choose",
    "pick",
    "settled_device",
    "usable_device",
]
