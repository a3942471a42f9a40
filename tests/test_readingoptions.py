"""How files are read can be said on the command line, in a file of options and in Python, and models remember it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import bilstm
from bilstm.cli import commands
from bilstm.cli.inputs import reading_options
from bilstm.cli.options import reading_flags
from bilstm.data.reading import read_table
from bilstm.data.readingoptions import ReadingOptions
from bilstm.errors import ModelFileError, UserError
from bilstm.model.lines import number
from bilstm.model.trained import TrainedModel
from bilstm.preview import inspect_table, preview

pytestmark = pytest.mark.fast

SMALL: dict[str, Any] = {"units": 3, "layers": 1, "epochs": 2, "baseline": False, "verbose": False}
ROLES = {"sequence": "id", "order": "t", "label": "y"}
PLAIN = "id,t,x,w,y\n" + "".join(
    f"{i // 6},{6 - i % 6},{i * 7 % 5 + 1000.5},{'uv'[i % 2]},{'ab'[i % 3 % 2]}\n" for i in range(60)
)
# The same table, as somebody has it.
ODD = "Export\n" + PLAIN.replace(",", ";").replace("1000.5", "-999").replace(".", ",").replace("100", "1 00")
READING: dict[str, Any] = {"delimiter": ";", "decimal": ",", "thousands": " ", "missing": ["-999"], "skip_rows": 1}
FLAGS = ["--delimiter", ";", "--decimal", ",", "--thousands", " ", "--missing", "-999", "--skip-rows", "1"]


def run(*arguments: Any, status: int = 0) -> str:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the table, `odd.csv`, the same as programs like it, `plain.csv`, and a model of either."""
    folder = tmp_path_factory.mktemp("reading")
    (folder / "odd.csv").write_text(ODD)
    (folder / "plain.csv").write_text(PLAIN.replace("1000.5", ""))
    bilstm.train(folder / "odd.csv", **ROLES, reading=READING, **SMALL).save(folder / "odd.model")
    bilstm.train(folder / "plain.csv", **ROLES, **SMALL).save(folder / "plain.model")
    return folder


def test_an_odd_file_is_learned_as_a_plain_one_is(folder: Path) -> None:
    odd, plain = (TrainedModel.load(folder / name) for name in ("odd.model", "plain.model"))
    for one, other in zip(odd.network.get_weights(), plain.network.get_weights(), strict=True):
        assert np.array_equal(one, other)
    assert odd.schema.reading == ReadingOptions(**READING)
    assert plain.schema.reading == ReadingOptions()


def test_a_model_reads_others_alike(folder: Path) -> None:
    odd, plain = (TrainedModel.load(folder / name) for name in ("odd.model", "plain.model"))
    assert odd.predict(folder / "odd.csv").tolist() == plain.predict(folder / "plain.csv").tolist()
    assert odd.evaluate(folder / "odd.csv")["accuracy"] == plain.evaluate(folder / "plain.csv")["accuracy"]
    as_plain = odd.adapted(reading=ReadingOptions(delimiter=",", decimal=".", skip_rows=0))
    assert as_plain.predict(folder / "plain.csv").tolist() == plain.predict(folder / "plain.csv").tolist()
    with pytest.raises(UserError, match="has no column 'id'"):
        odd.predict(folder / "plain.csv")


def test_missing_cells_are_missing_in_memory_too(folder: Path) -> None:
    import pandas

    odd = TrainedModel.load(folder / "odd.model")
    odd.warn = False
    frame = pandas.read_csv(folder / "plain.csv")
    expected = odd.predict(frame).tolist()
    assert odd.predict(frame.fillna(-999.0)).tolist() == expected
    assert odd.predict(frame.fillna(-999.0).to_dict("list")).tolist() == expected


