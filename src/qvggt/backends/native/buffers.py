"""Memory that C reads and writes: every tensor whose address goes to a kernel is created and checked here."""

from __future__ import annotations

import torch
from torch import Tensor


def allocate(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return an uninitialized contiguous tensor in CPU memory, whatever torch's default dtype and device are."""
    return torch.empty(shape, dtype=dtype, device="cpu")


def address(tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...], contiguous: bool = True) -> int:
    """Return the address of a tensor's first value.

    Args:
        tensor: what the kernel reads or writes; the caller keeps it alive until the kernel returns.
        dtype: that the kernel expects.
        shape: that the kernel expects.
        contiguous: whether values must be contiguous; otherwise only those along the last dimension, and the kernel
            is given the strides.

    Raises:
        ValueError: the tensor has another dtype, device, shape or memory layout.
    """
    dense = tensor.is_contiguous() if contiguous else tensor.stride(-1) == 1
    if tensor.dtype is not dtype or tensor.shape != shape or not tensor.is_cpu or not dense:
        raise ValueError(
            f"expected a {'contiguous ' if contiguous else ''}{dtype} tensor {list(shape)} on the CPU, "
            f"got {tensor.dtype} {list(tensor.shape)} with strides {list(tensor.stride())} on {tensor.device}"
        )
    return tensor.data_ptr()
