"""Products with packed weights: one backend per device type and compute mode; `pick` chooses one."""

from qvggt.backends.base import Backend, ConvGeometry
from qvggt.backends.pick import BACKENDS, pick
from qvggt.options import Compute

__all__ = ["BACKENDS", "Backend", "Compute", "ConvGeometry", "pick"]
