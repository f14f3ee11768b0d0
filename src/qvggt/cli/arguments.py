"""Arguments that several commands take, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

METHODS = "rtn, awq, gptq, smoothquant, quarot, qvggt, qvggt+, or one that another package brings"


def option(metavar: str, text: str, hint: str | None = "(optional)") -> object:
    """Describe an option; the hint stands in place of its default, None for the default itself."""
    return tyro.conf.arg(metavar=metavar, help=text, help_behavior_hint=hint)


def number(text: str, default: str | None = None, metavar: str = "NUMBER") -> object:
    """Describe an option that takes a number."""
    return option(metavar, text, default)


Model = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL", help="which model: see qvggt --help")]
Images = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="IMAGES", help="a folder, a glob, a video, or image files", help_behavior_hint="(at least one)"
    ),
]
Output = Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR", help="folder to write to")]
Json = Annotated[
    Path | None,
    tyro.conf.arg(metavar="FILE", help="write the figures to this file too", help_behavior_hint="(optional)"),
]
Overwrite = Annotated[
    bool,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.arg(help="replace what the command wrote there before", help_behavior_hint=""),
]
Device = Annotated[str, tyro.conf.arg(metavar="NAME", help="where to compute: cpu, cuda or mps")]
ComputeMode = Annotated[
    Literal["float", "int8"],
    tyro.conf.arg(help="how packed layers multiply: int8 is faster, and rounds activations to 8 bits"),
]
GlobalAttentionMode = Annotated[
    Literal["exact", "merged"],
    tyro.conf.arg(help="merged looks at squares of patches as one: faster with many frames, and less accurate"),
]
Revision = Annotated[
    str | None,
    tyro.conf.arg(metavar="NAME", help="branch, tag or commit of a hub id", help_behavior_hint="(optional)"),
]
Mode = Annotated[Literal["crop", "pad"], tyro.conf.arg(help="cut tall images, or fill up to a square")]
FramesPerSecond = Annotated[
    float | None, number("of a video, frames per second to take", "(default: 16 frames in all)")
]
FrameCount = Annotated[int | None, number("at most so many frames, evenly spread", "(optional)")]
MaxPoints = Annotated[int, number("most points in the point cloud")]
DenseFrames = Annotated[int, number("frames at a time in the dense heads: fewer, less memory")]
WindowFrames = Annotated[int | None, option("N", "reconstruct so many frames at a time: memory no longer grows")]
WindowOverlap = Annotated[int | None, number("frames that neighbouring windows share", "(default: 4)")]
Memory = Annotated[str | None, option("SIZE", "what the process may take in all, such as 4GB or 800MB")]
GroupSize = Annotated[int, number("input channels that share a scale; -1: one scale a channel")]
ZeroPoints = Annotated[
    bool,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.arg(help="a zero point a group, in place of a symmetric range", help_behavior_hint=""),
]
Calib = Annotated[
    str, tyro.conf.arg(metavar="NAME|IMAGES", help="calibrate on a dataset, or on a folder, glob or video of your own")
]
CalibRoot = Annotated[
    Path | None,
    tyro.conf.arg(metavar="DIR", help="the dataset's folder; rooms need none", help_behavior_hint="(optional)"),
]
CalibScenes = Annotated[int, number("calibrate on so many scenes, a quarter of them held out")]
CalibFrames = Annotated[int, number("images of a scene")]
CalibSeed = Annotated[int, number("of the choice of scenes and images")]
Supervision = Annotated[
    Literal["truth", "teacher"],
    tyro.conf.arg(help="judge by the scenes' known geometry, or by the float model, for which photographs are enough"),
]
Dataset = Annotated[str, option("NAME", "rooms, co3d, re10k, ...: see docs/datasets.md", None)]
Split = Annotated[str | None, option("NAME", "of the dataset; by default its test split")]
Protocol = Annotated[tuple[str, ...], option("NAME", "by default what is usual on the dataset", "")]
DataRoot = Annotated[Path | None, option("DIR", "the dataset's folder; rooms need none")]
DrawnFrames = Annotated[int | None, option("N", "draw so many frames of each scene")]
