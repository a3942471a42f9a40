"""A training step of two processes with a thread each, compared with that of one process with one thread.

    python -m benchmarks.distributed.training                   measures all, and writes TRAINING.md; 7 minutes
    python -m benchmarks.distributed.training --cases S,N1      some cases; prints the table

The processes are those of `--workers` (shared memory), and those of torchrun (gloo): over the loopback, and between two
hosts whose packets are delayed (network.py), which needs root. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.distributed import network

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("TRAINING.md")
LATENCIES = (0.0, 0.1, 1.0, 10.0)  # milliseconds, of each packet
PORT = "29613"
LONGEST = 300.0  # seconds for one setting


@dataclass(frozen=True)
class Case:
    """A network and a batch, as of benchmarks/speed, where it has the same name.

    Attributes:
        steps: training steps that are timed, after one or two others.
        latencies: milliseconds, of those that are measured.
    """

    name: str
    sequences: int
    length: int
    features: int
    units: int
    layers: int
    outputs: int
    steps: int
    latencies: tuple[float, ...] = LATENCIES

    def __str__(self) -> str:
        layers = f", {self.layers} layers" if self.layers > 1 else ""
        return f"T{self.length} B{self.sequences} I{self.features} H{self.units}{layers}"


CASES = {
    case.name: case
    for case in (
        Case("S", 64, 20, 4, 16, 1, 3, 100),
        Case("N1", 32, 500, 16, 64, 2, 10, 20),
        Case("N4", 16, 800, 40, 320, 3, 50, 1, (0.0,)),
        Case("N4×2", 32, 800, 40, 320, 3, 50, 2),
        Case("N2", 32, 32, 128, 128, 1, 20, 50),
        Case("N4/2", 32, 200, 40, 320, 3, 50, 2),
    )
}
HERE = ("S", "N1", "N4", "N4×2")  # in TRAINING.md


# --- A process that trains --------------------------------------------------------------------------------------------


def measure(case: Case, communicator: Any) -> dict[str, Any]:
    """Milliseconds of a step, of the exchanges in it with all waiting, and of such exchanges alone."""
    from bilstm.training.shares import train_shares
    from bilstm.training.windows import WindowSource

    model, data = model_and_data(case)
    engine, offsets = model.network, data.data.offsets
    source, batch = WindowSource(data.data, data.targets, (offsets[:-1], offsets[1:])), np.arange(case.sequences)
    starts, times, exchanges = np.array([0, case.sequences]), [], []
    for number in range(case.steps + min(2, case.steps)):
        exchanged, began = communicator.seconds, time.perf_counter()
        if communicator.size == 1:
            model.train_batches(data, data.chosen, starts)
        else:
            train_shares(model, source, batch, communicator)
        if number >= min(2, case.steps):
            times.append(time.perf_counter() - began)
            exchanges.append(communicator.seconds - exchanged)
    alone = []
    small, large = np.zeros((9, 5)), np.zeros(engine.parameter_count)
    for _ in range(12 if communicator.size > 1 else 0):
        began = time.perf_counter()
        communicator.maximum(small)
        communicator.sum(large)
        alone.append(time.perf_counter() - began)
    return {
        "step": 1e3 * statistics.median(times),
        "exchanges": 1e3 * statistics.median(exchanges),
        "reduction": 1e3 * statistics.median(alone[2:]) if alone else 0.0,
        "parameters": engine.parameter_count,
        "shares": len(engine.divide(data.data.lengths)),
        "weights": model.network.read().tobytes().hex()[-64:],
    }


def model_and_data(case: Case) -> tuple[Any, Any]:
    from bilstm.engine.plans import Targets
    from bilstm.layers import LSTM, Bidirectional, Dense
    from bilstm.models import Sequential
    from bilstm.models.fitting import FitData
    from bilstm.ragged import Ragged

    layers: list[Any] = [
        Bidirectional(LSTM(case.units, return_sequences=True), **({} if i else {"input_shape": (None, case.features)}))
        for i in range(case.layers)
    ]
    model = Sequential([*layers, Dense(case.outputs, activation="softmax")], seed=1)
    model.compile("adam", "sparse_categorical_crossentropy")
    random = np.random.default_rng(1)
    steps = case.sequences * case.length
    values = random.standard_normal((steps, case.features), np.float32)
    data = Ragged(values, np.arange(case.sequences + 1) * case.length)
    return model, FitData.all_of(data, Targets(labels=random.integers(0, case.outputs, steps, np.int32)))


def run_worker(kind: str, case: Case) -> None:
    """What a started process does: it prints what it measured."""
    from bilstm.distributed import join
    from bilstm.training.communicator import ALONE
    from bilstm.utils import set_threads

    set_threads(1)
    with contextlib.ExitStack() as stack:
        if kind == "one":
            found = measure(case, ALONE)
        elif kind == "torchrun":
            communicator = stack.enter_context(join())
            found = measure(case, communicator)
            if communicator.rank:
                return
        else:
            found = measure_local(case)
    print(json.dumps(found))


def measure_local(case: Case) -> dict[str, Any]:
    """With a process that `bilstm.training.workers` starts, which measures, too."""
    from bilstm.training import workers

    # The other process trains by what it is sent, which is this module's function.
    program = (
        "import bilstm.training.workers as workers, benchmarks.distributed.training as benchmark\n"
        "workers.train_model = lambda name, *_, communicator: benchmark.measure(benchmark.CASES[name], communicator)\n"
        "workers.main()\n"
    )
    workers.PROGRAM = program
    sys.path.insert(0, str(ROOT))
    parameters = model_and_data(case)[0].network.parameter_count
    with workers.started(2, parameters, LONGEST) as team:
        team.send((case.name, None, None, None, 1))
        return measure(case, team)


# --- All settings -----------------------------------------------------------------------------------------------------


def start(
    kind: str, name: str, before: Sequence[str] = (), module: str = "training", **environment: str
) -> subprocess.Popen[str]:
    command = [*before, sys.executable, "-m", f"benchmarks.distributed.{module}", "--worker", kind, "--cases", name]
    threads = {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=os.environ | threads | environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def answer(processes: Sequence[subprocess.Popen[str]]) -> dict[str, Any]:
    """What the first process measured."""
    try:
        printed = [process.communicate(timeout=LONGEST)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(process.returncode for process in processes):
        raise SystemExit("a process failed; its message is above")
    found: dict[str, Any] = json.loads(printed[0].splitlines()[-1])
    return found


def gloo(name: str, latency: float, module: str = "training") -> dict[str, Any]:
    """Two processes on the loopback, or with a latency on two hosts."""
    address, device = (network.ADDRESSES[0], network.DEVICE) if latency else ("127.0.0.1", "lo")
    variables = {"MASTER_ADDR": address, "MASTER_PORT": PORT, "WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": device}
    with network.hosts(latency) if latency else contextlib.nullcontext():
        before = [network.inside(rank) if latency else [] for rank in range(2)]
        return answer([start("torchrun", name, before[rank], module, RANK=str(rank), **variables) for rank in range(2)])


def rows_of(case: Case) -> list[list[str]]:
    """The lines of a case in the table."""
    one = [answer([start("one", case.name)])]
    settings = [("shared memory", answer([start("workers", case.name)]))]
    for latency in case.latencies:
        label = f"gloo, {latency:g} ms" if latency else "gloo"
        settings.append((label, gloo(case.name, latency)))
    one.append(answer([start("one", case.name)]))  # once more: the processor's clock changes
    alone = min(each["step"] for each in one)
    rows = []
    for number, (label, found) in enumerate(settings):
        if found["weights"] != one[0]["weights"]:
            raise SystemExit(f"{case.name}: two processes have other weights than one")
        about = [case.name, str(case), f"{found['parameters']:,}", str(found["shares"]), f"{alone:,.1f}"]
        figures = [found["step"], alone / found["step"], found["reduction"], found["exchanges"]]
        rows.append([*(about if not number else [""] * 5), label, *(f"{figure:,.2f}" for figure in figures)])
    return rows


PAGE = """# A training step of two processes

