"""Tables come from files as they are, say where a row stands, and go back row for row."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bilstm.data.paths import format_of
from bilstm.data.reading import read_table
from bilstm.data.table import Table
from bilstm.data.writing import check_output, write_table
from bilstm.errors import UserError

CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def columns_of(table: Table) -> dict[str, list[Any]]:
    return {name: table.texts(name).tolist() for name in table.names}


def parquet(path: Path, sql: str) -> Path:
    import duckdb

    duckdb.connect().execute(f"COPY ({sql}) TO '{path}' (FORMAT parquet)").fetchall()
    return path


def additions(rows: int) -> dict[str, Any]:
    return {
        "predicted": np.array([f"class {row}" for row in range(rows)], object),
        "probability": np.round(np.linspace(0.25, 1, rows), 6),
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", "csv"),
        ("a.b.CSV", "csv"),
        ("a.tsv", "csv"),
        ("a.csv.gz", "csv"),
        ("a.parquet", "parquet"),
        ("a.ndjson", "ndjson"),
        ("a.jsonl.gz", "ndjson"),
        ("a.json", "ndjson"),
        ("a.conll", "conll"),
        ("a.bio", "conll"),
        ("a.iob2", "conll"),
        ("a.txt", "conll"),
    ],
)
def test_a_name_tells_the_format(name: str, expected: str) -> None:
    assert format_of(name) == expected


@pytest.mark.parametrize("name", ["a", "a.xlsx", "a.xml", "a.parquet.gz", "a.gz", ".csv"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="a table's name ends in .csv, .tsv, .parquet"):
        format_of(name)


@settings(max_examples=40)
@given(rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=8), delimiter=st.sampled_from(",;\t|"))
@example(rows=[("a\nb", 'say "x"', ""), ("\r\n", " ", ",;\t|")], delimiter=",")
def test_csv_cells_are_the_text_they_are(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerows([("one", "two", "three"), *rows])
    table = read_table(path)
    assert table.names == ["one", "two", "three"]
    for row, cells in enumerate(rows):
        assert tuple(table.cell(name, row) for name in table.names) == cells

    write_table(table, additions(len(rows)), path.with_name("out.csv"))
    text = path.with_name("out.csv").read_bytes().decode()
    back = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    assert back[0] == ["one", "two", "three", "predicted", "probability"]
    assert [tuple(cells[:3]) for cells in back[1:]] == rows
    assert [cells[3] for cells in back[1:]] == [f"class {row}" for row in range(len(rows))]


def test_csv_lines_are_those_an_editor_shows(tmp_path: Path) -> None:
    content = 'id,text\r\n1,"two\r\nlines"\r\n\r\n2,x\n3,"a\nb\nc"\n4,y'
    table = read_table(written(tmp_path / "table.csv", content))
    lines = [int(table.place(row).rpartition(" ")[2]) for row in range(table.rows)]
    assert lines == [2, 5, 6, 9]
    assert table.place(0) == f"{tmp_path}/table.csv, line 2"


def test_a_byte_order_mark_and_gzip_make_no_difference(tmp_path: Path) -> None:
    content = "\ufeffid;wörd\n1;é\n".encode()
    plain = read_table(written(tmp_path / "plain.csv", content))
    packed = read_table(written(tmp_path / "packed.csv.gz", gzip.compress(content)))
    assert columns_of(plain) == columns_of(packed) == {"id": ["1"], "wörd": ["é"]}


def test_a_column_without_a_name_is_called_by_its_place(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "table.csv", ",x\n0,1\n"))
    assert table.names == ["column_1", "x"]
    assert table.unnamed == ["column_1"]


CONLL = (
    """\
-DOCSTART- -X- O

# sentence = 1
Peter NNP B-PER
# NN O
sleeps VBZ O

  \t
