"""Thousands of damaged model files: each is loaded or refused with one line, and no other exception leaves a reader.

The mutants are the same in every run. `BILSTM_MUTANTS=1000000 pytest tests/test_modelfile_fuzz.py` makes more of them.
"""

from __future__ import annotations

import copy
import json
import os
import random
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bilstm.cli import commands
from bilstm.errors import UserError
from bilstm.inspection import inspect_file, inspection
from bilstm.layers import LSTM, Bidirectional, Dense, Dropout, TimeDistributed
from bilstm.model import TrainedModel
from bilstm.modelfile import read_model, write_model
from bilstm.models import Sequential, load_model
from bilstm.training.checkpoints import Checkpoint
from bilstm.training.loop import TrainingInterrupted
from test_checkpoints import train
from test_old_files import as_version_0_1

MUTANTS = int(os.environ.get("BILSTM_MUTANTS", "3000"))
SECONDS = 5.0  # of processor time for one mutant; a good file takes some milliseconds

# --- The kinds of files: how one is made, how it is loaded, and how what was loaded is saved -------------------------


@dataclass(frozen=True)
class Kind:
    make: Callable[[Path], None]
    load: Callable[[Path], Any]
    save: Callable[[Any, Path], None]
    use: str = ""  # a command for MODEL, and for TABLE in the same folder


def make_network(path: Path) -> None:
    layers = [
        Bidirectional(LSTM(2, return_sequences=True), input_shape=(None, 3)),
        Dropout(0.5),
        LSTM(2, return_sequences=True, go_backwards=True),
        TimeDistributed(Dense(2, activation="softmax")),
    ]
    model = Sequential(layers, seed=1)
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    model.save(path)


