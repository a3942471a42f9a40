"""Several trainings at a time: `compare` with jobs, and the estimators in scikit-learn's searches."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import bilstm.compare.trainings
from bilstm.cli import commands
from bilstm.compare import ComparisonInterrupted, compare
from bilstm.errors import DivergedError, UserError
from bilstm.estimators import SequenceTagger
from bilstm.problems import half_of_total
from bilstm.utils import set_threads, threads
from oracles.models import weight_bits

joblib = pytest.importorskip("joblib")

OPTIONS: dict[str, Any] = {"units": 4, "layers": 1, "epochs": 2, "learning_rate": 0.02}
FLAGS = ["--units", "4", "--layers", "1", "--epochs", "2", "--learning-rate", "0.02", "--seeds", "2"]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = threads()
    yield
    set_threads(before)


def without_seconds(report: Any) -> Any:
    if isinstance(report, dict):
        return {name: without_seconds(value) for name, value in report.items() if name != "seconds"}
    return [without_seconds(value) for value in report] if isinstance(report, list) else report


@pytest.fixture(scope="module")
def problem() -> Any:
    return half_of_total(80, (4, 8), seed=1)


@pytest.fixture(scope="module")
def serial(problem: Any) -> dict[str, Any]:
    return compare(*problem, **OPTIONS)


class Backwards(joblib._parallel_backends.ThreadingBackend):
    """A backend as other packages bring them: of a name of its own, and without results as they come."""

    supports_return_generator = False


joblib.register_parallel_backend("backwards", Backwards)


# --- Comparisons -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "jobs"), [(None, 2), ("threading", 2), ("threading", 5), ("multiprocessing", 2), ("backwards", 2)]
)
def test_the_report_is_the_same(problem: Any, serial: dict[str, Any], backend: str | None, jobs: int) -> None:
    events: list[dict[str, Any]] = []
    set_threads(3)
    report = compare(*problem, jobs=jobs, backend=backend, progress=events.append, **OPTIONS)
    assert without_seconds(report) == without_seconds(serial)
    assert threads() == 3
    ends = [each for each in events if each["done"] == 1.0 and each["epoch"] == 2]
    assert [each["run"] for each in ends] == [*range(1, 10)]
    assert {(each["variant"], each["seed"]) for each in ends} == {(r["variant"], r["seed"]) for r in report["runs"]}
    assert all(each["runs"] == 9 and 0 < each["val_accuracy"] <= 1 for each in ends)


def test_a_surrounding_configuration_counts(problem: Any, serial: dict[str, Any]) -> None:
    used = []

    class Seen(Backwards):
        def configure(self, **options: Any) -> Any:
            used.append(options["n_jobs"])
            return super().configure(**options)

    joblib.register_parallel_backend("seen", Seen)
    with joblib.parallel_config(backend="seen"):
        report = compare(*problem, jobs=2, **OPTIONS)
    assert used == [2]
    assert without_seconds(report) == without_seconds(serial)


def test_processes_share_the_threads(problem: Any) -> None:
    set_threads(6)
    compare(*problem, jobs=2, **{**OPTIONS, "epochs": 1})
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(threads)() for _ in range(2)) == [3, 3]
    assert threads() == 6


def test_training_that_diverges(problem: Any) -> None:
    options: dict[str, Any] = {**OPTIONS, "vary": {"learning_rate": [0.02, 1e38]}, "seeds": 2}
    del options["learning_rate"]
    report, alone = compare(*problem, jobs=2, **options), compare(*problem, **options)
    assert without_seconds(report) == without_seconds(alone)
    assert [each["seed"] for each in report["failed"]] == [1, 2]
    with pytest.raises(DivergedError):
        compare(*problem, jobs=2, **{**options, "vary": {"cell": ["lstm", "gru"]}, "learning_rate": 1e38})


# joblib's thread that hands out work may look for what an interrupt has just taken back (a KeyError there).
@pytest.mark.filterwarnings("ignore:Exception in thread ExecutorManagerThread")
@pytest.mark.parametrize("backend", ["loky", "threading"])
@pytest.mark.parametrize("stop", [1, 4])
def test_an_interrupt_keeps_what_has_ended(problem: Any, serial: dict[str, Any], backend: str, stop: int) -> None:
    def interrupt(figures: dict[str, Any]) -> None:
        if figures["run"] == stop:
            raise KeyboardInterrupt

    with pytest.raises(ComparisonInterrupted) as caught:
        compare(*problem, jobs=2, backend=backend, progress=interrupt, **OPTIONS)
    report = caught.value.report
    assert report["finished"] == stop
    expected = {(run["variant"], run["seed"]): run["history"] for run in serial["runs"]}
    assert all(run["history"] == expected[run["variant"], run["seed"]] for run in report["runs"])


def test_a_worker_that_is_killed(problem: Any) -> None:
    from joblib.externals.loky import reusable_executor

    def kill(_: dict[str, Any]) -> None:
        for process in list(reusable_executor._executor._processes.values()):
            os.kill(process.pid, signal.SIGKILL)

    with pytest.raises(UserError, match=r"^a worker process has ended abruptly, perhaps for lack of memory: use a "):
        compare(*problem, jobs=2, backend="loky", progress=kill, **{**OPTIONS, "epochs": 50})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"jobs": 0}, "compare: jobs must be at least 1, not 0"),
        ({"jobs": 1.5}, "compare: jobs must be a whole number, not 1.5"),
        ({"backend": "loky"}, "a backend has no effect with one training at a time: state a number of jobs above 1"),
        ({"jobs": 2, "backend": "lokey"}, "backend 'lokey': Invalid backend: lokey, expected one of ["),
        ({"jobs": 2, "backend": "spark"}, "backend 'spark': No module named 'joblibspark'"),
    ],
)
def test_what_is_refused(problem: Any, arguments: Any, message: str) -> None:
    with pytest.raises((UserError, ValueError, TypeError), match=re.escape(message)):
        compare(*problem, **arguments, **OPTIONS)


def test_without_joblib(problem: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bilstm.compare.trainings, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"need the package joblib: pip install 'bilstm\[sklearn\]'"):
        compare(*problem, jobs=2, **OPTIONS)


# --- The command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    lines = ["id,word,x,state"]
    for sequence in range(60):
        x = rng.normal(size=rng.integers(3, 8)).round(3)
        lines += [f"{sequence},w{abs(value):.0f},{value},{'up' if value > 0 else 'down'}" for value in x]
    path = tmp_path / "train.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def arguments(table: Path, *more: str) -> list[str]:
    return ["compare", str(table), "--sequence", "id", "--label", "state", *FLAGS, *more]


@pytest.mark.parametrize("more", [["--jobs", "2"], ["--jobs", "3", "--backend", "threading", "--threads", "2"]])
def test_the_command(table: Path, more: list[str]) -> None:
    reports = []
    for flags in ([], more):
        result = CliRunner().invoke(commands, arguments(table, "--json", *flags))
        assert (result.exit_code, result.stderr) == (0, "")
        reports.append(without_seconds(json.loads(result.stdout)))
    assert reports[0] == reports[1]


def test_its_errors_are_one_line(table: Path) -> None:
    result = CliRunner().invoke(commands, arguments(table, "--backend", "loky"))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("bilstm: a backend has no effect with one training at a time")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("everyone", "number", "status"), [(True, signal.SIGINT, 130), (False, signal.SIGTERM, 143)])
def test_a_signal_ends_all_processes(table: Path, everyone: bool, number: int, status: int) -> None:
    """Ctrl-C reaches all processes of a terminal, SIGTERM the one that it is sent to."""
    command = [sys.executable, "-m", "bilstm", *arguments(table, "--jobs", "2", "--epochs", "100000")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while _workers(process.pid) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        (os.killpg if everyone else os.kill)(process.pid, number)
        _, stderr = process.communicate(timeout=60)
        assert (process.returncode, stderr) == (status, "bilstm: stopped before there was a result\n")
        while _workers(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _workers(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _workers(group: int) -> int:
    """Joblib's processes in a process group, but for the tracker of their files, which goes after them."""
    listed = subprocess.run(["ps", "-eo", "pgid,args"], capture_output=True, text=True, check=True).stdout
    lines = [line.split(maxsplit=1) for line in listed.splitlines()]
    return sum(line[0] == str(group) and "popen_loky" in line[1] for line in lines)


