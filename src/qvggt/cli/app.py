"""``qvggt app``: photographs to a scene in the browser."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from qvggt.cli import arguments as given
from qvggt.options import AppLimits, AppOptions
from qvggt.types import QvggtError

PASSWORD = "QVGGT_APP_PASSWORD"
"""Environment variable that holds the password."""

Models = Annotated[
    tuple[str, ...],
    given.Positional,
    given.argument("MODEL", "models to choose from: see qvggt --help", "(default: nano)"),
]
Host = Annotated[
    str, given.option("ADDRESS", "address to listen on; 0.0.0.0 lets other machines in, with a password", None)
]
Port = Annotated[int, given.number("port to listen on, or the next free one")]
PasswordFile = Annotated[
    Path | None,
    given.option("FILE", "file with the password in its first line", f"(default: ${PASSWORD}, if it is set)"),
]


def app(
    models: Models = AppOptions.models,
    host: Host = AppOptions.host,
    port: Port = AppOptions.port,
    password_file: PasswordFile = None,
    compute: given.Compute = AppOptions.compute,
    device: given.Device = AppOptions.device,
    threads: given.TorchThreads = None,
    revision: given.RevisionOfModels = AppOptions.revision,
    max_images: Annotated[int, given.number("most photographs of a scene, and frames of a video")] = AppLimits.images,
    max_mb: Annotated[int, given.number("largest file in MB")] = AppLimits.file_mb,
    max_megapixels: Annotated[int, given.number("largest photograph in megapixels")] = AppLimits.megapixels,
    max_points: given.MaxPoints = AppLimits.points,
    max_waiting: Annotated[int, given.number("most requests that wait; more are refused")] = AppLimits.waiting,
    memory: given.Memory = None,
) -> None:
    """Reconstruct photographs or a video in the browser: choose files, turn the scene, download it."""
    from qvggt.app.web.server import serve
    from qvggt.cli.show import say, size_bytes

    limit = None if memory is None else size_bytes(memory)
    limits = AppLimits(max_images, max_mb, max_megapixels, max_points, waiting=max_waiting, memory_bytes=limit)
    given.use_threads(threads)
    options = AppOptions(
        models, device, compute, host, port=port, password=_password(password_file), limits=limits, revision=revision
    )
    serve(options, lambda url: say(f"{url} is the app; Ctrl-C ends"))


def _password(file: Path | None) -> str | None:
    """Return the password of a file or the environment, or None."""
    if file is None:
        return os.environ.get(PASSWORD)
    try:
        return (file.read_text(encoding="utf-8").splitlines() or [""])[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise QvggtError(
            f"the password file {str(file)!r} cannot be read: name a text file (--password-file)"
        ) from error
