"""Predictions over a lake: shards of files, and tables that Ray, Spark, Dask and others pass to a `Predictor`."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import bilstm
from bilstm.distributed import Predictor
from bilstm.errors import UserError
from bilstm.files import digest
from bilstm.model.manifest import FINISHED
from test_fronts import CASES, LAYOUTS, arrow, long_table, run, trained_bytes, write

SMALL = ["--units", "2", "--layers", "1", "--epochs", "1", "--no-baseline", "--quiet"]
FOUND = [case for case in CASES if case.values[2] == ".parquet"]


class Capsule:
    """What has Arrow's PyCapsule interface, and nothing else."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predictors")


def model_of(kind: str, layout: str, folder: Path) -> Path:
    path = folder / f"{kind} {layout}"
    if not path.exists():
        path.write_bytes(trained_bytes(kind, layout, folder))
    return path


def new_table(kind: str, layout: str) -> pa.Table:
    """Of sequences that are contiguous, and in no order."""
    frame = long_table(kind, 12, seed=1)
    if layout == "long":
        frame = frame.groupby("id", sort=False).sample(frac=1, random_state=2)
    return arrow(LAYOUTS[layout].make(frame, kind) if layout != "long" else frame)


def written(model: Path, table: pa.Table, folder: Path, *options: str) -> pa.Table:
    """What the command writes."""
    pq.write_table(table, folder / "new.parquet")
    run("predict", model, folder / "new.parquet", "--out", folder / "out.parquet", "--quiet", *options)
    return pq.read_table(folder / "out.parquet")


def check_same(found: pa.Table, expected: pa.Table) -> None:
    assert found.column_names == expected.column_names
    for name in found.column_names:
        assert found.column(name).to_pylist() == expected.column(name).cast(found.schema.field(name).type).to_pylist()


def joined(tables: Any) -> pa.Table:
    return pa.Table.from_batches(list(tables))


def lake_with_an_empty_file(table: pa.Table, folder: Path, suffix: str) -> Path:
    """A folder of two files, of which one has columns, but no row, as Spark may write it."""
    (folder / "lake").mkdir()
    for name, rows in (("full", table), ("none", table.slice(0, 0))):
        path = folder / "lake" / f"{name}{suffix}"
        pq.write_table(rows, path) if suffix == ".parquet" else rows.to_pandas().to_csv(path, index=False)
    return folder / "lake"


def check_empty(folder: Path, suffix: str) -> None:
    """Predictions for a file without a row have the columns of others, and the manifest names both."""
    if suffix == ".parquet":
        full, none = (pq.read_table(folder / f"{name}.parquet") for name in ("full", "none"))
        assert [(field.name, field.type) for field in none.schema] == [(f.name, f.type) for f in full.schema]
        assert (full.num_rows > 0, none.num_rows) == (True, 0)
    else:
        lines = (folder / "full.csv").read_text().splitlines(keepends=True)
        assert len(lines) > 1
        assert (folder / "none.csv").read_text() == lines[0]
    entries = map(json.loads, (folder / FINISHED).read_text().splitlines())
    assert [entry["file"] for entry in entries] == [f"full{suffix}", f"none{suffix}"]


# --- Tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "layout", "suffix"), FOUND)
def test_what_the_command_writes(kind: str, layout: str, suffix: str, folder: Path, tmp_path: Path) -> None:
    model, table = model_of(kind, layout, folder), new_table(kind, layout)
    more = ["--probabilities"] * (not kind.endswith("quantity"))
    predictor = pickle.loads(pickle.dumps(Predictor(model, probabilities=bool(more))))
    found = predictor(table)
    check_same(found, written(model, table, tmp_path, *more))
    assert found.schema == predictor.schema(table.schema)
    assert predictor(table.slice(0, 0)).schema == found.schema
    for size in (5, 1000):
        assert joined(predictor(iter(table.to_batches(size)))).equals(found)
    assert predictor(table.to_batches()[0]).equals(found)
    assert predictor(Capsule(table)).equals(found)
    assert predictor(pl.from_arrow(table)).num_rows == found.num_rows
    assert list(predictor(iter(()))) == []


