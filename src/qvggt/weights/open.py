"""Float weights from a hub, a file, a folder, the embedded models, or a seed."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from qvggt.backends import pick
from qvggt.backends.plain import HALF_DTYPES
from qvggt.files.read import parse_json, read_json, reading
from qvggt.model.config import VGGTConfig
from qvggt.model.layers import Arithmetic, use_arithmetic
from qvggt.model.vggt import VGGT
from qvggt.nn.convert import check_depths, parameter_shapes
from qvggt.nn.half import use_half
from qvggt.options import ALL_HEADS, Compute, Head
from qvggt.options.messages import did_you_mean
from qvggt.quant.source import TensorSource, check_tensors
from qvggt.types import OnProgress, PathLike, QvggtError
from qvggt.weights.files import FILE_NAMES, TORCH_SUFFIXES, SafetensorsSource, choose_file, hash_files, open_weight_file
from qvggt.weights.hub import HubOrigin, download, hub_origin
from qvggt.weights.names import ANCHOR, TensorView, model_names
from qvggt.weights.seeded import SeededSource
from qvggt.weights.verify import verify_file

log = logging.getLogger(__name__)

PRESETS = {"vggt-1b": VGGTConfig.vggt_1b, "nano": VGGTConfig.nano, "micro": VGGTConfig.micro}
_PRETRAINED = Path(__file__).parent / "pretrained"
EMBEDDED = {
    "nano": (_PRETRAINED / "nano.safetensors",),
    "nano-hard": (_PRETRAINED / "nano.safetensors", _PRETRAINED / "nano_hard.safetensors"),
}
"""Files of the embedded models by name; a tensor in a later file replaces that of an earlier one."""

_IGNORED = "track_head."
_MASK_TOKEN = "aggregator.patch_embed.mask_token"  # of the embedding's training: no output depends on it
_PUBLISHED = "facebook/VGGT-1B"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FILE_SUFFIXES = (".safetensors", ".json", *TORCH_SUFFIXES)


@dataclass(frozen=True)
class FloatWeights:
    """A float model's weights, opened and checked but not yet read.

    Attributes:
        name: the model's name, as the user gave it.
        config: its architecture.
        source: its tensors, under the model's own names.
        files: the files they are in; none for stand-in weights.
        absent: heads whose weights are not there: the model runs without them.
    """

    name: str
    config: VGGTConfig
    source: TensorSource
    files: tuple[Path, ...] = ()
    absent: tuple[Head, ...] = ()

    @property
    def recipe(self) -> None:
        """No recipe: the model is not quantized."""
        return None

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(math.prod(self.source.shape(name)) for name in self.source.names())

    @property
    def average_bits(self) -> float:
        """Bits per parameter in the files; 32 for stand-in weights."""
        if not self.files:
            return 32.0
        size = sum(self.source.tensor(name).nbytes for name in self.source.names())  # mapped, not read
        return 8 * size / self.parameters

    @property
    def file_bytes(self) -> int | None:
        """Size of all files; None for stand-in weights."""
        return sum(path.stat().st_size for path in self.files) or None

    @property
    def origin(self) -> HubOrigin | None:
        """Where on the hub the weights came from, if they did."""
        return hub_origin(self.files[0]) if self.files else None

    def hash(self) -> str:
        """Return a hash of all files' bytes, read once, or the name of stand-in weights."""
        return hash_files(self.files) if self.files else self.name

    def verify(self) -> int:
        """Read all files, compare them with their checksums, and return the number of tensors in them.

        ``.pt`` files have checksums, and files from a hub the hub's hash; if a file has neither, the result is 0.

        Raises:
            QvggtError: a file is damaged.
        """
        compared = [verify_file(path) for path in self.files]
        return len(self.source.names()) if compared and all(compared) else 0

    def complete(self) -> FloatWeights:
        """Return the weights themselves.

        Raises:
            QvggtError: a head is absent.
        """
        if self.absent:
            raise QvggtError(f"{self.name!r} has no {self.absent[0]} head, which is needed here: give complete weights")
        return self

    def shell(self, compute: Compute = "float32", device: str | torch.device = "cpu") -> VGGT:
        """Return the model on the meta device, without values and without heads that are absent.

        Args:
            compute: how it computes; packed layers, which ``int8`` is about, are not there.
            device: where it is to compute.
        """
        with torch.device("meta"):
            model = VGGT(self.config).float()  # whatever torch's default type is
        for head in self.absent:
            model.register_module(f"{head}_head", None)
        if compute in HALF_DTYPES:
            use_half(model, pick(device, compute), keep_stored=False)
        else:
            use_arithmetic(model, Arithmetic(pick(device).attend))
        return model

    def load(self, device: str | torch.device = "cpu", compute: Compute = "float32") -> VGGT:
        """Return the model; its weights are converted once to the type in which the layers compute."""
        return load_float(self, device, compute=compute)


