"""Packed layers, conversion of a float model, and temporary quantization."""
