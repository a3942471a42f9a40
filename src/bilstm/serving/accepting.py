"""New connections: many in a turn of the event loop, and as many for each worker process.

Workers listen at the same port, and the first to look takes a connection, which stays with it. So one worker may have
most of them, whose requests then wait for it while the others have nothing to do. Here, each tells the others how many
it has, and one with more than the others leaves a new one to them for a moment.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import mmap
import os
import socket
import sys
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import fcntl

    import uvloop

LOOP = "auto" if sys.platform == "win32" else f"{__name__}:Loop"  # what uvicorn is to use
COUNTS = "BILSTM_CONNECTION_COUNTS"  # names the file in which workers tell how many connections they have
MOST = 64  # workers that tell, and are heard
_ABSENT = -1  # of a worker that has ended
_AT_ONCE = 16  # connections taken in a turn of the event loop
_PATIENCE = 0.005  # seconds for which a connection is left to others
_PAUSE = 1.0  # seconds without new connections where the system has no room for more


class Counts:
    """How many connections each worker has, in a file that they share.

    Attributes:
        own: the number of this worker's.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "r+b")  # noqa: SIM115 - closing it gives the place away
        self._place = self._take_place()
        self._counts = memoryview(mmap.mmap(self._file.fileno(), 0)).cast("q")

    def _take_place(self) -> int | None:
        """A place of the file that no living process has; None: there is none."""
        for place in range(MOST):
            with contextlib.suppress(OSError):
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                return place
        return None

    def tell(self, own: int) -> None:
        if self._place is not None:
            self._counts[self._place] = own

    def leave(self) -> None:
        """Give the place away."""
        self.tell(_ABSENT)
        self._file.close()

    def is_more(self, own: int) -> bool:
        """Whether a worker with this number has clearly more than another one."""
        if self._place is None:
            return False
        others = [count for place, count in enumerate(self._counts) if count != _ABSENT and place != self._place]
        fewest = min(others, default=own)
        return own > fewest + fewest // 8


def make_counts(path: Path) -> None:
    """Write a file of counts for workers that are to be started."""
    path.write_bytes(array.array("q", [_ABSENT] * MOST).tobytes())


class Acceptor:
    """Takes the connections of a listening socket: what a loop's `create_server` returns.

    Args:
        create: makes the protocol of a connection, which has a set `connections` of all open ones.
        counts: of all workers; None: there is one.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        create: Callable[[], Any],
        listener: socket.socket,
        counts: Counts | None = None,
    ) -> None:
        self._loop, self._create, self._listener, self._counts = loop, create, listener, counts
        self._open: Sized = ()
        self._starting: set[asyncio.Task[Any]] = set()
        self._later: asyncio.TimerHandle | None = None
        self._ended = False
        listener.setblocking(False)
        self._tell(0)
        loop.add_reader(listener, self._accept)

    def close(self) -> None:
        self._ended = True
        self._loop.remove_reader(self._listener)
        if self._later is not None:
            self._later.cancel()
        if self._counts is not None:
            self._counts.leave()

    async def wait_closed(self) -> None:
        if self._starting:
            await asyncio.wait(self._starting)

    def _accept(self, most: int = _AT_ONCE, *, even: bool = True) -> None:
        own = len(self._open) + len(self._starting)
        self._tell(own)
        for _ in range(most):
            if even and self._counts is not None and self._counts.is_more(own):
                self._rest(_PATIENCE)
                return
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:  # such as too many open files
                self._rest(_PAUSE)
                return
            task = self._loop.create_task(self._start(connection))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)
            own += 1
            self._tell(own)

    def _tell(self, own: int) -> None:
        if self._counts is not None:
            self._counts.tell(own)

    def _rest(self, seconds: float) -> None:
        """Look away for some time; then take a connection that is still there, whoever has more."""
        self._loop.remove_reader(self._listener)
        self._later = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._loop.add_reader(self._listener, self._accept)
        self._accept(1, even=False)

    async def _start(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it may have gone
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            protocol: Any = (await self._loop.connect_accepted_socket(self._create, connection))[1]
            self._open = protocol.connections
            if self._ended:
                protocol.shutdown()


if sys.platform != "win32":

    class Loop(uvloop.Loop):
        """An event loop whose servers take connections in this way."""

        async def create_server(self, create: Any, *_: Any, sock: Any = None, **options: Any) -> Any:  # type: ignore[override]
            return Acceptor(self, create, sock, Counts(Path(os.environ[COUNTS])) if COUNTS in os.environ else None)
