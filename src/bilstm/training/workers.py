"""Workers on this machine: processes that are started for one training, and add their numbers in shared memory."""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from bilstm.engine.library import set_threads, threads
from bilstm.errors import DivergedError, UserError
from bilstm.files import discard, reason, temporary
from bilstm.models import Sequential
from bilstm.models.fitting import FitData
from bilstm.ragged import offsets_of
from bilstm.training.checkpoints import Checkpoint
from bilstm.training.communicator import TIMEOUT, Communicator, Numbers, WorkerLostError
from bilstm.training.loop import LoopOptions, Progress, train_model

MOST_WORKERS = 64
PROGRAM = "from bilstm.training.workers import main; main()"  # of a started process
_ROOM = 1 << 14  # numbers at least that one exchange may have
_ALIGNED = 64  # bytes that an array begins at a multiple of
_READY, _FAILED = b".", b"!"  # what a worker sends where it waits for the others, or when it cannot continue


def train_on_workers(
    count: int,
    model: Sequential,
    training: FitData,
    validation: FitData | None,
    options: LoopOptions,
    *,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    timeout: float = TIMEOUT,
) -> dict[str, Any]:
    """What `train_model` does, on this and `count` - 1 further processes, which have a part of the threads each.

    The processes are started for this training, read the encoded data from one file that they share, and end with it.

    Args:
        count: from 2.
        timeout: seconds after which a worker that does not answer is given up.

    Raises:
        WorkerLostError: a process ended or does not answer; all others have been ended, too.
        UserError: processes cannot be started; and what `train_model` raises.
    """
    before = threads()
    each = max(1, before // count)
    assert model.network is not None
    with started(count, model.network.parameter_count, timeout) as team:
        try:
            set_threads(each)
            team.send((model, training, validation, options, each))
            return train_model(
                model, training, validation, options, progress=progress, checkpoint=checkpoint, communicator=team
            )
        finally:
            set_threads(before)


@dataclass
class _Memory:
    """Memory of several processes: a row for each worker's numbers, and one for their sum or maximum."""

    path: Path
    workers: int
    room: int  # numbers in a row

    def __post_init__(self) -> None:
        with open(self.path, "r+b") as file:
            content = mmap.mmap(file.fileno(), 8 * (self.workers + 1) * self.room)
        self.rows = np.frombuffer(content, np.float64).reshape(self.workers + 1, self.room)

    def __reduce__(self) -> tuple[type[_Memory], tuple[Path, int, int]]:
        return _Memory, (self.path, self.workers, self.room)  # which opens the file


class _Local(Communicator):
    """A worker of this machine. All write their numbers, and each adds those of its stretch of the rows."""

    same_data = True

    def __init__(self, rank: int, memory: _Memory) -> None:
        super().__init__()
        self.rank, self.size, self._memory = rank, memory.workers, memory

    def _reduce(self, values: Numbers, operation: np.ufunc) -> Numbers:
        rows, room = self._memory.rows, self._memory.room
        flat, result = values.reshape(-1), np.empty(values.size)
        for begin in range(0, len(flat), room):
            part = flat[begin : begin + room]
            count = len(part)
            rows[self.rank, :count] = part
            self._wait()
            own = slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)
            operation.reduce(rows[: self.size, own], axis=0, out=rows[self.size, own])
            self._wait()
            result[begin : begin + count] = rows[self.size, :count]
        return result.reshape(values.shape)

    def _wait(self) -> None:
        """Return when all workers have called this."""
        raise NotImplementedError


