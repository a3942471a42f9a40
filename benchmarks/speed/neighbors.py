"""Measures bilstm on two processors while other processes use them too: does the second thread still help?

    python -m benchmarks.speed.neighbors               all cases, about 7 minutes; writes NEIGHBORS.md
    python -m benchmarks.speed.neighbors --cases N1    some cases; prints the table

A neighbor is a process that computes without a pause, pinned to a processor. One and two threads are timed in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from benchmarks.speed import machine
from benchmarks.speed.cases import CASES, Case
from benchmarks.speed.harness import OURS, Process

OUTPUT = Path(__file__).with_name("NEIGHBORS.md")
NAMES = [name for name in CASES if name not in ("N4", "X1")]
THREADS = (1, 2)
ROUNDS = 5
TURN = 0.6  # seconds: a scheduler's slices are some milliseconds
SPIN = "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"
# With one processor taken: of what one thread takes alone. With both: of what one thread takes then.
LIMITS = {"one": 1.15, "both": 1.3}

Seconds = dict[tuple[int, int], list[float]]  # (threads, neighbors) -> of a step, in each round


@contextlib.contextmanager
def neighbors(count: int) -> Iterator[None]:
    """So many processes that take a processor each; one takes the last."""
    processors = sorted(os.sched_getaffinity(0))[-2:]
    started = [subprocess.Popen([sys.executable, "-c", SPIN, str(each)]) for each in processors[2 - count :]]
    try:
        time.sleep(0.2 if started else 0.0)
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def measure(case: Case, processes: dict[int, Process]) -> Seconds:
    """Seconds of a training step or prediction, round after round."""
    names, steps, repeats, warm = {}, {}, {}, {}
    for threads, process in processes.items():
        settings = process.ask("build", case=asdict(case))["settings"]
        setting = next(each for each in settings if each["exact"])
        names[threads], steps[threads] = setting["name"], min(setting["granule"], case.batches)
        answer = process.ask("time", setting=names[threads], steps=steps[threads], repeats=2)
        repeats[threads] = max(1, round(TURN / answer["seconds"] / steps[threads]))
        warm[threads] = max(1, repeats[threads] // 2)  # until all have noticed who else is there
    found: Seconds = {}
    for _ in range(ROUNDS):
        for count in (0, 1, 2):
            with neighbors(count):
                for threads, process in processes.items():
                    process.ask("time", setting=names[threads], steps=steps[threads], repeats=warm[threads])
                    how = {"setting": names[threads], "steps": steps[threads], "repeats": repeats[threads]}
                    found.setdefault((threads, count), []).append(process.ask("time", **how)["seconds"])
    return found


def table(results: dict[str, Seconds]) -> list[str]:
    """The table, in milliseconds, and which cases are beyond the limits."""
    lines = [
        "| case | 1 thread | 2 threads | 2 threads, one processor taken | of 1 thread's | 1 thread, both taken "
        "| 2 threads, both taken | of 1 thread's |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    beyond = []
    for name, seconds in results.items():
        median = {key: statistics.median(values) for key, values in seconds.items()}
        one, both = median[2, 1] / median[1, 0], median[2, 2] / median[1, 2]
        beyond += [name] * (one > LIMITS["one"] or both > LIMITS["both"])
        milliseconds = [f"{median[key] * 1e3:.4g}" for key in ((1, 0), (2, 0), (2, 1), (1, 2), (2, 2))]
        cells = [*milliseconds[:3], f"{one:.2f}×", *milliseconds[3:], f"{both:.2f}×"]
        lines.append(f"| **{name}** {CASES[name].shape} | {' | '.join(cells)} |")
    limits = f"{LIMITS['one']} times what one thread takes alone, and {LIMITS['both']} times what one takes then"
    return [*lines, "", f"The limits are {limits}. Beyond them: {', '.join(beyond) or 'none'}."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=lambda text: text.split(","), default=NAMES, help="such as N1,L1")
    chosen = parser.parse_args().cases
    processes = {count: Process(OURS, sys.executable, environment={"BILSTM_THREADS": str(count)}) for count in THREADS}
    versions = [process.greeting["versions"][OURS] for process in processes.values()]
    results = {}
    for name in chosen:
        results[name] = measure(CASES[name], processes)
        print("\n".join(table({name: results[name]})[2:3]), flush=True)
    for process in processes.values():
        process.close()
    lines = table(results)
    print("\n".join(["", *lines]))
    if chosen != NAMES:
        return
    place = machine.describe()
    where = f"{place['processor']}, {place['processors']} processors, {place['system']}, {place['date']}"
    OUTPUT.write_text(
        "\n".join(
            [
                "# Speed beside busy neighbors",
                "",
                f"{where}; bilstm {versions[1]}. Made by `python -m benchmarks.speed.neighbors`.",
                "",
                "A neighbor computes without a pause, pinned to one of two processors (*one taken*), or one to each of",
                "them (*both taken*). Medians of the rounds, in milliseconds for a training step or a prediction.",
                "",
                *lines,
                "",
            ]
        )
    )


if __name__ == "__main__":
    main()
