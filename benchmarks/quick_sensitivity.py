"""Sensitivities estimated from gradients against measured ones, and how far either carries over to other rooms.

By default: the rank correlation of estimated and measured sensitivities of parts, what is lost by the schemes that
are chosen from each within one budget, and time and memory. With ``--transfer``: the rank correlation of sensitivities
found on different families of rooms, and the loss on one family of schemes chosen on another. With ``--full``: time and
memory of the estimate on a model of any size.

python benchmarks/quick_sensitivity.py [--models NAME ...] [--bits N ...] [--scenes N] [--folder DIR] [--transfer]
python benchmarks/quick_sensitivity.py --full seeded:vggt-1b --frames N --size PX
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

import qvggt
from qvggt import geometry
from qvggt.calibration.data import SceneBatch, batched
from qvggt.calibration.gradient_sensitivity import estimate_sensitivity
from qvggt.calibration.objective import mean_loss, task_losses
from qvggt.calibration.sensitivity import SensitivityReport, measure_sensitivity, read_sensitivity
from qvggt.calibration.size import storage_of
from qvggt.calibration.task import Task, make_task
from qvggt.calibration.units import run_units, start
from qvggt.data.rooms.family import load_rooms
from qvggt.eval.fidelity import pair_differences
from qvggt.eval.metrics.pose import auc
from qvggt.inference.process_memory import peak_memory_bytes, size_text
from qvggt.methods.allocate import Budget, allocate
from qvggt.methods.qvggt import SPARE_BITS
from qvggt.model import VGGT, VGGTConfig
from qvggt.nn.fake import fake_quantize, fake_quantized
from qvggt.quant.scheme import LayerScheme, Scheme
from qvggt.types import LayerId
from ranks import rank_correlation

SIZE_HW = (VGGTConfig.nano().image_size,) * 2
"""Of nano's images."""

WIDTHS = (2, 3, 4, 5, 8)
"""Bits to choose from."""

FULL_WIDTHS = (3, 4, 5, 6, 8)
"""Those of ``select`` at 4 bits."""


@dataclass(frozen=True)
class Family:
    """Rooms of one kind.

    Attributes:
        split: of rooms.
        landmarks: in place of the split's own; None for that.
        frames: of a room.
        skipped: rooms at the start of the split that are left out.
    """

    split: str = "calib"
    landmarks: float | None = None
    frames: int = 4
    skipped: int = 0

    def scenes(self, count: int) -> list[SceneBatch]:
        """Return the first rooms that are not left out."""
        rooms = load_rooms(self.split, SIZE_HW, self.skipped + count, self.frames, landmarks=self.landmarks)
        return list(batched(list(rooms)[self.skipped :]))


USUAL = Family()
FAMILIES = {
    "rooms": USUAL,
    "other rooms": replace(USUAL, skipped=100),
    "2 frames": replace(USUAL, frames=2),
    "8 frames": replace(USUAL, frames=8),
    "landmarks 0": replace(USUAL, landmarks=0.0),
    "wide": replace(USUAL, split="wide", skipped=100),
    "real-like": replace(USUAL, split="real-like", skipped=100),
}
"""Families between which sensitivities may carry over."""

FINDERS: Mapping[str, Callable[..., SensitivityReport]] = {
    "measured": measure_sensitivity,
    "gradient": estimate_sensitivity,
    "auto": partial(estimate_sensitivity, measure_doubtful=True),
}
"""Ways to find sensitivities; ``auto`` measures the parts that gradients cannot judge."""


@dataclass(frozen=True)
class Judged:
    """What a quantized model loses on rooms.

    Attributes:
        loss: increase of the task objective.
        auc30: against the truth, 0..100.
        fidelity3: AUC@3 against the float model's cameras.
    """

    loss: float
    auc30: float
    fidelity3: float


@dataclass(frozen=True)
class Compared:
    """Cells of the tables for one model.

    Attributes:
        ranks: rank correlation with what is measured, by kind of sensitivities and bits.
        losses: rows that say what choices lose.
    """

    ranks: Mapping[tuple[str, int], str]
    losses: Sequence[str]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["nano", "nano-hard"])
    parser.add_argument("--bits", nargs="+", type=int, default=[4, 3])
    parser.add_argument("--calib-scenes", type=int, default=4, help="rooms on which sensitivities are found")
    parser.add_argument("--scenes", type=int, default=32, help="rooms of the split test on which choices are judged")
    parser.add_argument("--folder", type=Path, help="keeps reports, which a second run reads instead")
    parser.add_argument("--transfer", action="store_true", help="between families of rooms, on the first model")
    parser.add_argument("--by", choices=FINDERS, default="gradient", help="with --transfer")
    parser.add_argument("--full", help="time and memory of the estimate on this model")
    parser.add_argument("--frames", type=int, default=1, help="with --full: images of each of three scenes")
    parser.add_argument("--size", type=int, help="with --full: their sides in px; the model's own by default")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.full:
        full_size(chosen.full, chosen.frames, chosen.size)
        return
    models = {name: qvggt.load(name, compute="float32", device="cpu") for name in chosen.models}
    if chosen.transfer:
        transfer(models[chosen.models[0]], chosen.models[0], chosen)
        return
    compared = {name: compare(model, name, chosen) for name, model in models.items()}
    ways = [(name, way) for name in models for way in FINDERS if way != "measured"]
    print(f"\n| | {' | '.join(f'{name}, `{way}`' for name, way in ways)} |\n|---|{'--:|' * len(ways)}")
    for bits in WIDTHS:
        print(f"| {bits} bits | {' | '.join(compared[name].ranks[way, bits] for name, way in ways)} |")
    print("\n| model, bits | chosen from | loss in thousandths | AUC@30 lost | AUC@3 against the float model |")
    print("|---|---|--:|--:|--:|")
    print("\n".join(row for each in compared.values() for row in each.losses))