@pytest.mark.parametrize(("kind", "layout", "suffix"), FOUND)
def test_data_frames(kind: str, layout: str, suffix: str, folder: Path) -> None:
    """Their index stays, and what is not predicted stays what it is."""
    table = new_table(kind, layout)
    predictor = Predictor(model_of(kind, layout, folder))
    expected = predictor(table)
    frame = table.to_pandas().set_index(np.arange(table.num_rows)[::-1] * 2)
    found = predictor(frame)
    check_same(pa.Table.from_pandas(found, expected.schema, preserve_index=False), expected)
    if len(found) == len(frame):
        assert found.index.equals(frame.index)
        assert found[frame.columns].equals(frame)
    indexed = predictor(table.to_pandas().set_index("id"))  # as Dask partitions them
    assert indexed.reset_index()["id"].tolist() == found["id"].tolist()
    none = predictor(frame.iloc[:0])
    assert none.columns.equals(found.columns)
    assert none.dtypes.equals(found.dtypes)
    assert len(none) == 0


@pytest.fixture(scope="module")
def names(folder: Path) -> Path:
    """A model of tags, which are decoded."""
    words = np.random.default_rng(0).choice(["Eva", "Lee", "is"], size=300)
    tags = ["O" if word == "is" else "I-X" if word == "Lee" else "B-X" for word in words]
    pd.DataFrame({"id": np.arange(300) // 3, "word": words, "tag": tags}).to_parquet(folder / "names.parquet")
    options = [
        "--sequence",
        "id",
        "--label",
        "tag",
        *SMALL,
        "--epochs",
        "5",
        "--batch-size",
        "4",
        "--learning-rate",
        "0.1",
    ]
    run("train", folder / "names.parquet", *options, "--out", folder / "names")
    return folder / "names"


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({"top": 2}, ["--top", "2"]),
        ({"paths": 2, "probabilities": True}, ["--paths", "2", "--probabilities"]),
        ({"events": True}, ["--events"]),
        ({"events": True, "background": "O"}, ["--events", "--background", "O"]),
        ({"spans": True}, ["--spans"]),
        ({"precision": "bfloat16"}, ["--precision", "bfloat16"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("lists", [False, True])
def test_options(options: Any, flags: list[str], lists: bool, names: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": np.arange(20).repeat(2), "word": ["Eva", "is"] * 20, "time": np.tile([2, 1], 20)})
    frame = frame.groupby("id", sort=False).agg(list).reset_index() if lists else frame
    files = lake_with_an_empty_file(arrow(frame), tmp_path, ".parquet")
    run("predict", names, files, "--out", tmp_path / "out", *flags, "--order", "time")
    check_empty(tmp_path / "out", ".parquet")
    for more in ({}, {"order": "time"}):
        expected = written(names, arrow(frame), tmp_path, *flags, *(f"--{key}={cell}" for key, cell in more.items()))
        assert expected.num_rows >= len(frame) / 2
        predictor = Predictor(names, **options, **more)
        check_same(predictor(arrow(frame)), expected)
        assert predictor.schema(arrow(frame).schema) == predictor(arrow(frame)).schema
        check_same(joined(predictor(iter(arrow(frame).to_batches(7)))), expected)


@pytest.mark.filterwarnings("ignore:column token:UserWarning")
def test_columns_of_other_names(names: Path, tmp_path: Path) -> None:
    table = pa.table({"text": [1, 1, 2], "token": ["Eva", "Lee", "is"]})
    flags = ["--sequence", "text", "--features", "token", "--missing", "Lee"]
    predictor = Predictor(names, sequence="text", features=["token"], reading=bilstm.ReadingOptions(missing=["Lee"]))
    check_same(predictor(table), written(names, table, tmp_path, *flags))


def test_sequences_without_a_step(names: Path) -> None:
    """Their lists of predictions are missing, whatever other sequences are in the batch."""
    table = pa.table({"id": [1, 2, 3], "word": [["Eva", "Lee"], [], ["is"]]})
    found = Predictor(names)(table)
    assert found.column("predicted").to_pylist()[1] is None
    assert pa.concat_tables([Predictor(names)(table.slice(row, 1)) for row in range(3)]).equals(found)


def test_types_that_are_only_arrows(names: Path) -> None:
    """Columns that are not read keep them; those that are give the same whatever the type."""
    table = pa.table({"id": [1, 1, 2], "word": ["Eva", "Lee", "is"], "tag": [None, None, None]})
    expected = Predictor(names)(table)
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()), pa.binary()):
        other = table.set_column(1, "word", table.column("word").cast(kind))
        found = Predictor(names)(other)
        assert found.schema.field("word").type == kind
        assert found.select(["predicted", "probability"]).equals(expected.select(["predicted", "probability"]))


@pytest.mark.fast
def test_one_model_for_a_process(names: Path) -> None:
    first, second = Predictor(names), pickle.loads(pickle.dumps(Predictor(names, top=2)))
    assert first.model.network is second.model.network
    assert len(pickle.dumps(first)) < 2000


def test_threads(names: Path) -> None:
    before = bilstm.utils.threads()
    table = pa.table({"id": np.arange(3000) // 3, "word": ["Eva", "Lee", "is"] * 1000})
    try:
        one, three = Predictor(names, threads=1)(table), Predictor(names, threads=3)
        assert (bilstm.utils.threads(), three(table).equals(one), bilstm.utils.threads()) == (1, True, 3)
    finally:
        bilstm.utils.set_threads(before)


def test_unlike_data_are_warned_of_once(names: Path) -> None:
    table, predictor = pa.table({"id": [1, 1], "word": ["x", "y"]}), Predictor(names)
    with pytest.warns(UserWarning, match="column word: "):
        predictor(table)
    predictor(table)


def test_what_is_refused(names: Path, folder: Path, tmp_path: Path) -> None:
    table = pa.table({"id": [1, 1], "word": ["Eva", "is"]})
    lists = pa.table({"word": [["Eva", "is"]]})
    for options, data, message in (
        ({}, [1, 2], "the batch is a list: pass an Arrow table or record batch"),
        ({}, table.select(["word"]), "the batch has no column that identifies sequences, .* by 'id'; .* sequence='…'"),
        ({}, table.rename_columns(["id", "ward"]), "the batch has no column 'word'"),
        (
            {},
            pa.table({"id": [1, None], "word": ["is", "is"]}),
            "the batch, row 2: .* 'id', the row's sequence, is miss",
        ),
        ({}, table.append_column("predicted", [[1, 2]]), "the batch has a column 'predicted' already"),
        ({"events": True}, lists, "no column that identifies sequences, by which events and spans are named"),
        ({"features": ["word", "more"]}, table, "features"),
        ({"top": 9}, table, "no 9 likeliest"),
        ({"background": "Z", "events": True}, table, "'Z'"),
        (
            {},
            pa.table([pa.array([1, 2]), pa.array(["a", "b"]), pa.array([1, 2])], ["id", "word", "WORD"]),
            "'word' and 'WORD'",
        ),
        ({}, table.append_column("half", [pa.array([1, 2], pa.float16())]), "the batch has a column of a type"),
    ):
        with pytest.raises(UserError, match=message):
            Predictor(names, **options)(data)
    with pytest.raises(UserError, match="cannot read .*no such"):
        Predictor(folder / "nothing")
    with pytest.raises(UserError, match="sequence '1' is not contiguous.* sort each partition by 'id'"):
        list(Predictor(names)(iter([pa.table({"id": [1, 2, 1], "word": ["is"] * 3}).slice(i, 1) for i in range(3)])))
    (tmp_path / "model").write_bytes(names.read_bytes())
    predictor = pickle.loads(pickle.dumps(Predictor(tmp_path / "model")))
    (tmp_path / "model").write_bytes(model_of("step-label", "long", folder).read_bytes())
    with pytest.raises(UserError, match="is not the model that the predictor was made with"):
        predictor(table)


def test_a_model_of_one_recording_takes_no_batches(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.sin(np.arange(400)), "y": np.where(np.sin(np.arange(400)) > 0, "up", "down")})
    frame.to_parquet(tmp_path / "train.parquet")
    run("train", tmp_path / "train.parquet", "--label", "y", "--window", "20", *SMALL, "--out", tmp_path / "model")
    with pytest.raises(UserError, match="the model reads a whole table as one sequence; name the column"):
        Predictor(tmp_path / "model")(arrow(frame))
    found = Predictor(tmp_path / "model", sequence="id")(arrow(frame.assign(id=1)))
    whole = written(tmp_path / "model", arrow(frame), tmp_path)
    assert found.column("predicted").to_pylist() == whole.column("predicted").to_pylist()


@pytest.mark.fast
def test_what_a_scheduler_sees(names: Path) -> None:
    """Spark counts the arguments of a function, and looks at their annotations."""
    for predictor in (Predictor(names), pickle.loads(pickle.dumps(Predictor(names)))):
        specification = inspect.getfullargspec(predictor)
        assert (specification.args, specification.varargs, specification.annotations) == (["data"], None, {})
    assert "threads" in inspect.signature(Predictor).parameters
    assert repr(predictor) == f"Predictor({str(names)!r})"


def test_nothing_is_imported_for_those_who_do_not_ask() -> None:
    program = (
        "import sys, bilstm\n"
        "assert not any(name.startswith('bilstm.distributed') for name in sys.modules)\n"
        "import bilstm.distributed\n"
        "assert 'bilstm.model' not in sys.modules and 'numpy' not in sys.modules\n"
        "bilstm.distributed.Predictor\n"
        "print(*{'ray', 'pyspark', 'dask', 'pyarrow', 'pandas', 'fsspec', 'duckdb'} & set(sys.modules))\n"
        "try: bilstm.distributed.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "\nmodule 'bilstm.distributed' has no attribute 'nothing'\n", ran.stderr


# --- Files ------------------------------------------------------------------------------------------------------------


def make_lake(folder: Path, files: int = 7) -> list[str]:
    """Parquet in folders, a row a sequence; the names below it."""
    rows = new_table("step-label", "lists")
    names = [f"{'ab'[number % 2]}/part-{number // 2}.parquet" for number in range(files)]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows.slice(number, 4), folder / name)
    return names


def contents(folder: Path) -> dict[str, bytes]:
    """What the files of predictions hold."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob(".bilstm-*")) for line in path.read_text().splitlines()]


@pytest.fixture
def lake(folder: Path, tmp_path: Path) -> list[Any]:
    """The command for a lake, without --out."""
    make_lake(tmp_path / "lake")
    return ["predict", model_of("step-label", "lists", folder), f"{tmp_path}/lake/**/*.parquet"]


def test_a_lake_keeps_its_folders(lake: list[Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = run(*lake, "--out", out).stdout
    assert said.startswith(f"{out}: 7 files, 28 sequences of ")
    names = make_lake(tmp_path / "again")
    assert sorted(contents(out)) == sorted(names)
    for name in names:
        expected = Predictor(lake[1])(pq.read_table(tmp_path / "lake" / name))
        check_same(pq.read_table(out / name), expected)
    assert [entry["file"] for entry in entries(out)] == sorted(names)
    for entry in entries(out):
        source, written_to = tmp_path / "lake" / entry["file"], out / entry["file"]
        assert (entry["input"], entry["input_sha256"]) == (str(source), digest(source))
        assert (entry["sha256"], entry["model_sha256"]) == (digest(written_to), digest(lake[1]))
    one = tmp_path / "one"
    run(*lake[:2], tmp_path / "lake/a", f"{tmp_path}/lake/b/*-[01].parquet", "--out", one, status=2)  # of one name
    run(*lake[:2], tmp_path / "lake/a", f"{tmp_path}/lake/*/*-1.parquet", "--out", one, status=2)  # one is named twice
    run(*lake[:2], f"{tmp_path}/lake/*/*-1.parquet", tmp_path / "lake/a/part-0.parquet", "--out", one)
    assert sorted(contents(one)) == ["a/part-1.parquet", "b/part-1.parquet", "part-0.parquet"]


def test_shards_are_one_answer(lake: list[Any], tmp_path: Path) -> None:
    """However many there are, in whichever order, ended and begun again with another number of them."""
    run(*lake, "--out", tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    for count, order in ((2, [2, 1]), (9, [5, 9, 1, 2, 8, 3, 7, 6, 4])):
        out = tmp_path / f"out{count}"
        lengths = []
        for number in order:
            run(*lake, "--out", out, "--shard", f"{number}/{count}")
            lengths.append(len(contents(out)))
        assert contents(out) == expected
        sizes = np.diff([0, *lengths])
        assert max(sizes) - min(sizes) <= 1
        assert len(list(out.glob(".bilstm-finished-*"))) == min(count, 7)
        assert sorted(entry["file"] for entry in entries(out)) == sorted(expected)
        before = {name: (out / name).stat().st_mtime_ns for name in expected}
        assert run(*lake, "--out", out, "--shard", "1/1").stdout == f"{out}: 0 files; 7 files were finished before\n"
        assert run(*lake, "--out", out, "--resume").stdout == f"{out}: 0 files; 7 files were finished before\n"
        assert {name: (out / name).stat().st_mtime_ns for name in expected} == before
    (out / "a/part-0.parquet").unlink()
    said = run(*lake, "--out", out, "--shard", "1/4").stdout
    assert said.startswith(f"{out}: 1 file, 4 sequences of ")
    assert said.endswith("; 1 file was finished before\n")
    assert contents(out) == expected


def test_verification(lake: list[Any], tmp_path: Path) -> None:
    out, table = tmp_path / "out", tmp_path / "lake/a/part-1.parquet"
    assert "for 7 files of 7: " in run(*lake, "--out", out, "--verify", status=2).stderr
    assert not out.exists()
    run(*lake, "--out", out, "--shard", "1/2")
    run(*lake, "--out", out, "--shard", "1/2", "--verify")
    missing = run(*lake, "--out", out, "--verify", status=2).stderr
    assert "has no finished predictions by this model and with these options for 3 files of 7: " in missing
    assert f"{tmp_path}/lake/a/part-1.parquet, {tmp_path}/lake/a/part-3.parquet" in missing
    run(*lake, "--out", out, "--resume")
    before = contents(out), entries(out)
    for number, compared in (((), 7), ((3,), 3), ((1,), 1)):
        said = run(*lake, "--out", out, "--verify", *number).stdout
        assert said == f"{out}: {compared} file{'s' * (compared > 1)} of 7 predicted again: the same, byte for byte\n"
    assert (contents(out), entries(out)) == before
    assert "for 7 files of 7" in run(*lake, "--out", out, "--verify", "--top", "2", status=2).stderr

    def wrong(*options: Any) -> str:
        printed = run(*lake, "--out", out, "--verify", *options, status=2).stderr
        assert run(*lake, "--out", out, "--verify", *options, status=2).stderr == printed  # the same sample
        return printed

    whole, times = table.read_bytes(), table.stat()
    pq.write_table(new_table("step-label", "lists").slice(0, 3), table)
    assert f"1 file of 7 is wrong: {out}/a/part-1.parquet was made before {table} was changed" in wrong()
    table.write_bytes(whole)
    # A file whose bytes were changed while its size and time were not, and a manifest that says what is not so.
    target = out / "b/part-2.parquet"
    content, times = target.read_bytes(), target.stat()
    target.write_bytes(content[:-1] + b"?")
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert f"{target} was changed since it was written" in wrong()
    manifests = {path: path.read_text() for path in out.glob(".bilstm-*")}
    for path, text in manifests.items():
        path.write_text(text.replace(_entry(text, "b/part-2"), digest(target)))
    assert f"{target} is not what is predicted now\n" in wrong()
    for path, text in manifests.items():
        changed = text.replace(_entry(text, "b/part-2"), digest(target)).replace('"duckdb": "', '"duckdb": "0.')
        path.write_text(changed)
    assert "is not what is predicted now, which DuckDB 0." in wrong()


def _entry(text: str, name: str) -> str:
    """The digest that a manifest has for a file; any text if it has none."""
    found = [json.loads(line)["sha256"] for line in text.splitlines() if name in json.loads(line)["file"]]
    return found[0] if found else "nothing"


def test_lakes_of_long_tables(folder: Path, tmp_path: Path) -> None:
    model = model_of("sequence-label", "long", folder)
    for part in ("x", "y"):
        (tmp_path / "lake" / part).mkdir(parents=True)
        write(long_table("sequence-label", 5, seed=2).drop(columns="state"), tmp_path / f"lake/{part}/0.csv")
    for shard in ("1/2", "2/2"):
        run("predict", model, f"{tmp_path}/lake/*/*.csv", "--out", tmp_path / "out", "--shard", shard)
    assert (tmp_path / "out/x/0.csv").read_text() == (tmp_path / "out/y/0.csv").read_text()
    assert (tmp_path / "out/x/0.csv").read_text().startswith("id,predicted,probability\n")


@pytest.mark.parametrize(
    ("kind", "layout", "suffix"), [case for case in CASES if case.values[2] in (".csv", ".parquet")]
)
def test_files_without_a_row(kind: str, layout: str, suffix: str, folder: Path, tmp_path: Path) -> None:
    """They give files without a row, by any shard, and may be verified; a table alone needs rows."""
    model, lake = model_of(kind, layout, folder), lake_with_an_empty_file(new_table(kind, layout), tmp_path, suffix)
    out, more = tmp_path / "out", ["--probabilities"] * (not kind.endswith("quantity"))
    for shard in ("1/2", "2/2"):
        run("predict", model, lake, "--out", out, "--shard", shard, *more)
    run("predict", model, lake, "--out", out, "--verify", 2, *more)
    with open(out / FINISHED, "ab") as manifest:
        for number in (1, 2):
            manifest.write((out / f"{FINISHED}-{number}-of-2").read_bytes())
    check_empty(out, suffix)
    alone = run("predict", model, lake / f"none{suffix}", "--out", tmp_path / f"none{suffix}", status=2).output
    assert alone == f"bilstm: {lake / 'none'}{suffix} is empty: it has no row\n"


def test_a_file_without_a_row_or_a_feature(names: Path, tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "none.csv").write_text("id,words\n")
    refused = run("predict", names, tmp_path / "lake", "--out", tmp_path / "out", status=2).output
    assert "none.csv has no column 'word' (a feature of the model)" in refused
    assert not list((tmp_path / "out").glob("*"))


def test_what_shards_must_not_do(lake: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "lake/a/part-0.parquet"
    for arguments, message in (
        ([*lake, "--out", tmp_path / "out", "--shard", "0/4"], "'0/4' is not one of the shards 1/4 to 4/4"),
        ([*lake, "--out", tmp_path / "out", "--shard", "5/4"], "'5/4' is not one of the shards"),
        ([*lake, "--out", tmp_path / "out", "--shard", "half"], "'half' is not a shard such as 2/8"),
        ([*lake[:2], file, "--out", tmp_path / "o.csv", "--shard", "1/2"], "--shard divides files among processes: it"),
        ([*lake[:2], file, "--out", tmp_path / "o.csv", "--verify"], "--verify compares finished files: it needs a"),
        ([*lake, "--out", tmp_path / "out", "--verify", "2", "--resume"], "cannot be combined with --resume"),
        ([*lake, "--out", tmp_path / "out", "--verify", "2", "--force"], "cannot be combined with --force"),
        ([*lake, "--out", tmp_path / "lake/out"], "means files there, too; give a folder outside of it"),
        ([*lake, "--out", tmp_path / "lake"], "means files there, too; give a folder outside of it"),
    ):
        assert message in run(*arguments, status=2).stderr
    assert not (tmp_path / "out").exists()
    file.write_bytes(b"no Parquet")
    said = run(*lake, "--out", tmp_path / "out", "--shard", "2/2").stdout
    assert said.startswith(f"{tmp_path / 'out'}: 3 files, ")
    said = run(*lake, "--out", tmp_path / "out", "--shard", "1/1", status=2).stderr
    assert "a/part-0.parquet is not a Parquet file" in said
    assert said.endswith("holds 3 finished files, and the same command continues\n")


# --- Slow: what is killed, and other programs' workers ----------------------------------------------------------------


def in_a_process(program: str, *arguments: Any, timeout: int = 900) -> str:
    """What a program prints. Spark and others leave threads, settings and warnings in their process."""
    words = [sys.executable, "-c", program, *map(str, arguments)]
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(Path(__file__).parents[1])}
    ran = subprocess.run(words, capture_output=True, text=True, timeout=timeout, env=environment)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_shards_that_are_killed_at_random_moments(lake: list[Any], tmp_path: Path) -> None:
    """Two processes, killed twenty times in all, and started again."""
    rows = new_table("step-label", "lists")
    for path in (tmp_path / "lake").rglob("*.parquet"):
        pq.write_table(pa.concat_tables([rows] * 2000), path)
    run(*lake, "--out", tmp_path / "whole")
    whole, killed, out = contents(tmp_path / "whole"), 0, tmp_path / "out"
    while killed < 20:
        if len(contents(out)) == len(whole):  # all is done: again, from the beginning
            assert contents(out) == whole
            for path in out.rglob("*.parquet"):
                path.unlink()
        command = [sys.executable, "-m", "bilstm", *map(str, lake), "--out", str(out), "--quiet"]
        running = [subprocess.Popen([*command, "--shard", f"{each}/2"]) for each in (1, 2)]
        time.sleep(random.uniform(0.3, 3))
        for each in running:
            killed += each.poll() is None
            each.kill()
            each.wait()
        partial = [path for path in out.rglob("*.parquet") if path.read_bytes() != whole[_below(path, out)]]
        assert partial == []  # each is whole, or not there
    for each in ("1/2", "2/2"):
        run(*lake, "--out", out, "--shard", each)
    assert contents(out) == whole
    left = [path.name for path in out.rglob(".*") if not path.name.startswith(FINISHED)]
    assert left == []
    assert "7 files of 7 predicted again" in run(*lake, "--out", out, "--verify").stdout


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


@pytest.mark.slow
def test_a_lake_by_ray_and_by_shards_that_are_killed(tmp_path: Path) -> None:
    """The benchmark of fifty million rows, with fewer. Of fewer still, Ray writes all at the end: none is killed."""
    pytest.importorskip("ray")
    program = "from benchmarks.distributed.lake import measure; from pathlib import Path; import sys\n"
    program += "print(measure(Path(sys.argv[1]), 6_000_000, 24))"
    said = in_a_process(program, tmp_path)
    assert "killed 1\n" in said
    assert "6,000,000 rows of list-Parquet in 24 files" in said


SPARK = """
import sys
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from bilstm.distributed import Predictor

model, table, out = sys.argv[1:]
spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
spark.conf.set("spark.sql.shuffle.partitions", "3")
spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "7")
rows = spark.read.parquet(table)
predictor = Predictor(model, threads=1)
schema = from_arrow_schema(predictor.schema(to_arrow_schema(rows.schema)))
rows.groupBy("id").applyInArrow(predictor, schema).write.parquet(f"{out}/groups")
rows.repartition("id").sortWithinPartitions("id").mapInArrow(predictor, schema).write.parquet(f"{out}/partitions")
spark.stop()
"""
DASK = """
import sys
import dask.dataframe
import pyarrow.parquet
from bilstm.distributed import Predictor

if __name__ == "__main__":
    model, table, out = sys.argv[1:]
    predictor = Predictor(model, threads=1)
    frames = dask.dataframe.read_parquet(table).set_index("id", npartitions=3)
    frames = frames.map_partitions(predictor, meta=predictor(frames.head(1)))
    for scheduler in ("threads", "processes"):
        frames.compute(scheduler=scheduler).reset_index().to_parquet(f"{out}/{scheduler}", index=False)
"""
RAY = """
import sys
import ray
from bilstm.distributed import Predictor

model, table, out = sys.argv[1:]
ray.init(num_cpus=2, include_dashboard=False)
groups = ray.data.read_parquet(table).groupby("id")
groups.map_groups(Predictor(model, threads=1), batch_format="pyarrow").write_parquet(f"{out}/groups")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("package", "program"), [("pyspark", SPARK), ("dask", DASK), ("ray", RAY)])
def test_long_tables_elsewhere(package: str, program: str, folder: Path, tmp_path: Path) -> None:
    """Their sequences are brought together by the system's own means."""
    pytest.importorskip(package)
    model = model_of("step-label", "long", folder)
    table = arrow(long_table("step-label", 40, seed=1))
    expected = written(model, table, tmp_path).to_pylist()
    (tmp_path / "found").mkdir()
    in_a_process(program, model, tmp_path / "new.parquet", tmp_path / "found")
    found = sorted((tmp_path / "found").iterdir())
    assert found
    for each in found:
        rows = pq.read_table(each).select([*table.column_names, "predicted", "probability"]).to_pylist()
        assert sorted(map(repr, rows)) == sorted(map(repr, expected)), each.name


@pytest.mark.slow
def test_ray_is_refused_all_cpus(names: Path) -> None:
    pytest.importorskip("ray")
    program = "import sys, ray; ray.init(num_cpus=2, include_dashboard=False)\n"
    program += "from bilstm.distributed.ray import predict\n"
    program += "try: predict(sys.argv[1], 'lake', workers=2)\nexcept ValueError as error: print(error)"
    assert "2 workers with 1 CPUs each leave none of the cluster's 2 to read data with" in in_a_process(program, names)
