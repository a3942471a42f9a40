"""Whatever ends a command, it is one line; and files of any name are read and written."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from bilstm import console
from bilstm.cli import commands
from bilstm.console import open_closed_streams, output_is_closed
from bilstm.errors import UserError
from bilstm.signals import Stopped
from test_cli import COLUMNS, SMALL, rows, write

pytestmark = pytest.mark.fast


def run(*arguments: Any, given: str | None = None, status: int = 0) -> Result:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments], input=given)
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("console")
    write(folder / "train.csv", rows(8))
    for name in ("train.parquet", "train.ndjson"):
        duckdb.sql(f"COPY (FROM '{folder / 'train.csv'}') TO '{folder / name}'")
    run("train", folder / "train.csv", *COLUMNS, *SMALL, "--out", folder / "model")
    return folder


def hidden(error: Exception, message: str) -> Callable[[], None]:
    """Raises an error with a message that hides another one."""

    def raise_it() -> None:
        try:
            raise error
        except Exception:
            raise UserError(message) from None

    return raise_it


def raising(error: BaseException) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


@pytest.mark.parametrize(
    ("raise_it", "received", "status", "message"),
    [
        (raising(MemoryError()), None, 2, "there is not enough memory"),
        (raising(duckdb.OutOfMemoryException("Out of Memory Error")), None, 2, "there is not enough memory"),
        (raising(OSError(12, "Cannot allocate memory")), None, 2, "there is not enough memory"),
        (raising(ImportError("x.so: failed to map segment from shared object")), None, 2, "there is not enough memory"),
        (raising(OSError(28, "No space left on device", "x.csv")), None, 2, "x.csv: no space left on device"),
        (raising(UserError("a mistake")), None, 2, "a mistake"),
        (raising(UserError("cannot write out")), 15, 2, "cannot write out"),  # after the signal
        (raising(Stopped(15)), 15, 143, "stopped"),
        (raising(KeyboardInterrupt()), None, 130, "stopped"),
        (raising(RuntimeError("Query interrupted")), 15, 143, "stopped"),
        (raising(duckdb.InterruptException("INTERRUPT Error")), 2, 130, "stopped"),
        (hidden(duckdb.InterruptException("INTERRUPT Error"), "a damaged file"), 2, 130, "stopped"),
        (raising(ImportError("numpy failed to import")), 2, 130, "stopped"),
        (raising(RuntimeError("mine")), None, 70, "this should not have happened (RuntimeError: mine); please report"),
    ],
)
def test_how_commands_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, raise_it: Any, received: int | None, status: int, message: str
) -> None:
    monkeypatch.setattr(Stopped, "received", Stopped(received) if received else None)
    monkeypatch.setattr("bilstm.data.reading.read_table", lambda *_, **__: raise_it())
    said = run("evaluate", folder / "model", folder / "train.csv", status=status).stderr
    assert said.startswith(f"bilstm: {message}")
    assert said.count("\n") == 1


@pytest.mark.parametrize("exception", ["OutOfMemoryException", "InterruptException"])
@pytest.mark.parametrize("suffix", [".parquet", ".ndjson"])
def test_a_database_without_memory_or_time_is_no_damaged_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, exception: str
) -> None:
    class Connection:
        def execute(self, _: str) -> None:
            raise getattr(duckdb, exception)("no more")

    monkeypatch.setattr("bilstm.data.reading.connect", Connection)
    stopped = exception == "InterruptException"
    monkeypatch.setattr(Stopped, "received", Stopped(15) if stopped else None)
    status, message = (143, "stopped") if stopped else (2, "there is not enough memory")
    result = run("evaluate", folder / "model", folder / f"train{suffix}", status=status)
    assert result.stderr == f"bilstm: {message}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names in Unicode only")
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".ndjson"])
@pytest.mark.parametrize("bad_folder", [False, True])
def test_names_that_are_not_utf_8(folder: Path, tmp_path: Path, suffix: str, bad_folder: bool) -> None:
    bad = os.fsdecode(b"caf\xe9")
    work = tmp_path / bad if bad_folder else tmp_path
    work.mkdir(exist_ok=True)
    table, model, out = (work / f"{bad}{end}" for end in (suffix, ".model", f".out{suffix}"))
    table.write_bytes((folder / f"train{suffix}").read_bytes())
    run("train", table, *COLUMNS, *SMALL, "--out", model, "--log", work / f"{bad}.log")
    run("predict", model, table, "--out", out, "--quiet")
    run("predict", folder / "model", folder / f"train{suffix}", "--out", work / f"out{suffix}", "--quiet")
    assert out.read_bytes() == (work / f"out{suffix}").read_bytes()
    run("predict", model, table, "--out", out, "--quiet")  # replaces predictions only, so it reads their names
    shown = json.loads(run("evaluate", model, table, "--json", "--report", work / f"{bad}.html").stdout)
    assert shown["table"] == str(table)
    assert "caf\\udce9" in run("inspect", model).stdout
    made = {os.fsencode(name) for name in os.listdir(work) if not os.path.isdir(work / name)}
    ends = (suffix.encode(), b".model", b".out" + suffix.encode(), b".log", b".html")
    assert made == {*(b"caf\xe9" + end for end in ends), b"out" + suffix.encode()}


@pytest.mark.parametrize("streams", [["stdout"], ["stderr"], ["stdin", "stdout", "stderr"]])
def test_closed_streams_are_opened(monkeypatch: pytest.MonkeyPatch, streams: list[str]) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None if name in streams else io.StringIO())
    open_closed_streams()
    assert output_is_closed() == ("stdout" in streams)
    print("nothing")
    assert sys.stdin is not None
    assert sys.stdin.read() == ""
    for name in streams:
        getattr(sys, name).close()


def test_what_cannot_be_printed_is_said_in_the_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def refuse(*_: Any, err: bool = False, **__: Any) -> None:
        calls.append(err)
        if not err:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(console.click, "echo", refuse)
    run("inspect", folder / "model", status=2)
    assert calls[-1]
    assert len(calls) > 2
