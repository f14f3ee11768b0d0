"""A training recipe: every number that determines a run, as one JSON file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from qvggt.files.read import read_json, reading
from qvggt.model import VGGTConfig
from qvggt.options.messages import did_you_mean
from qvggt.types import PathLike, QvggtError


def _shallow_nano() -> VGGTConfig:
    """What nano grew from: fewer pairs of blocks, more camera head, for smaller images."""
    return dataclasses.replace(VGGTConfig.nano(), image_size=84, depth=6, camera_trunk_depth=2, dpt_layers=(1, 3, 4, 5))


_GIVE = "give a JSON file, nano-1 to nano-5 or micro"

PRESETS = {"nano": VGGTConfig.nano, "micro": VGGTConfig.micro, "shallow-nano": _shallow_nano}


@dataclass(frozen=True)
class Phase:
    """A stretch of training on images of one size.

    Attributes:
        steps: optimizer steps.
        image_px: width of the images.
        images_per_step: images of that width in a step, shared out among scenes.
        frames: the numbers of frames of a scene to draw from, one draw a step.
        landmarks: range from which a family of rooms draws its ``landmarks``; what is drawn below 0 or above 1 is 0 or
            1, so that from -1 to 1 half of the families have none.
        dense_frames: frames of each scene on which the dense heads are trained in a step.
        aspects: heights to draw from, as shares of the width, one draw a step; brought to whole patches.
        widths_px: widths to draw from in place of ``image_px``, one draw a step; wider images are fewer in a step.
        families: of rooms in a step, at most, each with draws of its own.
        degrade_share: probability that a family's pictures look as a hand-held camera's.
        wide_share: probability that a family's cameras are as far apart as those of the split ``wide``.
    """

    steps: int
    image_px: int
    images_per_step: int
    frames: tuple[int, ...] = (2, 3, 4, 6, 8)
    landmarks: tuple[float, float] = (1.0, 1.0)
    dense_frames: int = 1
    aspects: tuple[float, ...] = (1.0,)
    widths_px: tuple[int, ...] = ()
    families: int = 1
    degrade_share: float = 0.0
    wide_share: float = 0.0

    def height_px(self, aspect: float, patch: int, width_px: int | None = None) -> int:
        """Return the height of images of a width (``image_px`` if None) for an aspect, in whole patches."""
        return patch * max(1, round((width_px or self.image_px) * aspect / patch))


@dataclass(frozen=True)
class TrainRecipe:
    """A run, from nothing or from given weights, to a trained model.

    Attributes:
        model: preset of the architecture.
        phases: what is trained on, in order.
        seed: of the initial weights and of every scene.
        muon_lr: learning rate of the block matrices (orthogonalized momentum, matched to AdamW's update size).
        adamw_lr: learning rate of everything else.
        weight_decay: on matrices only; norms, biases, tokens, embeddings and LayerScale have none.
        warmup_steps: linear rise of both rates.
        cooldown_steps: linear fall of both rates to zero before the end.
        ema_decay: of the averaged weights, which are what is kept in the end.
        clip_norm: bound on the gradient's norm.
        camera_norm: norm of camera tokens at the start, in units of a patch token's as the blocks first see it.
        register_norm: of register tokens; patch tokens grow tenfold on their way, and registers shall stay above them.
        camera_weight: weight of the pose loss against one for depth and one for points.
        direction_weight: weight of the loss on directions between pairs of cameras.
        placement_weight: weight of the loss on depth as the predicted cameras place it.
        matching_weight: weight of the loss on where global attention looks in other pictures.
        matching_layers: AA pairs whose global attention is taught so.
        sketch_weight: weight of the loss on the point at the middle of every patch, told by its tokens.
        checkpoint_minutes: time between checkpoints.
        validate_steps: steps between validations.
        validate_landmarks: ``landmarks`` of the rooms of a validation, one after another.
        shards: parts of a step, each with rooms of its own and as many images as its phase says; the step's gradient is
            the mean of theirs, which processes can compute side by side.
    """

    model: str
    phases: tuple[Phase, ...]
    seed: int = 0
    muon_lr: float = 2e-3
    adamw_lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100
    cooldown_steps: int = 1000
    ema_decay: float = 0.998
    clip_norm: float = 1.0
    camera_norm: float = 4.0
    register_norm: float = 40.0
    camera_weight: float = 5.0
    direction_weight: float = 0.5
    placement_weight: float = 1.0
    matching_weight: float = 0.0
    matching_layers: tuple[int, ...] = ()
    sketch_weight: float = 0.0
    checkpoint_minutes: float = 10.0
    validate_steps: int = 500
    validate_landmarks: tuple[float, ...] = (1.0,)
    shards: int = 1
    notes: str = field(default="", compare=False)

    @property
    def steps(self) -> int:
        """All steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def config(self) -> VGGTConfig:
        """Return the architecture's configuration."""
        return PRESETS[self.model]()

    def phase_at(self, step: int) -> Phase:
        """Return the phase that a step (from 0) belongs to."""
        for phase in self.phases:
            if step < phase.steps:
                return phase
            step -= phase.steps
        return self.phases[-1]

    def rate_at(self, step: int) -> float:
        """Return the learning rate's factor in 0..1 at a step: rise, plateau, fall."""
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        fall = min(1.0, (self.steps - step) / max(1, self.cooldown_steps))
        return rise * max(0.0, fall)


def load_recipe(source: PathLike) -> TrainRecipe:
    """Read a recipe from a JSON file, or one that qvggt carries by its name (``nano-1`` to ``nano-5``, ``micro``).

    Raises:
        QvggtError: there is no such file, or it is no recipe.
    """
    path, carried = Path(source), Path(__file__).parent / "recipes"
    if not path.suffix:
        path = carried / f"{source}.json"
        if not path.exists():
            nearest = did_you_mean(source, (each.stem for each in carried.glob("*.json")))
            raise QvggtError(f"the training recipe is missing: {_GIVE}, not {source}{nearest}")
    what, remedy = "the training recipe", _GIVE
    values = read_json(path, remedy, what)
    with reading(path, remedy, what):
        return parse_recipe(values)


def parse_recipe(values: dict[str, Any]) -> TrainRecipe:
    """Build a recipe from JSON values; what is no recipe raises ValueError, TypeError, KeyError or AttributeError."""
    values = dict(values)
    phases = tuple(_parse_phase(phase) for phase in values.pop("phases"))
    recipe = _checked(TrainRecipe(phases=phases, **_tuples(values)))
    if recipe.model not in PRESETS or not phases:
        raise ValueError(f"model must be one of {', '.join(PRESETS)} and phases must not be empty")
    depth = recipe.config().depth
    if not all(0 <= layer < depth for layer in recipe.matching_layers):
        raise ValueError(f"matching_layers must be from 0 to {depth - 1}")
    return recipe


def _parse_phase(values: dict[str, Any]) -> Phase:
    return _checked(Phase(**_tuples(values)))


_R = TypeVar("_R", Phase, TrainRecipe)
_KINDS: Mapping[str, type | tuple[type, ...]] = {"int": int, "float": (int, float), "str": str}
_POSITIVE = {
    "steps", "image_px", "images_per_step", "frames", "dense_frames", "widths_px", "families", "validate_steps",
    "shards",
}  # fmt: skip
_NOT_EMPTY = {"frames", "aspects"}


def _checked(values: _R) -> _R:
    """Return a recipe or a phase if all of its values have the types of their fields, are finite and in range."""
    for each in dataclasses.fields(values):
        kind, value = str(each.type), getattr(values, each.name)
        items = value if kind.startswith("tuple") else (value,)
        expected = _KINDS.get(kind.removeprefix("tuple[").split(",")[0], object)
        if not isinstance(items, tuple) or any(isinstance(x, bool) or not isinstance(x, expected) for x in items):
            raise ValueError(f"expected {each.name} as {kind}, got {value!r:.60}")
        if not all(math.isfinite(x) for x in items if isinstance(x, (int, float))):
            raise ValueError(f"{each.name} is not finite")
        if each.name in _POSITIVE and any(x < 1 for x in items):
            raise ValueError(f"{each.name} must be at least 1")
        if each.name in _NOT_EMPTY and not items:
            raise ValueError(f"{each.name} must not be empty")
        if kind == "tuple[float, float]" and len(items) != 2:
            raise ValueError(f"{each.name} must be two numbers")
    return values


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def recipe_json(recipe: TrainRecipe) -> dict[str, Any]:
    """Return JSON-ready values that ``parse_recipe`` takes back."""
    return dataclasses.asdict(recipe)