""".replace("  \t\n", "   \n")
    + "# newdoc\nIt PRP O\n\n\n"
)


def test_conll_columns(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "table.conll", CONLL))
    assert columns_of(table) == {
        "sequence": ["1", "1", "1", "2"],
        "token": ["Peter", "#", "sleeps", "It"],
        "column_2": ["NNP", "NN", "VBZ", "PRP"],
        "label": ["B-PER", "O", "O", "O"],
    }
    assert [table.place(row).rpartition(" ")[2] for row in range(4)] == ["4", "5", "6", "10"]
    assert table.conll_columns == 3


def test_a_conll_file_is_written_line_for_line(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "table.conll", CONLL))
    write_table(table, {"predicted": np.array(list("abcd"), object)}, tmp_path / "out.conll")
    before, after = CONLL.split("\n"), (tmp_path / "out.conll").read_text().split("\n")
    letters = iter("abcd")
    tokens = (4, 5, 6, 10)
    assert after == [f"{line} {next(letters)}" if n in tokens else line for n, line in enumerate(before, 1)]


def test_tabs_keep_blanks_within_a_token(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "table.conll", "New York\tLOC\n \tO\n\tO\n\nis\tO\n"))
    assert columns_of(table) == {
        "sequence": ["1", "1", "1", "2"],
        "token": ["New York", " ", None, "is"],
        "label": ["LOC", "O", "O", "O"],
    }


@pytest.mark.parametrize(
    ("content", "columns", "names"),
    [
        ("a b c\na b c\n", None, ["sequence", "token", "column_2", "label"]),
        ("a b c\na b c\n", 3, ["sequence", "token", "column_2", "label"]),
        ("a b\na b\n", 3, ["sequence", "token", "column_2"]),
        ("a\n", 3, ["sequence", "token"]),
        ("a\n", 2, ["sequence", "token"]),
        ("a b\na b\n", 2, ["sequence", "token", "label"]),
        ("a\n", None, ["sequence", "token"]),
    ],
)
def test_a_conll_file_may_lack_the_label(tmp_path: Path, content: str, columns: int | None, names: list[str]) -> None:
    assert read_table(written(tmp_path / "table.conll", content), conll_columns=columns).names == names


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        ("show me flights\n", True),
        ("show me flights", True),
        ("show me flights\n\nlist all flights\n\n\n", True),
        ("-DOCSTART- -X- O\n\n# 1\nshow me flights\n", True),
        ("show\tme\tflights\n\nlist\tall\tflights\n", False),  # words that stand alone
        ("yes\n\nno\n", False),
        ("yes UH O\n\nthe DT O\nend NN O\n", False),
    ],
)
@pytest.mark.parametrize("columns", [None, 3])
def test_a_sentence_a_line_is_no_conll_file(tmp_path: Path, content: str, refused: bool, columns: int | None) -> None:
    path = written(tmp_path / "t.conll", content)
    if refused:
        with pytest.raises(UserError, match="one word per line .* seems to have a sentence a line"):
            read_table(path, conll_columns=columns)
    else:
        assert read_table(path, conll_columns=columns).rows == len([line for line in content.split("\n") if line])


def test_tokens_only_are_written_with_tabs(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "table.txt", "a\nb\n\nc\n"))
    write_table(table, {"predicted": np.array(list("xyz"), object)}, tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text() == "a\tx\nb\ty\n\nc\tz\n"


def test_a_tsv_file_with_empty_lines_inside_is_conll(tmp_path: Path) -> None:
    assert read_table(written(tmp_path / "a.tsv", "a\tO\n\nb\tO\n")).format == "conll"
    assert read_table(written(tmp_path / "b.tsv", "token\tlabel\nb\tO\n\n")).format == "csv"


NDJSON = (
    '{"id": 1, "x": 1.50, "when": "2024-01-02", "tags": [1, {"a": null}], "A b.c": true}\n\n'
    '{"x": -2e3, "id": 2, "when": null, "é\\"": "q\\u00e9\\n"}\n'
    '{"id": 12345678901234567890, "x": null}\n'
)


def test_ndjson_values_keep_what_they_are(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "table.ndjson", NDJSON))
    assert table.kinds == {
        "id": "number", "x": "number", "when": "text", "tags": "nested", "A b.c": "boolean", 'é"': "text"
    }  # fmt: skip
    assert table.texts("id").tolist() == ["1", "2", "12345678901234567890"]
    np.testing.assert_array_equal(table.numbers("x"), [1.5, -2000, np.nan])
    assert table.texts('é"').tolist() == [None, "qé\n", None]
    assert table.place(1) == f"{tmp_path}/table.ndjson, line 3"

    write_table(table, additions(3), tmp_path / "out.ndjson")
    before = [json.loads(line) for line in NDJSON.splitlines() if line]
    after = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()]
    for row, (old, new) in enumerate(zip(before, after, strict=True)):
        assert new.pop("predicted") == f"class {row}"
        assert isinstance(new.pop("probability"), float)
        assert {name: value for name, value in new.items() if value is not None} == {
            name: value for name, value in old.items() if value is not None
        }


PARQUET = '''
    SELECT i AS "Row", i / 4 AS half, i % 2 = 0 AS even, 'text ' || i AS "a ""name""",
        DATE '2024-01-01' + i::INT AS day, make_timestamp_ns(1700000000000000000 + i) AS exact,
        [i, i] AS list, {'a': i} AS struct, i::DECIMAL(9, 2) AS money, CASE WHEN i = 1 THEN 'nan'::DOUBLE END AS hole
    FROM range(3) AS t(i)
