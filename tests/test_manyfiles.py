"""Several files as one table: which files there are, what they have in common, and each of them as a sequence."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import bilstm
from bilstm import SequenceTagger
from bilstm.cli import commands
from bilstm.data.filetable import FileTable
from bilstm.data.paths import table_files
from bilstm.data.readingoptions import PLAIN, ReadingOptions
from bilstm.data.sources import open_table
from bilstm.errors import UserError
from bilstm.model.manifest import FINISHED

SMALL: dict[str, Any] = {"units": 2, "layers": 1, "epochs": 1, "baseline": False, "verbose": False}
ARGUMENTS = ["--units", "2", "--layers", "1", "--epochs", "1", "--no-baseline"]


def recording(number: int, steps: int = 4) -> pd.DataFrame:
    x = np.random.default_rng(number).normal(size=steps).round(3)
    return pd.DataFrame({"t": np.arange(steps) / 10, "x": x, "y": np.where(x > 0, "up", "down")})


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".tsv": lambda frame, path: frame.to_csv(path, index=False, sep="\t"),
    ".csv.gz": lambda frame, path: frame.to_csv(path, index=False),
    ".parquet": lambda frame, path: frame.to_parquet(path, index=False),
    ".ndjson": lambda frame, path: frame.to_json(path, orient="records", lines=True),
}


def write(folder: Path, count: int = 12, suffix: str = ".csv") -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"walk{number}{suffix}" for number in range(1, count + 1)]
    for number, path in enumerate(paths):
        WRITERS[suffix](recording(number, 3 + number % 3), path)
    return paths


def opened(data: Any, **options: Any) -> FileTable:
    table = open_table(data, **options)
    assert isinstance(table, FileTable)
    return table


def run(*arguments: Any, error: bool = False) -> str:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert result.exit_code == (2 if error else 0), result.output + repr(result.exception)
    return str(result.stderr if error else result.stdout)


# --- Which files ------------------------------------------------------------------------------------------------------


def test_patterns_folders_and_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["a10.csv", "a9.csv", "b1.tsv", ".hidden.csv", "notes.md", "sub/a1.csv", "odd[1].csv"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x\n1\n")

    def found(data: Any, **options: Any) -> tuple[list[str], bool]:
        files, several = table_files(data, **options)
        return [file.as_posix() for file in files], several

    assert found("a9.csv") == (["a9.csv"], False)
    assert found("odd[1].csv") == (["odd[1].csv"], False)  # a file, though it looks like a pattern
    assert found("a*.csv") == (["a9.csv", "a10.csv"], True)
    assert found("a[0-9].csv") == (["a9.csv"], True)
    assert found("**/a*.csv") == (["a9.csv", "a10.csv", "sub/a1.csv"], True)
    assert found(".") == (["a9.csv", "a10.csv", "b1.tsv", "odd[1].csv"], True)
    assert found(".", any_name=True)[0] == ["a9.csv", "a10.csv", "b1.tsv", "notes.md", "odd[1].csv"]
    assert found(["b1.tsv", "a*.csv", Path("sub")]) == (["b1.tsv", "a9.csv", "a10.csv", "sub/a1.csv"], True)
    for data, message in (
        ("c*.csv", r"no file matches c\*\.csv"),
        (["a9.csv", "a*.csv"], r"a9\.csv is named twice"),
        ("empty", r"the folder empty has no file whose name ends in \.csv, "),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=message):
            table_files(data)


# --- One table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", WRITERS)
def test_each_file_is_a_sequence(suffix: str, tmp_path: Path) -> None:
    paths = write(tmp_path / "walks", suffix=suffix)
    frames = [recording(number, 3 + number % 3) for number in range(len(paths))]
    whole = pd.concat(frames, keys=[path.name for path in paths], names=["file"]).reset_index("file")
    WRITERS[".csv"](whole, tmp_path / "whole.csv")
    expected = open_table(tmp_path / "whole.csv", sequence="file").sequences("file")
    for data in (f"{tmp_path}/walks/*{suffix}", tmp_path / "walks", paths, [str(path) for path in paths]):
        table = opened(data)
        assert (table.names, table.own_sequence, table.rows) == (["t", "x", "y", "file"], "file", len(whole))
        assert table.sequences(None).offsets.tolist() == expected.offsets.tolist()
        assert table.texts("file").tolist() == whole["file"].tolist()
        assert table.texts("y").tolist() == whole["y"].tolist()
        np.testing.assert_array_equal(table.numbers("x"), whole["x"])
        what = "row 2" if suffix == ".parquet" else "line 2" if suffix == ".ndjson" else "line 3"
        assert table.place(4) == f"{paths[1]}, {what}"
    model, like = (
        bilstm.train(data, label="y", sequence=name, **SMALL) for data, name in ((paths, None), (whole, "file"))
    )
    model.save(tmp_path / "model")
    like.save(tmp_path / "like")
    assert (tmp_path / "model").read_bytes() == (tmp_path / "like").read_bytes()
    (alone,) = (tmp_path / "walks").glob(f"walk12{suffix}")
    assert model.predict(alone).tolist() == model.predict(paths)[-len(frames[-1]) :].tolist()
    assert model.predict(frames[-1]).tolist() == model.predict(alone).tolist()
    assert model.predict(frames).tolist() == model.predict(paths).tolist()
    assert model.predict(whole).tolist() == model.predict(str(tmp_path / "walks")).tolist()


def test_with_a_sequence_column_the_files_are_one_table(tmp_path: Path) -> None:
    tables = [recording(number).assign(id=f"s{number}") for number in range(6)]
    for number, table in enumerate(tables):
        table.to_csv(tmp_path / f"{number}.csv", index=False)
    table = opened(tmp_path, sequence="id")
    assert (table.own_sequence, len(table.sequences("id"))) == (None, 6)
    assert open_table(tmp_path).names[-1] == "file"
    tables[1]["id"] = "s0"
    tables[1].to_csv(tmp_path / "1.csv", index=False)
    with pytest.raises(UserError, match=r"sequence 's0' is in .*0\.csv and in .*1\.csv: give each sequence its own"):
        opened(tmp_path, sequence="id").sequences("id")


def test_files_that_know_their_sequences(tmp_path: Path) -> None:
    for number in range(3):
        lists = {"x": [1.5, number], "y": ["a", "b"]}
        (tmp_path / f"{number}.ndjson").write_text(f"{json.dumps(lists)}\n" * 2)
        (tmp_path / f"{number}.conll").write_text("a\tx\nb\ty\n\nb\ty\n")
        (tmp_path / f"{number}.csv").write_text("text,y\nit is,a\nhow nice,b\n")
    table = opened(f"{tmp_path}/*.ndjson")
    assert (table.lists, table.own_sequence, len(table.sequences(None))) == (["x", "y"], None, 6)
    assert table.place(9) == f"{tmp_path}/2.ndjson, line 1, step 2"
    words = opened(f"{tmp_path}/*.conll")
    assert words.texts("sequence").tolist() == [
        f"{number}.conll:{sequence}" for number in range(3) for sequence in (1, 1, 2)
    ]
    assert words.place(5) == f"{tmp_path}/1.conll, line 4"
    texts = bilstm.train(sorted(tmp_path.glob("*.csv")), text="text", label="y", **SMALL)
    assert texts.training["sequences"] == 6


def test_an_estimator_takes_patterns(tmp_path: Path) -> None:
    paths = write(tmp_path / "walks")
    options: dict[str, Any] = {"units": 2, "layers": 1, "epochs": 1, "random_state": 0}
    pattern = SequenceTagger(**options).fit(f"{tmp_path}/walks/*.csv", "y")
    listed = SequenceTagger(**options).fit(paths, "y")
    assert pattern.predict(tmp_path / "walks").tolist() == listed.predict(paths).tolist()
    assert pattern.score(f"{tmp_path}/walks/*.csv", "y") == listed.score(paths, "y")


def test_a_counter_in_each_file_is_no_feature(tmp_path: Path) -> None:
    for number in range(3):
        recording(number, 10).reset_index(names="step").to_csv(tmp_path / f"{number}.csv", index=False)
    table = opened(tmp_path)
    assert [name for name in table.names if table.counts_rows(name)] == ["step"]


def test_numbers_of_different_types_in_parquet(tmp_path: Path) -> None:
    frame = recording(1)
    whole = frame.assign(x=np.arange(4), note=None)
    whole.to_parquet(tmp_path / "1.parquet")
    frame.assign(note="n").to_parquet(tmp_path / "2.parquet")
    frame.astype({"x": np.float32}).assign(note="n").to_parquet(tmp_path / "3.parquet")
    table = opened(tmp_path)
    assert (table.kinds["x"], table.kinds["note"]) == ("number", "text")
    np.testing.assert_array_equal(table.numbers("x"), [0, 1, 2, 3, *frame["x"], *frame["x"].astype(np.float32)])
    assert table.texts("note").tolist() == [None] * 4 + ["n"] * 8
    frame.assign(x="word", note="n").to_parquet(tmp_path / "4.parquet")
    message = r"column 'x' of .*4\.parquet has the type VARCHAR, but that of .*1\.parquet BIGINT"
    with pytest.raises(UserError, match=message):
        opened(tmp_path)


def test_what_is_guessed_holds_for_all_files(tmp_path: Path) -> None:
    text = "made by a device\nt;x;y\n0;1.5;a\n1;2.5;b\n"
    for number in range(3):
        (tmp_path / f"{number}.csv").write_text(text)
    table = opened(tmp_path)
    assert [reading.typed for _, reading in table.guesses()] == ["--delimiter ';' --skip-rows 1"]
    assert table.place(3) == f"{tmp_path}/1.csv, line 4"
    said = opened(tmp_path, reading=ReadingOptions(delimiter=";", skip_rows=1))
    assert (said.guesses(), said.texts("y").tolist()) == ([], table.texts("y").tolist())


def test_quotes_of_files_with_tabs(tmp_path: Path) -> None:
    (tmp_path / "1.tsv").write_text("x\ty\n1\ta\n")
    (tmp_path / "2.tsv").write_text('x\ty\n"\ta\n1\t"\n"\tc\n')
    assert opened(tmp_path).texts("x").tolist() == ["1", '"', "1", '"']
    (tmp_path / "3.tsv").write_text('"x"\t"y"\n"1\t2"\t"a"\n')
    with pytest.raises(UserError, match=r"quotes enclose the cells of .*3\.tsv, but are characters in .*2\.tsv"):
        opened(tmp_path)


# --- Files that differ ------------------------------------------------------------------------------------------------

TABLE = "t,x,y\n0,1.5,a\n1,2.5,b\n"
ODD: dict[str, tuple[str, bytes, str]] = {
    "a column missing": ("d.csv", b"t,y\n0,a\n", r"d\.csv has no column 'x', which .*a\.csv has: the files of one"),
    "a column more": ("d.csv", b"t,x,y,z\n0,1,a,2\n", r"d\.csv has 'z', which .*a\.csv has not"),
    "another name": ("d.csv", b"t,X,y\n0,1,a\n", r"d\.csv has no column 'x', which .*a\.csv has and has 'X', which"),
    "the first": ("0.csv", b"t,y\n0,a\n", r"0\.csv has no column 'x', which .*a\.csv has"),
    "another delimiter": ("d.csv", b"t;x;y\n0;1;a\n", r"d\.csv has no columns 't', 'x', 'y', .*is ',' what separates"),
    "a preamble": ("d.csv", b"device\nt,x,y\n0,1,a\n", r"d\.csv has no columns 't', 'x', 'y'"),
    "short rows": ("d.csv", b"t,x,y\n0,1\n", r"d\.csv, line 2: 2 cells, but the header names 3 columns"),
    "an open quote": ("d.csv", b't,x,y\n0,1,"a\n', r"d\.csv, line 2: a quoted cell is not closed"),
    "no row": ("d.csv", b"t,x,y\n", r"d\.csv is empty: it has no row"),
    "nothing": ("d.csv", b"", r"d\.csv is empty"),
    "no text": ("d.csv", b"t,x,y\n0,1,\xff\n", r"d\.csv, line 2: not UTF-8 text"),
    "another encoding": ("d.csv", TABLE.encode("utf-16"), r"d\.csv is utf-16 text, but .*a\.csv is utf-8 text"),
    "another format": (
        "d.ndjson",
        b'{"t": 1, "x": 2, "y": "a"}\n',
        r"d\.ndjson would be read as ndjson, but .*a\.csv as",
    ),
    "notes": (
        "0.txt",
        b"some notes\nabout it\n",
        r"0\.txt would be read as conll, but .*a\.csv as csv: the files of one",
    ),
    "damaged": ("d.csv.gz", gzip.compress(TABLE.encode() * 9)[:30], r"d\.csv\.gz is damaged"),
    "no number": ("d.csv", b"t,x,y\n0,1,a\n1,oops,b\n", r"d\.csv, line 3: 'oops' in column 'x' is not a number"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_file_that_differs_is_named(name: str, tmp_path: Path) -> None:
    for usual in ("a.csv", "b.csv", "c.csv"):
        (tmp_path / usual).write_text(TABLE)
    file, content, message = ODD[name]
    (tmp_path / file).write_bytes(content)
    printed = run("train", tmp_path, "--label", "y", *ARGUMENTS, "--out", tmp_path / "model", error=True)
    assert re.search(message, printed), printed
    assert printed.count("\n") == 1
    (tmp_path / file).unlink()
    (tmp_path / file).symlink_to("nowhere")
    for data in (tmp_path, [tmp_path / "a.csv", tmp_path / file], [str(tmp_path / "a.csv"), str(tmp_path / file)]):
        with pytest.raises(UserError, match=f"there is no file .*{re.escape(file)}"):
            open_table(data)


@pytest.mark.parametrize(
    ("suffix", "texts", "message"),
    [
        (".ndjson", ['{"x": 1}\n', '{"z": 1}\n'], r"2\.ndjson has no column 'x', which .*1\.ndjson has and has 'z'"),
        (".ndjson", ['{"x": 1}\n', '{"x": 1}\n\n{"x": }\n'], r"2\.ndjson, line 3: not one JSON object"),
        (".ndjson", ['{"x": 1}\n', "\n\n"], r"2\.ndjson is empty: it has no row"),
        (".conll", ["a x\nb y\n", "a\nb\n"], r"2\.conll has no column 'label', which .*1\.conll has"),
        (".conll", ["a x\nb y\n", "a\tx\nb\ty\n"], r"2\.conll has columns separated by tabs, but .* by blanks"),
        (".conll", ["a x\nb y\n", "word tag\na x\nb y\n"], r"2\.conll has a header, but .*1\.conll has none"),
        (".tsv", ["x\ty\n1\ta\n", "a\tb\n\nc\td\n"], r"2\.tsv would be read as conll, but .*1\.tsv as csv"),
    ],
)
def test_other_formats(suffix: str, texts: list[str], message: str, tmp_path: Path) -> None:
    for number, text in enumerate(texts, 1):
        (tmp_path / f"{number}{suffix}").write_text(text)
    with pytest.raises(UserError, match=message):
        open_table(tmp_path)


def test_many_files_that_differ(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number}.csv").write_text("x,y\n1,a\n" if number < 7 else "x\n1\n")
    message = r"7\.csv has no column 'y', .*; .*8\.csv .*; .*9\.csv .*; 2 other files differ, too: the files"
    with pytest.raises(UserError, match=message):
        open_table(tmp_path)


def test_columns_in_another_order(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("x,y\n1,a\n")
    (tmp_path / "2.csv").write_text("y,x\nb,2\n")
    table = opened(tmp_path)
    assert (table.texts("x").tolist(), table.texts("y").tolist()) == (["1", "2"], ["a", "b"])


def test_names(tmp_path: Path) -> None:
    for folder in ("p", "q"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "walk.csv").write_text(TABLE)
    pattern = f"{tmp_path}/*/walk.csv"
    with pytest.raises(
        UserError, match=r"p/walk\.csv and .*q/walk\.csv have the same name, after which their sequences"
    ):
        open_table(pattern)
    assert len(open_table(pattern, sequence="y").names) == 3
    (tmp_path / "r.csv").write_text("file,x\na,1\n")
    with pytest.raises(
        UserError, match=r"has a column 'file', which would have the name of each file: name the column"
    ):
        open_table([tmp_path / "r.csv"])
    assert len(open_table([tmp_path / "r.csv"], sequence="file").sequences("file")) == 1
    (tmp_path / "s.csv").write_text("File,x\na,1\n")
    with pytest.raises(UserError, match=r"has a column 'File', which would have the name of each file"):
        open_table([tmp_path / "s.csv"])
    with pytest.raises(UserError, match=r"s\.csv has no column 'file' .* Did you mean 'File'"):
        open_table(tmp_path / "s.csv", sequence="file").check_sequence("file")
    odd = tmp_path / os.fsdecode(b"\xff.csv")
    odd.write_text(TABLE)
    assert opened([odd]).cell("file", 0) == "\\udcff.csv"


# --- The command line -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings, labels and models."""
    folder = tmp_path_factory.mktemp("walks")
    paths = write(folder / "walks")
    labels = "".join(f"{path.name},{'ab'[number % 2]}\n" for number, path in enumerate(paths))
    (folder / "labels.csv").write_text(f"file,who\n{labels}")
    small = [*ARGUMENTS, "--quiet"]
    run("train", f"{folder}/walks/*.csv", "--label", "y", *small, "--out", folder / "model")
    run("train", folder / "walks", "--labels", folder / "labels.csv", "--drop", "y", *small, "--out", folder / "whole")
    return folder


