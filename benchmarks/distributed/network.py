"""Two hosts on this machine, whose packets a program carries from one to the other after a delay. Linux, as root.

    python -m benchmarks.distributed.network DELAY      carries packets until it is ended; DELAY in milliseconds

The hosts are network namespaces with a TUN device each: unlike `tc netem`, every kernel has these.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

ADDRESSES = ("10.203.78.1", "10.203.78.2")
DEVICE = "bilstm0"
ROOT = Path(__file__).parents[2]
_NAMES = ("bilstm-bench-a", "bilstm-bench-b")
_MTU = 60_000  # large packets, of which the program carries fewer
_SET_DEVICE, _TUN, _NO_HEADER, _NETWORK = 0x400454CA, 0x0001, 0x1000, 0x40000000  # of Linux


def inside(host: int) -> list[str]:
    """What begins a command that runs on host 0 or 1."""
    return ["ip", "netns", "exec", _NAMES[host]]


@contextlib.contextmanager
def hosts(delay: float) -> Iterator[None]:
    """Two hosts, whose packets are delayed by this number of milliseconds; an answer takes twice as long."""
    relay = None
    try:
        for name in _NAMES:
            _ip("netns", "add", name)
        command = [sys.executable, "-m", "benchmarks.distributed.network", str(delay)]
        relay = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert relay.stdout
        if relay.stdout.readline() != "ready\n":
            raise RuntimeError("packets cannot be carried between namespaces")
        for name, address in zip(_NAMES, ADDRESSES, strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", DEVICE)
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", DEVICE, "mtu", str(_MTU), "txqueuelen", "10000", "up")
        yield
    finally:
        if relay:
            relay.kill()
            relay.communicate()
        for name in _NAMES:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _open_device(name: str) -> int:
    """A TUN device in a namespace."""
    library = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as own, open(f"/var/run/netns/{name}") as other:
        if library.setns(other.fileno(), _NETWORK):
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {name}")
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, _SET_DEVICE, struct.pack("16sH", DEVICE.encode(), _TUN | _NO_HEADER))
        library.setns(own.fileno(), _NETWORK)
    return device


def carry(delay: float) -> None:
    """Carry packets between the hosts until the program is ended."""
    devices = [_open_device(name) for name in _NAMES]
    print("ready", flush=True)
    waiting: deque[tuple[float, int, bytes]] = deque()  # in the order of their times, since all have one delay
    while True:
        patience = max(0.0, waiting[0][0] - time.perf_counter()) if waiting else None
        for device in select.select(devices, [], [], patience)[0]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    packet = os.read(device, 65536)
                    waiting.append((time.perf_counter() + delay, devices[devices[0] == device], packet))
        while waiting and waiting[0][0] <= time.perf_counter():
            _, device, packet = waiting.popleft()
            with contextlib.suppress(OSError):  # a device that is not up yet, or full: TCP sends again
                os.write(device, packet)


if __name__ == "__main__":
    carry(float(sys.argv[1]) / 1e3)
