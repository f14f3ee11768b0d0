"""Metrics of pose, depth and points."""
