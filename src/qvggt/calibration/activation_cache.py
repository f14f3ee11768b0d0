"""Activation cache: RAM up to a budget, then memory-mapped temporary files."""

from __future__ import annotations

import tempfile
import weakref
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from qvggt.calibration.units import ForwardState
from qvggt.files import explain
from qvggt.types import PathLike


class ActivationCache:
    """Keeps tensors in RAM up to a budget; the rest become memory-mapped files, which the system can page out.

    Files are unlinked as soon as they are mapped, so none remain, however the process ends.

    Args:
        budget_bytes: RAM budget.
        folder: folder for the files; the system's folder for temporary files if None.
    """

    def __init__(self, budget_bytes: int, folder: PathLike | None = None) -> None:
        self.budget_bytes, self.folder = budget_bytes, folder
        self.used_bytes = 0
        self.mapped_bytes = 0

    def put(self, tensor: Tensor) -> Tensor:
        """Return a tensor with the same values, in RAM or mapped from a file.

        Raises:
            QvggtError: the disk is full or the folder cannot be written.
        """
        size = tensor.numel() * tensor.element_size()
        if tensor.device.type != "cpu" or self.used_bytes + size <= self.budget_bytes:
            self.used_bytes += size
            weakref.finalize(tensor, self._release, size)
            return tensor
        try:
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix="qvggt-", suffix=".act") as file:
                file.write(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
                file.flush()
                mapped = torch.from_file(file.name, shared=True, size=tensor.numel(), dtype=tensor.dtype)
        except OSError as error:
            raise explain(error, Path(self.folder or tempfile.gettempdir()), "write") from error
        self.mapped_bytes += size
        return mapped.view(tensor.shape)

    def put_state(self, state: ForwardState, before: ForwardState) -> ForwardState:
        """Return a state with cached tensors; tensors shared with the state before it are already cached."""
        cached = {id(tensor): tensor for tensor in before.tensors()}

        def put(tensor: Tensor) -> Tensor:
            if id(tensor) not in cached:
                cached[id(tensor)] = self.put(tensor)
            return cached[id(tensor)]

        return replace(
            state,
            tokens=put(state.tokens),
            in_frame=None if state.in_frame is None else put(state.in_frame),
            pairs={layer: put(tensor) for layer, tensor in state.pairs.items()},
        )

    def _release(self, size: int) -> None:
        self.used_bytes -= size
