"""The self test: nano in 4 bits on the sample scene, compared with stored answers in every compute mode."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np

from qvggt.api.quantize import quantize_to
from qvggt.api.reconstruct import load, reconstruct
from qvggt.backends import pick, settled_device
from qvggt.backends.pick import canonical
from qvggt.checkpoint.open import open_model
from qvggt.eval.fidelity import camera_difference_deg, depth_difference
from qvggt.files.read import read_json
from qvggt.options import Compute, QuantizeOptions
from qvggt.quant.scheme import Scheme
from qvggt.types import OnProgress, PathLike, Prediction, QvggtError
from qvggt.weights.pretrained import sample_images

log = logging.getLogger(__name__)

GOLDEN = Path(__file__).with_name("self_test.json")
"""Answers of the 4-bit nano in float32 on the sample scene; ``scripts/make_self_test.py`` writes them."""

_MODEL, _SCHEME, _DEPTH_STEP, _DIGITS = "nano", Scheme(4, 64), 7, 6


@dataclass(frozen=True)
class Difference:
    """Largest differences over the frames of the sample scene.

    Attributes:
        rotation_deg: of the cameras, relative to the first.
        translation_deg: of the directions of the cameras' translations.
        depth_rel: mean relative difference of depth.
    """

    rotation_deg: float
    translation_deg: float
    depth_rel: float

    def within(self, tolerance: Difference) -> bool:
        """Return whether no difference exceeds that of the tolerance; NaN does."""
        return (
            self.rotation_deg <= tolerance.rotation_deg
            and self.translation_deg <= tolerance.translation_deg
            and self.depth_rel <= tolerance.depth_rel
        )


TOLERANCES: Mapping[Compute, Difference] = {
    "float32": Difference(0.05, 0.1, 0.001),
    "bfloat16": Difference(0.5, 1.0, 0.005),
    "float16": Difference(0.1, 0.2, 0.001),
    "int8": Difference(0.6, 2.0, 0.006),
}
"""Differences from float32 on a CPU that pass, by compute mode; docs/doctor.md has those that were measured."""


@dataclass(frozen=True)
class ComputeCheck:
    """The reconstruction of the sample scene in one compute mode.

    Attributes:
        device: torch's name.
        compute: mode.
        backend: that multiplies; another one than usual if something is missing.
        difference: from the stored answers; None if it ended in an error.
        tolerance: that passes.
        error: what went wrong; empty if nothing did.
    """

    device: str
    compute: Compute
    backend: str
    difference: Difference | None
    tolerance: Difference
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether the answers equal the stored ones within the tolerance."""
        return self.difference is not None and self.difference.within(self.tolerance)


@dataclass(frozen=True)
class SelfTest:
    """Result of the self test.

    Attributes:
        quantized: whether the packed weights equal the stored ones bit for bit.
        checks: of each compute mode, on the CPU and on the device that ``auto`` takes.
        error: what kept the test from running; empty if nothing did.
    """

    quantized: bool
    checks: tuple[ComputeCheck, ...]
    error: str = ""

    @property
    def passed(self) -> bool:
        """Whether everything equals the stored answers."""
        return self.quantized and not self.error and all(check.passed for check in self.checks)


def run_self_test(on_progress: OnProgress = lambda stage, share: None) -> SelfTest:
    """Quantize nano to 4 bits, reconstruct the sample scene in every compute mode, and compare with stored answers.

    Args:
        on_progress: called with the mode under way and the share done.
    """
    devices = dict.fromkeys(("cpu", settled_device("auto")))
    modes: list[tuple[str, Compute]] = [(device, mode) for device in devices for mode in _modes()]
    try:
        golden = read_json(GOLDEN, "install qvggt again", "the stored answers of the self test")
        with TemporaryDirectory(prefix="qvggt-") as folder:
            on_progress("self test, quantization", 0.0)
            packed = _quantized(folder)
            equal, checks = open_model(packed).hash() == golden["checkpoint"], []
            for index, (device, mode) in enumerate(modes):
                on_progress(f"self test, {mode} on {device}", (1 + index) / (1 + len(modes)))
                checks.append(_check(packed, device, mode, golden))
    except (QvggtError, OSError) as error:
        return SelfTest(False, (), str(error))
    return SelfTest(equal, tuple(checks))


def golden_answers() -> dict[str, Any]:
    """Return what the self test compares with, computed in float32 on this CPU."""
    with TemporaryDirectory(prefix="qvggt-") as folder:
        packed = _quantized(folder)
        found = reconstruct(load(packed, "cpu", "float32"), sample_images(), heads=("camera", "depth"))
        cameras, depth = _answers(found)
        rounded = {"cam_from_world": cameras, "depth": depth}
        return {
            "checkpoint": open_model(packed).hash(),
            **{name: np.vectorize(lambda x: float(f"{x:.{_DIGITS}g}"))(a).tolist() for name, a in rounded.items()},
        }


def _modes() -> Sequence[Compute]:
    return [mode for mode in get_args(Compute) if mode != "auto" and canonical(mode) == mode]


def _quantized(folder: PathLike) -> Path:
    return quantize_to(_MODEL, Path(folder) / "nano-4bit", options=QuantizeOptions(_SCHEME)).folder


def _check(packed: Path, device: str, mode: Compute, golden: Mapping[str, Any]) -> ComputeCheck:
    backend, difference, error = "", None, ""
    try:
        backend = pick(device, mode).name
        found = reconstruct(load(packed, device, mode), sample_images(), heads=("camera", "depth"))
        difference = _difference(*_answers(found), golden)
    except (
        QvggtError,
        RuntimeError,
        ValueError,
        OSError,
        MemoryError,
    ) as reason:
        log.debug("%s on %s failed", mode, device, exc_info=True)
        error = (str(reason) or type(reason).__name__).splitlines()[0]
    return ComputeCheck(device, mode, backend, difference, tolerance=TOLERANCES[mode], error=error)


def _answers(found: Prediction) -> tuple[np.ndarray, np.ndarray]:
    """Return cameras [S, 3, 4], and depth at every seventh pixel."""
    assert found.cam_from_world is not None
    assert found.depth is not None
    return found.cam_from_world, found.depth[:, ::_DEPTH_STEP, ::_DEPTH_STEP]


def _difference(cameras: np.ndarray, depth: np.ndarray, golden: Mapping[str, Any]) -> Difference:
    rotation, translation = camera_difference_deg(np.asarray(golden["cam_from_world"]), cameras)
    relative = depth_difference(np.asarray(golden["depth"]), depth)
    return Difference(*(float(np.nanmax(values)) for values in (rotation, translation, relative)))
