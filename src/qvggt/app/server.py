"""The viser server: a free port, a quiet start and a clean stop."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qvggt.options import ViewOptions
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


@contextmanager
def serving(options: ViewOptions) -> Iterator[ViserServer]:
    """Run a server for the time of a ``with``; viser's own messages are not printed.

    Raises:
        QvggtError: viser is not installed, or no port is free.
    """
    try:
        import viser
    except ImportError:
        raise QvggtError("the viewer needs viser: pip install 'qvggt[viewer]' (or pip install viser)") from None
    port = free_port(options.host, options.port)
    if port != options.port:
        log.warning("port %d is in use: the viewer takes %d", options.port, port)
    if not options.local:
        log.warning("everybody who can reach %s on port %d can see this scene", options.host, port)
    with contextlib.redirect_stdout(io.StringIO()):
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
