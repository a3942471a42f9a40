"""Tables larger than memory take the same ways as small ones, in blocks, with the same results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bilstm
from bilstm.data import parquetfiles, reading, scratch
from bilstm.data.features import CategoricalColumn, NumericColumn
from bilstm.data.reading import read_table
from bilstm.data.sequences import find_sequences
from bilstm.data.spelling import PARTS
from bilstm.errors import UserError
from bilstm.model import trained
from bilstm.model.columns import ColumnOptions
from bilstm.model.prepare import prepare
from bilstm.ragged import Extent, chunks, offsets_of


def written(folder: Path, suffix: str, *, shuffled: bool) -> Path:
    """Fifty sequences of one to nine steps: numbers of which some are missing, words and codes."""
    import duckdb

    path = folder / f"table{suffix}"
    form = {".csv": "csv", ".parquet": "parquet", ".ndjson": "json"}[suffix]
    rows = """
        SELECT 's' || i AS id, j AS t, CASE WHEN (i * 31 + j) % 11 > 0 THEN sin(i * 7 + j) END AS x,
            'word ' || (i * j % 5) AS word, i % 3 AS code, ['up', 'down'][1 + (i + j) % 2] AS state
        FROM range(50) AS a(i), range(9) AS b(j) WHERE j <= i % 9
    """
    order = "hash(i * 100 + j)" if shuffled else "i, j"
    duckdb.connect().execute(f"COPY ({rows} ORDER BY {order}) TO '{path}' (FORMAT {form})").fetchall()
    return path


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Treat every table as one that is larger than memory."""
    folder = tmp_path / "scratch"
    folder.mkdir()

    def take_effect() -> None:
        monkeypatch.setenv("TMPDIR", str(folder))
        monkeypatch.setattr("tempfile.tempdir", None)
        monkeypatch.setattr(scratch, "BLOCK", 70)
        monkeypatch.setattr(scratch, "LARGE", 0)
        monkeypatch.setattr(reading, "LARGE_TEXT", 0)
        monkeypatch.setattr(parquetfiles, "LARGE_PARQUET", 0)
        monkeypatch.setattr(trained, "_PROBABILITIES", 60)

    return take_effect


@pytest.mark.parametrize(
    ("suffix", "shuffled", "spelling"),
    [(".csv", False, False), (".parquet", False, True), (".parquet", True, False), (".ndjson", True, True)],
)
def test_the_models_and_predictions_are_the_same(
    tmp_path: Path, in_blocks: Callable[[], None], suffix: str, shuffled: bool, spelling: bool
) -> None:
    table = written(tmp_path, suffix, shuffled=shuffled)
    columns: dict[str, Any] = {"sequence": "id", "label": "state", "order": "t" if shuffled else None}
    options: dict[str, Any] = {"features": ["x", "word", "code"], "spelling": spelling, "units": 3, "layers": 1}
    found = []
    for _ in ("whole", "blocks"):
        model = bilstm.train(table, epochs=2, **columns, **options)
        model.save(tmp_path / "model")
        probabilities, report = model.predict_proba(table), model.evaluate(table, tolerance=1)
        found.append(((tmp_path / "model").read_bytes(), probabilities.tobytes(), report["accuracy"], report["events"]))
        in_blocks()
    assert found[0] == found[1]
    assert os.listdir(tmp_path / "scratch") == []


@pytest.mark.parametrize("spelling", [None, True, False])
def test_parts_of_words_are_counted_alike(tmp_path: Path, in_blocks: Callable[[], None], spelling: bool | None) -> None:
    in_blocks()
    words = [f"{'aBc'[i % 3]}{'xyzÄß'[i % 5]}{'eio'[i % 4 :]}{i % 120}" for i in range(500)]
    lines = [f"{i // 10},{word},{'pq'[i % 2]}" for i, word in enumerate(words)]
    (tmp_path / "table.csv").write_text("\n".join(["id,word,state", *lines]) + "\n")
    found = prepare(
        read_table(tmp_path / "table.csv"), ColumnOptions("id", ("state",), spelling=spelling), validation_split=0.0
    )
    assert found.schema.categorical == tuple(CategoricalColumn.fit("word", Counter(words).items(), spelling))
    assert len(found.schema.categorical) == (1 if spelling is False else len(PARTS))
    for place, column in enumerate(found.schema.categorical):
        np.testing.assert_array_equal(found.training.values.values[:, place], column.encode(words))


