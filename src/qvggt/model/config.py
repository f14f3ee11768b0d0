"""Architecture sizes of a VGGT, and presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LARGEST = 1 << 16
_MAY_BE_ZERO = ("vit_depth", "register_tokens", "camera_trunk_depth", "dpt_layers")
_FOUR = ("dpt_channels", "dpt_layers")


@dataclass(frozen=True)
class VGGTConfig:
    """Everything that determines the shapes of a VGGT; the defaults are those of the published model.

    Attributes:
        image_size: side in pixels of the square that the stored position embedding covers.
        patch_size: side in pixels of a patch.
        embed_dim: channels C of a token.
        vit_depth: blocks of the patch embedding.
        vit_heads: attention heads of the patch embedding.
        depth: pairs of alternating-attention blocks (frame, then global).
        heads: attention heads of those blocks; C / heads must be a multiple of 4.
        register_tokens: register tokens of a frame, in the patch embedding and in the aggregator.
        camera_trunk_depth: blocks of the camera head, at 2C channels.
        camera_heads: attention heads of those blocks.
        dpt_features: channels at which the dense heads fuse their maps.
        dpt_channels: channels of the four maps before fusion.
        dpt_layers: the four AA pairs whose outputs the dense heads read.
    """

    image_size: int = 518
    patch_size: int = 14
    embed_dim: int = 1024
    vit_depth: int = 24
    vit_heads: int = 16
    depth: int = 24
    heads: int = 16
    register_tokens: int = 4
    camera_trunk_depth: int = 4
    camera_heads: int = 16
    dpt_features: int = 256
    dpt_channels: tuple[int, int, int, int] = (256, 512, 1024, 1024)
    dpt_layers: tuple[int, int, int, int] = (4, 11, 17, 23)

    def __post_init__(self) -> None:
        """Raise ValueError for sizes that cannot be built."""
        for field in dataclasses.fields(self):
            value, four = getattr(self, field.name), field.name in _FOUR
            lowest = 0 if field.name in _MAY_BE_ZERO else 1
            numbers = value if isinstance(value, tuple) else (value,)
            whole = all(type(number) is int and lowest <= number <= _LARGEST for number in numbers)
            if not whole or isinstance(value, tuple) != four or len(numbers) != (4 if four else 1):
                kind = "four whole numbers" if four else "a whole number"
                raise ValueError(f"config: {field.name} must be {kind} from {lowest} to {_LARGEST}, got {value!r}")
        if self.image_size % self.patch_size:
            raise ValueError(
                f"config: image_size must be a multiple of patch_size {self.patch_size}, got {self.image_size}"
            )
        if self.embed_dim % self.vit_heads or self.embed_dim % self.heads or (self.embed_dim // self.heads) % 4:
            raise ValueError(
                f"config: embed_dim must be divisible by vit_heads {self.vit_heads} and heads {self.heads}, and the "
                f"width of a head by 4, got {self.embed_dim}"
            )
        if (2 * self.embed_dim) % self.camera_heads:
            raise ValueError(
                f"config: 2 x embed_dim must be divisible by camera_heads {self.camera_heads}, got {2 * self.embed_dim}"
            )
        if any(channels % 4 for channels in self.dpt_channels):
            raise ValueError(f"config: dpt_channels must be multiples of 4, got {self.dpt_channels}")
        if self.dpt_features % 8:
            raise ValueError(f"config: dpt_features must be a multiple of 8, got {self.dpt_features}")
        if max(self.dpt_layers) >= self.depth:
            raise ValueError(f"config: dpt_layers must be below depth {self.depth}, got {self.dpt_layers}")

    @classmethod
    def vggt_1b(cls) -> VGGTConfig:
        """Return the configuration of the published model (1 191 M parameters without its track head)."""
        return cls()

    @classmethod
    def nano(cls) -> VGGTConfig:
        """Return the configuration of the small model that qvggt trains itself and carries with it."""
        return cls(
            image_size=112, patch_size=14, embed_dim=128, vit_depth=2, vit_heads=4, depth=9, heads=4,
            camera_trunk_depth=1, camera_heads=4, dpt_features=32, dpt_channels=(32, 64, 128, 128),
            dpt_layers=(1, 5, 6, 8),
        )  # fmt: skip

    @classmethod
    def micro(cls) -> VGGTConfig:
        """Return a configuration small enough to be trained by a test."""
        return cls(
            image_size=56, patch_size=14, embed_dim=64, vit_depth=1, vit_heads=2, depth=4, heads=2,
            camera_trunk_depth=1, camera_heads=2, dpt_features=16, dpt_channels=(16, 16, 32, 32),
            dpt_layers=(0, 1, 2, 3),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> VGGTConfig:
        """Build a configuration from ``to_json``'s mapping.

        Raises:
            ValueError: a field is missing, unknown or impossible.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"config: expected a mapping of fields, got {values!r:.60}")
        known = {field.name for field in dataclasses.fields(cls)}
        missing, unknown = sorted(known - set(values)), sorted(set(values) - known)
        if missing or unknown:
            raise ValueError(f"config: fields missing {missing}, unknown {unknown}")
        fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**fields)
