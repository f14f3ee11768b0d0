"""Arguments that several commands take, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from qvggt import options
from qvggt.types import QvggtError

METHODS = "rtn, awq, gptq, smoothquant, quarot, qvggt, qvggt+, or a method of another package"


def argument(metavar: str, text: str, hint: str | None = None) -> object:
    """Describe a positional argument; the hint stands behind its description."""
    return tyro.conf.arg(metavar=metavar, help=text, help_behavior_hint=hint)


def option(metavar: str, text: str, hint: str | None = "(optional)") -> object:
    """Describe an option; the hint stands in place of its default, None for the default itself."""
    return tyro.conf.arg(metavar=metavar, help=text, help_behavior_hint=hint)


def number(text: str, hint: str | None = None, metavar: str = "NUMBER") -> object:
    """Describe an option that takes a number."""
    return option(metavar, text, hint)


def flag(text: str, letter: str | None = None) -> object:
    """Describe an option without a value, and the letter that stands for it."""
    return tyro.conf.arg(help=text, help_behavior_hint="", aliases=None if letter is None else [f"-{letter}"])


def drop_percent(hint: str | None = None) -> object:
    """Describe the option of the least confident pixels that yield no point."""
    what = "drop this percentage of pixels, the least confident"
    return tyro.conf.arg(metavar="PERCENT", help=what, help_behavior_hint=hint)


Flag = tyro.conf.FlagCreatePairsOff
Positional = tyro.conf.Positional
Model = Annotated[str, Positional, argument("MODEL", "model: see qvggt --help")]
Images = Annotated[
    tuple[str, ...],
    Positional,
    argument("IMAGES", "a folder, a glob, a video, or image files", "(at least one)"),
]
Output = Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR", help="output folder")]
Json = Annotated[
    Path | None,
    option("FILE|-", "also write the results to this JSON file; -: to standard output, and all else to stderr"),
]
Overwrite = Annotated[bool, Flag, flag("replace the output of an earlier run")]
Device = Annotated[str, option("NAME", "device to run on: auto, cpu, cuda or mps", None)]
Compute = Annotated[
    options.Compute,
    tyro.conf.arg(
        help="arithmetic of products; auto: the fastest that is near-lossless here; int8 rounds activations to 8 bits"
    ),
]
GlobalAttention = Annotated[
    str,
    option(
        "exact|merged|auto|PRESET|FILE.json",
        "global attention over all tokens; over groups of patches, faster with many frames and less accurate; the "
        f"checkpoint's plan, if it has one; or a plan: {', '.join(options.ATTENTION_PRESETS)} or a file",
        None,
    ),
]
Revision = Annotated[str | None, option("NAME", "branch, tag or commit of a hub id")]
RevisionOfModels = Annotated[str | None, option("NAME", "branch, tag or commit of the MODELs that are hub ids")]
Mode = Annotated[options.ImageMode, tyro.conf.arg(help="crop tall images, or pad all of them to a square")]
FramesPerSecond = Annotated[
    float | None, number("frames per second to sample from a video", "(default: 16 frames in all)")
]
FrameCount = Annotated[int | None, number("most frames to take, evenly spaced", "(optional)")]
Masks = Annotated[Path | None, option("DIR", "folder of masks, named like the images: only white pixels are kept")]
Refine = Annotated[bool, Flag, flag("refine the cameras on the original photographs: see qvggt refine")]
Host = Annotated[str, option("ADDRESS", "address of the viewer; 0.0.0.0 lets other machines see the scene", None)]
Port = Annotated[int, number("port of the viewer, or the next free one")]
MaxPoints = Annotated[int, number("most points in the point cloud")]
Files = Annotated[
    tuple[options.ResultFile, ...],
    tyro.conf.arg(help="files to write; others than overview.png are fast", help_behavior_hint="(default: all)"),
]
DenseFrames = Annotated[int, number("frames per step of the dense heads; fewer need less memory")]
WindowFrames = Annotated[int | None, option("N", "frames per window; bounds memory for long sequences")]
WindowOverlap = Annotated[int | None, number("frames shared by neighboring windows", "(default: 4)")]
CloseLoops = Annotated[bool, Flag, flag("correct the drift of windows where the path returns to an earlier place")]
Memory = Annotated[
    str | None, option("SIZE", "process memory limit, such as 4GB or 800MB; chunk sizes are reduced to fit")
]
GroupSize = Annotated[int, number("input channels per scale; -1: one scale per output channel")]
ZeroPoints = Annotated[bool, Flag, flag("asymmetric codes, with one zero point per group")]
Calib = Annotated[str, option("NAME|IMAGES", "calibrate on a dataset, or on your own folder, glob or video", None)]
CalibRoot = Annotated[Path | None, option("DIR", "folder of the calibration dataset; rooms need none")]
CalibScenes = Annotated[int, number("most calibration scenes; a quarter of them is held out")]
CalibFrames = Annotated[int, number("images per calibration scene")]
CalibSeed = Annotated[int, number("random seed of the choice of calibration scenes and images")]
Supervision = Annotated[
    options.Supervision,
    tyro.conf.arg(help="compare with the scenes' ground truth, or with the float model, which photographs suffice for"),
]
Dataset = Annotated[str, option("NAME", "rooms, co3d, re10k, ...: see docs/datasets.md", None)]
Split = Annotated[str | None, option("NAME", "split of the dataset", "(default: its test split)")]
Protocol = Annotated[tuple[str, ...], option("NAME", "metrics to compute", "(default: the dataset's published ones)")]
DataRoot = Annotated[Path | None, option("DIR", "folder of the dataset; rooms need none")]
DrawnFrames = Annotated[int | None, option("N", "number of frames per scene, drawn at random")]
Threads = Annotated[int, option("N", "CPU threads per process", None)]
Ray = Annotated[
    str | None,
    option(
        "ADDRESS|auto",
        "spread scenes over a Ray cluster; auto: that of RAY_ADDRESS, the one that runs here, or a new one on this "
        "machine",
    ),
]
Workers = Annotated[int | None, option("N", "most Ray workers", "(default: as many as fit)")]
TorchThreads = Annotated[int | None, option("N", "CPU threads", "(default: torch's)")]


def use_threads(count: int | None) -> None:
    """Have torch use this many CPU threads in this process; None leaves its own choice.

    Raises:
        QvggtError: the number is below 1.
    """
    import torch

    if count is not None:
        if count < 1:
            raise QvggtError(f"the number of threads must be at least 1, got {count} (--threads)")
        torch.set_num_threads(count)