def streamed(model: Path, lines: list[dict[str, Any]], *options: str) -> list[dict[str, Any]]:
    given = "".join(json.dumps(line) + "\n" for line in lines)
    result = CliRunner().invoke(commands, ["predict", str(model), "-", "--out", "-", *options], given)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_streams_are_read_alike(folder: Path) -> None:
    odd = TrainedModel.load(folder / "odd.model")
    table = odd.open(folder / "odd.csv")
    cells = {name: table.texts(name).tolist() for name in table.names}
    lines = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    expected = odd.predict(folder / "odd.csv").tolist()
    assert [line["predicted"] for line in streamed(folder / "odd.model", lines)] == expected
    typed = [
        line | {"x": -999 if line["x"] is None else float(line["x"].replace(" ", "").replace(",", "."))}
        for line in lines
    ]
    assert [line["predicted"] for line in streamed(folder / "odd.model", typed)] == expected
    wrong = [lines[0] | {"x": "1.5"}]
    given = "".join(json.dumps(line) + "\n" for line in wrong)
    result = CliRunner().invoke(commands, ["predict", str(folder / "odd.model"), "-", "--out", "-"], given)
    assert "line 1: '1.5' in column 'x' is not a number" in result.stderr


def test_streams_are_sorted_alike(tmp_path: Path) -> None:
    rows = [
        (i // 4, f"2024-06-0{2 - i % 4 // 2}", f"1{9 - i % 4}:00:00.00000000{i % 2}", i * 7 % 5, "ab"[i % 3 % 2])
        for i in range(40)
    ]
    header = ["id", "date", "time", "x", "y"]
    text = "".join(",".join(map(str, row)) + "\n" for row in [header, *rows])
    (tmp_path / "t.csv").write_text(text)
    bilstm.train(tmp_path / "t.csv", sequence="id", order="date,time", label="y", **SMALL).save(tmp_path / "model")
    lines = [dict(zip(header, row, strict=True)) for row in rows]
    expected = TrainedModel.load(tmp_path / "model").predict(tmp_path / "t.csv").tolist()
    assert [line["predicted"] for line in streamed(tmp_path / "model", lines)] == expected
    runs = streamed(tmp_path / "model", lines, "--events")
    run("predict", tmp_path / "model", tmp_path / "t.csv", "--out", tmp_path / "e.ndjson", "--events")
    events = [json.loads(line) for line in (tmp_path / "e.ndjson").read_text().splitlines()]
    assert [(each["start"], each["end"]) for each in runs] == [(each["start"], each["end"]) for each in events]


def test_the_command_line_and_a_file_of_options_say_the_same(folder: Path, tmp_path: Path) -> None:
    columns = ["--sequence", "id", "--order", "t", "--label", "y", "--no-baseline", "--quiet"]
    small = ["--units", 3, "--layers", 1, "--epochs", 2]
    run("train", folder / "odd.csv", *columns, *small, *FLAGS, "--out", tmp_path / "flags.model")
    lines = [f"{name.replace('_', '-')} = {json.dumps(value)}" for name, value in READING.items()]
    (tmp_path / "options.toml").write_text("\n".join(lines))
    configured = ["--config", tmp_path / "options.toml", "--out", tmp_path / "toml.model"]
    run("train", folder / "odd.csv", *columns, *small, *configured)
    assert (tmp_path / "flags.model").read_bytes() == (tmp_path / "toml.model").read_bytes()
    flags = TrainedModel.load(tmp_path / "flags.model")
    assert (
        flags.predict(folder / "odd.csv").tolist()
        == TrainedModel.load(folder / "odd.model").predict(folder / "odd.csv").tolist()
    )

    run("predict", tmp_path / "flags.model", folder / "odd.csv", "--out", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().startswith("id;t;x;w;y;predicted;probability\n0;6;-999;u;a;")
    scores = json.loads(run("evaluate", tmp_path / "flags.model", folder / "odd.csv", "--json"))
    other = ["--delimiter", ",", "--decimal", ".", "--skip-rows", 0]
    plain = json.loads(run("evaluate", tmp_path / "flags.model", folder / "plain.csv", *other, "--json"))
    assert scores["accuracy"] == plain["accuracy"]
    assert "reads files with --delimiter ';' --decimal ," in run("inspect", tmp_path / "flags.model")


def test_guesses_are_printed(folder: Path, tmp_path: Path) -> None:
    options = ["--decimal", ",", "--thousands", " ", "--missing", "-999", "--units", 2, "--epochs", 1, "--no-baseline"]
    columns = ["--sequence", "id", "--order", "t", "--label", "y", "--out", tmp_path / "model"]
    printed = run("train", folder / "odd.csv", *columns, *options).splitlines()
    assert printed[1] == "read with --delimiter ';' --skip-rows 1 (guessed)"
    (tmp_path / "more.csv").write_text(_renamed(ODD))
    printed = run("train", folder / "odd.csv", tmp_path / "more.csv", *columns, *options).splitlines()
    assert printed[0].startswith(f"{folder / 'odd.csv'} and 1 other file: ")
    assert printed[1] == "read with --delimiter ';' --skip-rows 1 (guessed)"
    (tmp_path / "plain.csv").write_text(PLAIN)
    assert "guessed" not in run("train", tmp_path / "plain.csv", *columns, "--units", 2, "--epochs", 1)


def _renamed(text: str) -> str:
    """The table with other sequences."""
    return "".join(line if i < 2 else f"1{line}" for i, line in enumerate(text.splitlines(keepends=True)))


def test_quotes_that_are_characters_stay_so(tmp_path: Path) -> None:
    words = "s\tword\ty\n" + "".join(f"{i // 4}\t{['a', chr(34), 'b'][i % 3]}\t{'pq'[i % 3 % 2]}\n" for i in range(48))
    (tmp_path / "train.tsv").write_text(words)
    (tmp_path / "new.tsv").write_text('s\tword\ty\n1\t"a"\tp\n')
    model = bilstm.train(tmp_path / "train.tsv", sequence="s", label="y", **SMALL)
    assert model.open(tmp_path / "train.tsv").cell("word", 1) == '"'
    assert model.open(tmp_path / "new.tsv").cell("word", 0) == '"a"'
    assert model.schema.reading == ReadingOptions(quote="")


def test_inspect_shows_what_would_be_read(folder: Path) -> None:
    printed = run("inspect", folder / "odd.csv", "--thousands", " ", "--decimal", ",").splitlines()
    assert printed == [
        f"{folder / 'odd.csv'}: 60 rows",
        "read with --delimiter ';' --skip-rows 1 (guessed)",
        "5 columns:",
        "  id  number",
        "  t   number",
        "  x   number",
        "  w   text, 2 different values: 'u', 'v'",
        "  y   text, 2 different values: 'a', 'b'",
        "sequences: not known; --sequence names the column that identifies them",
        "first 5 rows:",
        "  id  t  x        w  y",
        "  0   6  -999     u  a",
        "  0   5  1 002,5  v  b",
        "  0   4  1 004,5  u  a",
        "  0   3  1 001,5  v  a",
        "  0   2  1 003,5  u  b",
    ]
    printed = run("inspect", folder / "odd.csv", *FLAGS, "--sequence", "id", "--order", "t").splitlines()
    assert printed[1] == "5 columns:"
    assert printed[4] == "  x   number; 12 missing"
    assert printed[7] == "10 sequences of 6 steps, 60 in all"
    facts = json.loads(run("inspect", folder / "odd.csv", *FLAGS, "--sequence", "id", "--json"))
    assert facts == inspect_table(folder / "odd.csv", sequence="id", reading=ReadingOptions(**READING))
    assert preview(facts) == run("inspect", folder / "odd.csv", *FLAGS, "--sequence", "id").splitlines()
    assert facts["columns"][2] == {"name": "x", "kind": "number", "missing": 12, "numbers_rows": False}
    assert facts["sequences"] == {"sequences": 10, "shortest": 6, "longest": 6, "steps": 60}
    assert facts["first_rows"][1] == {"id": "0", "t": "5", "x": "1 002,5", "w": "v", "y": "b"}


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("t.csv", "id,x\n1,\n", "  x   empty; 1 missing"),
        ("t.csv", "id,x\n1,1\n1,2\n1,oops\n", "  x   number, but not 'oops' in line 4"),
        (
            "t.csv",
            'id,x\n1,"0,5"\n',
            "  x   text; '0,5' has a decimal comma: write a point, or read it with --decimal ','",
        ),
        ("t.csv", "id,x\n1,2024-06-01\n", "  x   dates or times"),
        ("t.csv", "id,x\n1,true\n", "  x   number"),
        ("t.ndjson", '{"id": 1, "x": true}\n', "  x   true or false"),
        ("t.ndjson", '{"id": 1, "x": {"a": 1}}\n', "  x   lists or objects"),
        ("t.ndjson", '{"id": 1, "x": [1, 2]}\n', "1 sequence of 2 steps, 2 in all"),
        ("t.conll", "a X\nb Y\n\n", "1 sequence of 2 steps, 2 in all"),
        ("t.csv", "id,x\n" + "".join(f"1,{i}\n" for i in range(30)), "  x   number; numbers the rows"),
        ("t.csv", "id,x\n" + "".join(f"1,w{i}\n" for i in range(1001)), "  x   text, more than 1,000 different values"),
        ("t.csv", ",".join(f"c{i}" for i in range(70)) + "\n" + "1," * 69 + "1\n", "  … and 10 more"),
    ],
)
def test_inspect_says_what_columns_hold(tmp_path: Path, name: str, content: str, line: str) -> None:
    (tmp_path / name).write_text(content)
    assert line in run("inspect", tmp_path / name).splitlines()


