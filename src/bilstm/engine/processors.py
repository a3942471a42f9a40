"""How many processors this process may use: fewer than the machine has, in a container or among other workers."""

from __future__ import annotations

import os
import re
from pathlib import Path


def default_threads() -> int:
    """The number of threads unless someone states another: one for each processor that this process may use.

    It is at most OMP_NUM_THREADS, by which joblib, Ray, PyTorch's launcher and others tell each of their workers its
    share.
    """
    limits = [_allowed(), _quota(), _announced()]
    return max(1, min(limit for limit in limits if limit is not None))


def _allowed() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _announced() -> int | None:
    """OMP_NUM_THREADS: a number, or one for each level of nested sections, of which the first counts here."""
    match = re.match(r"\s*(\d+)\s*(,|$)", os.environ.get("OMP_NUM_THREADS", ""))
    return max(1, int(match[1])) if match else None


def _quota(root: Path = Path("/")) -> int | None:
    """The whole processors that control groups grant to this process, at least 1; None where there is no limit.

    A container's scheduler stops all threads of a process that has used up its share of a period's time, so a thread
    beyond the share makes the others wait.
    """
    shares = [share for folder in _groups(root) if (share := _share(folder)) is not None]
    return max(1, int(min(shares))) if shares else None


def _groups(root: Path) -> list[Path]:
    """The folders that limit this process: of its own control group, and of those around it."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError):
        return []
    folders: list[Path] = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:  # version 2
            mounts = ["sys/fs/cgroup"]
        elif "cpu" in controllers.split(","):  # version 1
            mounts = [f"sys/fs/cgroup/{controllers}", "sys/fs/cgroup/cpu"]
        else:
            continue
        own = Path(path.lstrip("/"))
        # In a container the path may be the host's: the container's own group is then at the mount itself.
        folders += [root / mount / part for mount in mounts for part in (own, *own.parents)]
    return folders


def _share(folder: Path) -> float | None:
    """The processors that a control group grants; None where it has no limit."""
    try:
        if (limit := folder / "cpu.max").is_file():  # version 2: "150000 100000" or "max 100000"
            quota, period = limit.read_text(encoding="ascii").split()
        else:
            files = [folder / f"cpu.cfs_{name}_us" for name in ("quota", "period")]
            quota, period = (file.read_text(encoding="ascii") for file in files)
        return int(quota) / int(period) if quota != "max" and int(quota) > 0 < int(period) else None
    except (OSError, ValueError):
        return None
