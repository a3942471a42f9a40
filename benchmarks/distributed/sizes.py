"""What `bilstm estimate` predicts for a training step of two processes, compared with what such a step takes.

    python -m benchmarks.distributed.sizes                     measures all, and writes SIZES.md; 4 minutes
    python -m benchmarks.distributed.sizes --cases S,N1        some cases; prints the table

The processes are those of benchmarks.distributed.training, with a thread each. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.distributed import training
from benchmarks.distributed.training import CASES, Case, answer, gloo, start, table_of

TABLE = Path(__file__).with_name("SIZES.md")
UNDELAYED = 1e-3  # milliseconds: two hosts whose packets are carried, but not delayed
LATENCIES = (0.1, 1.0, 10.0)  # milliseconds
HERE = ("S", "N1", "N2", "N4/2")
HEAD = ("case", "shape", "weights", "processes", "predicted, ms", "measured, ms", "ratio")
HEAD = (*HEAD, "predicted exchange, ms", "measured exchange, ms")


# --- A process that measures ------------------------------------------------------------------------------------------


def run_worker(kind: str, case: Case) -> None:
    """Print what is measured for estimates: by one process its steps and gloo; by two the network between them."""
    from bilstm.distributed import join
    from bilstm.distributed.links import Link, fitted, medians, own_link
    from bilstm.training.loop import LoopOptions
    from bilstm.training.planning import plan_training
    from bilstm.training.timing import time_steps
    from bilstm.utils import set_threads

    set_threads(1)
    model, data = training.model_and_data(case)
    count = model.network.parameter_count
    found: dict[str, Any] = {}
    if kind == "torchrun":
        with join() as communicator:
            link: Link | None = fitted(*medians(communicator.sum, count))
            if communicator.rank:
                return
    else:
        options = LoopOptions(epochs=1, batch_size=case.sequences, window=case.length)
        plan = plan_training(model, data.data.offsets, options)
        times = time_steps(model, data, plan, seed=1, seconds=4.0)
        found = {"steps": {str(workers): seconds for workers, seconds in times.seconds.items()}}
        found |= {"shares": times.shares, "parameters": count}
        link = own_link(count)
    if link is None:
        raise SystemExit("gloo cannot be measured")
    print(json.dumps(found | {"link": dataclasses.astuple(link)}))


# --- All --------------------------------------------------------------------------------------------------------------


def rows_of(case: Case) -> tuple[list[list[str]], list[float]]:
    """The lines of a case in the table, and each prediction divided by what was measured."""
    from bilstm.distributed import Estimate
    from bilstm.distributed.links import IDEAL, Link

    found = answer([start("estimate", case.name, module="sizes")])
    steps = {int(workers): seconds for workers, seconds in found["steps"].items()}
    carried = Link(*gloo(case.name, UNDELAYED, "sizes")["link"])
    facts: dict[str, Any] = {"parameters": found["parameters"], "shares": found["shares"], "steps": steps}
    facts |= {"sequences": case.sequences, "batch_size": case.sequences, "batches": 1, "epochs": 1}
    estimate = Estimate(**facts, validation=dict.fromkeys(steps, 0.0), prediction=0.0)
    settings: list[tuple[str, int, Link, dict[str, Any]]] = [
        ("one", 1, IDEAL, answer([start("one", case.name)])),
        ("two, shared memory", 2, IDEAL, answer([start("workers", case.name)])),
        ("two, gloo", 2, Link(*found["link"]), gloo(case.name, 0.0)),
    ]
    for latency in LATENCIES:
        link = Link(latency / 1e3).through(carried)
        settings.append((f"two, gloo, {latency:g} ms", 2, link, gloo(case.name, latency)))
    rows, ratios = [], []
    for number, (label, workers, link, measured) in enumerate(settings):
        predicted = dataclasses.replace(estimate, link=link)
        ratios.append(1e3 * predicted.step(workers) / measured["step"])
        figures = [1e3 * predicted.step(workers), measured["step"], ratios[-1]]
        figures += [1e3 * predicted.exchange(workers), measured["reduction"]] if workers > 1 else []
        cells = [f"{figure:,.2f}" for figure in figures]
        about = [case.name, str(case), f"{found['parameters']:,}"] if not number else [""] * 3
        rows.append([*about, label, *cells, *[""] * (5 - len(cells))])
    return rows, ratios


PAGE = """# Predicted and measured training steps

{machine}

What [bilstm estimate](../../docs/choose-a-size.md) predicts for a training step of one process and of two, with a
thread each, compared with what such steps take, measured as for [the table of steps](TRAINING.md). `predicted` is the
time of one process with the shares that each of two has, plus exchanges. With shared memory these are taken for free;
with gloo over the loopback, they are what the command measures between two threads. With a latency, processes are in
two network namespaces whose packets a program carries after that delay: what it takes without a delay is measured, and
the rest predicted. `exchange` is both exchanges of a step alone.

Of {count} predictions, half are within {median:.0%} of what was measured, and all within {worst:.0%}.

{table}

Made by `python -m benchmarks.distributed.sizes`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", help="such as S,N1: only these; prints the table")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        run_worker(arguments.worker, CASES[arguments.cases])
        return
    from benchmarks.speed.machine import describe

    rows, ratios = [], list[float]()
    for name in arguments.cases.split(",") if arguments.cases else HERE:
        lines, of_case = rows_of(CASES[name])
        rows += lines
        ratios += of_case
    table = table_of(rows, HEAD)
    print(table)
    if not arguments.cases:
        about = describe()
        machine = f"{about['processor']}, {about['processors']} processors, {about['system']}, {about['date']}."
        errors = [abs(ratio - 1) for ratio in ratios]
        summary = {"count": len(errors), "median": statistics.median(errors), "worst": max(errors)}
        TABLE.write_text(PAGE.format(machine=machine, table=table, **summary), encoding="utf-8")


if __name__ == "__main__":
    main()
