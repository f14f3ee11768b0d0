"""How a packed layer multiplies; `pick` chooses the object that does it."""

from qvggt.backends.base import Backend, Compute, Window
from qvggt.backends.pick import BACKENDS, pick

__all__ = ["BACKENDS", "Backend", "Compute", "Window", "pick"]