def test_train_and_evaluate(walks: Path, tmp_path: Path) -> None:
    pattern = f"{walks}/walks/*.csv"
    printed = run("train", pattern, "--label", "y", *ARGUMENTS, "--out", tmp_path / "model")
    assert "walk1.csv and 11 other files: 48 rows; each file is a sequence, named in column 'file'" in printed
    assert (tmp_path / "model").read_bytes() == (walks / "model").read_bytes()
    scores = json.loads(run("evaluate", tmp_path / "model", pattern, "--json"))
    assert (scores["sequences"], scores["table"]) == (12, pattern)
    assert json.loads(run("evaluate", tmp_path / "model", walks / "walks", "--json"))["accuracy"] == scores["accuracy"]
    run("evaluate", tmp_path / "model", pattern, "--report", tmp_path / "report.html")
    assert "walk1.csv" in (tmp_path / "report.html").read_text()
    by_sequence = run("evaluate", walks / "whole", pattern, "--labels", walks / "labels.csv", "--json")
    assert json.loads(by_sequence)["labelled_sequences"] == 12
    (tmp_path / "other.csv").write_text("file,who\nwalk1,a\n")
    printed = run("evaluate", walks / "whole", pattern, "--labels", tmp_path / "other.csv", error=True)
    assert "in column 'file' of" in printed
    assert "the first are 'walk1' there and 'walk1.csv' here" in printed


