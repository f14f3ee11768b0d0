"""Float weights from anywhere: a hub, a file, a folder, the model that qvggt carries, or stand-ins by a rule."""

from __future__ import annotations

import json
import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from qvggt.backends import Compute
from qvggt.model.config import VGGTConfig
from qvggt.model.vggt import VGGT
from qvggt.nn.convert import parameter_shapes
from qvggt.quant.source import TensorSource, check_tensors
from qvggt.types import PathLike, QvggtError
from qvggt.weights.files import (
    FILE_NAMES,
    SAFETENSORS_INDEX,
    TORCH_SUFFIXES,
    SafetensorsSource,
    TorchSource,
    hash_files,
    open_weight_file,
)
from qvggt.weights.hub import download
from qvggt.weights.seeded import SeededSource

log = logging.getLogger(__name__)

PRESETS = {"vggt-1b": VGGTConfig.vggt_1b, "nano": VGGTConfig.nano, "micro": VGGTConfig.micro}
_PRETRAINED = Path(__file__).parent / "pretrained"
EMBEDDED = {
    "nano": (_PRETRAINED / "nano.safetensors",),
    "nano-hard": (_PRETRAINED / "nano.safetensors", _PRETRAINED / "nano_hard.safetensors"),
}
"""Models that qvggt carries, by name: their files, tensors of a later one in place of an earlier one's."""

_IGNORED = "track_head."
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FILE_SUFFIXES = (".safetensors", ".json", *TORCH_SUFFIXES)


@dataclass(frozen=True)
class FloatWeights:
    """A float model's weights, opened and checked but not yet read.

    Attributes:
        name: the model's name, as the user gave it.
        config: its architecture.
        source: its tensors; those of a track head are left out when a model is built.
        files: the files they are in; none for stand-in weights.
    """

    name: str
    config: VGGTConfig
    source: TensorSource
    files: tuple[Path, ...] = ()

    @property
    def recipe(self) -> None:
        """No recipe: the model is not quantized."""
        return None

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for shape in parameter_shapes(self.config).values())

    @property
    def average_bits(self) -> float:
        """Bits per parameter in the files; 32 for stand-in weights."""
        if not self.files:
            return 32.0
        size = sum(self.source.tensor(name).nbytes for name in parameter_shapes(self.config))  # mapped, not read
        return 8 * size / self.parameters

    @property
    def file_bytes(self) -> int | None:
        """Size of all files; None for stand-in weights."""
        return sum(path.stat().st_size for path in self.files) or None

    def hash(self) -> str:
        """Return a hash of all files' bytes, read once, or the name of stand-in weights."""
        return hash_files(self.files) if self.files else self.name

    def shell(self, compute: Compute = "float") -> VGGT:
        """Return the model on the meta device, without values."""
        with torch.device("meta"):
            return VGGT(self.config)

    def load(self, device: str | torch.device = "cpu", compute: Compute = "float") -> VGGT:
        """Return the model in float32; ``compute`` concerns packed layers only."""
        return load_float(self, device)


def locate(model: PathLike, revision: str | None = None) -> Path | str:
    """Turn a MODEL into a local path, downloading it if it is a hub id; ``nano`` and ``seeded:...`` stay as they are.

    Raises:
        QvggtError: nothing is found under that name.
    """
    text = str(model)
    if text in EMBEDDED or text.startswith("seeded:"):
        return text
    path = Path(model)
    try:
        found = path.exists()
    except OSError as error:
        raise QvggtError(f"model {text!r} cannot be opened: {error.strerror}") from None
    if found:
        return path
    if isinstance(model, str) and _HUB_ID.fullmatch(model) and path.suffix not in _FILE_SUFFIXES:
        return download(model, revision)
    raise QvggtError(
        f"model {text!r} not found: give nano, seeded:vggt-1b, a hub id such as facebook/VGGT-1B, "
        "or the path of a .safetensors file, a .pt file or a folder"
    )


