"""Where `bilstm train` and `bilstm predict` spend their time on large tables: in the engine, or reading and writing.

python -m benchmarks.speed.data    prints the table; --out FILE writes the page; --rows says how many rows
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bilstm
from benchmarks.speed import machine

_STEPS = 200  # of a sequence
_COLUMNS = ["--sequence", "id", "--order", "time", "--label", "state"]
# What is measured in a process: stage -> module, class, function.
_STAGES: dict[str, list[tuple[str, str | None, str]]] = {
    "reading": [("bilstm.data.sources", None, "open_table"), ("bilstm.model.opening", None, "open_data")],
    "encoding": [("bilstm.model.trained", "TrainedModel", "read"), ("bilstm.model.opening", None, "prepare")],
    "engine": [
        ("bilstm.engine.network", "Network", method) for method in ("train", "evaluate", "predict", "decode", "average")
    ],
    "writing": [("bilstm.model.predictions", None, "write_table")],
}


class Stages:
    """The wall-clock and the processor seconds of each stage of this process; of stages within stages, the inner one's.

    Attributes:
        seconds: stage -> [wall-clock seconds, processor seconds].
    """

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self._inner: list[list[float]] = [[0.0, 0.0]]

    @contextlib.contextmanager
    def within(self, stage: str) -> Iterator[None]:
        started = time.perf_counter(), time.process_time()
        self._inner.append([0.0, 0.0])
        try:
            yield
        finally:
            spent = time.perf_counter() - started[0], time.process_time() - started[1]
            inner = self._inner.pop()
            total = self.seconds.setdefault(stage, [0.0, 0.0])
            for index in (0, 1):
                total[index] += spent[index] - inner[index]
                self._inner[-1][index] += spent[index]

    def measure(self, stage: str, owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def measured(*arguments: Any, **options: Any) -> Any:
            with self.within(stage):
                return function(*arguments, **options)

        setattr(owner, name, measured)


def run(arguments: list[str]) -> None:
    """Run a command in this process, and print what its stages took as JSON."""
    from importlib import import_module

    from bilstm.cli import commands

    stages = Stages()
    for stage, places in _STAGES.items():
        for module, owner, name in places:
            found = import_module(module)
            stages.measure(stage, getattr(found, owner) if owner else found, name)
    with stages.within("other"):
        _command(commands, arguments)
    print(json.dumps(stages.seconds))


def _command(commands: Any, arguments: list[str]) -> None:
    with contextlib.suppress(SystemExit):
        commands.main(arguments)


def write_tables(rows: int) -> None:
    """The same table as CSV and as Parquet, with numbers of which some are missing, text, and labels."""
    import duckdb

    selected = f"""
        SELECT 's' || (i // {_STEPS}) AS id, i % {_STEPS} AS time,
            round(sin(i * 0.37) + hash(i) % 1000 / 1000.0, 4) AS x, round(cos(i * 0.11) * 3, 4) AS y,
            CASE WHEN hash(i + 7) % 50 > 0 THEN (hash(i + 3) % 100) / 10.0 END AS z,
            ['red', 'green', 'blue', 'grey'][1 + CAST(hash(i + 1) % 4 AS BIGINT)] AS colour,
            ['rest', 'walk', 'run'][1 + CAST((i // 20 + hash(i // 20) % 3) % 3 AS BIGINT)] AS state
        FROM range({rows}) AS t(i)
    """
    for form in ("csv", "parquet"):
        duckdb.connect().execute(f"COPY ({selected}) TO 'table.{form}' (FORMAT {form})").fetchall()


def measure(arguments: list[str]) -> dict[str, list[float]]:
    """The stages of a command, in a process of its own."""
    program = f"from benchmarks.speed import data; data.run({arguments!r})"
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    stages: dict[str, list[float]] = json.loads(ran.stdout.splitlines()[-1])
    return stages


def row(name: str, stages: dict[str, list[float]]) -> str:
    names = ("reading", "encoding", "engine", "writing", "other")
    total = sum(seconds for seconds, _ in stages.values())
    processor = sum(seconds for _, seconds in stages.values())
    outside = 1 - stages["engine"][0] / total, 1 - stages["engine"][1] / processor
    cells = [f"{stages[each][0]:.1f}" if each in stages else "–" for each in names]
    return f"| {name} | {' | '.join(cells)} | {outside[0]:.0%} | {outside[1]:.0%} |".replace("%", " %")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.data", description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rows", type=int, default=20_000_000)
    arguments = parser.parse_args()
    out, root = arguments.out and arguments.out.absolute(), os.getcwd()
    rows = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chdir(folder)
        write_tables(arguments.rows)
        for form in ("csv", "parquet"):
            flags = [*_COLUMNS, "--epochs", "1", "--quiet", "--out", "model.safetensors"]
            rows.append(row(f"`train`, one epoch, .{form}", measure(["train", f"table.{form}", *flags])))
            flags = ["--out", f"out.{form}", "--quiet"]
            rows.append(row(f"`predict`, .{form}", measure(["predict", "model.safetensors", f"table.{form}", *flags])))
        os.chdir(root)
    about = machine.describe()
    lines = [
        "# Large tables",
        "",
        f"{about['processor']}, {about['processors']} processors, {about['date']}, bilstm {bilstm.__version__}. Made "
        f"by `python -m benchmarks.speed.data --rows {arguments.rows}`.",
        "",
        f"Seconds of each stage, for {arguments.rows:,} rows of three numbers, a text and a label, in sequences of "
        f"{_STEPS} steps, with the command's defaults: two bidirectional LSTMs of 128 units. A default training runs "
        f"20 epochs or more, so that its share outside of the engine is far smaller.",
        "",
        "| command | reading | encoding | engine | writing | other | outside the engine | in processor time |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *rows,
    ]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if out:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
