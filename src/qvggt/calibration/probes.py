"""Gradients of random probes of a model's outputs, unit by unit from the last to the first.

A probe is ⟨s, outputs⟩ with random signs s, each times the root of its output's weight in the objective. If a change ΔW
of the weights moves the outputs by J·ΔW, the probe's gradient g = Jᵀs has E⟨g, ΔW⟩² = the weighted ‖J·ΔW‖².
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qvggt.calibration.objective import Target
from qvggt.calibration.units import HEADS, ForwardState, Unit, advance
from qvggt.model import VGGT
from qvggt.types import LayerId

Pull = Mapping[str, Tensor]
"""Gradient of a probe with respect to tensors of a state, by the names of ``_tensors``."""

Changes = Mapping[LayerId, Sequence[Tensor]]
"""Changes of each layer's weight, in its shape."""


@dataclass(frozen=True)
class Probed:
    """What probes' gradients with respect to a layer's weight say.

    Attributes:
        squares: sum over the probes of the squared gradient, in the weight's shape.
        along: a row [changes] for each probe, its products with given changes of the weight.
    """

    squares: Tensor
    along: Tensor

    def and_(self, other: Probed) -> Probed:
        """Return this with the findings of further probes; this one's squares are used up."""
        return Probed(self.squares.add_(other.squares), torch.cat((self.along, other.along)))


ProbedLayers = Mapping[LayerId, Probed]


def heads_of_scene(scene: int, scenes: int) -> tuple[str, ...]:
    """Return the heads that are probed on a scene: every head on some, and each scene by one if there are enough."""
    return tuple(head for index, head in enumerate(HEADS) if (scene - index) % min(len(HEADS), scenes) == 0)


def output_probes(
    outputs: Mapping[str, Tensor], target: Target, generator: torch.Generator, heads: Collection[str] = HEADS
) -> dict[str, Pull]:
    """Return a probe of each head's output on one scene, as its gradient with respect to that output.

    The mean square of a probe's change is the mean squared error of the head's part of the objective: of the pose
    encoding, or of depth or points weighted by confidence, all in units of the scene's size.

    Args:
        outputs: of the model; ``pose_enc`` [1, S, 9], ``depth`` [1, S, H, W, 1], ``world_points`` [1, S, H, W, 3].
        target: of the scene.
        generator: of the signs, on the CPU.
        heads: which to probe.

    Returns:
        By head, and by the output's name.
    """
    pose = outputs["pose_enc"]
    per_pixel = outputs["depth"].numel() * target.scale[0] ** 2
    translation = torch.arange(pose.shape[-1], device=pose.device) < 3
    in_size = torch.where(translation, 1 / target.scale[0], 1.0)  # [9]
    roots = {
        "camera": ("pose_enc", in_size / pose.numel() ** 0.5),
        "depth": ("depth", (target.depth_weight / per_pixel).sqrt()[..., None]),
        "point": ("world_points", (target.point_weight / per_pixel).sqrt()[..., None]),
    }
    return {
        head: {name: _signs(outputs[name], generator) * root} for head, (name, root) in roots.items() if head in heads
    }


def pull_back(
    model: VGGT, unit: Unit, state: ForwardState, pulls: Mapping[str, Pull], changes: Changes
) -> tuple[dict[str, Pull], dict[str, ProbedLayers]]:
    """Run a unit on one scene and take probes' gradients from the state after it to the state before it.

    A dense head runs one frame at a time.

    Args:
        model: the model.
        unit: the unit.
        state: before the unit, of one scene.
        pulls: gradient of each probe with respect to the state after the unit and to outputs, by head.
        changes: of the weights of a block's layers.

    Returns:
        The gradients with respect to the state before it, and what they say about a block's weights, by head.
    """
    if unit.kind not in HEADS:
        return _pull_back(model, unit, state, pulls, changes=changes)
    head = unit.kind
    if head not in pulls:
        return {**pulls}, {}
    if head == "camera":
        return {**pulls, **_pull_back(model, unit, state, {head: pulls[head]}, changes={})[0]}, {}
    frames: list[Pull] = []
    for index in range(state.images.shape[1]):
        pull = {name: tensor[:, index : index + 1] for name, tensor in pulls[head].items()}
        frames.append(_pull_back(model, unit, _frame(state, index), {head: pull}, changes={})[0][head])
    joined = {name: torch.cat([frame[name] for frame in frames], 1) for name in frames[0]}
    return {**pulls, head: joined}, {}


