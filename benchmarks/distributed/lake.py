"""Predictions over a lake by one process, by Ray and by shards, workers killed meanwhile: the same answer, how fast.

`python -m benchmarks.distributed.lake` makes 50 million rows of Parquet, each a sequence with lists of steps, and
predicts for them three times: by the command in one process; by two workers of Ray Data, one of which is killed (-9)
half-way; and by two shards that are killed and started again at 20 random moments. It ends with an error unless all
three give the same. Ray is needed: pip install 'bilstm[ray]'.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

import bilstm
from bilstm.files import digest

BILSTM = [sys.executable, "-m", "bilstm"]
KILLS = 20
WORKERS = 2
OURS = "ray::MapWorker(MapBatches(Predictor))"  # how Ray names a worker's process


def make_lake(folder: Path, rows: int, files: int) -> None:
    """Rows of 1 to 3 steps, whose numbers depend on the row alone."""
    steps = "list_transform(range(1 + i % 3), lambda k: round((hash(i * 3 + k) % 2000) / 500.0 - 2, 3))"
    for file in range(files):
        start, stop = rows * file // files, rows * (file + 1) // files
        path = folder / f"{file % 4}" / f"{file}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        duckdb.execute(f"COPY (SELECT i AS id, {steps} AS x FROM range({start}, {stop}) AS t(i)) TO '{path}'")


def make_model(path: Path) -> None:
    """A model of one label for each sequence: whether the sum of its steps is positive."""
    numbers = random.Random(1)
    rows = [[round(numbers.uniform(-2, 2), 3) for _ in range(1 + row % 3)] for row in range(2000)]
    labels = ["up" if sum(row) > 0 else "down" for row in rows]
    table = pa.table({"x": rows, "label": labels})
    options: dict[str, Any] = {"units": 4, "layers": 1, "epochs": 3, "baseline": False, "verbose": False}
    bilstm.train(table, label="label", **options).save(path)


def command(model: Path, lake: Path, out: Path, *options: str) -> list[str]:
    return [*BILSTM, "predict", str(model), f"{lake}/**/*.parquet", "--out", str(out), "--quiet", *options]


def digest_of_rows(folder: Path) -> tuple[int, ...]:
    """The number of the rows of files, and two digests that do not depend on their order."""
    row = "hash(id, x, predicted, probability)"
    sql = f"SELECT count(*), sum({row}::HUGEINT), bit_xor({row}) FROM '{folder}/**/*.parquet'"
    return tuple(map(int, duckdb.execute(sql).fetchall()[0]))


def digests_of_files(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): digest(path) for path in sorted(folder.rglob("*.parquet"))}


# --- Ray --------------------------------------------------------------------------------------------------------------


def predict_by_ray(model: str, lake: str, out: str) -> None:
    """Two workers, one of which is killed when half of the rows are written."""
    import ray

    from bilstm.distributed.ray import predict

    ray.init(num_cpus=WORKERS + 1, include_dashboard=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    files = list(Path(lake).rglob("*.parquet"))
    half = sum(pq.read_metadata(file).num_rows for file in files) // 2
    data = ray.data.read_parquet(lake, override_num_blocks=len(files))  # so that some are written before others
    ended = threading.Event()
    killed: list[int] = []
    killer = threading.Thread(target=_kill_one, args=(Path(out), half, ended, killed))
    killer.start()
    try:
        predict(model, data, workers=WORKERS).write_parquet(out)
    finally:
        ended.set()
        killer.join()
    ray.shutdown()
    print(f"killed {len(killed)}")
    if not killed:
        sys.exit("no worker of Ray was killed: the predictions were finished before")


def _kill_one(out: Path, rows: int, ended: threading.Event, killed: list[int]) -> None:
    """Kill a worker as soon as so many rows are written."""
    import psutil  # Ray needs it, too

    written: dict[Path, int] = {}
    while not ended.wait(0.1) and not killed:
        for path in {*out.glob("*.parquet")} - written.keys():
            with contextlib.suppress(OSError, pa.ArrowInvalid):  # it is being written
                written[path] = pq.read_metadata(path).num_rows
        if sum(written.values()) < rows:
            continue
        workers = [each for each in psutil.Process().children(recursive=True) if each.name().startswith(OURS[:15])]
        for worker in workers[:1]:
            worker.send_signal(signal.SIGKILL)
            killed.append(worker.pid)


# --- Shards -----------------------------------------------------------------------------------------------------------


def predict_by_shards(model: Path, lake: Path, out: Path, files: int) -> None:
    """Two processes, one of which is killed and started again at each of 20 random moments.

    A moment is when so many files are finished, and up to a second later: on any machine all come before the end.
    """
    commands = [command(model, lake, out, "--shard", f"{each + 1}/{WORKERS}") for each in range(WORKERS)]
    running = [subprocess.Popen(each) for each in commands]
    for finished in sorted(random.choices(range(files * 3 // 4), k=KILLS)):
        while sum(1 for _ in out.rglob("*.parquet")) < finished and any(each.poll() is None for each in running):
            time.sleep(0.05)
        time.sleep(random.random())
        alive = [index for index, each in enumerate(running) if each.poll() is None]
        index = random.choice(alive or range(WORKERS))
        running[index].kill()
        running[index].wait()
        running[index] = subprocess.Popen(commands[index])
    for each in running:
        if each.wait():
            sys.exit(f"a shard ended with {each.returncode}")


# --- All --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started
    print(f"{name}: {seconds[name]:.1f} s", flush=True)


def measure(folder: Path, rows: int, files: int) -> str:
    """The report; it ends with an error where the answers differ."""
    lake, model, seconds = folder / "lake", folder / "model", dict[str, float]()
    with timed(seconds, "make"):
        make_lake(lake, rows, files)
        make_model(model)
    with timed(seconds, "one process"):
        subprocess.run(command(model, lake, folder / "one"), check=True)
    with timed(seconds, "Ray Data, two workers, one killed half-way"):
        arguments = ", ".join(repr(str(path)) for path in (model, lake, folder / "ray"))
        program = f"from benchmarks.distributed.lake import predict_by_ray; predict_by_ray({arguments})"
        subprocess.run([sys.executable, "-c", program], check=True)
    shards = f"two shards, killed and started again {KILLS} times"
    with timed(seconds, shards):
        predict_by_shards(model, lake, folder / "shards", files)
    with timed(seconds, "compare"):
        expected, by_ray = digest_of_rows(folder / "one"), digest_of_rows(folder / "ray")
        if by_ray != expected:
            sys.exit(f"Ray's rows differ: {by_ray} and not {expected}")
        if digests_of_files(folder / "shards") != digests_of_files(folder / "one"):
            sys.exit("the files of the shards differ")
        subprocess.run([*command(model, lake, folder / "shards"), "--verify", "3"], check=True)
    lines = [
        "# Predictions over a lake",
        "",
        f"{rows:,} rows of list-Parquet in {files} files, sequences of 1 to 3 steps, one label each; {os.cpu_count()} "
        f"CPUs, Python {platform.python_version()}, DuckDB {duckdb.__version__}. All rows have the same predictions "
        f"(the digest of all is {expected[2]:016x}), and the shards' files are the same bytes as those of one process. "
        f"`python -m benchmarks.distributed.lake` makes this table.",
        "",
        "| | seconds | rows a second |",
        "| --- | ---: | ---: |",
    ]
    for name in list(seconds)[1:4]:
        lines.append(f"| {name} | {seconds[name]:.0f} | {rows / seconds[name]:,.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where the lake is made; default: a temporary folder")
    parser.add_argument("--out", type=Path, help="the report's file")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lake-", dir=arguments.folder))
    try:
        report = measure(folder, arguments.rows, arguments.files)
    finally:
        shutil.rmtree(folder)
    print(report)
    if arguments.out:
        arguments.out.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
