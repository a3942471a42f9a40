"""Ctrl-C and requests to end: raised at once, or after a block that must not be cut in two."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, ClassVar

# SIGHUP, where there is one: the terminal has gone.
_NUMBERS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if sys.platform != "win32" else []))
_AGAIN = 0.01  # seconds after which what could not be caught is raised once more


class Stopped(KeyboardInterrupt):
    """Ctrl-C (SIGINT), or a request to end (SIGTERM, SIGHUP), which is treated alike.

    Attributes:
        status: the exit status by which a shell knows the signal.
        received: the last one of this program.
    """

    received: ClassVar[Stopped | None] = None

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number, self.status = number, 128 + number


class held:  # noqa: N801 - used like a function
    """A signal that comes in the block waits for its end, and is raised there. A second one does not wait.

    Where the block raises an exception, that is raised and the signal is not.

    Args:
        every: let each further one wait, too: for a block that takes no time.
    """

    _depth: ClassVar[int] = 0
    _every: ClassVar[int] = 0  # how many of the blocks hold each signal
    _waiting: ClassVar[Stopped | None] = None

    def __init__(self, *, every: bool = False) -> None:
        self._all = every

    def __enter__(self) -> None:
        held._depth += 1
        held._every += self._all

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        held._depth -= 1
        held._every -= self._all
        if held._depth == 0:
            waiting, held._waiting = held._waiting, None
            if waiting and kind is None:
                raise waiting


class heard:  # noqa: N801
    """Within a block that holds signals: one in which they are raised at once, as is one that waits."""

    def __enter__(self) -> None:
        self._before = held._depth, held._every
        waiting, held._waiting = held._waiting, None
        if waiting:
            raise waiting
        held._depth = held._every = 0

    def __exit__(self, *_: object) -> None:
        held._depth, held._every = self._before


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """In the block, signals end the program at once and without a message. It is for waiting in a library that does
    not let Python notice them, where nothing has to be written or removed.

    Raises:
        Stopped: a signal came before. It has been raised already, but some libraries catch whatever is raised while
            they are imported, and continue.
    """
    own = [number for number in _NUMBERS if signal.getsignal(number) is _stop]  # none in someone else's program
    for number in own:
        signal.signal(number, signal.SIG_DFL)
    try:
        if own and Stopped.received:
            raise Stopped.received
        yield
    finally:
        for number in own:
            signal.signal(number, _stop)


@contextlib.contextmanager
def workers_spared() -> Iterator[None]:
    """Processes that start in the block never see Ctrl-C, nor that the terminal has gone: whoever started them ends
    them, where otherwise each would print a traceback. A signal that comes in the block is raised at its end.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # or else it starts in the block, and lets the signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def stop_on_signals() -> None:
    """Raise `Stopped` at Ctrl-C and at requests to end, so that what must be written or removed in the end still is."""
    sys.unraisablehook = _raise_again
    for number in _NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in a shell's background jobs
            signal.signal(number, _stop)


def ignore_signals() -> None:
    """From now on, let none disturb the program's end."""
    for number in _NUMBERS:
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.SIG_IGN)


def _stop(number: int, _: object) -> None:
    Stopped.received = Stopped(number)
    if _Later.starting:
        return
    if held._depth and (held._waiting is None or held._every):
        held._waiting = Stopped.received
    else:
        held._waiting = None
        raise Stopped.received


class _Later:
    """Whether a signal is just being prepared to be raised once more."""

    starting: ClassVar[bool] = False


def _raise_again(failure: Any) -> None:
    """Raised in a finalizer or a C library's callback, a signal would be printed and lost: raise it after that."""
    if not isinstance(failure.exc_value, Stopped):
        sys.__unraisablehook__(failure)
        return
    _Later.starting = True
    import _thread
    import threading

    timer = threading.Timer(_AGAIN, _thread.interrupt_main, [failure.exc_value.number])
    timer.daemon = True
    timer.start()
    _Later.starting = False
