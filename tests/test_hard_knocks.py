"""What fails, one call after the other, and what ends a command early: one line, and no file that is half of one."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from knocks import KINDS, Knocks, Ran, knocks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD, and pipes that tell what is left in them")

COLUMNS = "--sequence id --label state --order time"
SMALL = "--epochs 2 --units 2 --layers 1"
COMPARED = "--epochs 1 --layers 1 --seeds 1 --vary units=2,3"
KEEPING = "--checkpoint kept --log log --tensorboard board"
STREAM = "predict model - --out"
COMMANDS = {  # by name, and which file each writes; < is what it reads from the standard input
    "train": (f"train train.csv {COLUMNS} {SMALL} --out out", "out"),
    "train and keep": (f"train train.parquet {COLUMNS} {SMALL} --no-baseline --out out {KEEPING}", "out"),
    "evaluate": ("evaluate model train.csv", None),
    "report": ("evaluate model train.ndjson --report out.html", "out.html"),
    "predict": ("predict model train.csv --out out.csv", "out.csv"),
    "predict Parquet": ("predict model train.parquet --out out.parquet", "out.parquet"),
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
        command, self.out = COMMANDS[name]
        words, _, source = command.partition(" < ")
        self.server, self.name, self.words = server, name, words.split()
        self.stdin = server.folder / source if source else Path(os.devnull)
        self.before = set(os.listdir(server.folder))
        self.old = None
        self.whole: set[bytes | None] = set()  # what the file may hold
        if self.out:
            # Of the same kind, and different: what is written for other options.
            other = {"train": ["--seed=9"], "predict": ["--top=2"], "compare": ["--seed=9"]}.get(self.words[0], [])
            ran = self.run(more=[] if "--events" in self.words or "--report" in self.words else other)
            assert ran.status == 0, ran.errors
            self.old = (server.folder / self.out).read_bytes()
            self.whole.add(self.written())
        if name == "train":  # the model is written before its baseline is trained
            self.run(more=["--no-baseline"])
            self.whole.add(self.written())
        self.reference = self.run()
        assert self.reference.status == 0, self.reference.errors
        self.new = self.written()
        self.whole.add(self.new)
        self.clean()

    def run(self, fault: tuple[str, int] | None = None, *, onwards: bool = False, more: list[str] | None = None) -> Ran:
        if self.out and self.old is not None:
            (self.server.folder / self.out).write_bytes(self.old)
        return self.server.run(*self.words, *(more or []), fault=fault, onwards=onwards, stdin=self.stdin)

    def written(self) -> bytes | None:
        if not self.out:
            return None
        # A report says how fast the network was.
        return re.sub(rb"[0-9,]+ steps a second", b"", (self.server.folder / self.out).read_bytes())

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
            if not self.out:
                assert ran.output == self.reference.output, where
        if self.out:
            found, new = self.written(), self.new
            assert found is not None
            assert new is not None
            part = self.name == "stream" and new.startswith(found) and whole_sequences(found)
            assert found in self.whole or part, where
        left = set(os.listdir(self.server.folder)) - self.before - {self.out} - KEPT
        assert not left, (where, left)
        assert not os.listdir(self.server.temporary), (where, os.listdir(self.server.temporary))
        self.clean()
        return ran.status == 2


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
