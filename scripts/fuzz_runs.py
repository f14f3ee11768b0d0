"""Valid inputs for the fuzz that runs leave behind, and videos: results, training, folders half filled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from qvggt.export.result import ResultInfo, open_result, save_result
from qvggt.files.folder import JOURNAL, MANIFEST, finish_folder
from qvggt.images.preprocess import load_images
from qvggt.model import VGGT
from qvggt.options import ImageOptions
from qvggt.train.loop import Run
from qvggt.train.optim import Optimizer, initialize
from qvggt.train.recipe import Phase, TrainRecipe
from qvggt.types import FrameMap, Prediction

RECIPE = TrainRecipe("micro", (Phase(steps=4, image_px=28, images_per_step=2, frames=(2,)),))
STAGING = ".qvggt-staging-0123abcd"


def write_video(path: Path, codec: str = "mpeg4") -> None:
    """Write eight frames of 64x48 px."""
    import av

    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        u, v = np.meshgrid(np.arange(64) * 3, np.arange(48) * 4)
        for number in range(8):
            pixels = np.stack((u, v, np.full_like(u, 30 * number)), -1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def read_video(folder: Path) -> Any:
    """Return four frames of the folder's only video."""
    (path,) = folder.iterdir()
    return load_images(path, ImageOptions(28, 14, frames=4))


def write_result(folder: Path) -> None:
    """Write a result of two tiny frames."""
    shape = (2, 14, 14)
    maps = (FrameMap((28, 28), (0.5, 0.5), (0.0, 0.0)),) * 2
    depth, images = np.ones(shape, np.float32), np.zeros((2, 3, 14, 14), np.float32)
    prediction = Prediction(images=images, names=("a.png", "b.png"), maps=maps, depth=depth, depth_conf=depth)
    info = ResultInfo("nano", ("/photos",), details={"quality": {"agreement": 0.5}})
    save_result(prediction, info, folder / "r")


def read_result(folder: Path) -> Any:
    """Return what ``result.json`` says."""
    return open_result(folder / "r").info


def write_training(folder: Path) -> None:
    """Write a training run's checkpoint and log."""
    run = _run(folder)
    run.step = 2
    run.save()
    for step in (1, 2, 3):
        run.write_line({"step": step, "images": 2 * step, "loss_total": 0.5})


def read_training(folder: Path) -> Any:
    """Return the state and the log from which the run goes on."""
    run = _run(folder)
    run.resume()
    return run.step, run.optimizer.model.state_dict(), (folder / "log.jsonl").read_text()


def _run(folder: Path) -> Run:
    model = VGGT(RECIPE.config())
    initialize(model, RECIPE.seed, RECIPE.camera_norm, RECIPE.register_norm)
    return Run(RECIPE, folder, "cpu", Optimizer(model, RECIPE))


def write_half_filled(folder: Path) -> None:
    """Write a folder as a command leaves it that is killed while it renames."""
    staging = folder / "out" / STAGING
    (staging / "depth").mkdir(parents=True)
    names = ["a.txt", "depth/b.txt"]
    for name in names:
        (staging / name).write_text(f"new {name}")
    (staging / MANIFEST).write_text(json.dumps({"format": 1, "files": names}))
    (folder / "out" / "old.txt").write_text("old")
    (folder / "out" / JOURNAL).write_text(json.dumps({"staging": STAGING, "files": names, "remove": ["old.txt"]}))


def read_half_filled(folder: Path) -> Any:
    """Complete the folder and return its files."""
    finish_folder(folder / "out")
    files = (path for path in sorted((folder / "out").rglob("*")) if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
