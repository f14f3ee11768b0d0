"""The only reader and writer of our formats: quantized checkpoints and predictions."""

from qvggt.artifacts.checkpoint import check_place, is_checkpoint, open_checkpoint, read, save, verify, write
from qvggt.artifacts.prediction import load_prediction, save_prediction
from qvggt.artifacts.report import CheckpointReport, LayerReport, inspect

__all__ = [
    "CheckpointReport",
    "LayerReport",
    "check_place",
    "inspect",
    "is_checkpoint",
    "load_prediction",
    "open_checkpoint",
    "read",
    "save",
    "save_prediction",
    "verify",
    "write",
]
