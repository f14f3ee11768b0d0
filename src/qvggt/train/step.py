"""One step of training: render fresh rooms, run the model on them, and score it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from qvggt.data.rooms.family import SPLITS, RoomBatch, RoomFamily, render_rooms
from qvggt.geometry import Truth, normalized_truth
from qvggt.model.dense_head import run_in_frames
from qvggt.options import ALL_HEADS
from qvggt.train.losses import dense_loss, direction_loss, placement_loss, pose_loss
from qvggt.train.matching import Learner, center_index, find_matches, matching_loss, training_attention
from qvggt.train.recipe import Phase, TrainRecipe

LOSSES = ("total", "pose", "direction", "depth", "points", "placement", "matching", "sketch")
SCENES_A_STEP = 1024
"""Seeds set aside for a step; more than any step renders."""


@dataclass(frozen=True)
class StepLoss:
    """The parts of a step's loss, each a scalar tensor, and the number of images it was computed on.

    ``matching`` and ``sketch`` are 0 where the recipe does not ask for them.
    """

    total: Tensor
    pose: Tensor
    direction: Tensor
    depth: Tensor
    points: Tensor
    placement: Tensor
    images: int
    matching: Tensor
    sketch: Tensor


@dataclass(frozen=True)
class StepFigures:
    """What the log tells of a step: means of the parts of its loss, by name, and the number of images."""

    losses: dict[str, float]
    images: int

    @classmethod
    def of_loss(cls, loss: StepLoss) -> StepFigures:
        """Return the figures of one shard's loss."""
        return cls({name: float(getattr(loss, name).detach()) for name in LOSSES}, loss.images)

    @classmethod
    def of_shards(cls, shards: Sequence[StepFigures]) -> StepFigures:
        """Return the figures of a step from those of its shards."""
        losses = {name: sum(shard.losses[name] for shard in shards) / len(shards) for name in LOSSES}
        return cls(losses, sum(shard.images for shard in shards))


