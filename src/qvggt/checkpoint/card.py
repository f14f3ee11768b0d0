"""Model cards: the ``README.md`` of a checkpoint, with the metadata that the Hugging Face hub reads."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qvggt.checkpoint.folder import CARD, Checkpoint
from qvggt.checkpoint.report import CheckpointReport, inspect_model
from qvggt.files import new_file
from qvggt.files.read import read_text
from qvggt.quant.scheme import PER_CHANNEL
from qvggt.types import QvggtError
from qvggt.version import REPOSITORY
from qvggt.weights.hub import HubOrigin
from qvggt.weights.licenses import LICENSES, License, license_of

PLACE = "USER/NAME"
"""What a card calls its repository before it is in one."""

_START, _END = "<!-- fidelity -->\n", "<!-- /fidelity -->\n"
_DOCS = f"{REPOSITORY}/blob/main/docs"


@dataclass(frozen=True)
class _Source:
    """The float model as a card names it.

    Attributes:
        name: as the user gave it, without the folders of an absolute path.
        hub_id: its repository on the hub, if it is known to come from there.
        commit: of that repository; empty if unknown.
        license: of its weights.
    """

    name: str
    hub_id: str | None
    commit: str
    license: License

    @property
    def title(self) -> str:
        """A short name; VGGT if the user's own says nothing to others."""
        return self.name.rpartition("/")[2] if self.hub_id or self.license.models else "VGGT"


def card_text(checkpoint: Checkpoint, origin: HubOrigin | None = None) -> str:
    """Return the model card of a checkpoint; equal checkpoints of equal origin have equal cards.

    Args:
        checkpoint: opened.
        origin: where on the hub the float weights came from, if they did.
    """
    report = inspect_model(checkpoint)
    source, bits = _source(report.provenance.source, origin), _usual_bits(report)
    parts = (
        f"---\n{_metadata(source, bits)}\n---\n\n# {source.title} at {bits} bits\n\n",
        _summary(source),
        "\n## Figures\n\n",
        *_figures(checkpoint, report),
        f"\n{_START}The difference from the float model was not measured: `qvggt fidelity {source.name} THIS_FOLDER "
        f"photos/ --card` measures it and writes it here.\n{_END}",
        "\n## Recipe\n\n",
        *_recipe(report, source),
        "\n## Use\n\n",
        _USE,
        "\n## License\n\n",
        _license(source.license),
    )
    return "".join(parts)


def write_fidelity(checkpoint: Checkpoint, sentences: Iterable[str]) -> Path:
    """Write measured differences from the float model into a checkpoint's card, in place of earlier ones.

    Args:
        checkpoint: opened; a card is written if it has none.
        sentences: figures, and the conditions under which they were measured.

    Returns:
        The card.

    Raises:
        QvggtError: the card has no place for them, or cannot be written.
    """
    path = checkpoint.folder / CARD
    text = read_text(path) if path.exists() else card_text(checkpoint)
    before, start, rest = text.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end:
        raise QvggtError(f"{path} has no lines {_START.strip()} and {_END.strip()}: restore them, or remove the file")
    measured = "\n\n".join(sentences)
    with new_file(path, overwrite=True) as temporary:
        temporary.write_text(f"{before}{start}{measured}\n{end}{after}", encoding="utf-8", newline="\n")
    return path


def states_license(card: str) -> bool:
    """Return whether a card's metadata states a license."""
    from huggingface_hub import ModelCard

    return ModelCard(card, ignore_metadata_errors=True).data.get("license") not in (None, LICENSES[-1].hub["license"])


def _source(given: str, origin: HubOrigin | None) -> _Source:
    if origin is not None:
        return _Source(origin.hub_id, hub_id=origin.hub_id, commit=origin.commit, license=license_of(origin.hub_id))
    license = license_of(given)
    name = Path(given).name if Path(given).is_absolute() else " ".join(given.replace("`", "'").split())
    return _Source(name or "FLOAT_MODEL", hub_id=given if "/" in given and license.models else None, commit="",
                   license=license)  # fmt: skip


def _usual_bits(report: CheckpointReport) -> int:
    """Return the width of most weights."""
    counts = Counter[int]()
    for layer in report.layers:
        counts[layer.bits] += layer.parameters
    return counts.most_common(1)[0][0]


def _metadata(source: _Source, bits: int) -> str:
    # The hub's client takes long to import, and only cards need this part of it.
    from huggingface_hub import ModelCardData

    tags = ["vggt", "quantized", f"{bits}-bit", "compressed-tensors", "3d-reconstruction", "depth-estimation"]
    values: dict[str, Any] = {
        "library_name": "qvggt",
        "pipeline_tag": "image-to-3d",
        "tags": tags,
        **source.license.hub,
    }
    if source.hub_id is not None:
        values |= {"base_model": source.hub_id, "base_model_relation": "quantized"}
    return ModelCardData(**values).to_yaml(line_break="\n")