def test_windows_of_several_recordings(tmp_path: Path) -> None:
    """A model of one long recording takes several, and windows are cut from several files."""
    for number in range(4):
        recording(number, 300).to_csv(tmp_path / f"{number}.csv", index=False)
    options = ["--label", "y", *ARGUMENTS, "--window", 20]
    for name, table in (("one", tmp_path / "0.csv"), ("four", f"{tmp_path}/?.csv")):
        run("train", table, *options, "--out", tmp_path / name)
        scores = json.loads(run("evaluate", tmp_path / name, f"{tmp_path}/?.csv", "--json"))
        assert (scores["sequences"], scores["steps"]) == (4, 1200)
        run("predict", tmp_path / name, f"{tmp_path}/?.csv", "--out", tmp_path / f"{name}.csv")
        assert (tmp_path / f"{name}.csv").read_text().startswith("file,t,x,y,predicted,probability\n0.csv,")
        (tmp_path / f"{name}.csv").unlink()
        assert run("predict", tmp_path / name, tmp_path / "0.csv", "--out", tmp_path / "out.ndjson")


def test_validation_and_test_sets_of_several_files(walks: Path, tmp_path: Path) -> None:
    first, second = (f"{walks}/walks/walk{part}.csv" for part in ("[1-6]", "[7-9]"))
    options = ["--label", "y", *ARGUMENTS]
    run("train", first, "--valid", second, *options, "--out", tmp_path / "pattern")
    files = [option for number in (7, 8, 9) for option in ("--valid", walks / f"walks/walk{number}.csv")]
    run("train", first, *files, *options, "--out", tmp_path / "files")
    assert (tmp_path / "pattern").read_bytes() == (tmp_path / "files").read_bytes()
    run("train", first, "--valid", walks / "walks/walk7.csv", *options, "--out", tmp_path / "one")  # is a sequence, too
    printed = run("train", first, "--valid", walks / "walks", *options, "--out", tmp_path / "twice", error=True)
    assert "TABLE and --valid are the same file, " in printed
    (tmp_path / "options.toml").write_text(f"valid = {json.dumps([str(path) for path in files[1::2]])}\n")
    configured = ["--config", tmp_path / "options.toml", "--out", tmp_path / "toml"]
    run("train", first, *options, *configured)
    assert (tmp_path / "toml").read_bytes() == (tmp_path / "files").read_bytes()
    compared = ["--units", 2, "--layers", 1, "--epochs", 1, "--seeds", 1, "--vary", "units=2,3", "--json"]
    found = json.loads(run("compare", first, "--test", second, "--label", "y", "--layers", 1, *compared[4:]))
    assert found["test"] == second