def render_step(recipe: TrainRecipe, step: int, device: str, shard: int = 0) -> tuple[RoomBatch, np.random.Generator]:
    """Render the rooms of a step's shard; the recipe's seed, the step and the shard alone decide what they are."""
    phase = recipe.phase_at(step)
    rng = np.random.Generator(np.random.Philox(key=[recipe.seed, step]))
    frames = int(rng.choice(phase.frames))
    family = draw_family(phase, rng)
    first = SPLITS["train"].first_seed + (recipe.seed * 10**7 + step) * SCENES_A_STEP
    first += shard * (SCENES_A_STEP // recipe.shards)
    aspect = float(rng.choice(phase.aspects))
    width = int(rng.choice(phase.widths_px)) if phase.widths_px else phase.image_px
    if shard:  # images as those of the first shard, so that both take as long; rooms of its own
        rng = np.random.Generator(np.random.Philox(key=[recipe.seed + (shard << 32), step]))
        family = draw_family(phase, rng)
    size = phase.height_px(aspect, recipe.config().patch_size, width), width
    scenes = max(1, round(phase.images_per_step * (phase.image_px / width) ** 2) // frames)
    count = min(scenes, phase.families)
    families = [family, *(draw_family(phase, rng) for _ in range(count - 1))]
    parts = np.array_split(np.arange(first, first + scenes), count)
    batches = [
        render_rooms(list(map(int, part)), frames, size, family, device=device)
        for part, family in zip(parts, families, strict=True)
    ]
    return join_batches(batches), rng


def draw_family(phase: Phase, rng: np.random.Generator) -> RoomFamily:
    """Draw a family of rooms."""
    landmarks = min(1.0, max(0.0, float(rng.uniform(*phase.landmarks))))
    wide = phase.wide_share > 0 and rng.random() < phase.wide_share
    degrade = phase.degrade_share > 0 and bool(rng.random() < phase.degrade_share)
    return replace(SPLITS["wide" if wide else "train"].family, landmarks=landmarks, degrade=degrade)


def join_batches(batches: Sequence[RoomBatch]) -> RoomBatch:
    """Return rooms of several batches as one."""
    return RoomBatch(*(torch.cat([getattr(each, name.name) for each in batches]) for name in fields(RoomBatch)))


def step_loss(learner: Learner, rooms: RoomBatch, rng: np.random.Generator, recipe: TrainRecipe, step: int) -> StepLoss:
    """Run the model on rooms and return its loss; dense heads see only a few frames of each scene."""
    model, phase = learner.model, recipe.phase_at(step)
    truth = normalized_truth(rooms.cam_from_world, rooms.intrinsics, rooms.depth, rooms.valid)
    scenes, frames = rooms.images.shape[:2]
    picked = torch.from_numpy(rng.permuted(np.tile(np.arange(frames), (scenes, 1)), axis=1)[:, : phase.dense_frames])
    rows = torch.arange(scenes)[:, None]
    image_hw = (rooms.images.shape[3], rooms.images.shape[4])
    device = rooms.images.device.type
    with training_attention(model, recipe.matching_layers, device) as pairs:
        with torch.autocast(device, torch.bfloat16, enabled=has_half_products(device)):
            outputs = model.aggregator(rooms.images, model.pairs_read_by(ALL_HEADS))  # AA pair -> [B, S, P, 2C]
            layers = model.patch_tokens(outputs)  # [B, S, P-5, 2C] each
            few = [tokens[rows, picked] for tokens in layers]  # [B, F, P-5, 2C] each
            depth = run_in_frames(model.depth_head, few, image_hw, scenes * frames)
            points = run_in_frames(model.point_head, few, image_hw, scenes * frames)
        iterations = model.camera_head(model.camera_tokens(outputs).float())  # [4, B, S, 9]
    loss = combine(truth, iterations, (*depth, *points), (rows, picked), recipe=recipe)
    if learner.sketch is None:
        return loss
    patch = model.config.patch_size
    middle = [center_index(side, patch, truth.points.device) for side in truth.depth.shape[-2:]]
    places = truth.points[:, :, middle[0][:, None], middle[1]].flatten(2, 3)
    sketch = learner.sketch(layers, places)
    matching = matching_loss(pairs, find_matches(rooms, patch), model.special_tokens)
    total = loss.total + recipe.matching_weight * matching + recipe.sketch_weight * sketch
    return replace(loss, total=total, matching=matching, sketch=sketch)


def has_half_products(device: str) -> bool:
    """Return whether a device multiplies bfloat16 in hardware; a torch that cannot tell counts as no."""
    found = getattr(torch.cpu, "get_capabilities", dict)()
    return device != "cpu" or any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def combine(
    truth: Truth, iterations: Tensor, dense: tuple[Tensor, ...], picked: tuple[Tensor, Tensor], recipe: TrainRecipe
) -> StepLoss:
    """Weigh the parts of the loss: depth by the error of its logarithm, points by their distance."""
    depth_raw, depth_conf, point_raw, point_conf = (values.float() for values in dense)
    valid = truth.valid[picked].float()
    pose = pose_loss(iterations, truth.pose_enc)
    direction = direction_loss(iterations[-1], truth.pose_enc)
    depth_error = (depth_raw[..., 0] - truth.depth[picked].clamp(min=1e-3).log()).abs()
    depth = dense_loss(depth_error, depth_conf.clamp(max=50), valid)
    predicted = point_raw.sign() * point_raw.abs().clamp(max=8).expm1()
    points = dense_loss((predicted - truth.points[picked]).norm(dim=-1), point_conf.clamp(max=50), valid)
    cameras = torch.cat((iterations[-1, ..., :7], iterations[-1, ..., 7:].clamp(0.2, 2.5)), -1)[picked]
    seen = depth_raw[..., 0].clamp(max=3).exp().flatten(0, 1)
    placement = placement_loss(seen, cameras.flatten(0, 1), truth.points[picked].flatten(0, 1), valid.flatten(0, 1))
    total = recipe.camera_weight * pose + recipe.direction_weight * direction + depth + points
    total = total + recipe.placement_weight * placement
    images = truth.valid.shape[0] * truth.valid.shape[1]
    return StepLoss(
        total,
        pose=pose,
        direction=direction,
        depth=depth,
        points=points,
        placement=placement,
        images=images,
        matching=total.new_zeros(()),
        sketch=total.new_zeros(()),
    )
