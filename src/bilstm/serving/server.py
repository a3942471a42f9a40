"""Running a service: the port, the worker processes, and the end."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from bilstm.serving.accepting import COUNTS, LOOP, make_counts
from bilstm.serving.app import create_app
from bilstm.serving.listening import BACKLOG, address_of, listening
from bilstm.serving.logs import configuration, log
from bilstm.serving.metrics import FOLDER
from bilstm.serving.settings import Settings
from bilstm.serving.sockets import Protocol
from bilstm.serving.store import Store

_KEEP_ALIVE = 30  # seconds that a connection may be idle


def serve(settings: Settings, announce: Callable[[str, Sequence[str]], object]) -> None:
    """Serve models until a signal says to end. Requests that were accepted are answered first.

    Args:
        announce: called with the address and the models' names once requests are taken.

    Raises:
        UserError: a model cannot be loaded, or the address cannot be used.
    """
    with listening(settings.host, settings.port) as listener:
        address = address_of(listener)
        if settings.workers == 1:
            app = create_app(settings)
            announce(address, app.names)
            with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal again when all is done
                uvicorn.Server(_config(settings, app)).run([listener])
        else:
            announce(address, Store(settings).names())  # so that a mistake is reported here, once
            with _shared():
                factory = functools.partial(create_app, settings)
                Multiprocess(_config(settings, factory, factory=True), [listener]).run()
    log("ended")


def _config(settings: Settings, app: Any, *, factory: bool = False) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=factory,
        workers=settings.workers,
        log_config=configuration(quiet=not settings.log),
        access_log=False,
        loop=LOOP,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=int(2 * settings.timeout) + 1,
        backlog=BACKLOG,
        ws=Protocol,
        ws_max_size=settings.max_body,
        ws_per_message_deflate=False,  # nor are bodies compressed
    )


@contextlib.contextmanager
def _shared() -> Iterator[None]:
    """A folder in which workers add up what they count, and tell each other how many connections they have."""
    with tempfile.TemporaryDirectory(prefix="bilstm-workers-", ignore_cleanup_errors=True) as folder:
        connections = Path(folder, "connections")
        make_counts(connections)
        os.environ |= {FOLDER: folder, COUNTS: str(connections)}
        try:
            yield
        finally:
            del os.environ[FOLDER], os.environ[COUNTS]