def test_inspect(walks: Path) -> None:
    printed = run("inspect", walks / "walks")
    assert "walk1.csv and 11 other files: 48 rows; each file is a sequence, named in column 'file'" in printed
    assert "12 sequences of 3 to 5 steps, 48 in all" in printed
    found = json.loads(run("inspect", walks / "walks/walk1.csv", walks / "walks/walk3.csv", "--json"))
    assert [Path(name).name for name in found["files"]] == ["walk1.csv", "walk3.csv"]
    assert "no file matches" in run("inspect", f"{walks}/*.txt", error=True)


def test_predictions_into_one_file(walks: Path, tmp_path: Path) -> None:
    pattern = f"{walks}/walks/*.csv"
    for name in ("all.csv", "all.ndjson", "all.parquet"):
        run("predict", walks / "model", pattern, "--out", tmp_path / name)
        table = opened(tmp_path / name, sequence="file")
        assert table.names == ["file", "t", "x", "y", "predicted", "probability"]
        assert len(table.sequences("file")) == 12
    run("predict", walks / "whole", pattern, "--out", tmp_path / "each.csv")
    assert (tmp_path / "each.csv").read_text().startswith("file,predicted,probability\nwalk1.csv,")
    run("predict", walks / "model", pattern, "--out", tmp_path / "runs.csv", "--events")
    assert (tmp_path / "runs.csv").read_text().startswith("sequence,start,end,label,confidence\nwalk1.csv,")
    run("predict", walks / "model", walks / "walks/walk7.csv", "--out", tmp_path / "one.csv")
    assert (tmp_path / "one.csv").read_text().startswith("t,x,y,predicted,probability\n")