def test_options_of_tables_say_nothing_about_models(folder: Path) -> None:
    assert "are options for a table, not a model" in run("inspect", folder / "odd.model", "--decimal", ",", status=2)


TEXTS = st.text("abcé;|:#%-. '", min_size=1, max_size=5)
SIGNS = st.sampled_from(";|:#% '")
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "format": st.sampled_from(["csv", "conll", "ndjson", "parquet"]),
        "delimiter": st.sampled_from([";", "\t", " ", ","]),
        "decimal": st.sampled_from([".", ","]),
        "thousands": st.sampled_from(["'", " ", "|"]),
        "missing": st.lists(TEXTS.map(str.strip).filter(bool), max_size=3, unique=True).map(tuple),
        "skip_rows": st.integers(0, 9),
        "encoding": st.sampled_from(["latin-1", "utf-16"]),
        "quote": st.sampled_from(["'", "", '"']),
        "header": st.booleans(),
        "comment": st.sampled_from(["#", "%%"]),
        "columns": st.lists(TEXTS.map(str.strip).filter(bool), min_size=1, max_size=3, unique_by=str.lower).map(tuple),
        "time_format": st.sampled_from(["%d.%m.%Y", "%H:%M:%S,%f"]),
        "one_day": st.just(True),
    },
)


