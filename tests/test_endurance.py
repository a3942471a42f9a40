"""Twenty times killed, stopped and out of disk at random moments: resumed, a training ends with the very same files.

Slow, and different each time: `make test-slow`. test_checkpoints.py tests the same at chosen moments.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from test_checkpoints import TASKS, scores, write_table
from test_interrupts import HEEDING, process

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals")]

# What hangs says where.
TRAIN = (
    HEEDING + "import faulthandler; faulthandler.dump_traceback_later(100)\nfrom bilstm.__main__ import main; main()"
)
TIMES = 20
FILES = ["log", "model", "task", "train.csv"]


def command(folder: Path, *more: str) -> list[str]:
    places = [
        f"--{name}={folder / file}" for name, file in (("out", "model"), ("log", "log"), ("checkpoint", "checkpoint"))
    ]
    small = ["--units=24", "--layers=1", "--epochs=120", "--patience=120", "--threads=1", "--quiet"]
    columns = ["--sequence=id", *TASKS[(folder / "task").read_text()]]
    return ["train", str(folder / "train.csv"), *columns, *small, *places, *more]


def run(folder: Path, *more: str) -> tuple[int, str]:
    """Train to the end, whatever it is. Status and errors."""
    with process(TRAIN, *command(folder, *more)) as running:
        _, errors = running.communicate(timeout=120)
    return running.returncode, errors


class Reference:
    """A training that nothing disturbs: its folder, and the seconds that it takes."""

    def __init__(self, folder: Path, task: str) -> None:
        self.folder = folder
        write_table(folder, task, 150)
        started = time.monotonic()
        assert run(folder) == (0, "")
        self.seconds = time.monotonic() - started

    def moment(self) -> float:
        return random.uniform(0, self.seconds)

    def copy(self, folder: Path) -> Path:
        for name in ("train.csv", "task"):
            (folder / name).write_bytes((self.folder / name).read_bytes())
        return folder

    def check(self, folder: Path) -> None:
        """Whether a training has left there the very same files, and no others."""
        assert sorted(os.listdir(folder)) == FILES
        assert (folder / "model").read_bytes() == (self.folder / "model").read_bytes()
        assert scores(folder / "log") == scores(self.folder / "log")


@pytest.fixture(scope="module")
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(tmp_path_factory.mktemp("reference"), getattr(request, "param", "step-label"))


def disturb(folder: Path, name: str, moment: float, *more: str) -> bool:
    """Train, and send a signal after so many seconds; whether the training was still running."""
    with process(TRAIN, *command(folder, *more)) as running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(moment)
        alive = running.poll() is None
        running.send_signal(getattr(signal, name))
        running.communicate(timeout=120)
    return alive


@pytest.mark.parametrize("reference", ["step-label", "sequence-label", "step-quantity"], indirect=True)
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_ended_by_a_signal(reference: Reference, tmp_path: Path, name: str) -> None:
    ended = resumed = 0
    while ended < TIMES:
        folder = tmp_path / f"training{ended}"
        folder.mkdir(exist_ok=True)
        if disturb(reference.copy(folder), name, reference.moment(), "--resume"):
            ended += 1
            resumed += (folder / "checkpoint").exists()
        assert run(folder, "--resume") == (0, "")
        reference.check(folder)
    assert resumed >= TIMES / 5  # the others were ended before the first epoch was
    print(f"{ended} trainings ended by {name}, {resumed} of them after the first epoch")


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_one_training_ended_again_and_again(reference: Reference, tmp_path: Path, name: str) -> None:
    folder = reference.copy(tmp_path)
    ended = sum(disturb(folder, name, reference.moment() / 2, "--resume") for _ in range(TIMES))
    assert ended
    assert run(folder, "--resume") == (0, "")
    reference.check(folder)


# --- A full disk -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes; skips the test where none can be mounted."""
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(options, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, free: int = 0) -> None:
    """Leave only so many bytes free, and less than a page."""
    status = os.statvfs(folder)
    (folder / "filler").write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - free)))


def said_of_a_full_disk(status: int, errors: str) -> bool:
    """Whether training said, in one line, what there was no room for; else it came to its end."""
    assert errors.count("\n") == (1 if errors else 0), errors
    assert "Traceback" not in errors
    assert status in (0, 2)
    assert "no space left on device" in errors if status else True
    return status == 2


def test_a_disk_that_is_full_from_the_start(reference: Reference, tmp_path: Path) -> None:
    refused = 0
    needed = sum((reference.folder / name).stat().st_size for name in FILES)
    with small_disk(tmp_path, 20 * needed) as disk:
        for number in range(TIMES):
            folder = disk / "training"
            folder.mkdir()
            reference.copy(folder)
            fill(disk, number * needed // 2)
            refused += said_of_a_full_disk(*run(folder))
            assert not [name for name in os.listdir(folder) if name not in (*FILES, "checkpoint")]
            (disk / "filler").unlink()
            assert run(folder, "--resume") == (0, "")
            reference.check(folder)
            for name in FILES:
                (folder / name).unlink()
            folder.rmdir()
    assert 0 < refused < TIMES
    print(f"{refused} of {TIMES} trainings had no room")


def test_a_disk_that_becomes_full(reference: Reference, tmp_path: Path) -> None:
    refused = 0
    needed = sum((reference.folder / name).stat().st_size for name in FILES)
    with small_disk(tmp_path, 20 * needed) as disk:
        for number in range(TIMES):
            folder = disk / f"training{number % 2}"
            folder.mkdir()
            with process(TRAIN, *command(reference.copy(folder))) as running:
                time.sleep(reference.moment())
                fill(disk)
                _, errors = running.communicate(timeout=120)
            refused += said_of_a_full_disk(running.returncode, errors)
            assert not [name for name in os.listdir(folder) if name not in (*FILES, "checkpoint")]
            (disk / "filler").unlink()
            assert run(folder, "--resume") == (0, "")
            reference.check(folder)
            for name in FILES:
                (folder / name).unlink()
            folder.rmdir()
    assert refused
    print(f"{refused} of {TIMES} trainings ran out of disk")
