"""New connections of a service: many at a time, and as many for each worker."""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvloop")

from bilstm.serving.accepting import COUNTS, Counts, Loop, make_counts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make_counts(tmp_path / "connections")
    return tmp_path / "connections"


def written(path: Path) -> Any:
    """The counts in a file, to be changed."""
    with open(path, "r+b") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0), np.int64)


def test_who_has_more_is_known_from_the_others_counts(path: Path) -> None:
    counts, others = Counts(path), written(path)
    assert not counts.is_more(100)  # there are no others
    for fewest, most in ((0, 0), (1, 1), (7, 7), (8, 9), (128, 144)):
        others[3:5] = fewest, 1000
        assert not counts.is_more(most)
        assert counts.is_more(most + 1)
    counts.tell(17)
    assert written(path).tolist()[:5] == [17, -1, -1, 128, 1000]
    counts.leave()
    assert written(path)[0] == -1


def test_a_place_is_free_once_its_process_has_ended(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from bilstm.serving.accepting import Counts; "
        "counts = Counts(Path(sys.argv[1])); counts.tell(5); print('told', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"told\n"
        mine = Counts(path)
        mine.tell(7)
        assert written(path)[:3].tolist() == [5, 7, -1]
        other.kill()
        other.wait()
        again = Counts(path)
    again.tell(9)
    assert written(path)[:3].tolist() == [9, 7, -1]
    mine.leave()
    again.leave()
    assert written(path)[:3].tolist() == [-1, -1, -1]


class Greeter(asyncio.Protocol):
    """Greets, as one of the connections that are open."""

    def __init__(self, connections: set[Greeter]) -> None:
        self.connections = connections

    def connection_made(self, transport: Any) -> None:
        self.connections.add(self)
        self.transport = transport
        transport.write(b"hello")

    def connection_lost(self, error: Exception | None) -> None:
        self.connections.discard(self)

    def shutdown(self) -> None:
        self.transport.close()


@pytest.mark.parametrize("others", [None, 0, 50])
def test_every_connection_is_taken_even_if_others_should(
    path: Path, others: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where others have fewer, but do not take it, it is taken a little later."""
    if others is None:
        monkeypatch.delenv(COUNTS, raising=False)
    else:
        monkeypatch.setenv(COUNTS, str(path))
        written(path)[9] = others
    opened: set[Greeter] = set()

    async def greeted(port: int) -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.readexactly(5) == b"hello"
        return writer

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            server = await asyncio.get_running_loop().create_server(lambda: Greeter(opened), sock=listener)
            writers = await asyncio.gather(*(greeted(port) for _ in range(40)))
            assert len(opened) == 40
            for writer in writers[:30]:
                writer.close()
                await writer.wait_closed()
            writers += [await greeted(port)]
            if others is not None:
                assert 10 <= written(path)[0] <= 12
            server.close()
            await server.wait_closed()
            for writer in writers[30:]:
                writer.close()
                await writer.wait_closed()
            while opened:
                await asyncio.sleep(0.001)
        if others is not None:
            assert written(path)[0] == -1

    loop = Loop()
    try:
        loop.run_until_complete(run())
    finally:
        loop.close()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells which sockets a process has")
def test_workers_have_about_as_many_connections(tmp_path: Path) -> None:
    server = (
        "import asyncio, os, socket, sys; from bilstm.serving.accepting import Loop\n"
        "from tests.test_serving_accepting import Greeter\n"
        "listener, opened = socket.socket(fileno=int(sys.argv[1])), set()\n"
        "async def run():\n"
        "    loop = asyncio.get_running_loop()\n"
        "    await loop.create_server(lambda: Greeter(opened), sock=listener)\n"
        "    print('ready', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "Loop().run_until_complete(run())\n"
    )
    make_counts(tmp_path / "connections")
    environment = os.environ | {COUNTS: str(tmp_path / "connections")}
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        numbers = [listener.fileno()]
        command = [sys.executable, "-c", server, str(listener.fileno())]
        workers = [
            subprocess.Popen(
                command, stdout=subprocess.PIPE, pass_fds=numbers, env=environment, cwd=Path(__file__).parents[1]
            )
            for _ in range(2)
        ]
        try:
            for worker in workers:
                assert worker.stdout
                assert worker.stdout.readline() == b"ready\n"
            clients = [socket.create_connection(listener.getsockname()) for _ in range(30)]
            for client in clients:
                assert client.recv(5) == b"hello"
            time.sleep(0.1)
            counts = written(tmp_path / "connections")[:2].tolist()
            for client in clients:
                client.close()
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
                assert worker.stdout
                worker.stdout.close()
    assert sum(counts) == 30
    assert max(counts) <= 20