@settings(max_examples=60)
@given(OPTIONS)
def test_options_are_typed_and_stored_as_they_are(options: dict[str, Any]) -> None:
    reading = ReadingOptions(**options)
    assert ReadingOptions.from_json(json.loads(json.dumps(reading.to_json()))) == reading
    typed: list[ReadingOptions] = []

    @click.command()
    @reading_flags
    def command(**said: Any) -> None:
        typed.append(reading_options(said))

    if options.get("missing") == ():
        return  # which is typed as an empty text
    result = CliRunner().invoke(command, shlex.split(reading.typed))
    assert result.exit_code == 0, (reading.typed, result.output)
    assert typed == [reading]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("missing", -999, "missing is a list of texts, not '-999'"),
        ("columns", "a,b", "columns is a list of texts, not 'a,b'"),
        ("delimiter", 9, "delimiter is a text, not '9'"),
        ("skip_rows", "3", "skip_rows is a number of lines, not '3'"),
        ("skip_rows", True, "skip_rows is a number of lines, not 'True'"),
        ("header", 0, "header is True or False, not '0'"),
        ("one_day", "yes", "one_day is True or False, not 'yes'"),
    ],
)
def test_values_of_another_kind_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(UserError) as error:
        ReadingOptions.of({name: value})
    assert str(error.value) == message


def test_missing_cells_may_be_given_as_numbers() -> None:
    assert ReadingOptions.of({"missing": [-999, "?"]}).missing == ("-999", "?")


