"""Runs commands in forked processes, whose n-th write, fsync, rename, open or large allocation fails, or which are sent
a signal at some moment. A fork takes some hundredths of a second where a new Python takes a second."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

KINDS = ("write", "fsync", "rename", "open", "allocate")
_SOURCE = Path(__file__).parent / "native" / "faults.c"
_SERVER = """
import atexit, ctypes, gc, json, os, signal, sys, time

import click, duckdb, matplotlib.pyplot, numpy, safetensors.numpy, tensorboardX.record_writer, tqdm
import bilstm.__main__, bilstm.cli, bilstm.compare, bilstm.model.streaming, bilstm.model.training, bilstm.plots
import bilstm.model.folders, bilstm.report
import bilstm.training.checkpoints, bilstm.training.epochlog, bilstm.training.tensorboard, bilstm.wording
import multiprocessing.util, tensorboardX.proto.summary_pb2, tensorboardX.proto.event_pb2
from bilstm.__main__ import main
from bilstm.signals import stop_on_signals

library = ctypes.CDLL(None)
faults = hasattr(library, "faults_arm")
if faults:
    library.faults_count.restype = ctypes.c_long
numbers = (signal.SIGINT, signal.SIGTERM)
for number in numbers:
    signal.signal(number, signal.SIG_DFL)

def begin():
    stop_on_signals()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)

replies = os.fdopen(os.dup(1), "w", buffering=1)
gc.freeze()
replies.write("ready\\n")
for line in sys.stdin:
    request = json.loads(line)
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    child = os.fork()
    if not child:
        replies.close()
        for file, (name, flags) in enumerate(zip(
            (request["stdin"], request["stdout"], request["stderr"]),
            (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT | os.O_TRUNC] * 2),
        )):
            handle = os.open(name, flags, 0o644)
            os.dup2(handle, file)
            os.close(handle)
        sys.stdin = open(0)
        for file, name in enumerate(("stdin", "stdout", "stderr")):
            if name in request["closed"]:
                os.close(file)
                setattr(sys, name, None)
        os.chdir(request["folder"])
        sys.argv = ["bilstm", *request["arguments"]]
        bilstm.__main__.stop_on_signals = begin
        if faults:
            library.faults_arm(request["kind"], ctypes.c_long(request["n"]), request["onwards"])
        try:
            main()
        except SystemExit as end:  # a whole end of the interpreter would take longer than the command
            atexit._run_exitfuncs()
            sys.stdout.flush()
            os._exit(int(end.code or 0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
    end = time.monotonic() + 60
    for number, seconds in request["signals"]:
        time.sleep(seconds)
        os.kill(child, number)
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < end:
        time.sleep(0.002)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)
    counts = [library.faults_count(kind) for kind in range(5)] if faults else []
    replies.write(json.dumps([os.waitstatus_to_exitcode(ended[1]), counts]) + "\\n")
os._exit(0)
"""


@dataclasses.dataclass
class Ran:
    """How a command ended: its status, what it printed, and how many calls of each kind it made."""

    status: int
    output: bytes
    errors: str
    counts: dict[str, int]


class Knocks:
    """A process that forks commands. What they print is counted as written into a file of the folder."""

    def __init__(self, folder: Path, library: Path | None) -> None:
        self.folder, self._errors = folder / "work", folder / "errors"
        self.temporary = folder / "temporary"
        for made in (self.folder, self.temporary):
            made.mkdir()
        environment = {
            **os.environ,
            "TMPDIR": str(self.temporary),
            "BILSTM_FAULT_FOLDERS": f"{self.folder}:{self.temporary}",
            "OPENBLAS_NUM_THREADS": "1",
            "MPLBACKEND": "agg",
        }
        if library is not None:
            environment["LD_PRELOAD"] = str(library)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def run(
        self,
        *arguments: Any,
        fault: tuple[str, int] | None = None,
        onwards: bool = False,
        signals: list[tuple[int, float]] | None = None,
        stdin: Path = Path(os.devnull),
        stdout: Path | None = None,
        closed: tuple[str, ...] = (),
    ) -> Ran:
        """Run a command to its end.

        Args:
            fault: which call fails: its kind, and which of them, counted from 1.
            onwards: whether all of them fail after it, too.
            signals: what is sent, and seconds to wait before each.
            stdin, stdout: files that take the place of the standard input and output.
            closed: which of "stdin", "stdout" and "stderr" are closed.
        """
        kind, n = fault or ("write", 0)
        output = stdout or self.folder / "output"
        request = {
            "arguments": [str(argument) for argument in arguments],
            "folder": str(self.folder),
            "stdin": str(stdin),
            "stdout": str(output),
            "stderr": str(self._errors),
            "kind": KINDS.index(kind),
            "n": n,
            "onwards": int(onwards),
            "signals": signals or [],
            "closed": closed,
        }
        self._errors.write_text("")
        if not stdout:
            output.touch()  # a command may be killed before it is
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        status, counts = json.loads(self._process.stdout.readline())
        printed = b"" if stdout else output.read_bytes()
        if not stdout:
            output.unlink()
        return Ran(status, printed, self._errors.read_text(errors="replace"), dict(zip(KINDS, counts, strict=False)))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@contextlib.contextmanager
def knocks(folder: Path, *, faults: bool) -> Iterator[Knocks]:
    """A process that forks commands; with faults, or the test is skipped where they cannot be."""
    library = None
    if faults:
        library = folder / "faults.so"
        command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
        try:
            built = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no gcc")
        assert built.returncode == 0, built.stderr
    server = Knocks(folder, library)
    try:
        yield server
    finally:
        server.close()