{machine}

Two processes with one thread each divide the shares of a batch. `shared memory` is `bilstm train --workers 2`, `gloo`
is torchrun over the loopback; with a latency, between two network namespaces whose packets a program carries after
that delay, so that an answer takes twice as long. The weights are the same, to the last bit, as those of one process,
which is checked. `reduction` is both exchanges of a step alone;
`exchanges` is what they take in a step, waiting for the other process included. A batch has a share for every 16 of its
sequences: where it has one, two processes cannot divide it.

{table}

Made by `python -m benchmarks.distributed.training`.
"""
HEAD = ("case", "shape", "weights", "shares", "one process, ms", "two, by", "two, ms", "times as fast", "reduction, ms")
HEAD = (*HEAD, "exchanges, ms")


def table_of(rows: list[list[str]], head: Sequence[str] = HEAD) -> str:
    widths = [max(len(row[i]) for row in [list(head), *rows]) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [list(head), *rows]
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", help="such as S,N1: only these; prints the table")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        run_worker(arguments.worker, CASES[arguments.cases])
        return
    from benchmarks.speed.machine import describe

    names = arguments.cases.split(",") if arguments.cases else HERE
    table = table_of([row for name in names for row in rows_of(CASES[name])])
    print(table)
    if not arguments.cases:
        about = describe()
        machine = f"{about['processor']}, {about['processors']} processors, {about['system']}, {about['date']}."
        TABLE.write_text(PAGE.format(machine=machine, table=table), encoding="utf-8")


if __name__ == "__main__":
    main()
