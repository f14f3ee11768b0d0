"""The steps of a calibrated quantization: each a function from values to a frozen result."""
