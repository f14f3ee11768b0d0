"""Arguments that several commands take, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

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
Device = Annotated[str, tyro.conf.arg(metavar="NAME", help="where to compute: cpu or cuda")]
Revision = Annotated[
    str | None,
    tyro.conf.arg(metavar="NAME", help="branch, tag or commit of a hub id", help_behavior_hint="(optional)"),
]