@pytest.mark.parametrize("suffix", WRITERS)
def test_predictions_into_a_folder(suffix: str, walks: Path, tmp_path: Path) -> None:
    """Each file holds what the file of all does for it."""
    paths = write(tmp_path / "new", 4, suffix)
    printed = run("predict", walks / "model", tmp_path / "new", "--out", tmp_path / "out")
    assert printed == f"{tmp_path / 'out'}: 4 files, 4 sequences of 3 to 5 steps, 15 in all\n"
    run("predict", walks / "model", tmp_path / "new", "--out", tmp_path / "all.csv")
    expected = pd.read_csv(tmp_path / "all.csv")
    for path in paths:
        found = opened(tmp_path / "out" / path.name)
        rows = expected[expected["file"] == path.name]
        assert found.names == ["t", "x", "y", "predicted", "probability"]
        assert found.texts("predicted").tolist() == rows["predicted"].tolist()
        np.testing.assert_array_equal(found.numbers("probability"), rows["probability"])
    assert sorted(os.listdir(tmp_path / "out")) == sorted([FINISHED, *(path.name for path in paths)])


def test_folders_of_words(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / f"in/{number}.conll").write_text("a x\nb y\n\nb y\na x\n\n" * 4)
    run("train", tmp_path / "in", *ARGUMENTS, "--out", tmp_path / "model")
    run("predict", tmp_path / "model", tmp_path / "in", "--out", tmp_path / "out")
    assert re.match(r"a x [xy] [0-9.]+\nb y [xy] [0-9.]+\n\n", (tmp_path / "out/2.conll").read_text())
    printed = run("predict", tmp_path / "model", tmp_path / "in", "--out", tmp_path / "all.conll", error=True)
    assert "several files of words in columns are written to one for each (--out FOLDER)" in printed
    run("predict", tmp_path / "model", tmp_path / "in", "--out", tmp_path / "all.csv")
    assert "\n0.conll:2,b,y," in (tmp_path / "all.csv").read_text()
    run("predict", tmp_path / "model", tmp_path / "in", "--out", tmp_path / "runs", "--events")
    assert sorted(os.listdir(tmp_path / "runs"))[1:] == ["0.conll.csv", "1.conll.csv", "2.conll.csv"]