@pytest.mark.parametrize(
    "damaged",
    [
        [],
        {"delimiter": 1},
        {"delimiter": "ab"},
        {"missing": "NA"},
        {"missing": [1]},
        {"skip_rows": -1},
        {"header": "yes"},
        {"encoding": "klingon"},
        {"unknown": 1},
        {"columns": ["a", "A"]},
    ],
)
def test_a_damaged_file_says_so(damaged: Any) -> None:
    with pytest.raises(ModelFileError, match="its reading options"):
        ReadingOptions.from_json(damaged)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--quote", "'", "--no-quotes"], "--quote says what encloses cells, and --no-quotes that nothing does"),
        (["--skip-rows", "x"], "'x' is not a whole number"),
        (["--delimiter", "ab"], "--delimiter is one character, not 'ab'"),
        (["--decimal", ";"], "--decimal is . or , and not ';'"),
        (["--encoding", "klingon"], "there is no encoding 'klingon'"),
        (["--time-format", "%H:%M", "--order", "t"], "is not a time in the format '%H:%M'"),
        (["--columns", "a,b"], "--columns names 2"),
        (["--comment", ""], "--comment is what comment lines begin with, such as #, and cannot be empty"),
    ],
)
def test_impossible_options_are_refused(folder: Path, flags: list[str], message: str) -> None:
    columns = [] if "--order" in flags else ["--order", "t"]
    roles = ["--sequence", "id", "--label", "y", "--out", folder / "none.model"]
    assert message in run("train", folder / "plain.csv", *roles, *columns, *flags, status=2)


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_options_without_effect_are_refused(folder: Path, tmp_path: Path, command: str) -> None:
    out = ["--out", str(tmp_path / "out.csv")] if command == "predict" else []
    message = "--quote (quote) says how text files are read, and has no effect on "
    arguments = [command, folder / "odd.model", "t.parquet", "--no-quotes", *out]
    assert message + "t.parquet" in run(*arguments, status=2)
    if command == "predict":
        assert message + "-" in run(command, folder / "odd.model", "-", "--no-quotes", "--out", "-", status=2)


def test_labels_in_a_table_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text("id;x\n" + "".join(f"{i // 4};{i % 5},5\n" for i in range(40)))
    (tmp_path / "labels.csv").write_text("id,y\n" + "".join(f"{i},{'ab?'[i % 3]}\n" for i in range(10)))
    reading = {"delimiter": ";", "decimal": ",", "missing": ["?"]}
    given: dict[str, Any] = {"labels": tmp_path / "labels.csv", "sequence": "id", "reading": reading}
    model = bilstm.train(tmp_path / "steps.csv", **given, **SMALL)
    assert model.task.columns == ("y",)
    assert model.evaluate(tmp_path / "steps.csv", labels=tmp_path / "labels.csv")["labelled_sequences"] == 7


SIGNED = st.text("0123456789.,' \u00a0+-e", max_size=9)
GROUPED = st.builds(
    lambda sign, number, group, decimal: f"{sign}{number:,.2f}".replace(",", group).replace(".", decimal),
    st.sampled_from(["", "-", "+"]),
    st.integers(0, 10**9).map(lambda n: n / 8),
    st.sampled_from([",", ".", " ", "'", "\u00a0", ""]),
    st.sampled_from([",", "."]),
)


@settings(max_examples=15)
@given(
    cells=st.lists(st.one_of(SIGNED, GROUPED), min_size=5, max_size=20),
    decimal=st.sampled_from([None, ",", "."]),
    thousands=st.sampled_from([None, ",", ".", " ", "'"]),
)
def test_files_and_streams_read_the_same_numbers(
    tmp_path_factory: pytest.TempPathFactory, cells: list[str], decimal: str | None, thousands: str | None
) -> None:
    if thousands == (decimal or "."):
        return
    path = tmp_path_factory.mktemp("numbers") / "t.ndjson"
    path.write_text("".join(json.dumps({"x": cell}) + "\n" for cell in [*cells, "x"]))
    reading = ReadingOptions(decimal=decimal, thousands=thousands)
    read = [None if np.isnan(number) else number for number in read_table(path, reading=reading).numbers("x")[:-1]]
    streamed = [number(cell, reading) for cell in cells]
    assert read == [float(number) if isinstance(number, (int, float)) else None for number in streamed]
