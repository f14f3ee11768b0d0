"""Where activations wait: in memory up to a budget, beyond it in files that vanish with their last use."""

from __future__ import annotations

import tempfile
import weakref
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from qvggt.calibration.units import WalkState
from qvggt.files import explain
from qvggt.types import PathLike


class Shelf:
    """Keeps tensors; those beyond the budget are memory-mapped files, whose pages the system may drop and read again.

    A file is unlinked as soon as it is mapped, so nothing stays behind, whatever ends the process.

    Args:
        budget_bytes: of memory.
        folder: for files; the system's folder for temporary files if None.
    """

    def __init__(self, budget_bytes: int, folder: PathLike | None = None) -> None:
        self.budget_bytes, self.folder = budget_bytes, folder
        self.held_bytes = 0
        self.mapped_bytes = 0

    def put(self, tensor: Tensor) -> Tensor:
        """Return the tensor with the same values, kept in memory or in a file.

        Raises:
            QvggtError: the disk is full or the folder cannot be written.
        """
        size = tensor.numel() * tensor.element_size()
        if tensor.device.type != "cpu" or self.held_bytes + size <= self.budget_bytes:
            self.held_bytes += size
            weakref.finalize(tensor, self._let_go, size)
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

    def put_state(self, state: WalkState, before: WalkState) -> WalkState:
        """Return a state whose tensors are kept here; those that the state before it held are kept already."""
        places = {id(tensor): tensor for tensor in before.tensors()}

        def place(tensor: Tensor) -> Tensor:
            if id(tensor) not in places:
                places[id(tensor)] = self.put(tensor)
            return places[id(tensor)]

        return replace(
            state,
            tokens=place(state.tokens),
            in_frame=None if state.in_frame is None else place(state.in_frame),
            kept={layer: place(tensor) for layer, tensor in state.kept.items()},
        )

    def _let_go(self, size: int) -> None:
        self.held_bytes -= size