def predicted(walks: Path, out: Path, *options: Any, table: Any = None, model: str = "model") -> str:
    table = walks / "walks" if table is None else table
    return run("predict", walks / model, table, "--out", out, *options).partition(": ")[2].strip()


def test_finished_files_are_passed_over(walks: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "new", tmp_path / "out"
    write(table, 5)
    all_of_them = "5 files, 5 sequences of 3 to 5 steps, 19 in all"

    def again(*options: Any, **given: Any) -> str:
        return predicted(walks, out, "--resume", *options, **{"table": table, **given})

    assert again() == all_of_them  # nothing is there
    assert again() == "0 files; 5 files were finished before"
    assert again(table=f"{table}/walk[12].csv") == "0 files; 2 files were finished before"
    whole = (out / "walk2.csv").read_bytes()
    one = "1 file, 1 sequence of 4 steps, 4 in all; 4 files were finished before"
    (out / "walk2.csv").unlink()
    assert again() == one
    (out / "walk2.csv").write_bytes(whole[:-9])  # not whole
    assert again() == one
    assert (out / "walk2.csv").read_bytes() == whole
    with open(table / "walk2.csv", "a") as file:  # another input
        file.write("0.9,1,up\n")
    assert again() == "1 file, 1 sequence of 5 steps, 5 in all; 4 files were finished before"
    assert again("--probabilities").startswith("5 files")  # other options
    assert again("--probabilities") == "0 files; 5 files were finished before"
    assert again("--precision", "bfloat16").startswith("5 files")
    run("train", table, "--label", "y", *ARGUMENTS, "--seed", 9, "--out", tmp_path / "other")
    assert predicted(tmp_path, out, "--resume", table=table, model="other").startswith("5 files")  # another model
    record = (out / FINISHED).read_bytes()
    (out / FINISHED).write_bytes(record[:-9])  # cut off
    assert "1 file," in predicted(tmp_path, out, "--resume", table=table, model="other")
    assert predicted(tmp_path, out, "--resume", table=table, model="other").startswith("0 files")
    (out / FINISHED).write_text("[1]\nnull\n{}\nx\n")
    assert predicted(tmp_path, out, "--resume", table=table, model="other").startswith("5 files")
    assert predicted(tmp_path, out, table=table, model="other").startswith("5 files")


def test_what_was_finished_before_a_mistake(walks: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "new", tmp_path / "out"
    write(table, 5)
    good = (table / "walk4.csv").read_bytes()
    (table / "walk4.csv").write_text("t,x,y\n0,oops,up\n")
    printed = run("predict", walks / "model", table, "--out", out, error=True)
    assert f"{table}/walk4.csv, line 2: 'oops' in column 'x' is not a number" in printed
    assert printed.endswith(f"; {out} holds 3 finished files, and --resume continues\n")
    (table / "walk4.csv").write_bytes(good)
    assert predicted(walks, out, "--resume", table=table).startswith("2 files, ")


def test_what_folders_must_not_do(walks: Path, tmp_path: Path) -> None:
    table, model = tmp_path / "new", walks / "model"
    write(table, 2)
    before = (table / "walk1.csv").read_bytes()
    for arguments, message in (
        (["--out", table], r"cannot write .*walk1\.csv: .*walk1\.csv is being read; give another folder"),
        (["--out", tmp_path / "no/out"], r"the folder .*no does not exist"),
        (["--out", table / "walk1.csv"], r"walk1\.csv: it is being read"),
        (["--out", tmp_path / "out.csv", "--resume"], r"--resume passes over files .* needs a folder as --out"),
    ):
        assert re.search(message, run("predict", model, table, *arguments, error=True))
    assert (table / "walk1.csv").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/walk2.csv").write_text("my,notes\n1,2\n")
    printed = run("predict", model, table, "--out", tmp_path / "mine", error=True)
    assert "mine/walk2.csv exists and is not a file of predictions" in printed
    assert sorted(os.listdir(tmp_path / "mine")) == ["walk2.csv"]
    run("predict", model, table, "--out", tmp_path / "mine", "--force")
    printed = run("predict", model, "-", table, "--out", tmp_path / "x", error=True)
    assert "- is the standard input, which cannot be combined with files" in printed
    (tmp_path / "same").mkdir()
    write(tmp_path / "same", 1)
    printed = run("predict", model, table, tmp_path / "same", "--out", tmp_path / "x", error=True)
    assert "have the same name, after which their predictions would be named" in printed
    run("predict", model, table / "walk1.csv", "--out", f"{tmp_path}/single/")
    assert "walk1.csv" in os.listdir(tmp_path / "single")


def test_a_folder_of_files_with_odd_names(walks: Path, tmp_path: Path) -> None:
    table = tmp_path / "new"
    table.mkdir()
    names: Sequence[str] = ("a.dat", "b", "[c].csv", os.fsdecode(b"\xff.csv"))
    for name in names:
        (table / name).write_text("t,x\n0,1.5\n")
    run("predict", walks / "model", table, "--format", "csv", "--out", tmp_path / "out")
    found = sorted(os.fsencode(name) for name in os.listdir(tmp_path / "out"))
    assert found == [FINISHED.encode(), b"[c].csv", b"a.dat.csv", b"b.csv", b"\xff.csv"]
    assert PLAIN.said == {}
