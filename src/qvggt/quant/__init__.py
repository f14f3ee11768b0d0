"""Quantization as data and pure numerics: schemes, affine rounding, packing, recipes; no modules."""
