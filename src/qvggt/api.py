"""The public verbs: load, quantize, save, reconstruct."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from qvggt import artifacts
from qvggt.backends import Compute
from qvggt.images import ImageOptions, Mode, load_images
from qvggt.inference import HEADS_FOR, OnProgress, PointsFrom, predict
from qvggt.methods.rtn import RtnOptions, model_layers, rtn, rtn_recipe
from qvggt.model import VGGT, Head, VGGTConfig
from qvggt.model.checkpoint import FloatWeights, load_float, locate, open_weights
from qvggt.model.vggt import DENSE_FRAMES
from qvggt.qmodel.convert import convert
from qvggt.quant.recipe import Provenance, Recipe, part_of
from qvggt.types import PathLike, Prediction, QvggtError

log = logging.getLogger(__name__)

Method = Literal["rtn"]
Images = PathLike | Sequence[PathLike | Image.Image | np.ndarray]


@dataclass(frozen=True)
class QuantizeReport:
    """What quantizing to a folder made.

    Attributes:
        folder: the checkpoint.
        parameters: of the float model.
        average_bits: bits of tensor data per parameter.
        checkpoint_bytes: of the folder's files.
        float_bytes: of the same model in float32.
    """

    folder: Path
    parameters: int
    average_bits: float
    checkpoint_bytes: int
    float_bytes: int


def load(model: PathLike, device: str = "cpu", compute: Compute = "float", revision: str | None = None) -> VGGT:
    """Load a model for inference, float or quantized.

    Args:
        model: ``nano`` (carried along), a hub id such as ``facebook/VGGT-1B``, a ``.safetensors`` or ``.pt`` file, a
            folder with one, a quantized checkpoint, or ``seeded:vggt-1b`` (full size, stand-in weights).
        device: ``cpu``, ``cuda``, ...
        compute: how packed layers multiply; float models take no notice.
        revision: branch, tag or commit of a hub id.

    Raises:
        QvggtError: it is not found, damaged, or no VGGT; the sentence says which and how to mend it.
    """
    place = locate(model, revision)
    _check_device(device)
    if isinstance(place, Path) and artifacts.is_checkpoint(place):
        return artifacts.read(place, device, compute)
    return load_float(open_weights(place, revision), device)


def reconstruct(
    model: VGGT | PathLike,
    images: Images,
    heads: Collection[Head] | None = None,
    points_from: PointsFrom = "depth",
    mode: Mode = "crop",
    fps: float | None = None,
    frames: int | None = None,
    dense_frames: int = DENSE_FRAMES,
    on_progress: OnProgress | None = None,
) -> Prediction:
    """Turn photographs of one scene, or a video, into cameras, depth and points.

    Args:
        model: a model, or whatever ``load`` takes.
        images: folder, glob, video, image, or a list of image paths, PIL images or arrays.
        heads: what to compute; by default what ``points_from`` needs.
        points_from: ``depth`` (depth and cameras, usually more accurate, and the point head is not run) or ``head``.
        mode: ``crop`` or ``pad``; see ``ImageOptions``.
        fps: of a video, frames per second to take.
        frames: at most so many frames, evenly spread.
        dense_frames: frames that the dense heads take at a time: fewer need less memory.
        on_progress: called with the stage and the share done.

    Raises:
        QvggtError: model or images cannot be read, or the answer is not finite.
    """
    if not isinstance(model, VGGT):
        model = load(model)
    if dense_frames < 1:
        raise QvggtError(f"the number of frames at a time in the dense heads must be at least 1, not {dense_frames}")
    if on_progress is not None:
        on_progress("reading images", 0.0)
    size, patch = model.config.image_size, model.config.patch_size
    pictures = load_images(images, ImageOptions(size, patch, mode, fps, frames))
    return predict(model, pictures, heads or HEADS_FOR[points_from], dense_frames, on_progress)


def quantize(model: PathLike | VGGT, method: Method = "rtn", options: RtnOptions | None = None) -> VGGT:
    """Quantize a model in memory.

    Args:
        model: whatever ``load`` takes as a float model, or a float model, which is changed in place.
        method: ``rtn``, round to nearest.
        options: of the method.

    Raises:
        QvggtError: the model is quantized already, cannot be read, or an option is impossible.
    """
    float_model = model if isinstance(model, VGGT) else load(model)
    if hasattr(float_model, "recipe"):
        raise QvggtError("the model is quantized already: quantize the float model instead")
    source = "" if isinstance(model, VGGT) else str(model)
    recipe = _recipe(method, float_model.config, options, source)
    convert(float_model, recipe)
    return float_model.eval()


def quantize_to(
    model: PathLike,
    folder: PathLike,
    method: Method = "rtn",
    options: RtnOptions | None = None,
    overwrite: bool = False,
    revision: str | None = None,
    on_progress: OnProgress | None = None,
) -> QuantizeReport:
    """Quantize a model from its file to a checkpoint, one layer at a time, holding neither model in memory.

    Args:
        model: whatever ``load`` takes as a float model.
        folder: for the checkpoint; see ``artifacts.write``.
        method: ``rtn``.
        options: of the method.
        overwrite: whether a checkpoint that is there may be replaced.
        revision: branch, tag or commit of a hub id.
        on_progress: called with the stage and the share done.

    Raises:
        QvggtError: the model cannot be read, an option is impossible, or the folder cannot be written.
    """
    report_to = on_progress or (lambda stage, share: None)
    artifacts.check_place(folder, overwrite)
    report_to("opening", 0.0)
    place = locate(model, revision)
    if isinstance(place, Path) and artifacts.is_checkpoint(place):
        raise QvggtError(f"{str(model)!r} is quantized already: quantize the float model instead")
    weights = open_weights(place, revision)
    recipe = _recipe(method, weights.config, options, str(model))
    report_to("hashing", 0.0)
    recipe = replace(recipe, provenance=replace(recipe.provenance, source_hash=weights.fingerprint()))
    tensors = _watched(rtn(weights.source, weights.config, recipe), weights, report_to)
    artifacts.write(folder, weights.config, recipe, tensors, overwrite)
    report = artifacts.inspect(folder)
    return QuantizeReport(
        Path(folder), report.parameters, report.average_bits, report.checkpoint_bytes, 4 * report.parameters
    )


def save(model: VGGT, folder: PathLike, overwrite: bool = False) -> Path:
    """Write a quantized model as a checkpoint that ``load`` and the ecosystem read, and return its folder.

    Raises:
        QvggtError: the model is not quantized, or the folder is taken or cannot be written.
    """
    return artifacts.save(model, folder, overwrite)


def _recipe(method: Method, config: VGGTConfig, options: RtnOptions | None, source: str) -> Recipe:
    if method != "rtn":
        raise QvggtError(f"there is no method {method!r}: choose rtn")
    return rtn_recipe(model_layers(config), options, Provenance(source))


def _watched(
    tensors: Iterable[tuple[str, Tensor]], weights: FloatWeights, on_progress: OnProgress
) -> Iterator[tuple[str, Tensor]]:
    """Pass a method's tensors on and report which part of the model they are from and the share that is done."""
    sizes = {name: math.prod(weights.source.shape(name)) for name in weights.source.names()}
    done, total = 0, sum(sizes.values())
    for name, tensor in tensors:
        on_progress(f"quantizing {part_of(name)}", min(1.0, done / total))
        yield name, tensor
        done += sizes.get(name.removesuffix("_packed"), 0)


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise QvggtError(f"device {device!r} cannot be used here ({reason}); choose cpu") from None
