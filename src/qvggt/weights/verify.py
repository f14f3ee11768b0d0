"""Checksums of weight files: the hub's own hash, and the CRC-32 in a ``.pt`` archive."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

from qvggt.files.read import reading
from qvggt.types import QvggtError
from qvggt.weights.files import hash_files

_SHA256 = re.compile(r"[0-9a-f]{64}")


def verify_file(path: Path) -> bool:
    """Read a whole file and compare it with its checksum; return False if none is known.

    Raises:
        QvggtError: the file is damaged or cannot be read.
    """
    expected = hub_hash(path)
    with reading(path):
        if expected is not None:
            if hash_files([path]) != f"sha256:{expected}":
                raise QvggtError(
                    f"{path} is damaged: its hash is not the hub's; delete it and download it again "
                    "(qvggt doctor names the cache)"
                )
            return True
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            if any(info.header_offset == 0 for info in archive.infolist()):
                bad = archive.testzip()
            else:  # PyTorch takes offsets from the beginning of the file, and so reads other bytes than were checked
                raise ValueError("there are bytes in front of the archive")
    if bad is not None:
        raise QvggtError(f"{path} is damaged: the checksum of {bad!r} in it is wrong; get an intact copy")
    return True


def hub_hash(path: Path) -> str | None:
    """Return the SHA-256 that the hub gave for a file in its local cache, or None.

    The cache stores each large file under that hash, in a folder ``blobs``, and links to it.
    """
    blob = Path(os.path.realpath(path))
    return blob.name if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name) else None