def locate(model: PathLike, revision: str | None = None, on_progress: OnProgress | None = None) -> Path | str:
    """Return a model's local path, after downloading it if it is a hub id; ``nano`` and ``seeded:...`` are returned.

    Args:
        model: its name.
        revision: branch, tag or commit of a hub id.
        on_progress: called with the share downloaded.

    Raises:
        QvggtError: there is no such model.
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
        return download(model, revision, on_progress)
    raise QvggtError(
        f"model {text!r} not found: give nano, seeded:vggt-1b, a hub id such as {_PUBLISHED}, "
        f"or the path of a .safetensors file, a .pt file or a folder{_nearest_model(path)}"
    )


def _nearest_model(path: Path) -> str:
    """Return the nearest name of a model or of a file beside the missing one, as the end of a message."""
    try:
        beside = {each.name: str(each) for each in path.parent.iterdir() if not each.name.startswith(".")}
    except OSError:
        beside = {}
    shown = {_PUBLISHED.split("/")[1]: _PUBLISHED, **beside}
    return did_you_mean(path.name, (*EMBEDDED, *(f"seeded:{name}" for name in PRESETS), *shown), shown)


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
            names = [f"seeded:{name}" for name in PRESETS]
            raise QvggtError(f"no stand-in weights {place!r}: choose {', '.join(names)}{did_you_mean(place, names)}")
        return FloatWeights(place, preset(), SeededSource(preset()))
    if isinstance(place, str):
        file, source = EMBEDDED[place][0], SafetensorsSource(EMBEDDED[place])
    else:
        file = _file_in(place) if place.is_dir() else place
        source = open_weight_file(file)
    stored = model_names(source, repr(str(file)))
    width = source.shape(stored[ANCHOR])[-1] if ANCHOR in stored else 0
    config = _config_of(file, source.metadata.get("config"), width)
    skipped = [stored.pop(name) for name in list(stored) if name.startswith(_IGNORED)]
    view, absent = _fit(TensorView(source, stored), config, file)
    if skipped:
        log.info("left out the track head (%d tensors): reconstruction does not use it", len(skipped))
    for head in absent:
        log.warning("%s has no %s head: its outputs cannot be computed", name, head)
    return FloatWeights(name, config, source=view, files=source.files, absent=absent)


def load_float(
    weights: FloatWeights,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    compute: Compute = "float32",
) -> VGGT:
    """Build the model on the meta device and assign its weights, without a copy if type and device are the file's.

    Args:
        weights: from ``open_weights``.
        device: the model's device.
        dtype: type of tokens, and of all weights that ``compute`` does not narrow.
        compute: how the layers compute.
    """
    model = weights.shell(compute, device)
    dtypes = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    state = {
        name: weights.source.tensor(name).to(device, dtype if stored == torch.float32 else stored)
        for name, stored in dtypes.items()
    }
    model.load_state_dict(state, strict=True, assign=True)
    return model.requires_grad_(False).eval()


def _file_in(folder: Path) -> Path:
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise QvggtError(f"folder {str(folder)!r} cannot be read: {error.strerror or error}") from None
    return folder / choose_file(names, f"folder {str(folder)!r}")


def _config_of(file: Path, text: str | None, width: int) -> VGGTConfig:
    """Return the architecture: from the file's metadata, a config.json beside it, or the preset of that width."""
    beside = file.parent / "config.json"
    with reading(file, what="the configuration of"):
        if text:
            return VGGTConfig.from_json(parse_json(text, file))
    if file.name in FILE_NAMES and beside.is_file():
        values = read_json(beside, what="the configuration of the weights in")
        with reading(beside, what="the configuration of the weights in"):
            if isinstance(values, dict) and "vggt" in values:
                return VGGTConfig.from_json(values["vggt"])
    presets = (preset() for preset in PRESETS.values())
    return next((preset for preset in presets if preset.embed_dim == width), VGGTConfig.vggt_1b())


def _fit(view: TensorView, config: VGGTConfig, file: Path) -> tuple[TensorView, tuple[Head, ...]]:
    """Compare tensors with the architecture and return them, with zeros for what no output depends on.

    Returns:
        The tensors, and the heads of which there are none.
    """
    names, misfit = view.names(), f"{str(file)!r} does not fit VGGT"
    parts = {name.partition(".")[0] for name in names}
    absent: tuple[Head, ...] = tuple(head for head in ALL_HEADS if f"{head}_head" not in parts)
    if "aggregator" not in parts or len(absent) == len(ALL_HEADS):
        sample = ", ".join(sorted(names)[:3]) or "nothing"
        raise QvggtError(f"{str(file)!r} is a checkpoint of another model than VGGT (it holds {sample}, ...)")
    check_depths(misfit, config, names)
    wanted = {
        name: shape
        for name, shape in parameter_shapes(config).items()
        if not name.startswith(tuple(f"{head}_head." for head in absent))
    }
    if _MASK_TOKEN not in names:
        view = TensorView(view.source, view.stored, {_MASK_TOKEN: wanted[_MASK_TOKEN]})
    check_tensors(misfit, {name: view.shape(name) for name in view.names()}, wanted)
    return view, absent
