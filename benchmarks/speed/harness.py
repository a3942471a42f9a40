"""Starts a process for each library, checks that all compute the same, and times them in turn."""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.cases import Case, FloatArray

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "build" / "bench"
OURS = "bilstm"

# Outputs are probabilities. Losses are of two runs of training steps from the same weights.
OUTPUT_TOLERANCE = 1e-4  # absolute
LOSS_TOLERANCE = 1e-4  # relative

_LONGEST_WAIT = 900.0  # seconds for one answer
_TURN = 0.2  # seconds for which a setting is timed in a round, if one step is no longer
_PAUSE = 0.05  # seconds before each turn, so that the threads of the one before go to sleep
_ROUNDS = (3, 11)
_SLOW = 10.0  # seconds of a step that is not timed again and again
_CLOSE = 1.25  # a library's settings within this factor of its fastest stay in the race


class PeerError(RuntimeError):
    """A library could not do what it was asked to."""


class Process:
    """A library in its own process.

    Args:
        peer: one of the PEERS of its worker.
        python: the interpreter of the environment it is installed in.
        note: what tells this process's settings from another's of the same library, such as ", 1 thread".
        environment: variables on top of this process's own.
        worker: the module that it runs.
    """

    def __init__(
        self,
        peer: str,
        python: str,
        *,
        note: str = "",
        environment: Mapping[str, str] | None = None,
        worker: str = "benchmarks.speed.worker",
    ) -> None:
        self.peer, self.note = peer, note
        LOGS.mkdir(parents=True, exist_ok=True)
        self.log = LOGS / f"{peer}{note}.log".replace(" ", "-").replace(",", "").lower()
        self._command = [python, "-m", worker, peer]
        self._environment = os.environ | {"PYTHONPATH": ""} | dict(environment or {})
        self._start("w")

    def _start(self, mode: str) -> None:
        with self.log.open(mode) as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._greeting: dict[str, Any] | None = None

    def revive(self) -> None:
        """Start again what an earlier case has ended, such as for want of memory; what never began stays ended."""
        if self._process.poll() is not None and self._greeting is not None:
            self._start("a")

    @property
    def greeting(self) -> dict[str, Any]:
        """The process's first answer: "versions" and "memory".

        Raises:
            PeerError: the library is not installed.
        """
        if self._greeting is None:
            self._greeting = self._answer()
        return self._greeting

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Give a command and wait for the answer.

        Raises:
            PeerError: it failed; the message says why, the process's log says more.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # the answer tells that the process has ended
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready = select.select([self._process.stdout], [], [], _LONGEST_WAIT)[0]
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self._process.kill()
            self._process.wait()
            raise PeerError(
                f"the process ended, see {self.log.relative_to(ROOT)}"
                if ready
                else f"no answer in {_LONGEST_WAIT:.0f} s"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()


@dataclass
class Entry:
    """One setting of one library on one case.

    Attributes:
        seconds: a step's in each round; none if it was not the library's fastest or failed.
        fastest: a step's in the fastest run of each turn.
        estimate: a step's seconds before the rounds.
        problem: why it is not in the table; empty if it is.
    """

    process: Process
    name: str
    exact: bool
    granule: int
    seconds: list[float] = field(default_factory=list)
    fastest: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)
    estimate: float = 0.0
    steps: int = 1
    repeats: int = 1
    problem: str = ""

    @property
    def peer(self) -> str:
        return self.process.peer

    @property
    def label(self) -> str:
        return self.name + self.process.note

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        return self.process.ask(do, setting=self.name, **arguments)

    def turn(self) -> float:
        """Time one turn: seconds a step."""
        time.sleep(_PAUSE)
        answer = self.ask("time", steps=self.steps, repeats=self.repeats)
        self.waiting.append(answer["waiting"])
        self.fastest.append(answer["fastest"])
        return float(answer["seconds"])

    def described(self) -> dict[str, Any]:
        median = statistics.median(self.seconds) if self.seconds else None
        return {
            "peer": self.peer,
            "setting": self.label,
            "exact": self.exact,
            "median": median,
            "seconds": self.seconds,
            "estimate": self.estimate,
            "fastest": min(self.fastest) if self.seconds else None,
            "waiting": max(self.waiting, default=0.0),
            "problem": self.problem,
        }


