"""Quantization as data and pure functions: schemes, affine rounding, packing, recipes; no torch modules."""