def compare(model: VGGT, name: str, chosen: argparse.Namespace) -> Compared:
    """Return how the kinds of sensitivities of a model differ, and what follows; print what they took."""
    task = make_task(model, USUAL.scenes(chosen.calib_scenes), "teacher")
    reports = {}
    for way in FINDERS:
        began = time.process_time()
        reports[way] = report_of(way, model, task, name, folder=chosen.folder)
        seconds, peak = time.process_time() - began, size_text(peak_memory_bytes())
        print(f"{name}, {way}: {seconds:.0f} s of one core, peak {peak}", flush=True)
    ranks = {
        (way, bits): f"{correlation(reports['measured'], report, bits, conv=True):.3f}"
        for way, report in reports.items()
        for bits in WIDTHS
    }
    judged = make_task(model, list(batched(list(load_rooms("test", SIZE_HW, chosen.scenes)))), "teacher")
    exact, losses = run(model, judged, {}), []
    best = judge(exact, exact, judged)
    for bits in chosen.bits:
        ways = {"the same for all": uniform(model, bits)}
        ways |= {way if way == "measured" else f"`{way}`": chosen_schemes(model, reports[way], bits) for way in reports}
        for way, schemes in ways.items():
            found = judge(run(model, judged, schemes), exact, judged)
            cells = f"{1000 * found.loss:.1f} | {best.auc30 - found.auc30:.2f} | {found.fidelity3:.1f}"
            losses.append(f"| {name}, {bits} | {way} | {cells} |")
    return Compared(ranks, losses)


def report_of(
    way: str, model: VGGT, task: Task, title: str, folder: Path | None, widths: Sequence[int] = WIDTHS
) -> SensitivityReport:
    """Return the sensitivities found one way, from the folder if it has them."""
    path = None if folder is None else folder / f"{title} {way} {'-'.join(map(str, widths))}.json"
    if path is not None and path.exists():
        return read_sensitivity(path)
    report = FINDERS[way](model, task, [Scheme(bits) for bits in widths])
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report.to_json()))
    return report


def correlation(one: SensitivityReport, other: SensitivityReport, bits: int, *, conv: bool) -> float:
    """Return Spearman's rank correlation of two reports' losses of parts at one width, convolutions included or not."""
    totals = [
        [row.total for row in report.rows if row.scheme.bits == bits and (conv or row.item.part != "conv")]
        for report in (one, other)
    ]
    return rank_correlation(*totals)


def uniform(model: VGGT, bits: int) -> dict[LayerId, LayerScheme]:
    """Return the same width for all linear layers, and 8 bits for convolutions."""
    shapes = storage_of(model.config).shapes
    return {layer: Scheme(bits) if shape.kind == "linear" else Scheme(8) for layer, shape in shapes.items()}


def chosen_schemes(model: VGGT, report: SensitivityReport, bits: int) -> dict[LayerId, LayerScheme]:
    """Return the schemes that ``select`` chooses with its usual budget for a width."""
    storage = storage_of(model.config)
    budget = Budget(storage.average_bits(uniform(model, bits)) + SPARE_BITS)
    return dict(allocate(report, storage, budget, Scheme(8)).schemes)


@dataclass(frozen=True)
class Run:
    """What a model does on the scenes of a task.

    Attributes:
        loss: the task objective.
        cameras: [S, 3, 4] of each scene.
    """

    loss: float
    cameras: tuple[np.ndarray, ...]


@torch.no_grad()
def run(model: VGGT, task: Task, schemes: Mapping[LayerId, LayerScheme]) -> Run:
    """Run a model with layers rounded to nearest."""
    losses, cameras = [], []
    with fake_quantized(model, {str(layer): scheme for layer, scheme in schemes.items()}):
        for batch, target in zip(task.batches, task.targets, strict=True):
            outputs = run_units(model, task.units, start(batch.images)).outputs
            losses.append(task_losses(outputs, target))
            cameras += cameras_from(outputs["pose_enc"], batch)
    return Run(mean_loss(losses, [batch.scenes for batch in task.batches]).total, tuple(cameras))


