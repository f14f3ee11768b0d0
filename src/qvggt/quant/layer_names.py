"""Selection of layers by names, patterns and named groups."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Mapping, Sequence

from qvggt.quant.scheme import LayerShape
from qvggt.types import LayerId, QvggtError

GROUPS: Mapping[str, tuple[str, ...]] = {
    "aa": ("aggregator.frame_blocks.", "aggregator.global_blocks."),
    "frame": ("aggregator.frame_blocks.",),
    "global": ("aggregator.global_blocks.",),
    "patch_embed": ("aggregator.patch_embed.",),
    "camera_head": ("camera_head.",),
    "dense_heads": ("depth_head.", "point_head."),
    "depth_head": ("depth_head.",),
    "point_head": ("point_head.",),
}
"""Named groups: prefixes of their layers' names. The groups ``all``, ``linear``, ``conv2d`` and ``paper`` exist too."""

_ALL_GROUPS = ("all", "linear", "conv2d", "paper", *GROUPS)

_FRAGILE = (("frame", 14), ("frame", 17), ("frame", 23), ("global", 23))
_PAPER_DEPTH = 24


def select_layers(shapes: Mapping[LayerId, LayerShape], patterns: Sequence[str]) -> list[LayerId]:
    """Return the layers that match any of the patterns, in the model's order.

    A pattern is a group (``all``, ``linear``, ``conv2d``, ``paper`` or a key of ``GROUPS``), a layer's name or a prefix
    of names up to a dot (``aggregator.frame_blocks.3``), a glob (``*.mlp.fc1``), or a regular expression that matches
    the beginning of a name (``re:.*attn[.]proj``).

    Raises:
        QvggtError: a pattern matches no layer, or is not a valid regular expression.
    """
    chosen: set[LayerId] = set()
    for pattern in patterns:
        if pattern == "paper":
            matched = set(paper_layers(shapes))
        else:
            matched = {name for name, shape in shapes.items() if _matches(pattern, name, shape)}
        if not matched:
            raise QvggtError(f"no layer matches {pattern!r}{hint(pattern, shapes)}")
        chosen |= matched
    return [name for name in shapes if name in chosen]


def paper_layers(shapes: Mapping[LayerId, LayerShape]) -> list[LayerId]:
    """Return the layers that the QVGGT paper quantizes in its manual recipe for VGGT-1B.

    In four sensitive AA blocks these are the attention's output projections only, in all other AA blocks all layers.
    The paper does not say that heads are quantized: all heads and the patch embedding are left out. In a model of
    another depth the sensitive blocks are those at the same relative depth.
    """
    blocks = [name for name in shapes if name.startswith(GROUPS["aa"])]
    depth = 1 + max((int(name.split(".")[2]) for name in blocks), default=0)
    spared = {
        f"aggregator.{kind}_blocks.{round(index * (depth - 1) / (_PAPER_DEPTH - 1))}." for kind, index in _FRAGILE
    }
    return [name for name in blocks if not name.startswith(tuple(spared)) or name.endswith("attn.proj")]


def part_of(name: str) -> str:
    """Return the part of VGGT that a parameter or layer belongs to, as shown in tables."""
    parts = ("frame", "global", "patch_embed", "camera_head", "depth_head", "point_head")
    return next((part for part in parts if name.startswith(GROUPS[part])), "tokens")


def _matches(pattern: str, name: str, shape: LayerShape) -> bool:
    if pattern in _ALL_GROUPS:
        return pattern in ("all", shape.kind) or name.startswith(GROUPS.get(pattern, ()))
    if pattern.startswith("re:"):
        try:
            return re.match(pattern[3:], name) is not None
        except re.error as error:
            raise QvggtError(f"{pattern[3:]!r} is not a valid regular expression: {error}") from error
    return fnmatch.fnmatchcase(name, pattern) or name.startswith(pattern.rstrip(".") + ".")


def hint(pattern: str, shapes: Mapping[LayerId, LayerShape]) -> str:
    """Return suggestions for a pattern without matches, as the end of an error message."""
    prefixes = {".".join(parts[:end]) for parts in (name.split(".") for name in shapes) for end in range(1, 9)}
    close = difflib.get_close_matches(pattern, [*_ALL_GROUPS, *sorted(prefixes)], n=3, cutoff=0.6)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"{meant} (groups: {', '.join(_ALL_GROUPS)}; or a name, a glob, re:EXPRESSION)"
