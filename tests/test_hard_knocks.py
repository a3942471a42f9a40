"""What fails, one call after the other, and what ends a command early: one line, and no file that is half of one."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bilstm.model.manifest import FINISHED
from knocks import KINDS, Knocks, Ran, knocks

fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD, and pipes that tell what is left in them")

COLUMNS = "--sequence id --label state --order time"
SMALL = "--epochs 2 --units 2 --layers 1"
COMPARED = "--epochs 1 --layers 1 --seeds 1 --vary units=2,3"
KEEPING = "--checkpoint kept --log log --tensorboard board"
STREAM = "predict model - --out"
COMMANDS = {  # by name, and which files each writes; < is what it reads from the standard input
    "train": (f"train train.csv {COLUMNS} {SMALL} --out out", "out"),
    "train and keep": (f"train train.parquet {COLUMNS} {SMALL} --no-baseline --out out {KEEPING}", "out"),
    "evaluate": ("evaluate model train.csv", None),
    "report": ("evaluate model train.ndjson --report out.html", "out.html"),
    "predict": ("predict model train.csv --out out.csv", "out.csv"),
    "predict Parquet": ("predict model train.parquet --out out.parquet", "out.parquet"),
    "predict folder": ("predict model recordings --out out --sequence file", "out/s0.csv out/s1.csv out/s2.csv"),
    "predict events": ("predict model train.ndjson --out out.ndjson --events", "out.ndjson"),
    "predict words": ("predict words words.conll --out out.conll", "out.conll"),
    "predict to standard output": ("predict model train.csv --out -", None),
    "stream": (f"{STREAM} out.ndjson < train.ndjson", "out.ndjson"),
    "stream to standard output": (f"{STREAM} - < train.ndjson", None),
    "compare": (f"compare train.csv {COLUMNS} {COMPARED} --out out.svg", "out.svg"),
}
KEPT = {"kept", "log", "board"}  # what may be there besides, whole or not


def write_tables(folder: Path) -> None:
    import duckdb

    draw = np.random.default_rng(1)
    with open(folder / "train.csv", "w") as file:
        file.write("id,time,x,state\n")
        for sequence in range(12):
            for t, x in enumerate(draw.normal(size=4)):
                file.write(f"s{sequence},{t},{x:.4f},{'high' if x > 0 else 'low'}\n")
    for name in ("train.parquet", "train.ndjson"):
        duckdb.sql(f"COPY (FROM '{folder / 'train.csv'}') TO '{folder / name}'")
    (folder / "recordings").mkdir()
    for sequence in range(3):
        duckdb.sql(
            f"COPY (SELECT time, x FROM '{folder / 'train.csv'}' WHERE id = 's{sequence}') TO "
            f"'{folder / 'recordings'}/s{sequence}.csv'"
        )
    (folder / "words.conll").write_text("a x\nb y\n\nb y\na x\n\n" * 6)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knocks]:
    """With tables and models in its folder."""
    with knocks(tmp_path_factory.mktemp("knocks"), faults=True) as server:
        write_tables(server.folder)
        for command in (
            f"train train.csv {COLUMNS} {SMALL} --no-baseline --out model",
            f"train words.conll {SMALL} --no-baseline --out words",
        ):
            ran = server.run(*command.split())
            assert ran.status == 0, ran.errors
        yield server


class Case:
    """A command, what it writes where nothing fails, and older files of that kind."""

    def __init__(self, server: Knocks, name: str) -> None:
        command, outs = COMMANDS[name]
        self.outs = outs.split() if outs else []
        words, _, source = command.partition(" < ")
        self.server, self.name, self.words = server, name, words.split()
        self.stdin = server.folder / source if source else Path(os.devnull)
        self.before = set(os.listdir(server.folder))
        self.old: list[bytes] = []
        self.whole: list[set[bytes]] = [set() for _ in self.outs]  # what each file may hold
        if self.outs:
            # Of the same kind, and different: what is written for other options.
            other = {"train": ["--seed=9"], "predict": ["--top=2"], "compare": ["--seed=9"]}.get(self.words[0], [])
            ran = self.run(more=[] if "--events" in self.words or "--report" in self.words else other)
            assert ran.status == 0, ran.errors
            self.old = [(server.folder / out).read_bytes() for out in self.outs]
            self.may_hold(self.written())
        if name == "train":  # the model is written before its baseline is trained
            self.run(more=["--no-baseline"])
            self.may_hold(self.written())
        self.reference = self.run()
        assert self.reference.status == 0, self.reference.errors
        self.new = self.written()
        self.may_hold(self.new)
        self.clean()

    def may_hold(self, contents: list[bytes]) -> None:
        for whole, content in zip(self.whole, contents, strict=True):
            whole.add(content)

    def run(self, fault: tuple[str, int] | None = None, *, onwards: bool = False, more: list[str] | None = None) -> Ran:
        for out, content in zip(self.outs, self.old, strict=False):
            (self.server.folder / out).parent.mkdir(exist_ok=True)
            (self.server.folder / out).write_bytes(content)
        return self.server.run(*self.words, *(more or []), fault=fault, onwards=onwards, stdin=self.stdin)

    def written(self) -> list[bytes]:
        contents = [(self.server.folder / out).read_bytes() for out in self.outs]
        # A report says how fast the network was.
        return [re.sub(rb"[0-9,]+ steps a second", b"", content) for content in contents]

    def clean(self) -> None:
        for name in set(os.listdir(self.server.folder)) - self.before:
            path = self.server.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def check(self, kind: str, n: int, *, onwards: bool) -> bool:
        """Let the n-th call of a kind fail; whether the command failed."""
        ran = self.run((kind, n), onwards=onwards)
        where = f"{self.name}: {kind} {n}{' and all after it' if onwards else ''}: status {ran.status}, {ran.errors!r}"
        assert ran.status in (0, 2), where
        assert "Traceback" not in ran.errors, where
        if ran.status == 2:
            assert ran.errors.startswith("bilstm: "), where
            assert ran.errors.count("\n") == 1, where
            assert "should not have happened" not in ran.errors, where
        else:
            assert self.written() == self.new, where
            if not self.outs:
                assert ran.output == self.reference.output, where
        for found, new, whole in zip(self.written(), self.new, self.whole, strict=True):
            part = self.name == "stream" and new.startswith(found) and whole_sequences(found)
            assert found in whole or part, where
        left = set(os.listdir(self.server.folder)) - self.before - {out.partition("/")[0] for out in self.outs} - KEPT
        assert not left, (where, left)
        if self.name == "predict folder":
            self.check_folder(where)
        assert not os.listdir(self.server.temporary), (where, os.listdir(self.server.temporary))
        self.clean()
        return ran.status == 2

    def check_folder(self, where: str) -> None:
        """Nothing else is left beside the files, and --resume finishes them."""
        left = set(os.listdir(self.server.folder / "out")) - {Path(out).name for out in self.outs} - {FINISHED}
        assert not left, (where, left)
        for _ in range(2):
            ran = self.server.run(*self.words, "--resume")
            assert ran.status == 0, (where, ran.errors)
            assert self.written() == self.new, where
        assert ran.output == b"out: 0 files; 3 files were finished before\n", where


def whole_sequences(lines: bytes) -> bool:
    keys = [json.loads(line)["id"] for line in lines.splitlines()]
    return lines.endswith(b"\n") and all(keys.count(key) == 4 for key in keys)


@pytest.mark.parametrize("name", COMMANDS)
def test_some_call_fails(server: Knocks, name: str) -> None:
    """A sample of what the next test tries."""
    case = Case(server, name)
    for kind in KINDS:
        if count := case.reference.counts[kind]:
            case.check(kind, random.randint(1, count), onwards=kind == "write")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_call_fails(server: Knocks, name: str, kind: str) -> None:
    case = Case(server, name)
    count = case.reference.counts[kind]
    failed = [
        case.check(kind, n, onwards=onwards)
        for onwards in ((False, True) if kind == "write" else (False,))
        for n in range(1, count + 1)
    ]
    print(f"{name}: {kind}: {len(failed)} failures, {sum(failed)} of them ended the command")


# --- Standard streams that are closed or full -------------------------------------------------------------------------

TRAIN = f"train train.csv {COLUMNS} {SMALL} --no-baseline --out out"


@pytest.mark.parametrize("closed", [("stdout",), ("stderr",), ("stdout", "stderr"), ("stdin", "stdout", "stderr")])
@pytest.mark.parametrize("command", [TRAIN, "evaluate model train.csv", "predict model train.csv --out out.csv", "-h"])
def test_commands_work_with_closed_streams(stream: Stream, command: str, closed: tuple[str, ...]) -> None:
    ran = stream.server.run(*command.split(), closed=closed)
    assert (ran.status, ran.output if "stdout" in closed else b"", ran.errors) == (0, b"", "")
    if "--out" in command:
        path = stream.server.folder / command.split()[-1]
        assert path.stat().st_size > 100
        path.unlink()


@pytest.mark.parametrize("table", ["train.csv", "-"])
def test_predictions_for_a_closed_output_are_refused(stream: Stream, table: str) -> None:
    ran = stream.server.run("predict", "model", table, "--out", "-", closed=("stdin", "stdout"))
    message = "bilstm: the standard output, where predictions should go, is closed: name a file with --out\n"
    assert (ran.status, ran.errors) == (2, message)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
@pytest.mark.parametrize("command", [TRAIN, "evaluate model train.csv", "predict model train.csv --out -"])
def test_work_is_done_before_a_full_output_is_reported(stream: Stream, command: str) -> None:
    ran = stream.server.run(*command.split(), stdout=Path("/dev/full"))
    assert (ran.status, ran.errors) == (2, "bilstm: cannot write the standard output: no space left on device\n")
    if command == TRAIN:
        (stream.server.folder / "out").unlink()


def test_a_training_goes_on_when_its_reader_has_gone(stream: Stream) -> None:
    pipe = stream.server.folder / "reader"
    os.mkfifo(pipe)

    def read_a_little() -> None:
        with open(pipe, "rb", buffering=0) as reader:
            reader.read(1)

    reader = threading.Thread(target=read_a_little)
    reader.start()
    ran = stream.server.run(*TRAIN.split(), stdout=pipe)
    reader.join()
    assert (ran.status, ran.errors) == (0, "")
    (stream.server.folder / "out").unlink()
    pipe.unlink()


# --- Trainings that are ended at some moment --------------------------------------------------------------------------


def end_trainings(server: Knocks, times: int) -> None:
    """By one signal or two, from the first moment to the last: at most one line, and no temporary file. A training that
    was killed can be begun again with the same command."""
    command = [*f"train train.csv {COLUMNS} --epochs 6 --units 2 --layers 1 --quiet --no-baseline".split()]
    command += ["--out", "out", "--log", "log", "--tensorboard", "board"]
    began = time.monotonic()
    assert server.run(*command).status == 0
    seconds, before = time.monotonic() - began, set(os.listdir(server.folder))
    for turn in range(times):
        number = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)[turn % 3]
        signals = [(number, random.uniform(0, 1.1 * seconds)), (number, random.uniform(0, 0.01))][: 1 + turn % 2]
        ran = server.run(*command, signals=signals)
        if number == signal.SIGKILL:
            assert ran.status in (0, -number), ran
            ran = server.run(*command)
            assert (ran.status, ran.errors) == (0, ""), ran
        assert ran.status in (0, 128 + number), ran
        assert ran.errors.count("\n") == (1 if ran.status else 0), ran
        assert ran.errors.startswith("bilstm: stopped" if ran.status else ""), ran
        assert set(os.listdir(server.folder)) == before, ran
        assert not os.listdir(server.temporary), ran


def test_a_training_is_ended_at_random_moments(stream: Stream) -> None:
    end_trainings(stream.server, 9)


@pytest.mark.slow
def test_a_training_is_ended_at_many_random_moments(stream: Stream) -> None:
    end_trainings(stream.server, 90)


# --- Streams that are ended at some moment ----------------------------------------------------------------------------


class Feed:
    """Writes lines into a pipe, a few bytes at a time."""

    def __init__(self, path: Path, content: bytes) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        os.mkfifo(path)
        self._content, self._written, self._stopped = content, 0, threading.Event()
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self._pipe, 1031, 4096)  # F_SETPIPE_SZ
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        while self._written < len(self._content) and not self._stopped.is_set():
            piece = self._content[self._written : self._written + random.randint(1, 400)]
            with contextlib.suppress(BlockingIOError):
                self._written += os.write(self._pipe, piece)
            time.sleep(random.random() / 1000)
        while self._left() and not self._stopped.wait(0.001):
            pass
        if not self._stopped.is_set():  # the stream ends
            os.close(self._pipe)
            self._pipe = -1

    def _left(self) -> int:
        return int(struct.unpack("i", fcntl.ioctl(self._pipe, termios.FIONREAD, b"\0" * 4))[0])

    def stop(self) -> int:
        """Stop, and return how many bytes were read."""
        self._stopped.set()
        self._thread.join()
        if self._pipe < 0:
            return self._written
        taken = self._written - self._left()
        os.close(self._pipe)
        return taken


class Stream:
    """Sequences of three steps, and the answers to them."""

    def __init__(self, server: Knocks, sequences: int = 40) -> None:
        self.server = server
        rows = [{"id": i // 3, "time": i % 3, "x": (i % 7) / 4} for i in range(3 * sequences)]
        self.lines = [json.dumps(row).encode() + b"\n" for row in rows]
        (server.folder / "stream.ndjson").write_bytes(b"".join(self.lines))
        ran = server.run(*f"{STREAM} -".split(), stdin=server.folder / "stream.ndjson")
        assert ran.status == 0, ran.errors
        self.answers = ran.output.splitlines(keepends=True)
        self.seconds = 0.0
        self.seconds = min(self.ended([])[1] for _ in range(3))

    def ended(self, signals: list[tuple[int, float]], out: str = "-", bad: int | None = None) -> tuple[Ran, float, int]:
        """Predict what comes, and be ended. How it was, its seconds and how many bytes it read."""
        lines = [*self.lines[:bad], b"word\n", *self.lines[bad:]] if bad is not None else self.lines
        fifo = self.server.folder / "pipe"
        feed = Feed(fifo, b"".join(lines))
        began = time.monotonic()
        try:
            ran = self.server.run(*f"{STREAM} {out}".split(), signals=signals, stdin=fifo)
        finally:
            seconds = time.monotonic() - began
            taken = feed.stop()
            fifo.unlink()
        return ran, seconds, taken

    def complete(self, taken: int) -> set[int]:
        """How many lines are of sequences that were complete when so many bytes had been read."""
        count = b"".join(self.lines)[:taken].count(b"\n")
        complete = max(0, (count - 1) // 3 * 3)
        return {complete, len(self.lines)} if count == len(self.lines) else {complete}  # whether or not the end was

    def check(self, number: int, out: str, *, again: bool) -> bool:
        """End the stream at a random moment by a signal, and by another one; whether it was still running."""
        moment = random.uniform(0, 0.4 * self.seconds)
        signals = [(number, moment), *([(number, random.uniform(0, 0.01))] if again else [])]
        ran, _, taken = self.ended(signals, out)
        path = self.server.folder / out
        found = ran.output if out == "-" else path.read_bytes() if path.exists() else b""
        where = (number, out, again, ran.status, ran.errors, taken)
        assert b"".join(self.answers).startswith(found), where
        ended = ran.status != 0
        if number == signal.SIGKILL:
            assert ran.status in (0, -number), where
            for left in self.server.folder.glob(".bilstm-*"):  # until the same file is written again
                left.unlink()
        else:
            assert ran.status in (0, 128 + number), where
            summary = "the standard input: 40 sequences of 3 steps, 120 in all"
            said = [line for line in ran.errors.splitlines() if line != summary]
            assert len(said) == ended, where
            assert all(line.startswith("bilstm: stopped") for line in said), where
            assert found.count(b"\n") % 3 == 0, where
            assert found.endswith(b"\n") or not found, where
            if not again:
                assert found.count(b"\n") in (self.complete(taken) if ended else {len(self.lines)}), where
            hidden = [name for name in os.listdir(self.server.folder) if name.startswith(".")]
            assert not hidden, (where, hidden)
        path.unlink(missing_ok=True)
        return ended

    def check_bad_line(self, out: str) -> None:
        """What was complete before a bad line at a random place is there."""
        place = random.randint(1, len(self.lines) - 1)
        ran, _, _ = self.ended([], out, bad=place)
        path = self.server.folder / out
        found = ran.output if out == "-" else path.read_bytes() if path.exists() else b""
        assert (ran.status, ran.errors.count("\n")) == (2, 1), ran
        assert f"standard input, line {place + 1}: not one JSON object" in ran.errors
        assert found == b"".join(self.answers[: (place - 1) // 3 * 3])
        path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stream]:
    with knocks(tmp_path_factory.mktemp("streams"), faults=False) as server:
        write_tables(server.folder)
        ran = server.run(*f"train train.csv {COLUMNS} {SMALL} --no-baseline --out model".split())
        assert ran.status == 0, ran.errors
        yield Stream(server)


def end_at_random_moments(stream: Stream, times: int) -> None:
    """Every complete sequence before it is written, and none twice."""
    ended = 0
    for turn in range(times):
        out = ("-", "out.ndjson")[turn % 2]
        kind = turn // 2 % 5
        if kind == 4:
            stream.check_bad_line(out)
        else:
            number = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGINT)[kind]
            ended += stream.check(number, out, again=kind == 3)
    print(f"{ended} of {times * 4 // 5} streams were still running")


def test_a_stream_is_ended_at_random_moments(stream: Stream) -> None:
    end_at_random_moments(stream, 20)


@pytest.mark.slow
def test_a_stream_is_ended_at_many_random_moments(stream: Stream) -> None:
    end_at_random_moments(stream, 200)
