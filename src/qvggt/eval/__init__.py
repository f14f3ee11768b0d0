"""Evaluation: metrics on arrays, protocols on scenes, tables with intervals."""
