"""The public verb export_model."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qvggt.api.reconstruct import load
from qvggt.files import new_output
from qvggt.model import VGGT
from qvggt.onnx.check import OnnxCheck, check
from qvggt.onnx.graph import WholePass, write_graph
from qvggt.onnx.layers import INT8_SUMS
from qvggt.options import OnnxOptions
from qvggt.options.checks import check_arguments
from qvggt.types import OnProgress, PathLike, QvggtError

_LARGEST_FILE_BYTES = 18 * 10**8
"""An ONNX file with its weights inside ends at 2 GiB."""


@dataclass(frozen=True)
class OnnxReport:
    """An ONNX file.

    Attributes:
        path: the file.
        data_path: the second file, which holds the weights of large models; else None.
        bytes: of both.
        size: width and height in pixels of its images.
        heads: its outputs.
        checks: comparisons with the model, one for each number of frames.
    """

    path: Path
    data_path: Path | None
    bytes: int
    size: tuple[int, int]
    heads: tuple[str, ...]
    checks: tuple[OnnxCheck, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        data = None if self.data_path is None else str(self.data_path)
        return {**asdict(self), "path": str(self.path), "data_path": data}


def export_model(
    model: PathLike,
    path: PathLike,
    options: OnnxOptions | None = None,
    revision: str | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> OnnxReport:
    """Write a model as an ONNX file that takes any number of images of one size.

    Its input ``images`` is [1, S, 3, H, W], RGB in 0..1; its outputs are those of ``VGGT.forward``: ``pose_enc``,
    ``depth``, ``depth_conf``, ``world_points``, ``world_points_conf``. Packed linear layers become ``MatMulNBits`` of
    ONNX Runtime (domain com.microsoft), packed convolutions ``DequantizeLinear`` and ``Conv``. Global attention is
    exact. Needs the extra ``onnx``.

    Args:
        model: what ``load`` takes, by name or place.
        path: the file; weights beyond 1.8 GB go to a second file beside it, named ``path`` with ``.data`` appended.
        options: the defaults if None.
        revision: branch, tag or commit of a hub id.
        overwrite: whether existing files may be replaced.
        on_progress: the progress callback.

    Raises:
        QvggtError: the model cannot be loaded, the size does not suit it, a package is missing, or the file cannot be
            written or computes something else than the model.
    """
    check_arguments(export_model, locals())
    options = options or OnnxOptions()
    check_packages(options)
    report = on_progress or (lambda stage, share: None)
    loaded = load(model, "cpu", "float32", revision, global_attention="exact", on_progress=on_progress)
    image_hw = _image_hw(loaded, options)
    target = Path(path)
    stored = sum(tensor.nbytes for tensor in loaded.state_dict().values())
    others = [target.name + ".data"] if stored > _LARGEST_FILE_BYTES else []
    with new_output(target, overwrite, others) as unfinished:
        report("tracing", 0.0)
        level = INT8_SUMS if options.compute == "int8" else 0
        write_graph(WholePass(loaded, options.heads, image_hw, level), unfinished, bool(others))
        del loaded  # its layers are a graph's now
        checks = []
        if options.check_frames:
            original = load(model, "cpu", "float32", revision, global_attention="exact")
            for index, frames in enumerate(options.check_frames):
                report(f"checking {frames} frames", index / len(options.check_frames))
                checks.append(check(unfinished, original, options.heads, image_hw, frames=frames))
        written = sum(unfinished.with_name(name).stat().st_size for name in (target.name, *others))
    data_path = target.with_name(others[0]) if others else None
    return OnnxReport(
        target, data_path, bytes=written, size=(image_hw[1], image_hw[0]), heads=options.heads, checks=tuple(checks)
    )


def check_packages(options: OnnxOptions) -> None:
    """Raise QvggtError unless the packages are there that an export needs."""
    needed = ("onnx", "onnxscript", *(("onnxruntime",) if options.check_frames else ()))
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise QvggtError(f'writing ONNX needs {" and ".join(missing)}: pip install "qvggt[onnx]"')


def _image_hw(model: VGGT, options: OnnxOptions) -> tuple[int, int]:
    sides, patch = options.size or (model.config.image_size,), model.config.patch_size
    if any(side % patch for side in sides):
        raise QvggtError(f"the model cuts images into patches of {patch} px: give a size in multiples of that (--size)")
    missing = sorted(set(options.heads) - set(model.heads))
    if missing:
        raise QvggtError(f"the model's weights have no {missing[0]} head: name the others (--heads)")
    return sides[-1], sides[0]