def open_weights(model: PathLike, revision: str | None = None) -> FloatWeights:
    """Open a float model's weights.

    Args:
        model: a hub id, a ``.safetensors`` or ``.pt`` file, a sharded index, a folder with one of them, ``nano``,
            ``nano-hard``, or ``seeded:vggt-1b`` (also ``seeded:nano``, ``seeded:micro``).
        revision: branch, tag or commit of a hub id.

    Raises:
        QvggtError: it is not found, cannot be read, or is not a VGGT.
    """
    return open_located(locate(model, revision), str(model))


def open_located(place: Path | str, name: str) -> FloatWeights:
    """Open a float model's weights where ``locate`` found them.

    Args:
        place: a path, or the name of an embedded or seeded model.
        name: the model's name, as the user gave it.

    Raises:
        QvggtError: as ``open_weights``.
    """
    if isinstance(place, str) and place.startswith("seeded:"):
        preset = PRESETS.get(place.removeprefix("seeded:"))
        if preset is None:
            raise QvggtError(f"there are no stand-in weights {place!r}: choose seeded:{', seeded:'.join(PRESETS)}")
        return FloatWeights(place, preset(), SeededSource(preset()))
    if isinstance(place, str):
        file, source = EMBEDDED[place][0], SafetensorsSource(EMBEDDED[place])
    else:
        file = _file_in(place) if place.is_dir() else place
        source = open_weight_file(file)
    config = _config_of(source, file)
    _check(source, config, file)
    skipped = sum(name.startswith(_IGNORED) for name in source.names())
    if skipped:
        log.info("left out the track head (%d tensors): reconstruction does not use it", skipped)
    return FloatWeights(name, config, source, source.files)


def load_float(weights: FloatWeights, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> VGGT:
    """Build the model on the meta device and give it its weights, without a copy where type and device are the file's.

    Args:
        weights: from ``open_weights``.
        device: where the model shall live.
        dtype: type of all weights and activations.
    """
    model = weights.shell()
    state = {name: weights.source.tensor(name).to(device, dtype) for name in model.state_dict()}
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(False).eval()


def _file_in(folder: Path) -> Path:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise QvggtError(f"folder {str(folder)!r} cannot be read: {error.strerror or error}") from None
    for name in FILE_NAMES:
        if name in names:
            return folder / name
    others = [name for name in names if name.endswith((".safetensors", SAFETENSORS_INDEX, *TORCH_SUFFIXES))]
    if len(others) == 1:
        return folder / others[0]
    found = f"several others ({', '.join(others[:3])}{', ...' if len(others) > 3 else ''})" if others else "none"
    raise QvggtError(f"folder {str(folder)!r} should hold one of {', '.join(FILE_NAMES)}, and holds {found}")


def _config_of(source: SafetensorsSource | TorchSource, file: Path) -> VGGTConfig:
    """Return the architecture: as the file or a config.json beside it says, or the preset of that width."""
    text = source.metadata.get("config")
    beside = file.parent / "config.json"
    try:
        if text:
            return VGGTConfig.from_json(json.loads(text))
        if file.name in FILE_NAMES and beside.is_file():
            values = json.loads(beside.read_text("utf-8"))
            if isinstance(values, dict) and "vggt" in values:
                return VGGTConfig.from_json(values["vggt"])
    except (ValueError, RecursionError, OSError) as error:
        raise QvggtError(f"the configuration of {str(file)!r} is damaged: {error}; get an intact copy") from None
    names = set(source.names())
    width = source.shape("aggregator.camera_token")[-1:] if "aggregator.camera_token" in names else (0,)
    for preset in PRESETS.values():
        config = preset()
        if (config.embed_dim,) == tuple(width):
            return config
    return VGGTConfig.vggt_1b()


def _check(source: TensorSource, config: VGGTConfig, file: Path) -> None:
    wanted = parameter_shapes(config)
    found = {name: source.shape(name) for name in source.names() if not name.startswith(_IGNORED)}
    if not found.keys() & wanted.keys():
        sample = ", ".join(sorted(found)[:3]) or "nothing"
        raise QvggtError(f"{str(file)!r} is a checkpoint of another model than VGGT (it holds {sample}, ...)")
    check_tensors(f"{str(file)!r} does not fit VGGT", found, wanted)
