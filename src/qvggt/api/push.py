"""The public verb ``push``: a checkpoint to the Hugging Face hub."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from qvggt.api.quantize import UNFINISHED
from qvggt.checkpoint.card import PLACE, card_text, states_license
from qvggt.checkpoint.folder import CARD, CONFIG, RECIPE, TENSORS, Checkpoint, is_checkpoint, open_checkpoint
from qvggt.files import explain, lock_folder
from qvggt.files.read import read_text
from qvggt.options.checks import check_arguments
from qvggt.types import OnProgress, PathLike, QvggtError
from qvggt.version import __version__

log = logging.getLogger(__name__)

MESSAGE = "Upload a checkpoint with qvggt"
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True)
class PushReport:
    """A checkpoint on the hub.

    Attributes:
        url: its page.
        commit: of the repository, with which ``load`` takes exactly these files.
        changed: whether the repository lacked any of the files.
        private: whether only its owner, and whom the owner admits, can read it.
        files: names of the files.
        bytes: their size together.
    """

    url: str
    commit: str
    changed: bool
    private: bool
    files: tuple[str, ...]
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)


def push(
    folder: PathLike,
    repo: str,
    private: bool = False,
    revision: str | None = None,
    message: str = MESSAGE,
    on_progress: OnProgress | None = None,
) -> PushReport:
    """Upload a checkpoint to the hub, from where ``load(repo)`` takes it.

    All tensors are compared with their hashes first. Only the checkpoint's own files are uploaded, in one commit. What
    has arrived of an upload that was cut off is not sent again.

    Args:
        folder: a quantized checkpoint.
        repo: ``user/name`` or ``organization/name``; the repository is created if it does not exist.
        private: whether a new repository is private; an existing one that is public is refused.
        revision: branch to commit to, created if it does not exist; None for the main branch.
        message: of the commit.
        on_progress: called with the stage; None draws the client's own bars.

    Raises:
        QvggtError: the checkpoint is unfinished or damaged, no token of the hub is known, the hub refuses, or it cannot
            be reached.
    """
    check_arguments(push, locals())
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    report = on_progress or (lambda stage, share: None)
    checkpoint = _open_finished(Path(folder))
    if repo.count("/") != 1:
        raise QvggtError(f"expected USER/NAME as the place on the hub, got {repo!r}")
    if get_token() is None:
        raise QvggtError(f"there is no token for the hub: {_LOG_IN} (a token that may write)")
    lock = lock_folder(folder) if os.access(folder, os.W_OK) else nullcontext()
    with lock, _as_sentences(repo), _bars(on_progress is None):
        report("comparing hashes", 0.0)
        checkpoint.verify()
        report("asking the hub", 0.0)
        api = HfApi(library_name="qvggt", library_version=__version__)
        head, is_private = _prepare(api, repo, private, revision)
        paths = {name: Path(folder) / name for name in (CONFIG, RECIPE, TENSORS)}
        card = _card(checkpoint, repo).encode()
        files = [CommitOperationAdd(CARD, card)]
        files += [CommitOperationAdd(name, path) for name, path in paths.items()]
        size = len(card) + sum(path.stat().st_size for path in paths.values())
        report(f"uploading {size / 1e6:.1f} MB", 0.0)
        made = api.create_commit(repo, files, commit_message=message, revision=revision)
        report("done", 1.0)
    url = f"{api.endpoint}/{repo}" + (f"/tree/{quote(revision, safe='')}" if revision else "")
    return PushReport(
        url, commit=made.oid, changed=made.oid != head, private=is_private, files=(CARD, *paths), bytes=size
    )


def _open_finished(folder: Path) -> Checkpoint:
    try:
        made, begun = is_checkpoint(folder), Path(f"{folder}{UNFINISHED}").exists()
    except OSError as error:
        raise explain(error, folder, "read") from None
    if made:
        return open_checkpoint(folder)
    if begun or folder.name.endswith(UNFINISHED):
        name = str(folder).removesuffix(UNFINISHED)
        raise QvggtError(
            f"{name} is an unfinished quantization: complete it with qvggt quantize --resume, then push it"
        )
    raise QvggtError(f"{folder} is no checkpoint: give a folder that qvggt quantize has written")


def _prepare(api: Any, repo: str, private: bool, revision: str | None) -> tuple[str | None, bool]:
    """Create the repository and the branch where they are missing; return the branch's commit, and who can read it."""
    api.whoami()
    api.create_repo(repo, private=private or None, exist_ok=True)
    info = api.model_info(repo)
    if private and not info.private:
        raise QvggtError(f"{repo} is on the hub already, and public: make it private there, or leave out --private")
    if revision is not None:
        api.create_branch(repo, branch=revision, exist_ok=True)
        info = api.model_info(repo, revision=revision)
    return info.sha, bool(info.private)


def _card(checkpoint: Checkpoint, repo: str) -> str:
    """Return the card to upload, in which the repository has its name; the user may have changed the one on disk."""
    path = checkpoint.folder / CARD
    card = read_text(path) if path.exists() else card_text(checkpoint)
    if not states_license(card):
        log.warning("the model card states no license: read that of the float weights, and set it in %s", path)
    return card.replace(PLACE, repo)


@contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """Let the hub's client draw its bars, or not, as it does by default in the end."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    change = not shown and not are_progress_bars_disabled()
    if change:
        disable_progress_bars()
    try:
        yield
    finally:
        if change:
            enable_progress_bars()


@contextmanager
def _as_sentences(repo: str) -> Iterator[None]:
    """Turn what the hub and the network refuse into a QvggtError."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        HTTPError,  # of the network library beneath
        OfflineModeIsEnabled,
    )

    try:
        yield
    except HFValidationError as error:
        raise QvggtError(f"{repo} is not a name on the hub: {error}") from None
    except OfflineModeIsEnabled:
        raise QvggtError(f"HF_HUB_OFFLINE is set, so that {repo} cannot be reached: unset it") from None
    except HfHubHTTPError as error:
        raise QvggtError(_refusal(repo, error)) from None
    except ValueError as error:
        raise QvggtError(f"the hub refuses the checkpoint: {_first_line(error)}; mend it, and push again") from None
    except (HTTPError, OSError, RuntimeError) as error:
        raise QvggtError(_cut_off(repo, error.__cause__ or error)) from None


def _refusal(repo: str, error: Any) -> str:
    status = None if error.response is None else error.response.status_code
    if status == 401:
        return f"the hub does not accept the token: {_LOG_IN}"
    if status in (403, 404):
        return f"the token may not write to {repo}: check the name, or take a token that may write there"
    return _cut_off(repo, error)


def _cut_off(repo: str, error: BaseException) -> str:
    return (
        f"the upload to {repo} was cut off ({_first_line(error)}): give the same command again; what has arrived is "
        "not sent again"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
