"""The log of a training's epochs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.errors import UserError
from bilstm.training.epochlog import EpochLog
from test_cli import COLUMNS, SMALL, bilstm, rows, write

pytestmark = pytest.mark.fast


def ended(epoch: int, **scores: float) -> dict[str, Any]:
    return {"epoch": epoch, "epochs": 9, "done": 1.0, "loss": 3.0, "seconds": 0.25, **scores}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_an_epoch(tmp_path: Path) -> None:
    log = EpochLog(tmp_path / "log")
    assert os.listdir(tmp_path) == []
    log({"epoch": 1, "epochs": 9, "done": 0.5, "loss": 2.0})
    assert lines(tmp_path / "log") == []
    log(ended(1, loss=1.0, val_loss=1.5, seconds=0.25))
    log({"epoch": 2, "epochs": 9, "done": 0.0, "loss": 2.0})
    log(ended(2, loss=0.5, val_loss=1.25, seconds=0.5))
    assert lines(tmp_path / "log") == [
        {"epoch": 1, "loss": 1.0, "val_loss": 1.5, "seconds": 0.25},
        {"epoch": 2, "loss": 0.5, "val_loss": 1.25, "seconds": 0.5},
    ]
    assert log.problem is None


@given(st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_epochs_before_are_there_once(
    tmp_path_factory: pytest.TempPathFactory, logged: int, kept: int, cut: bool
) -> None:
    """However many were logged before the end, and though the last line was not written to its end."""
    path = tmp_path_factory.mktemp("log") / "log"
    before = EpochLog(path)
    for epoch in range(1, logged + 1):
        before(ended(epoch, loss=1 / epoch))
    if logged and cut:
        path.write_text(path.read_text() + '{"epoch": 7, "lo')
    again = EpochLog(path)
    resumed = [{"epoch": epoch, "loss": 1 / epoch, "seconds": 0.25} for epoch in range(1, kept + 1)]
    again({"epoch": kept + 1, "epochs": 9, "done": 0.0, "resumed": resumed})
    again(ended(kept + 1, loss=1 / (kept + 1)))
    assert lines(path) == [{"epoch": epoch, "loss": 1 / epoch, "seconds": 0.25} for epoch in range(1, kept + 2)]


def test_another_training_replaces_it(tmp_path: Path) -> None:
    for loss in (1.0, 2.0):
        EpochLog(tmp_path / "log")(ended(1, loss=loss))
    assert lines(tmp_path / "log") == [{"epoch": 1, "loss": 2.0, "seconds": 0.25}]


FOREIGN = [
    "id,x\n",
    '{"id": 1}\n',
    '["epoch"]',
    "7",
    "\xff",
    '"epoch"',
    "[" * 9000,
    "{}",
    '{"epoch": 1}\n',
    '{"epoch": 1, "train_loss": 0.5, "seconds": 3}\n',
    '{"step": 1, "epoch": 1, "loss": 0.5, "seconds": 3}\n',
]


@pytest.mark.parametrize("content", FOREIGN)
@pytest.mark.parametrize("force", [False, True])
def test_something_else_is_replaced_by_force_only(tmp_path: Path, content: str, force: bool) -> None:
    (tmp_path / "log").write_text(content, encoding="latin-1")
    if force:
        EpochLog(tmp_path / "log", force=True)(ended(1))
        assert len(lines(tmp_path / "log")) == 1
        return
    with pytest.raises(UserError, match="log exists and is not a log of training: give another name, or replace"):
        EpochLog(tmp_path / "log")
    assert (tmp_path / "log").read_text(encoding="latin-1") == content


@pytest.mark.parametrize("force", [False, True])
def test_something_else_that_has_come_since_is_replaced_by_force_only(tmp_path: Path, force: bool) -> None:
    log = EpochLog(tmp_path / "log", force=force)
    (tmp_path / "log").write_text("id,x\n")
    for epoch in (1, 2):
        log(ended(epoch))
    if force:
        assert log.problem is None
        assert len(lines(tmp_path / "log")) == 2
    else:
        assert "log exists and is not a log of training" in str(log.problem)
        assert (tmp_path / "log").read_text() == "id,x\n"


def test_an_empty_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    EpochLog(tmp_path / "log")(ended(1))
    assert lines(tmp_path / "log") == [{"epoch": 1, "loss": 3.0, "seconds": 0.25}]


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_log_that_cannot_be_written_stops_no_training(tmp_path: Path, epoch: int) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    log = EpochLog(folder / "log")
    for number in range(1, 5):
        if number == epoch:
            (folder / "log").unlink(missing_ok=True)
            folder.rmdir()
        log(ended(number))
    assert log.problem == f"cannot write {folder / 'log'}: no such file or directory"


def test_from_the_command_line(tmp_path: Path) -> None:
    table, log = write(tmp_path / "train.csv", rows(30)), tmp_path / "log"
    for split in (0.1, 0.0):
        more = ["--validation-split", split, "--log", log]
        bilstm("train", table, *COLUMNS, *SMALL, "--out", tmp_path / "model", *more)
        logged = lines(log)
        names = ["epoch", "loss", *(["val_loss", "val_accuracy"] if split else []), "learning_rate", "seconds"]
        assert [list(line) for line in logged] == [names] * 6
        assert [line["epoch"] for line in logged] == [1, 2, 3, 4, 5, 6]
        assert logged[-1]["learning_rate"] < logged[0]["learning_rate"] <= 0.05


def test_the_command_line_tells_of_a_log_that_is_not_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(log: EpochLog, _: Any) -> None:
        log.problem = "cannot write log: no space left on device"

    monkeypatch.setattr(EpochLog, "__call__", fail)
    table = write(tmp_path / "train.csv", rows(30))
    result = bilstm("train", table, *COLUMNS, *SMALL, "--out", tmp_path / "model", "--log", tmp_path / "log")
    assert result.stderr == "bilstm: cannot write log: no space left on device; training continued without it\n"
    assert (tmp_path / "model").exists()