# --- Searches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_searches_find_the_same(problem: Any, backend: str) -> None:
    from sklearn.model_selection import GridSearchCV

    X, y = problem
    X, y = list(X), list(y)
    tagger = SequenceTagger(layers=1, epochs=2, random_state=1, verbose=False)
    found = []
    for jobs in (1, 2):
        search = GridSearchCV(tagger, {"units": [3, 4]}, cv=2, n_jobs=jobs)
        with joblib.parallel_config(backend=backend):
            search.fit(X, y)
        scores = {name: value.tolist() for name, value in search.cv_results_.items() if name.endswith("test_score")}
        found.append((search.best_params_, scores, weight_bits(search.best_estimator_.model_.network)))
    assert found[0] == found[1]


def test_workers_of_searches_take_their_share_of_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """joblib says it in OMP_NUM_THREADS, and the engine heeds that."""
    program = (
        "import joblib, bilstm.utils\n"
        "with joblib.parallel_config('loky', inner_max_num_threads={}):\n"
        "    print(joblib.Parallel(n_jobs=2)(joblib.delayed(bilstm.utils.threads)() for _ in range(2)))\n"
    )
    monkeypatch.delenv("BILSTM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    share = max(1, joblib.cpu_count() // 2)
    for stated, expected in (("None", share), ("1", 1)):
        ran = subprocess.run(
            [sys.executable, "-c", program.format(stated)], capture_output=True, text=True, timeout=120, check=True
        )
        assert ran.stdout == f"{[expected] * 2}\n"
