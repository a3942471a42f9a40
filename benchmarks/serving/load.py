"""Requests from many connections at once, each of which asks again as soon as it has its answer."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Load:
    """What was answered.

    Attributes:
        seconds: that it lasted.
        times: of each answer with status 200, in seconds.
        statuses: how many answers had which status; 0: the connection was closed.
        different: how many answers were not those expected.
    """

    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    different: int = 0

    @property
    def rate(self) -> float:
        return len(self.times) / self.seconds

    def milliseconds(self, share: float) -> float:
        """The time below which this share of the answers came."""
        ordered = sorted(self.times)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


class _Connection(asyncio.Protocol):
    """Asks over and over until the time is up."""

    def __init__(
        self, load: Load, requests: list[bytes], expected: list[bytes] | None, until: float, seed: int
    ) -> None:
        self._load, self._requests, self._expected, self._until = load, requests, expected, until
        self._random, self._rest = random.Random(seed), b""
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._asked, self._started = self._random.randrange(len(self._requests)), time.perf_counter()
        self._transport.write(self._requests[self._asked])

    def data_received(self, data: bytes) -> None:
        self._rest += data
        head, found, body = self._rest.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        place = lower.find(b"content-length:")
        length = int(lower[place + 15 :].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        now, status = time.perf_counter(), int(head[9:12])
        self._load.statuses[status] += 1
        if status == 200:
            self._load.times.append(now - self._started)
            self._load.different += self._expected is not None and body != self._expected[self._asked]
        self._rest = b""
        if now >= self._until:
            self._transport.close()
        elif status == 503:
            asyncio.get_running_loop().call_later(0.05, self._ask)
        else:
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if time.perf_counter() < self._until:
            self._load.statuses[0] += 1
        if not self.ended.done():
            self.ended.set_result(None)


async def ask(
    port: int, path: str, bodies: list[bytes], expected: list[bytes] | None, connections: int, seconds: float
) -> Load:
    """Ask a service on this computer for some seconds.

    Args:
        expected: the answer to each body, or None: it is not looked at.
    """
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
    load, loop, started = Load(), asyncio.get_running_loop(), time.perf_counter()
    made = []
    for seed in range(connections):
        _, connection = await loop.create_connection(
            lambda seed=seed: _Connection(load, requests, expected, started + seconds, seed),  # type: ignore[misc]
            "127.0.0.1",
            port,
        )
        made.append(connection)
    await asyncio.wait([connection.ended for connection in made], timeout=seconds + 60)
    load.seconds = time.perf_counter() - started
    return load