def _summary(source: _Source) -> str:
    name = source.name if source.license.models else "a VGGT"
    model = f"[{source.hub_id}](https://huggingface.co/{source.hub_id})" if source.hub_id else name
    return (
        f"The weights of {model}, quantized by [qvggt]({REPOSITORY}). The model predicts cameras, depth maps and a "
        "point cloud from photographs of a scene, in one pass.\n"
    )


def _figures(checkpoint: Checkpoint, report: CheckpointReport) -> Iterator[str]:
    size, whole = checkpoint.file_bytes, 4 * report.parameters
    yield "| | |\n|---|--:|\n"
    yield f"| parameters | {report.parameters / 1e6:.1f} M |\n"
    yield f"| bits per parameter, including scales and all that is not quantized | {report.average_bits:.2f} |\n"
    yield f"| size of the files | {size / 1e6:.1f} MB |\n"
    yield f"| size of the weights in float32 | {whole / 1e6:.1f} MB, {whole / size:.1f}x as much |\n"
    losses = report.provenance.stages.get("held_out_loss")
    if losses:
        yield f"| loss on the held-out calibration scenes | {loss_text(losses['quantized'])} |\n"
        yield f"| the same of the float model | {loss_text(losses['float_model'])} |\n"


def loss_text(loss: float | None) -> str:
    """Return a loss of a recipe, where None stands for one that is not finite."""
    return "not finite" if loss is None else f"{loss:.4f}"


def _recipe(report: CheckpointReport, source: _Source) -> Iterator[str]:
    about = report.provenance
    yield f"Method `{about.method or 'unknown'}` ([methods]({_DOCS}/quantization.md)), "
    yield f"{_calibration(about.calibration)}.\n\n"
    yield "| part | layers | bits | input channels per scale | MB |\n|---|--:|--:|--:|--:|\n"
    rows, groups = defaultdict[tuple[str, int], list[int]](list), defaultdict[tuple[str, int], set[int]](set)
    for layer in report.layers:
        row = f"{layer.part} {layer.kind}" if layer.kind != "rest" else "everything else", layer.bits
        rows[row].append(layer.bytes)
        groups[row] |= set() if layer.group_size is None else {layer.group_size}
    for (part, bits), sizes in rows.items():
        channels = ", ".join("all" if size == PER_CHANNEL else str(size) for size in sorted(groups[part, bits]))
        yield f"| {part} | {len(sizes)} | {bits} | {channels} | {sum(sizes) / 1e6:.2f} |\n"
    for level in report.attention:
        yield f"\nGlobal attention from {level.min_frames} frames on: {', '.join(level.blocks)}.\n"
    if about.options:
        yield f"\nOptions:\n\n```json\n{json.dumps(about.options, sort_keys=True)}\n```\n"
    yield f"\nSource: `{source.name}`"
    yield f", revision `{source.commit}`" if source.commit else ""
    yield f", weights `{about.source_hash}`" if about.source_hash else ""
    made_by = ", ".join(f"{name} {version}" for name, version in sorted(about.versions.items()))
    yield f". Made with {made_by}. " if made_by else ". "
    yield "`recipe.json` holds all of this, and a hash of every tensor.\n"


def _calibration(about: Mapping[str, Any]) -> str:
    if not about:
        return "without calibration"
    kind = f"the split {about['split']} of {about['dataset']}" if "dataset" in about else "photographs"
    held_out = f", of which {about['held_out']} scenes were held out" if "held_out" in about else ""
    return f"calibrated on {about.get('images', 'some')} images of {kind}{held_out} (seed {about.get('seed')})"


_USE = f"""In Python, after `pip install git+{REPOSITORY}`:

```python
import qvggt

model = qvggt.load("{PLACE}")
prediction = qvggt.reconstruct(model, "photos/")
```

On the command line:

```
qvggt reconstruct {PLACE} photos/ -o house
qvggt inspect {PLACE} --verify
```

Other tools can decode the weights, whose format is `pack-quantized` of compressed-tensors
([how to]({_DOCS}/extending.md#decoding-a-checkpoint)); the model class is qvggt's.
"""


def _license(license: License) -> str:
    if not license.models:
        return (
            "This is a quantized copy of other weights and inherits their license, which qvggt does not know. Before "
            f"you share it, read that license and state it above under `license` ([licenses]({_DOCS}/licenses.md)).\n"
        )
    return (
        f"This is a quantized copy of {license.subject} and inherits the license of those weights: {license.name}; "
        f"commercial use: {license.commercial}. {license.terms} [The original]({license.original}) is what counts: "
        f"read it before you use or share this copy ([licenses]({_DOCS}/licenses.md)).\n"
    )
