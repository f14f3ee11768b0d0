"""Licenses of weights, which a quantized copy inherits: one table for model cards and for docs/licenses.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qvggt.version import REPOSITORY


@dataclass(frozen=True)
class License:
    """What is known of a license; the original text is what counts.

    Attributes:
        subject: what it covers.
        models: MODEL names of the weights that it covers; one that ends in ``:`` covers all that begin so.
        name: of the license.
        commercial: whether it allows commercial use.
        terms: its main terms.
        original: address of the original.
        hub: fields of a model card for a copy, as the hub knows them.
    """

    subject: str
    models: tuple[str, ...]
    name: str
    commercial: str
    terms: str
    original: str
    hub: Mapping[str, str]


_VGGT_1B, _COMMERCIAL = "https://huggingface.co/facebook/VGGT-1B", "https://huggingface.co/facebook/VGGT-1B-Commercial"

LICENSES = (
    License(
        "code, documentation and procedural rooms of qvggt",
        models=(),
        name="Apache-2.0",
        commercial="yes",
        terms="Pass on the license and the notices, and say what you changed.",
        original=f"{REPOSITORY}/blob/main/LICENSE",
        hub={"license": "apache-2.0"},
    ),
    License(
        "nano and nano-hard",
        models=("nano", "nano-hard"),
        name="Apache-2.0",
        commercial="yes",
        terms="As the code. They were trained on its procedural rooms only.",
        original=f"{REPOSITORY}/blob/main/NOTICE",
        hub={"license": "apache-2.0"},
    ),
    License(
        "stand-in weights",
        models=("seeded:",),
        name="Apache-2.0",
        commercial="yes",
        terms="As the code. They are drawn from a seed, and predict nothing.",
        original=f"{REPOSITORY}/blob/main/NOTICE",
        hub={"license": "apache-2.0"},
    ),
    License(
        "VGGT-1B",
        models=("facebook/VGGT-1B",),
        name="non-commercial research license",
        commercial="no",
        terms=(
            "Research and other non-commercial use only; their page on the hub has named CC BY-NC 4.0. When the code "
            "published with them was relicensed for commercial use in July 2025, these weights were not."
        ),
        original=_VGGT_1B,
        hub={"license": "other", "license_name": "vggt-1b-non-commercial", "license_link": _VGGT_1B},
    ),
    License(
        "VGGT-1B-Commercial",
        models=("facebook/VGGT-1B-Commercial",),
        name="VGGT license",
        commercial="yes, but no military use",
        terms=(
            "Access takes an application on the hub, which accepts the terms. They also say what you may pass on, and "
            "with which notices."
        ),
        original=_COMMERCIAL,
        hub={"license": "other", "license_name": "vggt-1b-commercial", "license_link": _COMMERCIAL},
    ),
    License(
        "any other weights",
        models=(),
        name="their own",
        commercial="see the original",
        terms=(
            "Fine-tuned weights inherit the license of those that they were tuned from; their training data may add "
            "terms."
        ),
        original="",
        hub={"license": "unknown"},
    ),
)
"""Licenses of the code, of weights by name, and at last of all others."""


def license_of(model: str) -> License:
    """Return the license of a model's weights; the last of ``LICENSES`` if the name says nothing about them.

    >>> license_of("facebook/VGGT-1B").commercial, license_of("seeded:vggt-1b").name, license_of("mine.pt").name
    ('no', 'Apache-2.0', 'their own')
    """
    for each in LICENSES:
        if any(model == name or (name.endswith(":") and model.startswith(name)) for name in each.models):
            return each
    return LICENSES[-1]
