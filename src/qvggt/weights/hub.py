"""Download of weights from the Hugging Face hub, or its local cache."""

from __future__ import annotations

from pathlib import Path

from qvggt.types import QvggtError
from qvggt.weights.files import INDEX, choose_file

_SMALL = ("config.json", "recipe.json")


def download(hub_id: str, revision: str | None = None) -> Path:
    """Return the local folder of a hub repository, downloading the weights that are not in the cache yet.

    Repositories often hold the same weights in several forms: one of them is chosen by the list of files. If the hub
    cannot be reached (no network, ``HF_HUB_OFFLINE``), the cache is used.

    Args:
        hub_id: ``owner/name``.
        revision: branch, tag or commit.

    Raises:
        QvggtError: the hub has no such repository or revision, refuses access, or cannot be reached while the cache
            does not hold it; or the repository holds no weights.
    """
    # The hub's client is slow to import, and only this function needs it.
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        HFValidationError,
        HTTPError,  # of the network library beneath # pyright: ignore[reportPrivateImportUsage]
    )

    try:
        files = {file.rfilename for file in HfApi().model_info(hub_id, revision=revision).siblings or ()}
        wanted = [*_SMALL, *_patterns(choose_file(files, hub_id))]
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=wanted))
    except HFValidationError as error:
        raise QvggtError(f"{hub_id} is not a hub id: {error}") from None
    except (HTTPError, OSError) as error:
        cached = _cached(hub_id, revision)
        if cached is None:
            raise QvggtError(_sentence(hub_id, revision, error)) from None
        return cached


def _patterns(name: str) -> list[str]:
    """Return the names to download for a file of weights: of an index, all shards of its kind too."""
    whole = name.removesuffix(INDEX)
    return [name] if whole == name else [name, f"*{Path(whole).suffix}"]


def _cached(hub_id: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(hub_id, revision=revision, local_files_only=True))
        choose_file([path.name for path in folder.iterdir()], hub_id)
    except (LocalEntryNotFoundError, QvggtError):
        return None
    return folder


def _sentence(hub_id: str, revision: str | None, error: BaseException) -> str:
    from huggingface_hub.errors import (
        GatedRepoError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    instead = "give the path of a local .safetensors file, .pt file or folder instead of the hub id"
    if isinstance(error, GatedRepoError):
        return f"{hub_id} is gated: accept its license on the hub and log in with `hf auth login`, or {instead}"
    if isinstance(error, RevisionNotFoundError):
        return f"{hub_id} has no revision {revision!r} on the hub; check its branches and tags"
    if isinstance(error, RepositoryNotFoundError):
        return f"{hub_id} is not on the hub, or it is private; check the name, or {instead}"
    if isinstance(error, OfflineModeIsEnabled):
        what = hub_id if revision is None else f"{hub_id} at revision {revision!r}"
        return f"HF_HUB_OFFLINE is set and {what} is not in the local cache; unset it, or {instead}"
    reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
    return f"{hub_id} cannot be downloaded: the hub cannot be reached ({reason}); check the network, or {instead}"
