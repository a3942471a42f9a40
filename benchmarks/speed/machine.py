"""What the figures were measured on: processor, system, and the most multiply-adds it does in a second."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

_SOURCE = Path(__file__).with_name("peak.cpp")


def describe() -> dict[str, Any]:
    return {
        "processor": _processor(),
        "processors": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "Python": platform.python_version(),
        "date": str(date.today()),
    }


def _processor() -> str:
    for source in (Path("/proc/cpuinfo").read_text, _sysctl):
        try:
            lines = source().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("model name") or line.startswith("machdep.cpu.brand_string"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _sysctl() -> str:
    return subprocess.run(["sysctl", "machdep.cpu.brand_string"], capture_output=True, text=True).stdout


class Peak:
    """Measures again and again during a run, as clocks change with heat and company; the best counts.

    Attributes:
        gflops: float32 GFLOP/s of (one thread, a thread on every processor).
    """

    def __init__(self, folder: Path) -> None:
        self.gflops = (0.0, 0.0)
        self._program = folder / "peak"
        compiler = shlex.split(os.environ.get("CXX", "c++"))
        options = ["-O3", "-march=native", "-std=c++20", "-pthread"]
        subprocess.run([*compiler, *options, str(_SOURCE), "-o", str(self._program)], check=True)

    def measure(self) -> None:
        command = [str(self._program), str(os.cpu_count() or 1)]
        one, several = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        self.gflops = max(self.gflops[0], float(one)), max(self.gflops[1], float(several))
