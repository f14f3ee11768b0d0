"""Start the app: its folder, its page, its password, and nothing that leaves this machine."""

from __future__ import annotations

import contextlib
import hmac
import importlib.util
import io
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from qvggt.app.server import free_port, is_own_page
from qvggt.app.viewer import wait_for_interrupt
from qvggt.app.web.holder import ModelHolder
from qvggt.app.web.sessions import Sessions, own_folder
from qvggt.options import LOCAL_HOSTS, AppOptions
from qvggt.types import QvggtError

if TYPE_CHECKING:
    from gradio import Blocks

log = logging.getLogger(__name__)

_ENVIRONMENT = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_RUN_HISTORY": "False", "GRADIO_SHARE": "False"}
_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'"
"""What the page may load: what this server sends, and nothing of another host."""
_WRONG_PASSWORD_S = 1.0


def serve(options: AppOptions, on_ready: Callable[[str], None]) -> None:
    """Serve the app until the process is interrupted.

    Args:
        options: see ``AppOptions``.
        on_ready: called with the address once the page can be opened.

    Raises:
        QvggtError: gradio is not installed, no port is free, or a model cannot be opened.
    """
    with serving(options) as url:
        on_ready(url)
        wait_for_interrupt()


@contextmanager
def serving(options: AppOptions) -> Iterator[str]:
    """Serve the app for the time of a ``with``, and yield its address on this machine; see ``serve``."""
    if importlib.util.find_spec("gradio") is None:
        raise QvggtError("the app needs Gradio: pip install 'qvggt[app]' (or pip install gradio)")
    port = free_port(options.host, options.port)
    if port != options.port:
        log.warning("port %d is in use: the app takes %d", options.port, port)
    holder = ModelHolder(options.device, options.revision)
    holder.get(options.models[0], options.compute, lambda stage, share: None)
    check_models(options.models[1:])
    with own_folder() as folder:
        uploads, visitors = folder / "uploads", folder / "visitors"
        for each in (uploads, visitors):
            each.mkdir()
        sessions = Sessions(visitors)
        with _environment({**_ENVIRONMENT, "GRADIO_TEMP_DIR": str(uploads)}), sessions.sweeping():
            blocks = _blocks(options, sessions, holder)
            try:
                _launch(blocks, options, port, visitors)
                yield f"http://{'localhost' if options.host in ('0.0.0.0', '::', '127.0.0.1') else options.host}:{port}"
            finally:
                with contextlib.redirect_stdout(io.StringIO()):
                    blocks.close()


def check_models(models: tuple[str, ...]) -> None:
    """Check that models exist; those of a hub are downloaded when they are first chosen.

    Raises:
        QvggtError: one does not, or is damaged.
    """
    from qvggt.checkpoint.open import open_model

    for name in models:
        if "/" not in name or Path(name).exists():
            open_model(name)


def _blocks(options: AppOptions, sessions: Sessions, holder: ModelHolder) -> Blocks:
    from qvggt.app.web.page import Page

    return Page(options, sessions, holder).blocks


def _launch(blocks: Blocks, options: AppOptions, port: int, visitors: Path) -> None:
    import gradio
    from starlette.middleware import Middleware

    from qvggt.app.web.page import CSS
    from qvggt.weights.pretrained import SAMPLE_SCENE

    gradio.set_static_paths([visitors, SAMPLE_SCENE])  # served from where they are, under names that nobody can guess
    with contextlib.redirect_stdout(io.StringIO()):
        blocks.launch(
            server_name=options.host, server_port=port, prevent_thread_lock=True, quiet=True, share=False,
            auth=None if options.password is None else _check_password(options.password),
            auth_message="Any name will do; the password is that of whoever started the app.",
            max_file_size=options.limits.file_mb * 10**6, footer_links=[], css=CSS, show_error=False,
            enable_monitoring=False, mcp_server=False, ssr_mode=False, pwa=False,
            app_kwargs={"middleware": [Middleware(Guard, local=options.host in LOCAL_HOSTS)]},
        )  # fmt: skip


def _check_password(password: str) -> Callable[[str, str], bool]:
    def check(_name: str, given: str) -> bool:
        right = hmac.compare_digest(given.encode(), password.encode())
        if not right:
            time.sleep(_WRONG_PASSWORD_S)
        return right

    return check


class Guard:
    """Adds to every answer the policy that forbids the page to load anything from another host.

    Args:
        app: the ASGI application beneath.
        local: whether it listens on a local address, where it answers its own page and programs without a page only.
    """

    def __init__(self, app: Any, local: bool) -> None:
        self._app, self._local = app, local

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""

        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"content-security-policy", _POLICY.encode())]
                message = {**message, "headers": headers}
            await send(message)

        if self._local and scope["type"] == "http" and not _is_own(dict(scope["headers"])):
            await with_policy({"type": "http.response.start", "status": HTTPStatus.FORBIDDEN.value})
            await send({"type": "http.response.body", "body": b"the app answers its own page only\n"})
            return
        await self._app(scope, receive, with_policy)


def _is_own(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a request goes to a name of this machine, and comes from the app's page if it comes from any."""
    host, origin = (headers[name].decode("latin-1") if name in headers else None for name in (b"host", b"origin"))
    return host is not None and urlsplit(f"//{host}").hostname in LOCAL_HOSTS and is_own_page(origin, host)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables, which Gradio reads, for the time of a ``with``."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