ROWS = [(i // 5, i % 5, "" if i == 7 else i % 7, ("Abc1", "xyz", "Über", "", "no-one")[i % 5]) for i in range(60)]
TEXTS = [f"{word} is {'not ' * (i % 3)}{word}" for i, word in enumerate(["Abc1", "xyz", "Über"] * 5)]


def make_model(path: Path, columns: str, header: str, rows: list[str]) -> None:
    """Train a small model on `train.csv`."""
    table = path.with_name("train.csv")
    table.write_text(header + "\n" + "".join(row + "\n" for row in rows), encoding="utf-8")
    small = ["--units", "2", "--layers", "1", "--epochs", "2", "--quiet"]
    result = CliRunner().invoke(commands, ["train", str(table), *columns.split(), *small, "--out", str(path)])
    assert result.exit_code == 0, result.output


def make_labels_of_steps(path: Path, characters: str = "conv") -> None:
    rows = [f"s{i},{t},{x},{word},{'pq'[t % 2]}" for i, t, x, word in ROWS]
    options = f"--sequence id --order t --label y --spelling --characters {characters}"
    make_model(path, options, "id,t,x,word,y", rows)


def make_labels_of_texts(path: Path) -> None:
    rows = [f"{text},{i % 2},{i % 3 // 2}" for i, text in enumerate(TEXTS)]
    options = "--text text --label loud,high --pooling attention --validation-split 0.4 --calibrate"
    make_model(path, options, "text,loud,high", rows)


def make_quantities(path: Path) -> None:
    rows = [f"s{i},{t},{x},{t / 2},{i}" for i, t, x, _ in ROWS]
    make_model(path, "--sequence id --label y,z --task step-quantity", "id,t,x,y,z", rows)


def make_old(path: Path) -> None:
    make_labels_of_steps(path, "none")
    tensors, header = read_model(path)
    write_model(path, tensors, as_version_0_1(header))


def make_checkpoint(path: Path) -> None:
    def stop(figures: dict[str, Any]) -> None:
        if figures["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted):
        train(Checkpoint(path), stop)


def load_checkpoint(path: Path) -> Any:
    checkpoint = Checkpoint(path, resume=True)
    tensors, header = read_model(path)
    checkpoint.belongs_to(header["training"] if isinstance(header.get("training"), dict) else {})
    snapshot = checkpoint.restore(tensors["weights"].size if "weights" in tensors else 1)
    return snapshot, checkpoint


def save_checkpoint(loaded: Any, path: Path) -> None:
    snapshot, checkpoint = loaded
    checkpoint.path = path
    checkpoint.write(snapshot)


KINDS = {
    "sequential": Kind(make_network, load_model, Sequential.save),
    "labels of steps": Kind(make_labels_of_steps, TrainedModel.load, TrainedModel.save, "evaluate MODEL TABLE"),
    "labels of texts": Kind(make_labels_of_texts, TrainedModel.load, TrainedModel.save, "evaluate MODEL TABLE"),
    "quantities": Kind(make_quantities, TrainedModel.load, TrainedModel.save, "evaluate MODEL TABLE"),
    "of version 0.1": Kind(make_old, TrainedModel.load, TrainedModel.save, "evaluate MODEL TABLE"),
    "checkpoint": Kind(make_checkpoint, load_checkpoint, save_checkpoint),
}

# --- Mutants ---------------------------------------------------------------------------------------------------------

RAW = {  # what `json.dumps` would not write
    "@digits": "9" * 400,
    "@minus": "-" + "9" * 400,
    "@million": "9" * 10_000,
    "@nan": "NaN",
    "@infinity": "-Infinity",
    "@large": "1e400",
    "@deep": "[" * 500 + "]" * 500,
    "@deeper": '{"a":' * 20_000 + "1" + "}" * 20_000,
    "@half": '"a\\ud800"',
    "@other half": '"\\udc80b"',
    "@nul": '"\\u0000"',
    "@twice": '{"kind": 1, "kind": 2}',
}
VALUES = [
    *(None, True, False, -1, 0, 1, 2, 3, 7, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, -(10**30), 10**300),
    *(0.5, -0.0, 1.5, 1e-320, 1e308, -1e308, 3.0),
    *("", "a", "both", "LSTM", "\x1b[2J\x1b]0;title\x07", "\u202egnp.exe", "a\nb", "\x9b31m", "é\u2028", "ß", "1"),
    "x" * 10_000,
    *([], {}, [[]], [None], [1, 2], ["a", "a"], {"a": 1}, {"units": 3}, [0] * 1000, list("abc")),
    {"class_name": "Dense"},
    *RAW,
]  # fmt: skip


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Each container within plain data with each of its keys."""
    for key in data if isinstance(data, dict) else range(len(data)):
        yield data, key
        if isinstance(data[key], (dict, list)):
            yield from places(data[key])


def mutate(data: Any, rng: random.Random) -> None:
    """Change one thing anywhere in plain data."""
    found = list(places(data))
    if not found:
        return
    (container, key), (other, other_key) = rng.choice(found), rng.choice(found)
    value, new = container[key], copy.deepcopy(rng.choice(VALUES))
    match rng.randrange(9):
        case 0:
            del container[key]
        case 1:
            container[key] = copy.deepcopy(other[other_key])
        case 2 if isinstance(container, dict):
            container[str(new)] = container.pop(key)
        case 2 | 3 if isinstance(container, list):
            container.insert(key, copy.deepcopy(value))
        case 4 if isinstance(container, list):
            rng.shuffle(container)
        case 5 if type(value) in (int, float):
            container[key] = rng.choice([-value, value + 1, value - 1, value * 10**20, value / 2, str(value)])
        case 5 if isinstance(value, str):
            place = rng.randrange(len(value) + 1)
            container[key] = value[:place] + str(new) + value[place:]
        case _:
            container[key] = new


def written(data: Any, rng: random.Random) -> str:
    text = json.dumps(data, ensure_ascii=rng.random() < 0.5)
    for name, raw in RAW.items():
        text = text.replace(f'"{name}"', raw)
    return text


def mutant(content: bytes, rng: random.Random) -> bytes:
    """One of a good file: changed in its bytes, in the outer header, or in the description."""
    length = struct.unpack("<Q", content[:8])[0]
    outer, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    changes = rng.choice([1, 1, 1, 2, 5])
    match rng.randrange(10):
        case 0:
            return content[: rng.randrange(len(content))]
        case 1:
            changed = bytearray(content)
            for _ in range(changes):
                changed[rng.randrange(rng.choice([9, 8 + length, len(content)]))] ^= 1 << rng.randrange(8)
            return bytes(changed)
        case 2:
            place = rng.randrange(len(content))
            return content[:place] + rng.randbytes(rng.choice([0, 1, 8])) + content[place + rng.randrange(9) :]
        case 3:
            for _ in range(changes):
                mutate(outer, rng)
        case 4:  # within the description's text
            text = outer["__metadata__"]["bilstm"]
            for _ in range(changes):
                place = rng.randrange(len(text))
                text = text[:place] + rng.choice([*'{}[],:"\\0-.eE9\x01', ""]) + text[place + rng.randrange(2) :]
            outer["__metadata__"]["bilstm"] = text
        case _:
            described = json.loads(outer["__metadata__"]["bilstm"])
            for _ in range(changes):
                mutate(described, rng)
            outer["__metadata__"]["bilstm"] = written(described, rng)
    head = written(outer, rng).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(head)) + head + body


# --- The test --------------------------------------------------------------------------------------------------------


def refusal(read: Callable[[Path], Any], path: Path) -> tuple[Any, str | None]:
    """What is read, or why it is refused."""
    try:
        return read(path), None
    except UserError as error:
        return None, str(error)


def check(kind: Kind, path: Path) -> bool:
    """Check one file; whether it could be loaded."""
    began = time.process_time()
    loaded, problem = refusal(kind.load, path)
    facts, no_facts = refusal(inspect_file, path)
    for message in (problem, no_facts):
        if message is not None:
            plain = message.replace(str(path), "")
            assert plain.isprintable(), plain
            assert len(plain) < 2000, plain
    if facts is not None:
        json.dumps(facts, allow_nan=False, ensure_ascii=False).encode()
        "\n".join(inspection(facts)).encode()
    if problem is None:
        assert no_facts is None
        again = path.with_name("again")
        again.unlink(missing_ok=True)
        kind.save(loaded, again)
        kind.load(again)
        if kind.use and random.Random(path.read_bytes()).random() < 0.2:  # it takes some time
            names = {"MODEL": path, "TABLE": path.with_name("train.csv")}
            result = CliRunner().invoke(commands, [str(names.get(word, word)) for word in kind.use.split()])
            assert result.exit_code in (0, 2), result.output
    assert time.process_time() - began < SECONDS
    return problem is None


@pytest.mark.parametrize("name", KINDS)
def test_a_mutant_is_loaded_or_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    kind, path = KINDS[name], tmp_path / "good"
    kind.make(path)
    good = path.read_bytes()
    assert check(kind, path)
    loaded, path = 0, tmp_path / "mutant"
    for number in range(MUTANTS // len(KINDS)):
        path.write_bytes(mutant(good, random.Random(f"{name} {number}")))
        try:
            loaded += check(kind, path)
        except Exception as error:
            error.add_note(f"mutant {number} of {name}")
            raise
    print(f"{name}: {loaded:,} of {MUTANTS // len(KINDS):,} mutants could be loaded")
    assert 0 < loaded < MUTANTS // len(KINDS)