'''


def test_tables_are_read_where_no_progress_bar_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Jupyter without ipywidgets, where DuckDB refuses even to turn the bar off."""
    import duckdb

    class Kernel:
        def __init__(self) -> None:
            self.connection = connect(":memory:")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.connection, name)

        def execute(self, query: str, *rest: Any) -> Any:
            if "progress_bar" in query:
                refused.append(query)
                raise duckdb.InvalidInputException("required package 'ipywidgets' is missing")
            return self.connection.execute(query, *rest)

    refused: list[str] = []
    connect = duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda *_: Kernel())
    assert columns_of(read_table(written(tmp_path / "t.csv", "x,y\n1,a\n"))) == {"x": ["1"], "y": ["a"]}
    assert columns_of(read_table(written(tmp_path / "t.jsonl", '{"x": 1}\n'))) == {"x": ["1"]}
    assert refused


def test_parquet_columns_keep_their_types(tmp_path: Path) -> None:
    import duckdb

    source = parquet(tmp_path / "table.parquet", PARQUET)
    table = read_table(source)
    assert list(table.kinds.values()) == [
        "number", "number", "boolean", "text", "time", "time", "nested", "nested", "number", "number"
    ]  # fmt: skip
    np.testing.assert_array_equal(table.numbers("half"), [0, 0.25, 0.5])
    np.testing.assert_array_equal(table.numbers("even"), [1, 0, 1])
    assert np.isnan(table.numbers("hole")).all()
    assert table.texts("hole").tolist() == [None] * 3
    assert table.place(1) == f"{source}, row 2"

    write_table(table, additions(3), tmp_path / "out.parquet")
    with duckdb.connect() as connection:
        before = connection.execute(f"SELECT * FROM '{source}'").fetchall()
        kept = f"SELECT * EXCLUDE (predicted, probability) FROM '{tmp_path}/out.parquet'"
        after = connection.execute(kept).fetchall()
        types = connection.execute(f"DESCRIBE FROM '{tmp_path}/out.parquet'").fetchall()
        assert str(after) == str(before)
        assert types[:-2] == connection.execute(f"DESCRIBE FROM '{source}'").fetchall()
        assert [(name, kind) for name, kind, *_ in types[-2:]] == [("predicted", "VARCHAR"), ("probability", "DOUBLE")]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".ndjson", ".jsonl.gz", ".parquet"])
def test_every_format_becomes_every_other(tmp_path: Path, suffix: str) -> None:
    csv_cells = 'id,code,x,flag,text,hole\n1,007,1.5,true,a b,NA\n2,008,-2,false,"q""\n",3\n3,009,1e-3,true,NA,\n'
    sources = [
        written(tmp_path / "source.csv", csv_cells),
        written(tmp_path / "source.conll", "1 a O\n2 b B\n\n3 c O\n"),
        written(tmp_path / "source.ndjson", '{"id": 1, "x": 0.5, "n": "a"}\n{"id": 2, "x": null, "n": "1"}\n'),
        parquet(tmp_path / "source.parquet", "SELECT i AS id, i / 3 AS x, 'a' || i AS text FROM range(4) AS t(i)"),
    ]
    for source in sources:
        if (source.suffix, suffix) == (".conll", ".tsv"):
            continue  # stays a CoNLL file
        table = read_table(source)
        out = tmp_path / f"out{suffix}"
        write_table(table, additions(table.rows), out)
        back = read_table(out)
        assert back.names == [*table.names, "predicted", "probability"]
        assert back.texts("predicted").tolist() == additions(table.rows)["predicted"].tolist()
        np.testing.assert_array_equal(back.numbers("probability"), additions(table.rows)["probability"])
        for name in table.names:
            if name != "hole":
                numbers = table.numbers(name)
                if not np.isnan(numbers).all():
                    np.testing.assert_array_equal(back.numbers(name), numbers)
                else:
                    assert back.texts(name).tolist() == table.texts(name).tolist()


def test_text_becomes_typed_where_the_format_has_types(tmp_path: Path) -> None:
    cells = "id,code,x,flag,text,hole\n1,007,1.5,true,a,NA\n2,008,-2,false,b,3\n"
    table = read_table(written(tmp_path / "source.csv", cells))
    write_table(table, additions(2), tmp_path / "out.ndjson")
    objects = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()]
    assert [dict(list(each.items())[:-2]) for each in objects] == [
        {"id": 1, "code": "007", "x": 1.5, "flag": True, "text": "a", "hole": None},
        {"id": 2, "code": "008", "x": -2, "flag": False, "text": "b", "hole": 3},
    ]


def test_many_rows_keep_their_order(tmp_path: Path) -> None:
    rows = 300_000  # several of the database's row groups, and several chunks of text
    lines = "".join(f"{row},{row * 7 % 1000}\n" for row in range(rows))
    table = read_table(written(tmp_path / "table.csv", "id,x\n" + lines))
    write_table(table, {"copy": np.arange(rows)}, tmp_path / "out.csv")
    with open(tmp_path / "out.csv") as file:
        assert file.readline() == "id,x,copy\n"
        for row, line in enumerate(file):
            assert line == f"{row},{row * 7 % 1000},{row}\n"
    assert row == rows - 1


@pytest.mark.parametrize(
    "name", ["a*.csv", "a?.parquet", "[ab].ndjson", "it's.csv", "year=2024/a.parquet", "a b.parquet"]
)
def test_names_that_look_like_patterns(tmp_path: Path, name: str) -> None:
    other = tmp_path / name.translate(str.maketrans("*?[]", "xxxx"))
    for path in (tmp_path / name, other):
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".parquet":
            (tmp_path / "made.parquet").unlink(missing_ok=True)
            parquet(tmp_path / "made.parquet", "SELECT 1 AS id, 2 AS x").rename(path)
        else:
            written(path, '{"id": 1, "x": 2}\n' if path.suffix == ".ndjson" else "id,x\n1,2\n")
    table = read_table(tmp_path / name)
    assert (table.names, table.rows) == (["id", "x"], 1)
    write_table(table, {"new": np.array([3])}, tmp_path / name)
    assert read_table(tmp_path / name).names == ["id", "x", "new"]


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("1", 1), (" 2.5 ", 2.5), ("+1", 1), ("-1e3", -1000), (".5", 0.5), ("5.", 5), ("true", 1), ("FALSE", 0),
        ("1_000", None), ("0x10", None), ("1,5", None), ("5%", None), ("x", None), ("1 000", None),
        ("", np.nan), ("NA", np.nan), ("nan", np.nan), ("-NaN", np.nan), ("NULL", np.nan), ("None", np.nan),
        ("n/a", np.nan), ("inf", np.inf), ("-Infinity", -np.inf), ("1e400", np.inf),
    ],
)  # fmt: skip
def test_what_is_a_number(tmp_path: Path, cell: str, number: float | None) -> None:
    table = read_table(written(tmp_path / "table.csv", f'id,x\na,"{cell}"\n'))
    profile = table.profile("x")
    if number is None:
        assert (profile.present, profile.numbers, profile.other) == (1, 0, 0)
    elif np.isnan(number):
        assert (profile.present, profile.other) == (0, None)
    else:
        assert (profile.present, profile.numbers, profile.other) == (1, 1, None)
        assert (profile.infinite == 0) == np.isinf(number)
    np.testing.assert_array_equal(table.numbers("x"), [np.nan if number is None else number])


def test_a_column_that_would_be_replaced_is_refused(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "table.csv", "id,Predicted\n1,2\n"))
    with pytest.raises(UserError, match="has a column 'Predicted' already: rename it"):
        check_output(table, ["predicted"], "out.csv")


def test_only_a_conll_file_is_written_as_one(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "table.csv", "id,x\n1,2\n"))
    with pytest.raises(UserError, match="cannot write out.conll: only a CoNLL file can be written as one"):
        check_output(table, ["predicted"], "out.conll")


def test_missing_columns_are_named_with_those_there_are(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "table.csv", "id,Label\n1,2\n"))
    with pytest.raises(
        UserError, match=r"has no column 'labels' \(the label\)\. Did you mean 'Label'\? Its columns: 'id', 'Label'"
    ):
        table.require("labels", "the label")