class _First(_Local):
    """Worker 0, which started the others and waits for each of them."""

    def __init__(self, memory: _Memory, timeout: float) -> None:
        super().__init__(0, memory)
        self._timeout = timeout
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        paths = [path or os.getcwd() for path in sys.path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "-P", "-c", PROGRAM]
        try:
            for _ in range(self.size - 1):
                self._processes.append(
                    subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, bufsize=0)
                )
        except OSError as error:
            raise UserError(f"cannot start {self.size} workers: {reason(error)}") from error

    def send(self, work: tuple[Any, ...]) -> None:
        """Send each worker what it trains on. Its arrays are written once, to a file that all of them map."""
        buffers: list[pickle.PickleBuffer] = []
        text = pickle.dumps(work, protocol=5, buffer_callback=buffers.append)
        arrays = [buffer.raw() for buffer in buffers]
        bounds = offsets_of([-(-array.nbytes // _ALIGNED) * _ALIGNED for array in arrays])
        path = temporary(_shared_file(max(_ALIGNED, int(bounds[-1]))))
        try:
            with open(path, "r+b") as file:
                for begin, array in zip(bounds[:-1].tolist(), arrays, strict=True):
                    file.seek(begin)
                    file.write(array)
            places = [(begin, array.nbytes) for begin, array in zip(bounds[:-1].tolist(), arrays, strict=True)]
            for rank, process in enumerate(self._processes, 1):
                assert process.stdin is not None
                try:
                    with open(process.stdin.fileno(), "wb", closefd=False) as pipe:
                        pickle.dump((rank, self._memory, path, places, text), pipe)
                except BrokenPipeError:
                    raise self._lost(rank) from None
            self._wait()  # until all have opened both files
        finally:
            for each in (path, self._memory.path):  # so that nothing is left of them whatever happens
                discard(each)

    def _wait(self) -> None:
        for rank, process in enumerate(self._processes, 1):
            assert process.stdout is not None
            if not _readable(process.stdout, self._timeout):
                raise WorkerLostError(f"worker {rank} of {self.size} has not answered for {self._timeout:g} seconds")
            sent = process.stdout.read(1)
            if sent == _FAILED:
                raise UserError(f"worker {rank} of {self.size}: {(process.stdout.readall()).decode()}")  # type: ignore[attr-defined]
            if sent != _READY:
                raise self._lost(rank)
        for rank, process in enumerate(self._processes, 1):
            assert process.stdin is not None
            try:
                process.stdin.write(_READY)
            except BrokenPipeError:
                raise self._lost(rank) from None

    def _lost(self, rank: int) -> WorkerLostError:
        process = self._processes[rank - 1]
        try:
            status = process.wait(5)
        except subprocess.TimeoutExpired:
            return WorkerLostError(f"worker {rank} of {self.size} closed its connection")
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        return WorkerLostError(f"worker {rank} of {self.size} {how}")

    def end(self) -> None:
        for process in self._processes:
            process.kill()  # it holds nothing that worker 0 has not
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()


@contextlib.contextmanager
def started(count: int, parameters: int, timeout: float) -> Iterator[_First]:
    """Worker 0 of this number of workers; the others end with the block."""
    room = max(_ROOM, parameters)
    path = temporary(_shared_file(8 * (count + 1) * room))
    try:
        team = _First(_Memory(path, count, room), timeout)
        try:
            team.start()
            yield team
        finally:
            team.end()
    finally:
        discard(path)


def _shared_file(size: int) -> Path:
    """A file of this size: in memory where the system has a folder for it with enough room, as containers may not."""
    for folder in ("/dev/shm", tempfile.gettempdir()):
        if not os.access(folder, os.W_OK):
            continue
        handle, path = tempfile.mkstemp(prefix="bilstm-", dir=folder)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle, 0, size)  # a write to what could not be had would end the process
            else:
                os.truncate(handle, size)
            return Path(path)
        except OSError as error:
            problem = error
            os.unlink(path)
        finally:
            os.close(handle)
    raise UserError(f"cannot share {size:,} bytes among workers: {reason(problem)}")


def _readable(pipe: IO[bytes], seconds: float) -> bool:
    """Whether there is something to read within this time. Windows has no such question for pipes: it waits."""
    return sys.platform == "win32" or bool(select.select([pipe], [], [], seconds)[0])


class _Further(_Local):
    """A worker that worker 0 has started, and that ends when worker 0 does."""

    def __init__(self, rank: int, memory: _Memory, orders: IO[bytes], answers: IO[bytes]) -> None:
        super().__init__(rank, memory)
        self._orders, self._answers = orders, answers

    def _wait(self) -> None:
        try:
            self._answers.write(_READY)
            released = self._orders.read(1)
        except BrokenPipeError:
            released = b""
        if not released:
            os._exit(0)  # worker 0 has ended, so no one waits


def main() -> None:
    """What a started process does: train as one of the workers. Its standard input and output are for worker 0."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # worker 0 decides
    orders = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    try:
        rank, memory, path, places, text = pickle.load(orders)
        with open(path, "rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        work = pickle.loads(text, buffers=[content[begin : begin + length] for begin, length in places])
        model, training, validation, options, each = work
        set_threads(each)
        team = _Further(rank, memory, orders, answers)
        team._wait()
        train_model(model, training, validation, options, communicator=team)
    except DivergedError:
        pass  # worker 0 knows it, too
    except BaseException as error:
        with contextlib.suppress(OSError):
            what = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            answers.write(_FAILED + what.encode())
