"""How time and memory grow: with steps, with units; and the memory of large cases beside PyTorch's.

Every figure comes from a process of its own, so that its largest memory is this case's alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from benchmarks.speed.cases import CASES, Case
from benchmarks.speed.harness import OURS, PeerError, Process, python_of_peers

STEPS = (500, 1000, 2000, 4000, 8000)
UNITS = (32, 64, 128, 256, 512)
LARGE = ("N1", "N4")
PEERS = (OURS, "PyTorch")
_REPEATS = 9


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """{"steps", "units", "large"} -> peer -> a list of {"x", "seconds", "bytes"}."""
    steps = Case("steps", "train", (1,) * 8, 16, 64, 1, 10, batches=1)
    units = Case("units", "train", (100,) * 16, 64, 1, 1, 10, batches=1)
    series: dict[str, dict[Any, Case]] = {
        "steps": {count: replace(steps, lengths=(count,) * 8) for count in STEPS},
        "units": {count: replace(units, units=count) for count in UNITS},
        "large": {name: replace(CASES[name], batches=1) for name in LARGE},
    }
    found: dict[str, Any] = {}
    for name, cases in series.items():
        found[name] = {peer: [] for peer in PEERS}
        for x, case in cases.items():
            for peer in PEERS:
                try:
                    figures = _in_fresh_process(peer, case)
                except PeerError as error:
                    say(f"{name} {x}: {peer}: {error}")
                    continue
                found[name][peer].append({"x": x, **figures})
                say(f"{name} {x}: {peer}: {figures['seconds'] * 1e3:.1f} ms, {figures['bytes'] / 2**20:.1f} MiB")
    return found


def _in_fresh_process(peer: str, case: Case) -> dict[str, float]:
    process = Process(peer, sys.executable if peer == OURS else python_of_peers(), note=", growth")
    try:
        process.greeting  # noqa: B018  (raises if the library is not installed)
        settings = process.ask("build", case=asdict(case))["settings"]
        name = [s["name"] for s in settings if s["exact"]][-1]  # the last has the most threads
        seconds = [process.ask("time", setting=name, steps=1, repeats=1)["seconds"] for _ in range(1 + _REPEATS)]
        memory = process.ask("memory")["memory"]
    finally:
        process.close()
    return {"seconds": min(seconds[1:]), "bytes": memory}


def exponent(points: list[dict[str, Any]], what: str) -> float:
    """p of the power law that fits best, by least squares of logarithms; NaN without enough points.

    For seconds what ~ x ** p; for bytes, of which some are there in any case, what is added to the first point's:
    what - what_0 ~ (x - x_0) ** p.
    """
    x, y = (np.array([point[key] for point in points], float) for key in ("x", what))
    if what == "bytes":
        x, y = x[1:] - x[:1], y[1:] - y[:1]
    if len(x) < 2 or np.min(y) <= 0:
        return float("nan")
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