def judge(found: Run, exact: Run, task: Task) -> Judged:
    """Return what a run loses, given that of the float model."""
    true: list[np.ndarray] = []
    for batch in task.batches:
        assert batch.truth is not None
        true += cameras_from(batch.truth.pose_enc, batch)
    auc30, fidelity3 = (
        auc(np.concatenate([pair_differences(*pair).joint_deg for pair in zip(cameras, found.cameras, strict=True)]), t)
        for cameras, t in ((true, 30), (exact.cameras, 3))
    )
    return Judged(found.loss - exact.loss, auc30, fidelity3)


def cameras_from(pose_enc: torch.Tensor, batch: SceneBatch) -> list[np.ndarray]:
    """Return the cameras [S, 3, 4] of each scene from pose encodings [B, S, 9] of a batch's images."""
    size = (batch.images.shape[-2], batch.images.shape[-1])
    return list(geometry.pose_encoding_to_cameras(pose_enc, size)[0].double().numpy())


def transfer(model: VGGT, name: str, chosen: argparse.Namespace) -> None:
    """Print how sensitivities of families of rooms are correlated, and the loss by choices made on others."""
    bits, tasks = chosen.bits[0], {}
    for family, rooms in FAMILIES.items():
        tasks[family] = make_task(model, rooms.scenes(chosen.calib_scenes), "teacher")
    reports = {
        family: report_of(chosen.by, model, task, f"{name} {family}", folder=chosen.folder)
        for family, task in tasks.items()
    }
    print(f"Rank correlation at {bits} bits, linear layers, {name}, {chosen.by}:\n")
    print(f"| | {' | '.join(FAMILIES)} |\n|---|{'--:|' * len(FAMILIES)}")
    for family, report in reports.items():
        cells = [f"{correlation(report, other, bits, conv=False):.3f}" for other in reports.values()]
        print(f"| {family} | {' | '.join(cells)} |")
    ways = {"the same for all": uniform(model, bits)}
    ways |= {family: chosen_schemes(model, report, bits) for family, report in reports.items()}
    ways["all families"] = chosen_schemes(model, pooled_report(list(reports.values())), bits)
    print(f"\nLoss on rooms (columns) of schemes chosen on others (rows), {bits} bits, in thousandths:\n")
    print(f"| | {' | '.join(FAMILIES)} |\n|---|{'--:|' * len(FAMILIES)}")
    judged = {
        family: make_task(model, judging(rooms).scenes(chosen.scenes), "teacher") for family, rooms in FAMILIES.items()
    }
    exact = {family: run(model, task, {}).loss for family, task in judged.items()}
    for way, schemes in ways.items():
        lost = [1000 * (run(model, task, schemes).loss - exact[family]) for family, task in judged.items()]
        print(f"| {way} | {' | '.join(f'{value:.2f}' for value in lost)} |", flush=True)


def judging(rooms: Family) -> Family:
    """Return the family with rooms on which nothing was chosen."""
    return replace(rooms, skipped=rooms.skipped + 50)


def pooled_report(reports: Sequence[SensitivityReport]) -> SensitivityReport:
    """Return the report with the largest loss of each item and scheme, each report relative to its own mean."""
    means = [float(np.mean([row.total for row in report.rows])) for report in reports]
    rows = []
    for each in zip(*(report.rows for report in reports), strict=True):
        rows.append(replace(each[0], total=max(row.total / mean for row, mean in zip(each, means, strict=True))))
    return replace(reports[0], rows=tuple(rows))


def full_size(name: str, frames: int, size: int | None) -> None:
    """Print time and memory of the estimate for three scenes of noise and a model of any size."""
    model = qvggt.load(name, compute="float32", device="cpu")
    print(f"{name} is open: {size_text(peak_memory_bytes())}", flush=True)
    size = size or model.config.image_size
    noise = torch.rand(3, frames, 3, size, size, generator=torch.Generator().manual_seed(0))
    began = time.process_time()
    task = make_task(model, [SceneBatch(scene) for scene in noise.split(1)], "teacher")
    target = time.process_time()
    print(f"three scenes of {frames} images of {size} px", flush=True)
    print(f"targets: {target - began:.0f} s, {size_text(peak_memory_bytes())}", flush=True)
    estimate_sensitivity(model, task, [Scheme(bits) for bits in FULL_WIDTHS])
    estimated = time.process_time()
    print(f"estimate: {estimated - target:.0f} s, {size_text(peak_memory_bytes())}", flush=True)
    for layer in storage_of(model.config).shapes:
        for bits in FULL_WIDTHS:
            fake_quantize(model.get_parameter(f"{layer}.weight"), Scheme(bits))
    print(f"of which rounding, for any number of images: {time.process_time() - estimated:.0f} s")


if __name__ == "__main__":
    main()
