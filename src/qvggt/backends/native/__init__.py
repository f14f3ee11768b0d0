"""Kernels written in C, compiled by the machine's own compiler at first use."""
