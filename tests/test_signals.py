"""Signals are raised at once, or after a block; never lost, and never printed as tracebacks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bilstm.signals import Stopped, ended_by_signals, heard, held, ignore_signals, stop_on_signals

pytestmark = [pytest.mark.fast, pytest.mark.skipif(os.name != "posix", reason="signals")]
NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] if os.name == "posix" else []


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before, hook = [signal.getsignal(number) for number in NUMBERS], sys.unraisablehook
    for number in NUMBERS:
        signal.signal(number, signal.SIG_DFL)
    stop_on_signals()
    yield
    for number, handler in zip(NUMBERS, before, strict=True):
        signal.signal(number, handler)
    sys.unraisablehook, Stopped.received = hook, None


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_is_raised_at_once(number: int) -> None:
    with pytest.raises(Stopped) as caught:
        signal.raise_signal(number)
    assert (caught.value.status, str(caught.value)) == (128 + number, signal.Signals(number).name)
    assert Stopped.received is caught.value


@pytest.mark.parametrize("depth", [1, 2])
def test_a_signal_waits_for_the_end_of_a_block(depth: int) -> None:
    done = []

    def work() -> None:
        with held():
            if depth == 2:
                with held():
                    signal.raise_signal(signal.SIGINT)
                    done.append(1)
                done.append(2)
            else:
                signal.raise_signal(signal.SIGINT)
                done.extend([1, 2])

    with pytest.raises(Stopped, match="SIGINT"):
        work()
    assert done == [1, 2]
    with pytest.raises(Stopped, match="SIGTERM"):
        signal.raise_signal(signal.SIGTERM)  # the block is over


@pytest.mark.parametrize("every", [False, True])
def test_a_second_signal_does_not_wait_unless_every_one_does(every: bool) -> None:
    done = []

    def work() -> None:
        with held(every=every):
            signal.raise_signal(signal.SIGINT)
            done.append(1)
            signal.raise_signal(signal.SIGTERM)
            done.append(2)

    with pytest.raises(Stopped, match="SIGTERM"):
        work()
    assert done == ([1, 2] if every else [1])


@pytest.mark.parametrize("before", [False, True])
def test_within_a_block_signals_can_be_heard(before: bool) -> None:
    done = []

    def work() -> None:
        with held():
            if before:
                signal.raise_signal(signal.SIGINT)
            with heard():
                done.append(1)
                signal.raise_signal(signal.SIGTERM)
                done.append(2)

    with pytest.raises(Stopped, match="SIGINT" if before else "SIGTERM"):
        work()
    assert done == ([] if before else [1])
    with held():  # as if nothing had been
        with heard():
            pass
        done.append(3)


def test_an_error_of_the_block_is_raised_rather_than_the_signal() -> None:
    def work() -> None:
        with held():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        work()
    with held():
        pass


def test_what_is_ignored_stays_ignored_and_the_end_is_not_disturbed() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop_on_signals()
    signal.raise_signal(signal.SIGINT)
    ignore_signals()
    for number in NUMBERS:
        signal.raise_signal(number)


def test_a_signal_in_a_finalizer_is_not_lost() -> None:
    script = """
import signal, time
from bilstm.signals import Stopped, stop_on_signals

class Ends:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

signal.signal(signal.SIGTERM, signal.SIG_DFL)
stop_on_signals()
try:
    end = Ends()
    del end
    for _ in range(3000):  # which the second signal ends, as it would not end one long sleep
        time.sleep(0.01)
except Stopped as stopped:
    print(stopped, stopped.status)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr) == ("SIGTERM 143\n", "")


@pytest.mark.parametrize(("where", "status"), [("in", -signal.SIGTERM), ("before", 143), ("after", 143)])
def test_what_waits_in_a_library_is_ended_at_once(where: str, status: int) -> None:
    script = """
import signal, sys
from bilstm.signals import Stopped, ended_by_signals, stop_on_signals

def at(place):
    if place == sys.argv[1]:
        signal.raise_signal(signal.SIGTERM)

stop_on_signals()
try:
    at("before")
    with ended_by_signals():
        at("in")
    at("after")
except Stopped as stopped:
    sys.exit(stopped.status)
"""
    ran = subprocess.run([sys.executable, "-c", script, where], capture_output=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (status, b"", b"")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_that_a_library_has_caught_does_not_let_the_program_wait(number: int) -> None:
    """As some do while they are imported: a launcher would wait for this worker, and this one for one that is lost."""
    with contextlib.suppress(BaseException):
        signal.raise_signal(number)
    waited = []
    with pytest.raises(Stopped) as caught, ended_by_signals():
        waited.append(1)
    assert (caught.value.number, waited) == (number, [])
    assert signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN)
