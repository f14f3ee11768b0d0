"""Quantized checkpoints on disk."""
