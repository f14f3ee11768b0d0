"""The viser server: a free port, a quiet start and a clean stop."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from qvggt.options import LOCAL_HOSTS, ViewOptions
from qvggt.options.messages import missing_extra
from qvggt.types import QvggtError

if TYPE_CHECKING:
    from viser import ViserServer

log = logging.getLogger(__name__)

_PORTS_TRIED = 100


def free_port(host: str, first: int) -> int:
    """Return the first port from ``first`` on that can be opened.

    Raises:
        QvggtError: the host is not an address of this machine, or none of a hundred ports is free.
    """
    reason = ""
    for port in range(first, min(first + _PORTS_TRIED, 65536)):
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
            return port
        except socket.gaierror as error:
            raise QvggtError(f"{host!r} is not an address of this machine ({error.strerror}): see --host") from None
        except OSError as error:
            reason = error.strerror or str(error)
    raise QvggtError(f"no free port from {first} on at {host!r} ({reason}): choose another with --port or --host")


def is_own_page(origin: str | None, host: str | None) -> bool:
    """Return whether a request comes from the viewer's own page on this machine, or from no web page at all.

    Args:
        origin: the request's ``Origin``, which browsers set to the page that it comes from; None without.
        host: its ``Host``: where it goes to. With a tunnel that is the tunnel's end. It must be a name of this machine,
            or else a foreign page could point a name of its own here.
    """
    if origin is None:
        return True
    page = urlsplit(origin)
    return page.netloc == host and page.hostname in LOCAL_HOSTS


@contextmanager
def _own_pages_only() -> Iterator[None]:
    """Refuse what other web pages send to a server that is opened inside this context: viser checks no origin."""
    from websockets.asyncio import server

    serve, used = server.serve, []

    def guarded(*args: Any, process_request: Callable[[Any, Any], Any], **options: Any) -> Any:
        used.append(True)

        def checked(connection: Any, request: Any) -> Any:
            if is_own_page(request.headers.get("Origin"), request.headers.get("Host")):
                return process_request(connection, request)
            return connection.respond(HTTPStatus.FORBIDDEN, "the viewer answers its own page only\n")

        return serve(*args, process_request=checked, **options)

    server.serve = guarded  # pyrefly: ignore[bad-assignment]
    try:
        yield
    finally:
        server.serve = serve
    if not used:
        raise QvggtError("this version of viser cannot be kept from foreign web pages: pip install 'qvggt[viewer]'")


@contextmanager
def serving(options: ViewOptions) -> Iterator[ViserServer]:
    """Run a server for the time of a ``with``; viser's own messages are not printed.

    On an address of this machine only, it answers its own page and programs without a page, not other web pages.

    Raises:
        QvggtError: viser is not installed, or no port is free.
    """
    try:
        import viser
    except ImportError:
        raise missing_extra("the viewer", "viewer") from None
    port = free_port(options.host, options.port)
    if port != options.port:
        log.warning("port %d is in use: the viewer takes %d", options.port, port)
    if not options.local:
        log.warning("everybody who can reach %s on port %d can see this scene and use its buttons", options.host, port)
    guard = _own_pages_only() if options.local else contextlib.nullcontext()
    with contextlib.redirect_stdout(io.StringIO()), guard:
        server = viser.ViserServer(options.host, port, label="qvggt", verbose=False)
    try:
        yield server
    finally:
        with contextlib.redirect_stdout(io.StringIO()):
            server.stop()


def url_of(server: ViserServer) -> str:
    """Return the address to open in a browser on this machine."""
    host = server.get_host()
    shown = "localhost" if host in ("0.0.0.0", "::", "127.0.0.1", "::1") else host
    return f"http://{shown}:{server.get_port()}"
