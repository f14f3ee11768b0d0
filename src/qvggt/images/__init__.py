"""Photographs and videos as model input, with the way back to original pixels."""