def test_a_row_that_is_wrong_is_found_in_any_block(
    tmp_path: Path, in_blocks: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_blocks()
    monkeypatch.setattr(scratch, "BLOCK", 7)
    path = tmp_path / "table.csv"
    lines = [f"a,{t},{t}" for t in range(30)]
    path.write_text("\n".join(["id,t,x", *lines, "a,14,0"]) + "\n")
    with pytest.raises(UserError, match="line 32: sequence 'a' has t '14' a second time, after line 16"):
        find_sequences(read_table(path), "id", "t")
    for row in (7, 14, 21):  # between two blocks, sorted and not
        swapped = [*lines[: row - 1], lines[row], lines[row - 1], *lines[row + 1 :]]
        path.write_text("\n".join(["id,t,x", *swapped]) + "\n")
        rows = find_sequences(read_table(path), "id", "t").rows.tolist()
        assert rows == [*range(row - 1), row, row - 1, *range(row + 1, 30)]


@given(st.lists(st.integers(0, 30), max_size=12), st.integers(1, 40))
def test_groups_hold_every_sequence_once_and_so_many_steps(lengths: list[int], steps: int) -> None:
    offsets = offsets_of(lengths)
    found = list(chunks(offsets, steps))
    assert [i for group in found for i in range(len(lengths))[group]] == list(range(len(lengths)))
    for group in found:
        assert group.stop - group.start == 1 or offsets[group.stop] - offsets[group.start] <= steps
    total = Extent()
    for group in found:
        total.add(np.array(lengths[group]))
    assert total == Extent().add(np.array(lengths, np.int64))


def test_a_column_is_standardised_alike_in_one_block_and_in_many(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.random.default_rng(0).normal(5, 3, 1000)
    numbers[::7] = np.nan
    rows = np.random.default_rng(1).permutation(1000)[:700]
    whole = NumericColumn.fit("x", numbers, rows)
    present = numbers[rows][~np.isnan(numbers[rows])]
    assert whole.missing == 700 - len(present)
    np.testing.assert_allclose([whole.mean, whole.scale], [present.mean(), present.std()], rtol=1e-12)
    monkeypatch.setattr("bilstm.data.features._SUMMED", 64)
    blocks = NumericColumn.fit("x", numbers, rows)
    np.testing.assert_allclose([blocks.mean, blocks.scale], [whole.mean, whole.scale], rtol=1e-12)


def test_large_arrays_stand_in_files_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_blocks: Callable[[], None]
) -> None:
    in_blocks()
    array = scratch.empty((5, 3), np.float32)
    array[:] = 2
    assert array.sum() == 30
    assert not array.flags.owndata
    assert os.listdir(tmp_path / "scratch") == []
    monkeypatch.setattr(scratch, "LARGE", 1 << 30)
    assert scratch.empty(4, np.int64).base is None


@pytest.mark.skipif(sys.platform == "win32", reason="files grow when they are written there")
def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_blocks: Callable[[], None]) -> None:
    in_blocks()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch, "_reserve", full)
    message = f"cannot write 8 MB into {tmp_path}/scratch: no space left on device; the environment variable TMPDIR can"
    with pytest.raises(UserError, match=message):
        scratch.empty(1_000_000, np.float64)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(UserError, match="cannot write into .*: no space left on device"):
        scratch.folder(UserError())


HOLD = """
import sys, time
from bilstm.data import parquetfiles, reading, scratch
class Owner: pass
owner = Owner()
print(scratch.folder(owner), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no locks there")
def test_folders_go_with_their_owners_and_with_processes_that_were_killed(
    tmp_path: Path, in_blocks: Callable[[], None]
) -> None:
    in_blocks()
    environment = os.environ | {"TMPDIR": str(tmp_path / "scratch")}
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        theirs = Path(process.stdout.readline().strip())
        owner = UserError()
        mine = scratch.folder(owner)
        (mine / "file").write_text("x")
        assert mine.is_dir()
        assert theirs.is_dir()  # it is in use
        process.send_signal(signal.SIGKILL)
    owner = UserError()
    deadline = time.monotonic() + 5
    while mine.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not mine.exists()
    scratch.folder(owner)
    assert not theirs.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no locks there")
def test_a_folder_is_never_there_to_be_removed_before_it_is_locked(
    in_blocks: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_blocks()
    moments = []

    def clean_up_first(real: Callable[..., Any]) -> Callable[..., Any]:
        """Another process that looks for abandoned folders just before each step."""

        def step(*arguments: Any, **options: Any) -> Any:
            if options != {"alone": True}:
                moments.append(real)
                scratch._remove_abandoned()
            return real(*arguments, **options)

        return step

    for module, name in ((scratch, "locked"), (Path, "rename"), (weakref, "finalize")):
        monkeypatch.setattr(module, name, clean_up_first(getattr(module, name)))
    owner = UserError()
    assert scratch.folder(owner).is_dir()
    assert len(moments) >= 2


def test_temporary_files_go_where_they_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert scratch.root() == tmp_path
    monkeypatch.delenv("TMPDIR")
    monkeypatch.setattr("tempfile.tempdir", None)
    assert scratch.root() != tmp_path
