"""Weights from the Hugging Face hub, or its local cache."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qvggt.types import OnProgress, QvggtError
from qvggt.weights.files import INDEX, choose_file

_SMALL = ("config.json", "recipe.json")


@dataclass(frozen=True)
class HubOrigin:
    """Where on the hub a file came from.

    Attributes:
        hub_id: ``owner/name``.
        commit: of the repository.
    """

    hub_id: str
    commit: str


def hub_origin(path: Path) -> HubOrigin | None:
    """Return where a file in the hub's local cache came from; None for files elsewhere.

    >>> hub_origin(Path("hub/models--facebook--VGGT-1B/snapshots/860abec/model.safetensors"))
    HubOrigin(hub_id='facebook/VGGT-1B', commit='860abec')
    """
    repository, snapshots, commit = ("", "", "", *path.parts)[-4:-1]
    kind, _, hub_id = repository.partition("--")
    if (kind, snapshots) != ("models", "snapshots"):
        return None
    return HubOrigin(hub_id.replace("--", "/", 1), commit)


def download(hub_id: str, revision: str | None = None, on_progress: OnProgress | None = None) -> Path:
    """Return the local folder of a hub repository, downloading the weights that are not in the cache yet.

    Repositories often hold the same weights in several forms: one of them is chosen by the list of files. If the hub
    cannot be reached (no network, ``HF_HUB_OFFLINE``), the cache is used.

    Args:
        hub_id: ``owner/name``.
        revision: branch, tag or commit.
        on_progress: called with the share of bytes downloaded, from several threads; None draws the client's own bars.

    Raises:
        QvggtError: the hub has no such repository or revision, refuses access, or cannot be reached while the cache
            does not hold it; or the repository holds no weights.
    """
    # The hub's client is slow to import, and only this function needs it.
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        HFValidationError,
        HTTPError,  # of the network library beneath
    )

    try:
        files = {file.rfilename for file in HfApi().model_info(hub_id, revision=revision).siblings or ()}
        wanted = [*_SMALL, *_patterns(choose_file(files, hub_id))]
        bar: dict[str, Any] = {} if on_progress is None else {"tqdm_class": _reporting_bar(hub_id, on_progress)}
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=wanted, **bar))
    except HFValidationError as error:
        raise QvggtError(f"{hub_id} is not a hub id: {error}") from None
    except (HTTPError, OSError) as error:
        cached = _cached(hub_id, revision)
        if cached is None:
            raise QvggtError(_sentence(hub_id, revision, error)) from None
        return cached


def _reporting_bar(hub_id: str, on_progress: OnProgress) -> type[Any]:
    """Return a progress bar for the hub's client that reports the share of bytes instead of drawing itself."""
    from tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs["file"] = io.StringIO()
            super().__init__(*args, **kwargs)

        def update(self, n: float | None = 1) -> bool | None:
            drawn = super().update(n)
            if self.unit == "B" and self.total:
                on_progress(f"downloading {hub_id}", min(1.0, self.n / self.total))
            return drawn

    return Bar


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
        return (
            f"{hub_id} is not on the hub, or it is private: check the name, log in with `hf auth login` if you may "
            f"read it, or {instead}"
        )
    if isinstance(error, OfflineModeIsEnabled):
        what = hub_id if revision is None else f"{hub_id} at revision {revision!r}"
        return f"HF_HUB_OFFLINE is set and {what} is not in the local cache; unset it, or {instead}"
    reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
    return f"{hub_id} cannot be downloaded: the hub cannot be reached ({reason}); check the network, or {instead}"
