"""``qvggt push``: a checkpoint to the Hugging Face hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from qvggt.cli import arguments as given
from qvggt.cli.arguments import Flag, argument, flag, option

Folder = Annotated[Path, given.Positional, argument("FOLDER", "a checkpoint that qvggt quantize wrote")]
Place = Annotated[str, given.Positional, argument("USER/NAME", "place on the hub, created if it does not exist")]


def push(
    folder: Folder,
    place: Place,
    private: Annotated[bool, Flag, flag("make a new place private")] = False,
    revision: Annotated[str | None, option("BRANCH", "commit to this branch, created if it does not exist")] = None,
    message: Annotated[str | None, option("TEXT", "message of the commit")] = None,
    json: given.Json = None,
) -> None:
    """Upload a checkpoint to the Hugging Face hub, with its model card.

    Every tensor is compared with its hash first. Only the checkpoint's own files are uploaded. It takes a token that
    may write: log in with `hf auth login`, or set HF_TOKEN.
    """
    from qvggt.api.push import MESSAGE
    from qvggt.api.push import push as api
    from qvggt.cli.show import check_figures, console, save_figures, say

    check_figures(json)
    # On a terminal the hub's client draws bars of its own.
    update = None if sys.stderr.isatty() and not console.quiet else lambda stage, share: None
    report = api(
        folder, place, private=private, revision=revision, message=MESSAGE if message is None else message,
        on_progress=update,
    )  # fmt: skip
    done = "pushed" if report.changed else "nothing to do, the hub has them already:"
    say(f"{done} {len(report.files)} files, {report.bytes / 1e6:.1f} MB, commit {report.commit[:8]}")
    say(f"{'private: ' if report.private else ''}{report.url}")
    save_figures(json, report.to_json())
