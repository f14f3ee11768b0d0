"""Calibration scenes: rooms, a dataset, or a user's own photographs."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qvggt.data.registry import DATASETS, open_dataset
from qvggt.data.sampling import FrameChoice, choose_frames, choose_sequences
from qvggt.geometry import Truth, normalized_truth
from qvggt.images.preprocess import load_images
from qvggt.options import CalibrationOptions, ImageOptions, Supervision
from qvggt.types import QvggtError, Scene

log = logging.getLogger(__name__)

UNIFORM_RANGE = 0.05
"""Largest difference between the values of an image, in 0..1, that counts as a single color."""
BATCH_PIXELS = 1 << 20
"""Most pixels in a batch of scenes of the same size."""


@dataclass(frozen=True)
class SceneBatch:
    """Scenes of the same size.

    Attributes:
        images: [B, S, 3, H, W] float32 in 0..1.
        truth: their ground truth, if known for all of them.
    """

    images: Tensor
    truth: Truth | None = None

    @property
    def scenes(self) -> int:
        """Number of scenes."""
        return self.images.shape[0]

    def first(self, scenes: int, frames: int | None = None) -> SceneBatch:
        """Return the first few scenes, with their first few frames or all of them."""
        truth = self.truth
        if truth is not None:
            truth = replace(truth, **{name: value[:scenes, :frames] for name, value in vars(truth).items()})
        return SceneBatch(self.images[:scenes, :frames], truth)

    def to(self, device: torch.device) -> SceneBatch:
        """Return the scenes on a device."""
        truth = self.truth
        if truth is not None:
            truth = replace(truth, **{name: value.to(device) for name, value in vars(truth).items()})
        return SceneBatch(self.images.to(device), truth)


@dataclass(frozen=True)
class CalibrationData:
    """Calibration scenes in batches.

    Attributes:
        batches: scenes for statistics and searches.
        held_out: scenes that decide whether a stage is kept.
        provenance: the scenes' names and origin as a recipe records them (``data.splits`` reads it).
        further: scenes for tuning only.
    """

    batches: tuple[SceneBatch, ...]
    held_out: tuple[SceneBatch, ...]
    provenance: Mapping[str, Any]
    further: tuple[SceneBatch, ...] = ()

    @property
    def has_truth(self) -> bool:
        """Whether every scene of the objective has ground truth."""
        return all(batch.truth is not None for batch in (*self.batches, *self.held_out))

    def to(self, device: torch.device) -> CalibrationData:
        """Return the scenes on a device."""
        parts = (self.batches, self.held_out, self.further)
        batches, held_out, further = (tuple(batch.to(device) for batch in part) for part in parts)
        return replace(self, batches=batches, held_out=held_out, further=further)

    def content_hash(self) -> str:
        """Return a hash of all images, which must be on the CPU."""
        digest = hashlib.sha256()
        for batch in (*self.batches, *self.held_out, *self.further):
            digest.update(repr(tuple(batch.images.shape)).encode() + batch.images.contiguous().numpy().tobytes())
        return f"sha256:{digest.hexdigest()}"


def load_calibration(
    options: CalibrationOptions,
    image_px: int,
    patch: int,
    held_out: float = 0.25,
    longer: bool = False,
    further: int = 0,
) -> CalibrationData:
    """Read calibration scenes.

    Args:
        options: which scenes.
        image_px: the model's image size.
        patch: the model's patch size.
        held_out: share of held-out scenes, at least one scene.
        longer: whether rooms may have more frames than those of their split, on longer camera paths.
        further: most scenes to read beside these, if the source has more.

    Raises:
        QvggtError: the source cannot be read, or has too few scenes.
    """
    if options.source in DATASETS:
        scenes, provenance = _dataset_scenes(options, image_px, patch, longer=longer, further=further)
    else:
        scenes, provenance = _photo_scenes(options, image_px, patch, further=further)
    _warn_of_empty_images(scenes, options.source)
    provenance |= {"images": sum(len(scene.images) for scene in scenes), "seed": options.seed}
    scenes, more = scenes[: options.scenes], scenes[options.scenes :]
    provenance |= {"held_out": max(1, round(held_out * len(scenes)))} | ({"further": len(more)} if more else {})
    last = len(scenes) - provenance["held_out"]
    batches, others, more = (tuple(batched(part)) for part in (scenes[:last], scenes[last:], more))
    return CalibrationData(batches, others, provenance, further=more)


def _warn_of_empty_images(scenes: Sequence[Scene], source: str) -> None:
    """Log a warning if images say little about a scene: uniform ones, or the same one many times."""
    images = [image for scene in scenes for image in scene.images]
    uniform = sum(float(np.ptp(image)) < UNIFORM_RANGE for image in images)
    different = len({hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest() for image in images})
    if 2 * uniform >= len(images):
        log.warning(
            "%d of %d calibration images in %r are of a single color: use photographs of scenes",
            uniform, len(images), source,
        )  # fmt: skip
    elif 2 * different <= len(images):
        log.warning(
            "only %d of %d calibration images in %r differ from each other: use different photographs",
            different, len(images), source,
        )  # fmt: skip


def batched(scenes: Sequence[Scene]) -> Iterator[SceneBatch]:
    """Batch scenes of the same size, in order."""
    group: list[Scene] = []
    for scene in scenes:
        pixels = (len(group) + 1) * int(np.prod(scene.images.shape)) // 3
        if group and (scene.images.shape != group[0].images.shape or pixels > BATCH_PIXELS):
            yield _stack(group)
            group = []
        group.append(scene)
    if group:
        yield _stack(group)


def _dataset_scenes(
    options: CalibrationOptions, image_px: int, patch: int, longer: bool, further: int
) -> tuple[list[Scene], dict[str, Any]]:
    """Return the scenes, those of the objective first, and where they are from."""
    splits = DATASETS[options.source].splits
    usual = next((name for name in ("calib", "train") if name in splits), None)
    frames = options.frames if longer else None
    reader = open_dataset(options.source, options.root, options.split or usual, frames=frames)
    listed = reader.sequences()
    drawn = choose_frames(listed, FrameChoice("random", options.frames), options.seed)
    if len(drawn) < 2:
        lengths = sorted((len(record.frames) for record in listed), reverse=True)
        found = f"{len(drawn)} of its {len(listed)} scenes has as many"
        raise _too_few_images(options, found, most=lengths[1] if len(lengths) > 1 else 0)
    known = [record for record in listed if record.name in drawn]
    records = choose_sequences(known, options.scenes, options.seed)
    larger = choose_sequences(known, options.scenes + further, options.seed)
    records += [record for record in larger if record not in records]
    form = ImageOptions(image_px, patch)
    scenes = [reader.load(record, drawn[record.name], form) for record in records]
    names = [scene.name for scene in scenes]
    return scenes, {"dataset": reader.name, "split": reader.split, "scenes": names}


def _photo_scenes(
    options: CalibrationOptions, image_px: int, patch: int, further: int
) -> tuple[list[Scene], dict[str, Any]]:
    """Return the scenes, those of the objective first, and where they are from."""
    wanted = (options.scenes + further) * options.frames
    pictures = load_images(options.source, ImageOptions(image_px, patch, frames=wanted))
    count = len(pictures.images)
    whole = count // options.frames
    if whole < 2:
        raise _too_few_images(options, f"found {count}, need {2 * options.frames}", most=count // 2)
    scenes = [
        Scene(f"{options.source}#{index}", pictures.images[index * options.frames : (index + 1) * options.frames])
        for index in range(whole)
    ]
    first = np.linspace(0, whole - 1, min(options.scenes, whole)).round().astype(int).tolist()  # from all over them
    scenes = [scenes[index] for index in [*first, *(index for index in range(whole) if index not in first)]]
    return scenes, {"photographs": str(options.source), "names": list(pictures.names[: whole * options.frames])}


def _too_few_images(options: CalibrationOptions, found: str, most: int) -> QvggtError:
    """Return the error for less than two scenes, of which ``most`` images a scene would make two."""
    way = f"give more, or --calib-frames {most} or fewer" if most else "give more"
    return QvggtError(f"{options.source!r} gives too few images for 2 scenes of {options.frames}: {found}; {way}")


def _stack(scenes: Sequence[Scene]) -> SceneBatch:
    images = torch.from_numpy(np.stack([scene.images for scene in scenes]))
    fields = {name: [getattr(scene, name) for scene in scenes] for name in ("cam_from_world", "intrinsics", "depth")}
    if any(value is None for values in fields.values() for value in values):
        return SceneBatch(images)
    if any(scene.depth is None or scene.depth.shape[-2:] != images.shape[-2:] for scene in scenes):
        return SceneBatch(images)  # depth of another size cannot be assigned to pixels
    cameras, intrinsics, depth = (torch.from_numpy(np.stack(values)).float() for values in fields.values())
    known = torch.isfinite(depth) & (depth > 0)
    for index, scene in enumerate(scenes):
        if scene.valid is not None:
            known[index] &= torch.from_numpy(scene.valid)
    truth = normalized_truth(cameras, intrinsics, torch.where(known, depth, 1.0), known)
    return SceneBatch(images, truth)


def check_truth(data: CalibrationData, supervision: Supervision, source: str) -> None:
    """Raise QvggtError if ground truth is the supervision but a scene has none."""
    if supervision == "truth" and not data.has_truth:
        raise QvggtError(
            f"{source!r} has no ground truth: choose the float model as supervision (--supervision teacher)"
        )


def without_truth(data: CalibrationData) -> CalibrationData:
    """Return the scenes without ground truth, so that the float model supervises."""
    return replace(
        data,
        batches=tuple(SceneBatch(batch.images) for batch in data.batches),
        held_out=tuple(SceneBatch(batch.images) for batch in data.held_out),
    )
