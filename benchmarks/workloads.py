"""The pieces of VGGT that every engine runs: the same weights and the same input, from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from qvggt.api import reconstruct as api
from qvggt.model import VGGTConfig
from qvggt.model.aggregator import Aggregator
from qvggt.model.dense_head import DenseHead
from qvggt.model.layers import FLOAT_ARITHMETIC, Arithmetic, Block, use_arithmetic
from qvggt.onnx.graph import rotated_plainly

Piece = Literal["block", "head", "model"]
CONFIGS: Mapping[str, Callable[[], VGGTConfig]] = {
    "vggt-1b": VGGTConfig.vggt_1b,
    "nano": VGGTConfig.nano,
    "micro": VGGTConfig.micro,
}


@dataclass(frozen=True)
class Workload:
    """A piece of a model on one image.

    Attributes:
        piece: a block of the aggregator, a dense head, or everything.
        config: whose widths; for a whole model, its weights too: nano's own, or stand-ins for the others.
        size_px: width and height of the image.
    """

    piece: Piece
    config: str
    size_px: int

    @property
    def title(self) -> str:
        """What a table calls it."""
        return f"{self.piece} of {self.config}, {self.size_px} px"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)

    def module(self) -> nn.Module:
        """Return the piece, which maps the one tensor of ``tokens`` to one tensor; no gradients."""
        torch.manual_seed(0)
        if self.piece == "model":
            name = self.config if self.config == "nano" else f"seeded:{self.config}"
            made: nn.Module = WholeModel(api.load(name))
        else:
            config = CONFIGS[self.config]()
            made = BlockPiece(config, self.size_px) if self.piece == "block" else HeadPiece(config, self.size_px)
        return made.eval().requires_grad_(False)

    def tokens(self) -> Tensor:
        """Return the input: tokens [1, N, C], tokens of four levels [4, 1, N, 2C], or images [1, 1, 3, H, W]."""
        generator = torch.Generator().manual_seed(1)
        if self.piece == "model":
            return torch.rand(1, 1, 3, self.size_px, self.size_px, generator=generator)
        config = CONFIGS[self.config]()
        patches = (self.size_px // config.patch_size) ** 2
        if self.piece == "block":
            return torch.randn(1, 1 + config.register_tokens + patches, config.embed_dim, generator=generator)
        return torch.randn(4, 1, patches, 2 * config.embed_dim, generator=generator)


WORKLOADS: Mapping[str, Workload] = {
    "block": Workload("block", "vggt-1b", 518),
    "head": Workload("head", "vggt-1b", 518),
    "nano": Workload("model", "nano", VGGTConfig.nano().image_size),
}
SMALL: Mapping[str, Workload] = {
    "block": Workload("block", "micro", 56),
    "head": Workload("head", "micro", 56),
    "nano": Workload("model", "micro", 56),
}
"""The same on the smallest architecture: they prove that everything works and say nothing of speed."""


class BlockPiece(nn.Module):
    """A block of alternating attention, with the rotary angles of one square image."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: VGGTConfig, size_px: int) -> None:
        super().__init__()
        self.block = Block(config.embed_dim, config.heads, qk_norm=True)
        with torch.device("meta"):
            aggregator = Aggregator(config)
        cos, sin = aggregator.layout(torch.empty(1, 1, 3, size_px, size_px), torch.float32).frame_rope
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map [1, N, C] to [1, N, C]."""
        return self.block(tokens, (self.cos, self.sin))


class HeadPiece(nn.Module):
    """A dense head on one square image, with weights under which maps stay about as large as they come in."""

    def __init__(self, config: VGGTConfig, size_px: int) -> None:
        super().__init__()
        self.head, self.image_hw = DenseHead(config, out_channels=2), (size_px, size_px)
        for layer in self.head.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map patch tokens [4, 1, N, 2C] to values [1, H, W, 1]."""
        return self.head(tokens.unbind(0), self.image_hw)[0]


class WholeModel(nn.Module):
    """Images to poses, depth and points, one after the other in one row of numbers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Map [1, 1, 3, H, W] to [numbers]."""
        answers = self.model(images)
        return torch.cat([answers[name].flatten() for name in ("pose_enc", "depth", "world_points")])


@contextmanager
def written_plainly(module: nn.Module) -> Iterator[None]:
    """Let a piece compute RoPE in the way that exporters follow best, as long as the ``with`` lasts."""
    use_arithmetic(module, Arithmetic(rotate=rotated_plainly))
    yield
    use_arithmetic(module, FLOAT_ARITHMETIC)
