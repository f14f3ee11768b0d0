"""The whole pass of a model as one graph with any number of frames."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qvggt.model import VGGT
from qvggt.model.layers import Arithmetic, RopeTable, use_arithmetic
from qvggt.model.units import ACTIVATIONS, HEAD_OUTPUTS, OUTPUT_CHANNELS, DenseHeadName
from qvggt.onnx.layers import use_operators
from qvggt.options import Head

OPSET = 23
"""The first with an operator for attention."""

_TRACED_FRAMES = 4
"""Tracing takes sizes of zero and one for fixed, also that of all frames but the first."""


class WholePass(nn.Module):
    """A model as the graph has it: images of one scene to the outputs of some heads.

    Args:
        model: computed in float32; its layers are replaced (``use_operators``).
        heads: which outputs, in their order.
        image_hw: height and width in pixels of the images.
        accuracy_level: of ``MatMulNBits``.
    """

    def __init__(self, model: VGGT, heads: Sequence[Head], image_hw: tuple[int, int], accuracy_level: int = 0) -> None:
        super().__init__()
        self.model, self.heads = model.eval().requires_grad_(False), tuple(heads)
        self.dense: list[DenseHeadName] = [head for head in OUTPUT_CHANNELS if head in heads]
        self.image_hw = image_hw
        use_operators(model, accuracy_level)
        use_arithmetic(model, Arithmetic(rotate=rotated_plainly))
        model.aggregator.global_attention = "exact"
        vit, (height, width) = model.aggregator.patch_embed, image_hw
        position = vit.position_embedding(height // vit.patch_size, width // vit.patch_size).detach()
        vit.position_embedding = partial(_constant, position)

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in order."""
        dense = [name for head in self.dense for name in HEAD_OUTPUTS[head]]
        return (["pose_enc"] if "camera" in self.heads else []) + dense

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map images [1, S, 3, H, W] in 0..1 to the outputs of ``VGGT.forward`` with ``output_names``."""
        model = self.model
        pairs = model.aggregator(images, model.pairs_read_by(self.heads))
        outputs: list[Tensor] = []
        if "camera" in self.heads:
            outputs.append(model.cameras(pairs)["pose_enc"])  # [1, S, 9]
        for head in self.dense:
            layers = [tokens[0] for tokens in model.patch_tokens(pairs)]  # [S, P, 2C] each
            values, confidence = model.dense_head(head)(layers, self.image_hw)
            outputs += [ACTIVATIONS[head](values)[None], confidence[None]]  # [1, S, H, W, ...] and [1, S, H, W]
        return tuple(outputs)


def write_graph(whole: WholePass, path: Path, external_data: bool) -> None:
    """Trace a pass and write it as ONNX.

    Args:
        whole: what to trace.
        path: the file.
        external_data: whether weights go to a second file, ``path`` with ``.data`` appended: ONNX files end at 2 GB.
    """
    images = torch.zeros(1, _TRACED_FRAMES, 3, *whole.image_hw, dtype=torch.float32, device="cpu")
    frames = torch.export.Dim("frames", min=_TRACED_FRAMES)  # the graph itself has no such bound
    with _quietly():
        traced = torch.export.export(whole, (images,), dynamic_shapes=({1: frames},), strict=False)
        program: Any = torch.onnx.export(
            traced, (), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=["images"], output_names=whole.output_names,
        )  # fmt: skip
        program.save(path, external_data=external_data)


def rotated_plainly(x: Tensor, norm: nn.Module, rope: RopeTable | None) -> Tensor:
    """Compute ``normalized_and_rotated`` without writing in place, which a graph would turn into scattered writes."""
    x = norm(x)
    if rope is None:
        return x
    cos, sin = rope
    row_first, row_second, column_first, column_second = x.chunk(4, -1)
    return x * cos + torch.cat((-row_second, row_first, -column_second, column_first), -1) * sin


def _constant(value: Tensor, _rows: int, _columns: int) -> Tensor:
    return value


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter from reporting on itself."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
