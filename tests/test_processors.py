"""The number of threads that a process takes by itself: what containers, affinity and other libraries leave to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bilstm.engine import processors


def group(root: Path, lines: str, files: dict[str, str]) -> Path:
    """A file system with this /proc/self/cgroup and these files of control groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("lines", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),  # half a processor is one thread
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "250000 100000\n"}, 2),  # a group around it
        ("0::/host/path\n", {"cpu.max": "400000 100000\n"}, 4),  # seen from within a container
        (
            "3:cpu,cpuacct:/a\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "200000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            2,
        ),
        ("1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("1:cpuset:/\n", {"cpu.max": "100000 100000"}, None),  # of another controller
        ("0::/\n", {"cpu.max": "nonsense\n"}, None),
        ("nonsense", {"cpu.max": "100000 100000\n"}, None),
    ],
)
def test_quotas_of_control_groups(tmp_path: Path, lines: str, files: dict[str, str], expected: int | None) -> None:
    assert processors._quota(group(tmp_path, lines, files)) == expected


def test_no_control_groups(tmp_path: Path) -> None:
    assert processors._quota(tmp_path) is None


@pytest.mark.parametrize(
    ("announced", "expected"), [("1", 1), ("3", 3), (" 2 ", 2), ("2,4", 2), ("0", 1), ("99", 8), ("many", 8), ("", 8)]
)
def test_omp_num_threads_is_a_limit(monkeypatch: pytest.MonkeyPatch, announced: str, expected: int) -> None:
    monkeypatch.setattr(processors, "_allowed", lambda: 8)
    monkeypatch.setattr(processors, "_quota", lambda: None)
    monkeypatch.setenv("OMP_NUM_THREADS", announced)
    assert processors.default_threads() == expected


def test_the_least_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "_allowed", lambda: 8)
    monkeypatch.setattr(processors, "_quota", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert processors.default_threads() == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system knows no affinity")
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 1),
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"BILSTM_THREADS": "5"}, 5),
        ({"BILSTM_THREADS": "5", "OMP_NUM_THREADS": "1"}, 5),
    ],
)
def test_a_process_of_its_own(variables: dict[str, str], expected: int) -> None:
    """On one processor; a number that the user states is used as it is."""
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from bilstm import utils; print(utils.threads())"
    )
    others = {name: value for name, value in os.environ.items() if not name.endswith("_THREADS")}
    found = subprocess.run([sys.executable, "-c", program], env=others | variables, capture_output=True, text=True)
    assert (found.stdout, found.stderr) == (f"{expected}\n", "")
