"""Ways to estimate from gradients what quantizing a part loses, each against the measurement: nano, on four rooms.

Random probes of each head's output are taken three times on every room. By way:

- ``direction``: the mean of ⟨g, ΔW⟩² over the probes' gradients g, for the very rounding errors ΔW;
- ``weights``: Σ E[g²] ΔW², as if rounding errors were independent of each other;
- ``rows``: the squared error of each of a layer's outputs, by the sum of E[g²] over its row;
- ``tokens``: the squared error of each of a layer's outputs at each token, by the squared gradient there;
- ``weights, one root``: as ``weights``, but the root of the sum over the heads in place of the sum of their roots.

The gradients of all layers are kept in memory together, which only small models allow. ``qvggt sensitivity --by
gradient`` uses ``weights`` for rounding to nearest and ``rows`` for second-order rounding.

python benchmarks/sensitivity_variants.py [--model NAME] [--bits N ...]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

import qvggt
from qvggt.calibration.activation_cache import ActivationCache
from qvggt.calibration.data import load_calibration
from qvggt.calibration.probes import output_probes
from qvggt.calibration.sensitivity import Item, SensitivityReport, items_of, measure_sensitivity, unit_inputs
from qvggt.calibration.statistics import observe, pooled
from qvggt.calibration.task import Task, make_task
from qvggt.calibration.units import HEADS, run_units, start
from qvggt.methods.gptq import second_order_rounder
from qvggt.methods.qvggt import QvggtPlus
from qvggt.model import VGGT
from qvggt.nn.fake import fake_quantize
from qvggt.options import TOKEN_CLASSES, CalibrationOptions
from qvggt.quant.scheme import Scheme
from qvggt.types import LayerId
from ranks import rank_correlation

PROBES = 3
"""Of each head on each room."""

WAYS: tuple[str, ...] = ("direction", "weights", "rows", "tokens")
Changes = Mapping[LayerId, Tensor]
"""Rounding error of each layer's weight."""


def main() -> None:
    """Print the rank correlation of every way with the measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--bits", nargs="+", type=int, default=[3, 4])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    model = qvggt.load(chosen.model, compute="float32", device="cpu")
    size, patch = model.config.image_size, model.config.patch_size
    task = make_task(model, load_calibration(CalibrationOptions(scenes=6, frames=4), size, patch).batches, "teacher")
    print(f"| {chosen.model} | {' | '.join((*WAYS, 'weights, one root'))} |\n|---|{'--:|' * (len(WAYS) + 1)}")
    for rounding in ("nearest", "second-order"):
        for bits in chosen.bits:
            cells = " | ".join(f"{value:.3f}" for value in correlations(model, task, Scheme(bits), rounding))
            print(f"| {bits} bits, {rounding} | {cells} |", flush=True)


def correlations(model: VGGT, task: Task, scheme: Scheme, rounding: str) -> list[float]:
    """Return the rank correlation of every way with the measurement, over the parts of a model."""
    rounder = second_order_rounder(TOKEN_CLASSES, QvggtPlus.damping) if rounding == "second-order" else None
    measured = measure_sensitivity(model, task, [scheme], rounder=rounder)
    changes: dict[LayerId, Tensor] = {}
    grams: dict[LayerId, Tensor] = {}
    with torch.no_grad():
        for unit, states in unit_inputs(model, task, ActivationCache(4 << 30)):
            grams |= {layer: pooled(found).gram for layer, found in observe(model, unit, states).items()}
            rounded = {} if rounder is None else rounder(model, unit, states, scheme)
            for layer in (*unit.linear, *unit.conv):
                weight = model.get_parameter(f"{layer}.weight")
                changes[layer] = rounded.get(layer, fake_quantize(weight, scheme)) - weight
    return ranked(measured, errors_of(model, task, changes, grams))


def errors_of(model: VGGT, task: Task, changes: Changes, grams: Changes) -> dict[str, np.ndarray]:
    """Return the mean squared errors [heads, parts] of the outputs that every way predicts."""
    items = [item for unit in task.units for item in items_of(unit, "part")]
    found = {way: np.zeros((len(HEADS), len(items))) for way in WAYS}
    weights = {layer: model.get_parameter(f"{layer}.weight").requires_grad_(True) for layer in changes}
    single, signs = task.by_scene(), torch.Generator().manual_seed(1)
    for batch, target in zip(single.batches, single.targets, strict=True):
        for _ in range(PROBES):
            seen: list[tuple[LayerId, Tensor, Tensor]] = []
            hooks = [model.get_submodule(layer).register_forward_hook(partial(_keep, seen, layer)) for layer in changes]
            outputs = run_units(model, task.units, start(batch.images)).outputs
            for hook in hooks:
                hook.remove()
            for row, (head, pull) in enumerate(output_probes(outputs, target, signs).items()):
                asked = [outputs[name] for name in pull]
                inner = [output for _, _, output in seen]
                given = torch.autograd.grad(
                    asked, [*weights.values(), *inner], list(pull.values()), retain_graph=head != HEADS[-1],
                    allow_unused=True,
                )  # fmt: skip
                gradients = dict(zip(weights, given, strict=False))
                at_tokens = _at_tokens(seen, given[len(weights) :], changes)
                for column, item in enumerate(items):
                    for way, value in _of_item(item, changes, grams, gradients, at_tokens=at_tokens).items():
                        found[way][row, column] += value / (PROBES * len(single.batches))
    for weight in weights.values():
        weight.requires_grad_(False)
    return found


def _of_item(
    item: Item,
    changes: Changes,
    grams: Changes,
    gradients: Mapping[LayerId, Tensor | None],
    at_tokens: Mapping[LayerId, float],
) -> dict[str, float]:
    """Return the squared error that every way predicts of one probe for a part."""
    direction, sums = 0.0, dict.fromkeys(WAYS[1:], 0.0)
    for layer in item.layers:
        gradient, change = gradients[layer], changes[layer]
        if gradient is None:
            continue
        direction += float((gradient * change).sum())
        weights = float((gradient.square() * change.square()).sum())
        rows = tokens = weights
        if layer in grams:
            outputs = ((change @ grams[layer]) * change).sum(1) / grams[layer].trace()
            rows, tokens = float((gradient.square().sum(1) * outputs).sum()), at_tokens[layer]
        for way, value in (("weights", weights), ("rows", rows), ("tokens", tokens)):
            sums[way] += value
    return {"direction": direction**2, **sums}


def _at_tokens(
    seen: Sequence[tuple[LayerId, Tensor, Tensor]], given: Sequence[Tensor | None], changes: Changes
) -> dict[LayerId, float]:
    total: dict[LayerId, float] = {}
    for (layer, inputs, _), gradient in zip(seen, given, strict=True):
        change = changes[layer]
        if gradient is not None and change.ndim == 2:
            value = float((gradient.square() * (inputs @ change.T).square()).sum())
            total[layer] = total.get(layer, 0.0) + value
    return total


def _keep(
    seen: list[tuple[LayerId, Tensor, Tensor]], layer: LayerId, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
) -> None:
    if output.requires_grad:
        seen.append((layer, inputs[0].detach(), output))


def ranked(measured: SensitivityReport, found: Mapping[str, np.ndarray]) -> list[float]:
    """Return the rank correlation of every way's losses with those measured."""
    losses = [np.sqrt(found[way]).sum(0) for way in WAYS] + [np.sqrt(found["weights"].sum(0))]
    totals = [row.total for row in measured.rows]
    return [rank_correlation(each, totals) for each in losses]


if __name__ == "__main__":
    main()