def _pull_back(
    model: VGGT, unit: Unit, state: ForwardState, pulls: Mapping[str, Pull], changes: Changes
) -> tuple[dict[str, Pull], dict[str, ProbedLayers]]:
    weights = [model.get_parameter(f"{layer}.weight") for layer in changes]
    before: dict[str, Pull] = {}
    probed: dict[str, ProbedLayers] = {}
    with torch.enable_grad(), _differentiable(model, weights):
        inputs = {name: tensor.detach().requires_grad_(True) for name, tensor in _tensors(state).items()}
        after = advance(model, unit, _with_tensors(state, inputs))
        results = {name: tensor for name, tensor in _tensors(after).items() if tensor is not inputs.get(name)}
        results |= after.outputs
        for left, (head, pull) in zip(reversed(range(len(pulls))), pulls.items(), strict=True):
            asked = [name for name in pull if name in results]
            gradients = torch.autograd.grad(
                [results[name] for name in asked],
                [*inputs.values(), *weights],
                [pull[name] for name in asked],
                retain_graph=left > 0,
                allow_unused=True,
            )
            passed = {name: tensor for name, tensor in pull.items() if name not in results}
            before[head] = _added(passed, dict(zip(inputs, gradients, strict=False)))
            found = zip(changes, gradients[len(inputs) :], strict=True)
            probed[head] = {layer: _probed(each, changes[layer]) for layer, each in found if each is not None}
    return before, probed


def _probed(gradient: Tensor, changes: Sequence[Tensor]) -> Probed:
    """Return what one gradient says; it is used up."""
    along = torch.stack([(gradient * change).sum() for change in changes])
    return Probed(gradient.square_(), along[None])


def _tensors(state: ForwardState) -> dict[str, Tensor]:
    """Return what a state has of tokens, by names that are the same before and after a unit."""
    named = {"tokens": state.tokens, **{f"pairs/{layer}": tokens for layer, tokens in state.pairs.items()}}
    if state.in_frame is not None:
        named["in_frame"] = state.in_frame
    return {name: tensor for name, tensor in named.items() if tensor.numel()}


def _with_tensors(state: ForwardState, tensors: Mapping[str, Tensor]) -> ForwardState:
    return replace(
        state,
        tokens=tensors.get("tokens", state.tokens),
        in_frame=tensors.get("in_frame"),
        pairs={layer: tensors[f"pairs/{layer}"] for layer in state.pairs},
        outputs={},
    )


def _frame(state: ForwardState, index: int) -> ForwardState:
    """Return what a dense head reads of a scene's frame."""
    pairs = {layer: tokens[:, index : index + 1] for layer, tokens in state.pairs.items()}
    return ForwardState(state.images[:, index : index + 1], state.tokens.new_empty(0), None, pairs)


def _added(first: Pull, second: Mapping[str, Tensor | None]) -> Pull:
    present = {name: tensor for name, tensor in second.items() if tensor is not None}
    return {**first, **{name: first[name] + tensor if name in first else tensor for name, tensor in present.items()}}


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, like.shape, generator=generator) * 2 - 1
    return signs.to(like)


@contextmanager
def _differentiable(model: VGGT, weights: Sequence[Tensor]) -> Iterator[None]:
    """Let gradients be taken of weights inside the ``with``, through all iterations of the camera head.

    An iteration corrects errors of the one before it; gradients that stop between them would not know.
    """
    head, kept = model.camera_head, [weight.requires_grad for weight in weights]
    through = head.differentiable_iterations
    try:
        head.differentiable_iterations = True
        for weight in weights:
            weight.requires_grad_(True)
        yield
    finally:
        head.differentiable_iterations = through
        for weight, before in zip(weights, kept, strict=True):
            weight.requires_grad_(before)
