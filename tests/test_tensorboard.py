"""Events for TensorBoard are read back as TensorBoard would, and hold each epoch once."""

from __future__ import annotations

import os
import struct
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from bilstm.errors import UserError
from bilstm.training.tensorboard import TensorBoardLog
from test_cli import COLUMNS, SMALL, bilstm, rows, write


def masked_crc(data: bytes) -> int:
    """CRC-32C, bit by bit, as TFRecord files have it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(folder: Path) -> list[Any]:
    """Of all files in the folder."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            body = data[12 : 12 + length]
            checks = struct.unpack("<I", data[8:12]) + struct.unpack("<I", data[12 + length : 16 + length])
            assert checks == (masked_crc(data[:8]), masked_crc(body))
            found.append(Event.FromString(body))
            data = data[16 + length :]
    return found


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each tag, in the order written."""
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for event in events(folder):
        for value in event.summary.value:
            found[value.tag].append((event.step, value.simple_value))
    return dict(found)


def ended(epoch: int, **scores: float) -> dict[str, Any]:
    return {"epoch": epoch, "epochs": 9, "done": 1.0, "seconds": epoch / 4, **scores}


def test_scalars_of_every_epoch(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path / "runs" / "first")
    assert os.listdir(tmp_path) == []
    log({"epoch": 1, "epochs": 9, "done": 0.5, "loss": 2.0})
    assert os.listdir(tmp_path) == []
    log(ended(1, loss=1.0, val_loss=1.5, val_accuracy=0.5, learning_rate=0.25))
    assert scalars(tmp_path / "runs" / "first")["loss/training"] == [(1, 1.0)]  # at once
    log({"epoch": 2, "epochs": 9, "done": 0.0, "loss": 2.0})
    log(ended(2, loss=0.5, val_loss=1.25, val_accuracy=0.75, learning_rate=0.125))
    assert scalars(tmp_path / "runs" / "first") == {
        "loss/training": [(1, 1.0), (2, 0.5)],
        "loss/validation": [(1, 1.5), (2, 1.25)],
        "accuracy/validation": [(1, 0.5), (2, 0.75)],
        "learning_rate": [(1, 0.25), (2, 0.125)],
    }
    first, *written = events(tmp_path / "runs" / "first")
    assert first.file_version == "brain.Event:2"
    times = sorted({event.wall_time for event in written})
    assert times[1] - times[0] == pytest.approx(0.25)
    assert abs(times[-1] - time.time()) < 60
    assert log.problem is None


@pytest.mark.parametrize("kept", [0, 2])
def test_what_is_gone_on_with_has_its_epochs_once(tmp_path: Path, kept: int) -> None:
    before = TensorBoardLog(tmp_path)
    for epoch in (1, 2, 3):
        before(ended(epoch, loss=1 / epoch))
    again = TensorBoardLog(tmp_path)
    resumed = [{"epoch": epoch, "loss": 1 / epoch, "seconds": epoch / 4} for epoch in range(1, kept + 1)]
    again({"epoch": kept + 1, "epochs": 9, "done": 0.0, "resumed": resumed})
    again(ended(kept + 1, loss=0.5))
    assert len(os.listdir(tmp_path)) == 1
    expected = [(epoch, pytest.approx(1 / epoch)) for epoch in range(1, kept + 1)]
    assert scalars(tmp_path) == {"loss/training": [*expected, (kept + 1, 0.5)]}


@pytest.mark.parametrize("force", [False, True])
def test_other_events_are_replaced_by_force_only(tmp_path: Path, force: bool) -> None:
    TensorBoardLog(tmp_path)(ended(1, loss=2.0))
    (tmp_path / "events.out.tfevents.1.host").touch()
    if force:
        TensorBoardLog(tmp_path, force=True)(ended(1, loss=1.0))
        assert scalars(tmp_path) == {"loss/training": [(1, 1.0)]}
        assert len(os.listdir(tmp_path)) == 1
        return
    with pytest.raises(UserError, match="holds the events of another program: give another folder, or replace them w"):
        TensorBoardLog(tmp_path)
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize("end", ["killed while it wrote", "killed before it removed the earlier events", "ended"])
def test_the_same_command_replaces_the_events_of_a_training_however_it_ended(tmp_path: Path, end: str) -> None:
    TensorBoardLog(tmp_path)(ended(1, loss=2.0))
    (events_file,) = tmp_path.iterdir()
    if end == "killed while it wrote":
        events_file.write_bytes(events_file.read_bytes()[:-3])
    if end == "killed before it removed the earlier events":
        events_file.with_name("events.out.tfevents.1.host.bilstm").write_bytes(events_file.read_bytes())
    TensorBoardLog(tmp_path)(ended(1, loss=1.0))
    assert scalars(tmp_path) == {"loss/training": [(1, 1.0)]}


def test_events_that_cannot_be_written_stop_no_training(tmp_path: Path) -> None:
    log = TensorBoardLog(tmp_path / "runs")
    (tmp_path / "runs").touch()
    for epoch in (1, 2):
        log(ended(epoch, loss=1.0))
    assert log.problem == f"cannot write events into {tmp_path / 'runs'}: file exists"


def test_it_has_to_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX.proto.event_pb2", None)
    table = write(tmp_path / "train.csv", rows(30))
    arguments = [*COLUMNS, *SMALL, "--out", tmp_path / "model", "--tensorboard", tmp_path / "runs"]
    result = bilstm("train", table, *arguments, status=2)
    assert result.stderr == "bilstm: --tensorboard needs tensorboardX: pip install 'bilstm[tensorboard]'\n"
    assert os.listdir(tmp_path) == ["train.csv"]
    bilstm("train", table, *arguments[:-2])


def test_from_the_command_line(tmp_path: Path) -> None:
    table = write(tmp_path / "train.csv", rows(30))
    for split in (0.1, 0.0):
        folder = tmp_path / f"runs{split}"
        more = ["--validation-split", split, "--tensorboard", folder, "--log", tmp_path / "log"]
        bilstm("train", table, *COLUMNS, *SMALL, "--out", tmp_path / "model", *more)
        tags = ["loss/training", *(["loss/validation", "accuracy/validation"] if split else []), "learning_rate"]
        assert list(scalars(folder)) == tags
        assert all([step for step, _ in of_one] == [1, 2, 3, 4, 5, 6] for of_one in scalars(folder).values())


def test_the_command_line_tells_of_events_that_are_not_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(log: TensorBoardLog, _: Any) -> None:
        log.problem = "cannot write events into runs: no space left on device"

    monkeypatch.setattr(TensorBoardLog, "__call__", fail)
    table = write(tmp_path / "train.csv", rows(30))
    result = bilstm("train", table, *COLUMNS, *SMALL, "--out", tmp_path / "model", "--tensorboard", tmp_path / "runs")
    what = "cannot write events into runs: no space left on device; training continued without it"
    assert result.stderr == f"bilstm: {what}\n"
    assert (tmp_path / "model").exists()