def measure(case: Case, processes: Sequence[Process], *, budget: float = 40.0) -> list[dict[str, Any]]:
    """Measure one case: check, find each library's best settings, then time these in turn.

    Args:
        processes: ours first.
        budget: about how many seconds the rounds may take.

    Returns:
        What `Entry.described` says of every setting.
    """
    entries = [entry for process in processes for entry in _entries(case, process)]
    reference: tuple[FloatArray, list[float]] | None = None
    for entry in entries:
        try:
            found = _first_results(case, entry)
            if reference is None:
                reference = found
            entry.problem = _difference(case, reference, found) if entry.exact else ""
            if not entry.problem:
                _estimate(case, entry)
        except PeerError as error:
            entry.problem = str(error)
    racing = _fastest([entry for entry in entries if not entry.problem])
    for entry in entries:
        if entry not in racing:
            with suppress(PeerError):
                entry.ask("drop")
    _race(racing, budget)
    return [entry.described() for entry in entries]


def _entries(case: Case, process: Process) -> Iterable[Entry]:
    process.revive()
    try:
        process.greeting  # noqa: B018  (raises if the library is not installed)
        settings = process.ask("build", case=asdict(case))["settings"]
    except PeerError as error:
        yield Entry(process, "", True, 1, problem=str(error))
        return
    for setting in settings:
        yield Entry(process, setting["name"], setting["exact"], setting["granule"])


def _first_results(case: Case, entry: Entry) -> tuple[FloatArray, list[float]]:
    """Outputs of a new network, (total_steps, outputs), and the losses of two runs of training steps."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "outputs.npy"
        losses = entry.ask("check", steps=min(case.batches, 2), path=str(path))["losses"]
        outputs = np.load(path)
    return outputs.reshape(case.sequences, -1, case.outputs)[:, : case.longest][case.mask], losses


def _difference(case: Case, ours: tuple[FloatArray, list[float]], theirs: tuple[FloatArray, list[float]]) -> str:
    """In what the two differ too much; empty if they agree."""
    error = float(np.abs(ours[0] - theirs[0]).max())
    if not error <= OUTPUT_TOLERANCE:
        return f"its outputs differ from ours by up to {error:.2g}"
    if case.trains:
        error = max(abs(b / a - 1) for a, b in zip(ours[1], theirs[1], strict=True))
        if not error <= LOSS_TOLERANCE:
            return f"its losses differ from ours by up to {error:.2g} of theirs"
    return ""


def _estimate(case: Case, entry: Entry) -> None:
    """Find out how long a step takes, and how many make a turn."""
    entry.steps = min(entry.granule, case.batches)
    seconds = entry.turn()
    for _ in range(2):  # a first run may compile for another number of steps
        before = entry.steps, entry.repeats
        most = case.batches // entry.granule or 1
        entry.steps = entry.granule * min(most, max(1, int(_TURN / seconds / entry.granule)))
        entry.repeats = max(1, round(_TURN / seconds / entry.steps))
        if before == (entry.steps, entry.repeats):
            break
        seconds = entry.turn()
    entry.estimate = seconds


def _fastest(entries: list[Entry]) -> list[Entry]:
    """Each library's fastest settings, among the exact ones and among the others; all of ours."""
    racing = []
    for entry in entries:
        alike = [e.estimate for e in entries if (e.peer, e.exact) == (entry.peer, entry.exact)]
        if entry.peer.startswith(OURS) or entry.estimate <= _CLOSE * min(alike):
            racing.append(entry)
    return racing


def _race(entries: list[Entry], budget: float) -> None:
    for entry in entries:
        if entry.estimate > _SLOW and not entry.peer.startswith(OURS):
            entry.seconds.append(entry.estimate)
    entries = [entry for entry in entries if not entry.seconds]
    total = sum(entry.estimate * entry.steps * entry.repeats + _PAUSE for entry in entries)
    rounds = int(np.clip(budget / max(total, 1e-9), *_ROUNDS))
    for entry in entries:
        entry.waiting.clear()
    for number in range(rounds):
        # Another order in each round, so that nobody always runs after the same one.
        for entry in entries[number % len(entries) :] + entries[: number % len(entries)]:
            if entry.problem:
                continue
            try:
                entry.seconds.append(entry.turn())
            except PeerError as error:
                entry.problem = str(error)


def python_of_peers() -> str:
    """The interpreter of the peers' environment, or this one if `make bench` has not made it yet."""
    python = ROOT / "build" / "peers" / "bin" / "python"
    return str(python) if python.exists() else sys.executable
