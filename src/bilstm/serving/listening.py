"""The port of a service."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from bilstm.errors import UserError
from bilstm.files import reason

BACKLOG = 2048


@contextlib.contextmanager
def listening(host: str, port: int, options: str = "--host and --port") -> Iterator[socket.socket]:
    """A socket that listens, until the block ends.

    Args:
        options: what names another address.

    Raises:
        UserError: the address cannot be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise UserError(f"cannot listen on {host}, port {port}: {why}; choose others with {options}") from None
    with listener:
        listener.set_inheritable(True)
        yield listener


def address_of(listener: socket.socket) -> str:
    """Such as `http://127.0.0.1:8000`."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
