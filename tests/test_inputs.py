"""Tables as people have them: what is read, or the message that says why not.

One case a row: a file, the options that a person gives, and what must come of it: the cells of some columns (texts,
numbers, None where a value is missing), the rows of its sequences in order, what was guessed, or the message.
`make test-duckdb` runs it with the oldest DuckDB that is allowed.
"""

# ruff: noqa: E501 - one case a row
from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bilstm.data import parquetfiles
from bilstm.data.reading import read_table
from bilstm.data.readingoptions import ReadingOptions
from bilstm.data.sources import open_table
from bilstm.data.table import Table
from bilstm.data.writing import write_table
from bilstm.errors import UserError
from bilstm.model.opening import column_options, open_data
from bilstm.model.predictions import check_predictions_path
from bilstm.model.prepare import Prepared, prepare
from bilstm.tasks import LabelTask

pytestmark = pytest.mark.fast

PLAIN = "id,x,y\n1,0.5,a\n1,0.6,b\n2,0.7,a\n"
ROWS = [["1", "0.5", "a"], ["1", "0.6", "b"], ["2", "0.7", "a"]]
COLUMNS = {"id": ["1", "1", "2"], "x": [0.5, 0.6, 0.7], "y": ["a", "b", "a"]}


@dataclasses.dataclass(frozen=True)
class Case:
    """A file, options, and what comes of it.

    Attributes:
        id: a name.
        name: the file's.
        content: what it holds.
        reading: reading options.
        cells: the cells of some columns, row by row.
        order: of the column `id`, which sorts its rows, and the cells of `k` for each sequence.
        guessed: the options that were guessed, as they are typed.
        message: what must be said instead; … stands for any words.
    """

    id: str
    name: str
    content: str | bytes
    reading: dict[str, Any] = dataclasses.field(default_factory=dict)
    cells: dict[str, list[Any]] | None = None
    order: tuple[str, list[str]] | None = None
    guessed: str | None = None
    message: str | None = None


def table_of(delimiter: str, *, quote: str = "", end: str = "\n") -> str:
    rows = [["id", "x", "y"], *ROWS]
    return "".join(delimiter.join(f"{quote}{cell}{quote}" for cell in row) + end for row in rows)


def times(*cells: str) -> str:
    return "id,time,k\n" + "".join(f"1,{cell},{place}\n" for place, cell in enumerate(cells))


CASES = [
    # What separates cells.
    Case("commas", "t.csv", PLAIN, cells=COLUMNS, guessed=""),
    Case("semicolons", "t.csv", table_of(";"), cells=COLUMNS, guessed="--delimiter ';'"),
    Case("bars", "t.csv", table_of("|"), cells=COLUMNS, guessed="--delimiter '|'"),
    Case("tabs", "t.csv", table_of("\t"), cells=COLUMNS, guessed="--delimiter tab"),
    Case("tabs in a .tsv", "t.tsv", table_of("\t"), cells=COLUMNS, guessed=""),
    Case("commas in a .tsv", "t.tsv", PLAIN, cells=COLUMNS, guessed="--delimiter ,"),
    Case("a stated delimiter", "t.csv", table_of(":"), {"delimiter": ":"}, cells=COLUMNS, guessed=""),
    Case("tab by its name", "t.csv", table_of("\t"), {"delimiter": "tab"}, cells=COLUMNS, guessed=""),
    Case("tab as it is escaped", "t.csv", table_of("\t"), {"delimiter": "\\t"}, cells=COLUMNS),
    Case("blanks", "t.csv", table_of(" "), {"delimiter": "space"}, cells=COLUMNS),
    Case("a wrong delimiter", "t.csv", PLAIN, {"delimiter": ";"}, cells={"id,x,y": ["1,0.5,a", "1,0.6,b", "2,0.7,a"]}),
    Case("another ending", "t.dat", PLAIN, {"format": "csv"}, cells=COLUMNS, guessed=""),
    Case("another ending that nobody said", "t.dat", PLAIN, message="has an unknown format (.dat): a table's name ends in .csv, .tsv, .parquet, .ndjson, .jsonl or .conll, or --format says what it is"),
    Case("words in a .txt file of rows", "t.txt", PLAIN, {"format": "csv"}, cells=COLUMNS),
    Case("JSON by another name", "t.json", '{"id": 1}\n', {"format": "ndjson"}, cells={"id": ["1"]}),
    Case("no such format", "t.dat", PLAIN, {"format": "xlsx"}, message="--format is one of csv, conll, ndjson, parquet, doccano, prodigy, label-studio, text, and not 'xlsx'"),
    Case("words in a .tsv with empty lines", "t.tsv", "a\tX\n\nb\tY\n", cells={"token": ["a", "b"], "sequence": ["1", "2"]}, guessed="--format conll"),
    Case("a table in a .tsv with empty lines", "t.tsv", "id\tx\n\n1\t2\n", {"format": "csv"}, cells={"id": ["1"], "x": ["2"]}, guessed=""),
    Case("two characters", "t.csv", PLAIN, {"delimiter": "::"}, message="--delimiter is one character, not '::'"),
    Case("semicolons with commas in the cells", "t.csv", 'id;"a,b,c";y\n1;"0,1";q\n1;2;p\n', cells={"a,b,c": ["0,1", "2"]}, guessed="--delimiter ';'"),
    Case("more commas than tabs in the header of a .tsv", "t.tsv", "id\ta,b,c,d\n1\t0\n", cells={"a,b,c,d": ["0"]}, guessed=""),
    Case("one column", "t.csv", "x\n1\n2\n", cells={"x": ["1", "2"]}, guessed=""),
    Case("one column of texts with semicolons", "t.csv", "text\na; b\nc; d\n", cells={"text": ["a; b", "c; d"]}, guessed=""),
    Case("one column of texts with commas", "t.csv", "text\nhello, world\n", message="line 2: 2 cells, but the header names 1 columns"),
    # Ends of lines, and where there are none.
    Case("ends of lines as Windows has them", "t.csv", table_of(",", end="\r\n"), cells=COLUMNS),
    Case("ends of lines as old Macs have them", "t.csv", table_of(",", end="\r"), cells=COLUMNS),
    Case("no end of the last line", "t.csv", PLAIN[:-1], cells=COLUMNS),
    Case("empty lines", "t.csv", PLAIN.replace("\n", "\n\n"), cells=COLUMNS),
    Case("empty lines above the header", "t.csv", "\n\r\n" + PLAIN, cells=COLUMNS),
    Case("nothing", "t.csv", "", message="t.csv is empty"),
    Case("nothing but empty lines", "t.csv", "\n\n", message="is empty: its first line has to name the columns"),
    Case("a header alone", "t.csv", "id,x,y\n", message="is empty: it has no row"),
    Case("too few cells", "t.csv", PLAIN + "2,1\n", message="line 5: 2 cells, but the header names 3 columns"),
    Case("too many cells", "t.csv", PLAIN + "2,1,a,\n", message="line 5: 4 cells, but the header names 3 columns"),
    Case("names of rows without a name of their own", "t.csv", "x,y\n1,0.5,a\n2,0.6,b\n", message="line 2: 3 cells, but the header names 2 columns"),
    # Encodings.
    Case("a byte order mark", "t.csv", b"\xef\xbb\xbf" + PLAIN.encode(), cells=COLUMNS, guessed=""),
    Case("UTF-16", "t.csv", PLAIN.encode("utf-16"), cells=COLUMNS, guessed="--encoding utf-16"),
    Case("UTF-16 the other way round", "t.csv", b"\xfe\xff" + PLAIN.encode("utf-16-be"), cells=COLUMNS, guessed="--encoding utf-16"),
    Case("UTF-16 without a mark", "t.csv", PLAIN.encode("utf-16-le"), {"encoding": "utf-16-le"}, cells=COLUMNS),
    Case("Latin-1", "t.csv", "id,mot\n1,été\n".encode("latin-1"), {"encoding": "latin-1"}, cells={"mot": ["été"]}),
    Case("Latin-1 that nobody said", "t.csv", "id,mot\n1,été\n".encode("latin-1"), message="line 2: not UTF-8 text (byte 0xe9): save the file as UTF-8, or say its encoding, such as --encoding latin-1"),
    Case("Windows' code page", "t.csv", "id,p\n1,5 €\n".encode("cp1252"), {"encoding": "cp1252"}, cells={"p": ["5 €"]}),
    Case("Japanese", "t.csv", "id,語\n1,猫\n".encode("shift_jis"), {"encoding": "shift_jis"}, cells={"語": ["猫"]}),
    Case("no encoding", "t.csv", PLAIN, {"encoding": "klingon"}, message="there is no encoding 'klingon': give a name that Python knows, such as latin-1 or utf-16"),
    Case("no encoding of text", "t.csv", PLAIN, {"encoding": "base64"}, message="there is no encoding 'base64'"),
    Case("another encoding than is said", "t.csv", "é".encode("latin-1"), {"encoding": "ascii"}, message="is not ascii text: save the file as UTF-8, or say its encoding with --encoding"),
    Case("Latin-1, compressed", "t.csv.gz", gzip.compress("id,mot\n1,été\n".encode("latin-1")), {"encoding": "latin-1"}, cells={"mot": ["été"]}),
    Case("columns of words in Latin-1", "t.conll", "été p\nété q\n\n".encode("latin-1"), {"encoding": "latin-1"}, cells={"token": ["été", "été"]}),
    Case("a Parquet file by another name", "t.csv", b"PAR1\x15\x00\xff\xfe", message="is a Parquet file: give it a name that ends in .parquet"),
    # Quotes.
    Case("quoted cells", "t.csv", table_of(",", quote='"'), cells=COLUMNS, guessed=""),
    Case("a delimiter within quotes", "t.csv", 'id,w\n1,"a,b"\n', cells={"w": ["a,b"]}),
    Case("quotes within quotes", "t.csv", 'id,w\n1,"say ""x"""\n', cells={"w": ['say "x"']}),
    Case("a line break within quotes", "t.csv", 'id,w\n1,"a\nb"\n2,c\n', cells={"w": ["a\nb", "c"]}),
    Case("a quote that is not closed", "t.csv", 'id,w\n1,"a\n2,b\n', message='line 2: a quoted cell is not closed properly (unexpected end of data); if " is a character like others, say so with --no-quotes'),
    Case("quotes that are characters", "t.csv", 'id,w\n1,"a\n2,b\n', {"quote": ""}, cells={"w": ['"a', "b"]}),
    Case("single quotes", "t.csv", "id,w\n1,'a,b'\n", {"quote": "'"}, cells={"w": ["a,b"]}),
    Case("single quotes that nobody said", "t.csv", "id,w\n1,'a'\n", cells={"w": ["'a'"]}),
    Case("quotes and delimiters alike", "t.csv", PLAIN, {"quote": ";", "delimiter": ";"}, message="--delimiter and --quote are both ';': they must differ"),
    Case("inches", "t.csv", 'id,w\n1,5" pipe\n', cells={"w": ['5" pipe']}),
    Case("words that are quotes", "t.tsv", 's\tword\ttag\n1\t"\tP\n1\tyes\tW\n1\t"\tP\n2\tno\tW\n', cells={"word": ['"', "yes", '"', "no"], "tag": ["P", "W", "P", "W"]}, guessed="--no-quotes"),
    Case("one word that is a quote", "t.tsv", 's\tword\n1\t"\n1\tyes\n', cells={"word": ['"', "yes"]}, guessed="--no-quotes"),
    Case("words that begin with a quote", "t.tsv", 's\tword\n1\t"Yes\n1\tno"\n', cells={"word": ['"Yes', 'no"']}, guessed="--no-quotes"),
    Case("words in quotes throughout", "t.tsv", 's\tword\n1\t"yes"\n1\t"a ""b"""\n', cells={"word": ["yes", 'a "b"']}, guessed=""),
    Case("all cells of a .tsv in quotes", "t.tsv", table_of("\t", quote='"'), cells=COLUMNS, guessed=""),
    Case("tabs within quotes", "t.tsv", 's\tword\n1\t"a\tb"\n1\tc\n', cells={"word": ["a\tb", "c"]}, guessed=""),
    Case("line breaks within the quotes of a .tsv", "t.tsv", 's\tword\n1\t"a\nb"\n1\tc\n', cells={"word": ["a\nb", "c"]}, guessed=""),
    Case("quotes of a .tsv, as is said", "t.tsv", 's\tword\ttag\n1\t"\tP\n1\tyes\tW\n1\t"\tP\n', {"quote": '"'}, cells={"word": ["\tP\n1\tyes\tW\n1\t"], "tag": ["P"]}),
    Case("quotes that are characters of a .tsv, as is said", "t.tsv", 's\tword\n1\t"a"\n', {"quote": ""}, cells={"word": ['"a"']}, guessed=""),
    Case("a long cell", "t.csv", "id,w\n1," + "x" * 300_000 + "\n", cells={"w": ["x" * 300_000]}),
    # Lines to skip, comments, headers.
    Case("lines above the header", "t.csv", "Export of 2024-06-01\nDevice: 7\n\n" + PLAIN, cells=COLUMNS, guessed="--skip-rows 3"),
    Case("lines above the header, with semicolons", "t.csv", "Device 7\n" + table_of(";"), cells=COLUMNS, guessed="--delimiter ';' --skip-rows 1"),
    Case("comments above the header", "t.csv", "# made by X\n# 1, 2, 3 and 4\n" + PLAIN, cells=COLUMNS, guessed="--skip-rows 2"),
    Case("lines to skip, as is said", "t.csv", "a,b,c\n" + PLAIN, {"skip_rows": 1}, cells=COLUMNS, guessed=""),
    Case("no lines to skip, as is said", "t.csv", "Device 7\n" + PLAIN, {"skip_rows": 0}, message="line 2: 3 cells, but the header names 1 columns"),
    Case("all lines skipped", "t.csv", PLAIN, {"skip_rows": 9}, message="is empty below the 9 lines that are skipped: its first line has to name the columns"),
    Case("fewer than no lines", "t.csv", PLAIN, {"skip_rows": -1}, message="--skip-rows counts lines, so it cannot be -1"),
    Case("a line below lines that are skipped", "t.csv", "Device 7\n\n" + PLAIN + "2,1\n3,4,b\n", {"skip_rows": 2}, message="line 7: 2 cells, but the header names 3 columns"),
    Case("comments", "t.csv", "# a\nid,x,y\n1,0.5,a\n# b, c\n1,0.6,b\n2,0.7,a\n#\n", {"comment": "#"}, cells=COLUMNS, guessed=""),
    Case("comments that nobody said", "t.csv", PLAIN + "# the end\n", message="line 5: 1 cell, but the header names 3 columns; if lines that begin with # are comments, say so with --comment '#'"),
    Case("a comment sign within a quoted cell", "t.csv", 'id,w\n1,"a\n# b"\n', {"comment": "#"}, cells={"w": ["a\n# b"]}),
    Case("a wrong line among comments", "t.csv", "# a\nid,x\n# b\n1,2\n3\n", {"comment": "#"}, message="line 5: 1 cell, but the header names 2 columns"),
    Case("a header behind a number sign", "t.csv", "#id,x,y\n1,0.5,a\n2,0.6,b\n", cells={"#id": ["1", "2"]}, guessed=""),
    Case("an empty comment", "t.csv", PLAIN, {"comment": ""}, message="--comment is what comment lines begin with, such as #, and cannot be empty"),
    Case("no header", "t.csv", "1,0.5,a\n1,0.6,b\n", {"header": False}, cells={"column_1": ["1", "1"], "column_2": [0.5, 0.6], "column_3": ["a", "b"]}),
    Case("names instead of a header", "t.csv", "1,0.5,a\n1,0.6,b\n", {"columns": ["id", "x", "y"]}, cells={"id": ["1", "1"], "x": [0.5, 0.6], "y": ["a", "b"]}),
    Case("other names than the header's", "t.csv", PLAIN, {"columns": ["s", "u", "v"], "header": True}, cells={"s": ["1", "1", "2"]}),
    Case("the header's own names", "t.csv", PLAIN, {"columns": ["id", "x", "y"]}, cells=COLUMNS),
    Case("too few names", "t.csv", PLAIN, {"columns": ["s", "u"], "header": True}, message="line 1: 3 cells, but --columns names 2"),
    Case("a name twice", "t.csv", PLAIN, {"columns": ["s", "u", "U"]}, message="--columns names 'U' twice: give each column a name of its own"),
    Case("a column without a name", "t.csv", ",x\n0,1\n", cells={"column_1": ["0"], "x": ["1"]}),
    Case("blanks around names", "t.csv", "id , x\n1,2\n", cells={"id": ["1"], "x": ["2"]}),
    Case("two columns of one name", "t.csv", "id,x,x\n1,2,3\n", message="has two columns 'x': give each a name of its own"),
    Case("names that differ in capitals", "t.csv", "id,x,X\n1,2,3\n", message="has columns 'x' and 'X': give each a name of its own"),
    # Numbers.
    Case("decimal commas", "t.csv", "id;x\n1;0,5\n1;-1,25\n1;3\n", {"decimal": ","}, cells={"x": [0.5, -1.25, 3.0]}),
    Case("thousands", "t.csv", 'id,x\n1,"50,972"\n1,"1,234,567.5"\n1,7\n', {"thousands": ","}, cells={"x": [50972.0, 1234567.5, 7.0]}),
    Case("thousands in wrong places", "t.csv", 'id,x\n1,"50,97"\n', {"thousands": ","}, cells={"x": [None]} | {"id": ["1"]}),
    Case("points between thousands", "t.csv", "id;x\n1;1.234,5\n1;12\n", {"thousands": ".", "decimal": ","}, cells={"x": [1234.5, 12.0]}),
    Case("blanks between thousands", "t.csv", "id;x\n1;1 234,5\n1;1\u202f234\n1;1\u00a0234\n", {"thousands": " ", "decimal": ","}, cells={"x": [1234.5, 1234.0, 1234.0]}),
    Case("apostrophes between thousands", "t.csv", "id,x\n1,1'234.5\n1,1\u2019234\n", {"thousands": "'"}, cells={"x": [1234.5, 1234.0]}),
    Case("exponents with a decimal comma", "t.csv", "id;x\n1;1,5e3\n1;2E-1\n", {"decimal": ","}, cells={"x": [1500.0, 0.2]}),
    Case("points where the decimal sign is a comma", "t.csv", "id;x\n1;1.5\n", {"decimal": ","}, cells={"x": [None]}),
    Case("a bar between thousands", "t.csv", "id,x\n1,1|234\n", {"thousands": "|"}, cells={"x": [1234.0]}),
    Case("a caret between thousands", "t.csv", "id,x\n1,1^234\n1,1]234\n", {"thousands": "^"}, cells={"x": [1234.0, None]}),
    Case("another decimal sign", "t.csv", PLAIN, {"decimal": ";"}, message="--decimal is . or , and not ';'"),
    Case("thousands and decimals alike", "t.csv", PLAIN, {"thousands": "."}, message="--thousands and the decimal sign are both '.': say what the decimal sign is with --decimal"),
    Case("a digit between thousands", "t.csv", PLAIN, {"thousands": "0"}, message="--thousands is a sign such as , or a space, and not '0'"),
    Case("signs and blanks", "t.csv", "id,x\n1,+3\n1, 4 \n1,-.5\n1,1.\n1,1e2\n", cells={"x": [3.0, 4.0, -0.5, 1.0, 100.0]}),
    Case("what is no number", "t.csv", "id,x\n1,+-3\n1,1_000\n1,0x1F\n1,--3\n1,1e\n", cells={"x": [None] * 5}),
    Case("truth values", "t.csv", "id,x\n1,true\n1,FALSE\n", cells={"x": [1.0, 0.0]}),
    Case("JSON numbers beside a decimal comma in text", "t.ndjson", '{"id": 1, "x": "0,5"}\n{"id": 1, "x": 1.5}\n', {"decimal": ","}, cells={"x": [0.5, 1.5]}),
    # Missing values.
    Case("usual spellings of missing numbers", "t.csv", "id,x\n1,NA\n1,NaN\n1,null\n1,\n1,None\n1,n/a\n1,0\n", cells={"x": [None] * 6 + [0.0]}),
    Case("other spellings", "t.csv", "id,x,y\n1,-999,?\n1,1,a\n1,-999.0,b\n", {"missing": ["-999", "?"]}, cells={"x": [None, 1.0, None], "y": [None, "a", "b"]}),
    Case("nothing but empty cells is missing", "t.csv", "id,c\n1,NA\n1,\n", {"missing": []}, cells={"c": ["NA", None]}),
    Case("missing is a list", "t.csv", PLAIN, {"missing": "NA"}, message="missing is a list of texts, not 'NA'"),
    Case("missing numbers in JSON", "t.ndjson", '{"id": 1, "x": -999}\n{"id": 1, "x": 2}\n{"id": 1, "x": null}\n', {"missing": ["-999"]}, cells={"x": [None, 2.0, None]}),
    # The order of rows.
    Case("offsets from UTC", "t.csv", times("2024-06-01T08:00:00Z", "2024-06-01T10:01:00+02:00", "2024-06-01T08:02:00Z"), order=("time", ["012"])),
    Case("offsets from UTC, other order", "t.csv", times("2024-06-01T10:01:00+02:00", "2024-06-01T08:00:00Z", "2024-06-01T03:59:00-0400", "2024-06-01T08:00:30+00"), order=("time", ["2130"])),
    Case("half an hour", "t.csv", times("2024-06-01T13:30:00+05:30", "2024-06-01T07:59:00Z"), order=("time", ["10"])),
    Case("zones", "t.csv", times("2024-06-01 10:01 Europe/Berlin", "2024-06-01 08:00 UTC", "2024-06-01 09:02 Europe/London"), order=("time", ["102"])),
    Case("zones in brackets", "t.csv", times("2024-01-01T10:00:00+01:00[Europe/Berlin]", "2024-01-01T08:00:00Z[UTC]"), order=("time", ["10"])),
    Case("an hour that a clock shows twice", "t.csv", times("2024-10-27 02:30 Europe/Berlin", "2024-10-27 01:30 Europe/Berlin"), order=("time", []), message="line 2: '2024-10-27 02:30 Europe/Berlin' is neither a number nor a date"),
    Case("no such zone", "t.csv", times("2024-10-27 02:30 Mars/Base", "2024-10-27 01:30 Mars/Base"), order=("time", []), message="line 2: '2024-10-27 02:30 Mars/Base' is neither a number nor a date in column 'time'"),
    Case("offsets in some rows", "t.csv", times("2024-06-01T08:00:00Z", "2024-06-01T10:01:00"), order=("time", []), message="line 3: '2024-06-01T10:01:00' in column 'time' has no offset from UTC, but '2024-06-01T08:00:00Z' in line 2 has an offset from UTC or a zone: which comes first is not known; write all in one way"),
    Case("dates in some rows", "t.csv", times("2024-06-01T08:00:00", "10:01:00"), order=("time", []), message="line 3: '10:01:00' in column 'time' is a time without a date, but '2024-06-01T08:00:00' in line 2 has no offset from UTC"),
    Case("nanoseconds", "t.csv", times("10:00:00.000000400", "10:00:00.000000000", "10:00:00.000000401"), order=("time", ["102"])),
    Case("nanoseconds of dates", "t.csv", times("2024-06-01 10:00:00.123456789", "2024-06-01 10:00:00.123456788"), order=("time", ["10"])),
    Case("the same time at two offsets", "t.csv", times("2024-06-01T08:00:00Z", "2024-06-01T10:00:00+02:00"), order=("time", []), message="line 3: sequence '1' has time '2024-06-01T10:00:00+02:00' a second time, after line 2"),
    Case("more than nanoseconds", "t.csv", times("10:00:00.0000000001", "10:00:00.0000000002"), order=("time", []), message="line 2: '10:00:00.0000000001' is neither a number nor a date"),
    Case("past midnight", "t.csv", times("23:59:59", "00:00:00"), order=("time", []), message="line 3: '00:00:00' in column 'time' comes after '23:59:59': times without a date cannot order rows past midnight. Leave out --order if the rows are in order, name the column of the date as well (--order date,time), or say with --one-day that all times of a sequence are of one day"),
    Case("past midnight, of one day", "t.csv", times("23:59:59", "00:00:00"), {"one_day": True}, order=("time", ["10"])),
    Case("times that fall back a little", "t.csv", times("10:00", "9:30", "9:45"), order=("time", ["120"])),
    Case("past midnight from one sequence to the next", "t.csv", "id,time,k\n1,23:59,0\n2,00:00,1\n2,00:01,2\n", order=("time", ["0", "12"])),
    Case("dates and times in two columns", "t.csv", "id,date,time,k\n1,2024-06-02,00:00,0\n1,2024-06-01,23:59,1\n", order=("date,time", ["10"])),
    Case("dates and times in two columns, with offsets", "t.csv", "id,date,time,k\n1,2024-06-02,00:30+02:00,0\n1,2024-06-01,22:29Z,1\n", order=("date,time", ["10"])),
    Case("numbers in two columns", "t.csv", "id,block,trial,k\n1,2,1,0\n1,1,10,1\n1,1,9,2\n", order=("block,trial", ["210"])),
    Case("a date and a number", "t.csv", "id,date,trial,k\n1,2024-06-02,1,0\n1,2024-06-01,10,1\n1,2024-06-01,9,2\n", order=("date, trial", ["210"])),
    Case("two columns that repeat", "t.csv", "id,a,b,k\n1,2,1,0\n1,2,1,1\n", order=("a,b", []), message="line 3: sequence '1' has a,b '2 1' a second time, after line 2"),
    Case("a column that is missing", "t.csv", "id,a,k\n1,2,1\n", order=("a,b", []), message="has no column 'b' (the order within a sequence)"),
    Case("day first", "t.csv", times("02.06.2024 10:00", "01.07.2024 09:00", "30.05.2024 11:00"), {"time_format": "%d.%m.%Y %H:%M"}, order=("time", ["201"])),
    Case("day first that nobody said", "t.csv", times("02.06.2024 10:00", "01.07.2024 09:00"), order=("time", []), message="line 2: '02.06.2024 10:00' is neither a number nor a date in column 'time', which gives the order of the rows; if it is a time, say how it is written with --time-format, such as '%d.%m.%Y %H:%M'"),
    Case("before and after noon", "t.csv", times("01:00 PM", "11:00 AM", "12:30 PM"), {"time_format": "%I:%M %p"}, order=("time", ["120"])),
    Case("before and after midnight in a stated format", "t.csv", times("11:59 PM", "12:00 AM"), {"time_format": "%I:%M %p"}, order=("time", []), message="line 3: '12:00 AM' in column 'time' comes after '11:59 PM'"),
    Case("decimal commas of seconds", "t.csv", "id;time;k\n1;10:00:00,5;0\n1;10:00:00,25;1\n", order=("time", ["10"])),
    Case("nanoseconds in a stated format", "t.csv", times("1.6.2024 10:00:00.000000400", "1.6.2024 10:00:00.000000399"), {"time_format": "%d.%m.%Y %H:%M:%S.%f"}, order=("time", ["10"])),
    Case("a stated format with offsets", "t.csv", times("01/06/2024 10:01 +0200", "01/06/2024 08:00 +0000"), {"time_format": "%d/%m/%Y %H:%M %z"}, order=("time", ["10"])),
    Case("a stated format for two columns", "t.csv", "id,date,time,k\n1,2.6.2024,0:00,0\n1,1.6.2024,23:59,1\n", {"time_format": "%d.%m.%Y %H:%M"}, order=("date,time", ["10"])),
    Case("digits in a stated format", "t.csv", times("02062024", "01072024"), {"time_format": "%d%m%Y"}, order=("time", ["01"])),
    Case("what is not in the stated format", "t.csv", times("01.06.2024", "2024-06-01"), {"time_format": "%d.%m.%Y"}, order=("time", []), message="line 3: '2024-06-01' is not a time in the format '%d.%m.%Y' in column 'time'"),
    Case("no format", "t.csv", times("1", "2"), {"time_format": "%Q"}, order=("time", []), message="--time-format '%Q' is no format of times such as %d.%m.%Y %H:%M"),
    Case("slashes, year first", "t.csv", times("2024/06/02", "2024/06/01"), order=("time", ["10"])),
    Case("no such day", "t.csv", times("2024-02-29", "2023-02-29"), order=("time", []), message="line 3: '2023-02-29' is neither a number nor a date"),
    Case("years before the nanoseconds of 64 bits", "t.csv", times("1500-01-01", "0900-01-01", "9999-12-31T23:59:59"), order=("time", ["102"])),
    Case("times without zeros", "t.csv", times("2024-6-1 9:5", "2024-06-01 9:04:7.5", "2024-06-01 09:04:08"), order=("time", ["120"])),
    Case("times without signs", "t.csv", times("20240601T100100Z", "20240601T0959Z", "20240601T10Z"), order=("time", ["120"])),
    Case("weeks", "t.csv", times("2024-W23-1", "2024-W22-7", "2024-06-03T00:00:01"), order=("time", ["102"])),
    Case("the end of a day", "t.csv", times("2024-06-01T24:00:00", "2024-06-01T23:59:59", "2024-06-02T00:00:01"), order=("time", ["102"])),
    Case("an hour too many", "t.csv", times("2024-06-01T25:00", "2024-06-01T23:59"), order=("time", []), message="line 2: '2024-06-01T25:00' is neither a number nor a date"),
    Case("times in JSON", "t.ndjson", '{"id": 1, "time": "2024-06-01T10:01:00+02:00", "k": 0}\n{"id": 1, "time": "2024-06-01T08:00:00Z", "k": 1}\n', order=("time", ["10"])),
    Case("large whole numbers", "t.csv", times("1717228800000000001", "1717228800000000000"), order=("time", ["10"])),
    Case("decimal commas of an order", "t.csv", "id;time;k\n1;1,5;0\n1;1,25;1\n", {"decimal": ","}, order=("time", ["10"])),
    # Columns of words.
    Case("words and labels", "t.conll", "Ann B-per\nleft O\n\nBob B-per\ncame O\n", cells={"sequence": ["1", "1", "2", "2"], "token": ["Ann", "left", "Bob", "came"], "label": ["B-per", "O", "B-per", "O"]}),
    Case("separators that hold a tab", "t.conll", "Ann\tB-per\nleft\tO\n\t\nBob\tB-per\ncame\tO\n", cells={"sequence": ["1", "1", "2", "2"], "token": ["Ann", "left", "Bob", "came"]}),
    Case("separators that hold blanks and tabs", "t.conll", "Ann\tB-per\nleft\tO\n \t \t\nBob\tB-per\ncame\tO\n", cells={"sequence": ["1", "1", "2", "2"]}),
    Case("separators that hold blanks", "t.conll", "Ann B-per\nleft O\n   \nBob B-per\ncame O\n", cells={"sequence": ["1", "1", "2", "2"]}),
    Case("blanks within a word between tabs", "t.conll", "New York\tB-loc\nis\tO\n\nbig\tO\n", cells={"token": ["New York", "is", "big"]}),
    Case("several blanks, and tabs among them", "t.conll", "Ann   B-per\nleft \t O\n\n", cells={"token": ["Ann", "left"], "label": ["B-per", "O"]}),
    Case("a no-break space is part of a word", "t.conll", "10\u00a0000 N\nmen\u3000x O\n\n", cells={"token": ["10\u00a0000", "men\u3000x"]}),
    Case("words alone, one a no-break space", "t.conll", "a\n\u00a0\nb\n\nc\n", cells={"token": ["a", "\u00a0", "b", "c"], "sequence": ["1", "1", "1", "2"]}),
    Case("tabs, as is said", "t.conll", "a b\tX\nc d\tY\n\n", {"delimiter": "tab"}, cells={"token": ["a b", "c d"]}),
    Case("blanks, as is said", "t.conll", "a\tb X\nc\td Y\n\n", {"delimiter": "space"}, cells={"token": ["a", "c"], "column_2": ["b", "d"], "label": ["X", "Y"]}),
    Case("commas between words", "t.conll", "a,X\n", {"delimiter": ","}, message="--delimiter of …/t.conll is tab or space, and not ','"),
    Case("documents", "t.conll", "-DOCSTART- -X- O\n\nAnn N B\nleft V O\n\n-DOCSTART- -X- O\n\nBob N B\n", cells={"token": ["Ann", "left", "Bob"], "sequence": ["1", "1", "2"]}),
    Case("comments before a sequence", "t.conll", "# id = 1\n# text = a b\na X\nb Y\n\n# id = 2\nc X\n", cells={"token": ["a", "b", "c"]}),
    Case("comments of as many fields as there are columns", "t.conll", "# 1\na X\nb Y\n\n# 2\nc X\nb Y\n", cells={"token": ["a", "b", "c", "b"]}),
    Case("comments of as many fields, with tabs", "t.conll", "# a\tb\na\tX\nb\tY\n\n", cells={"token": ["a", "b"]}),
    Case("a number sign that is a word", "t.conll", "# X\na X\nb Y\n\nc X\n# Y\n", cells={"token": ["#", "a", "b", "c", "#"]}),
    Case("a number sign that is a word, with tabs", "t.conll", "#\tZ\na\tX\n\n", cells={"token": ["#", "a"], "label": ["Z", "X"]}),
    Case("a word that begins with a number sign", "t.conll", "#tag Z\na X\n\n", cells={"token": ["#tag", "a"]}),
    Case("comments that begin otherwise", "t.conll", "%% note\na X\n%% b\nb Y\n\n", {"comment": "%%"}, cells={"token": ["a", "b"]}),
    Case("a header", "t.conll", "word pos tag\nAnn N B\nleft V O\n\n", cells={"token": ["Ann", "left"], "label": ["B", "O"]}, guessed="--header"),
    Case("a header with tabs", "t.conll", "Token\tNER_Tag\nAnn\tB\nleft\tO\n\n", cells={"token": ["Ann", "left"]}, guessed="--header"),
    Case("a word that may be a header's", "t.conll", "word label\nword label\nAnn B\n\n", cells={"token": ["word", "word", "Ann"]}, guessed=""),
    Case("a header, as is said", "t.conll", "Wort Art\nAnn B\nleft O\n\n", {"header": True}, cells={"token": ["Ann", "left"]}, guessed=""),
    Case("no header, as is said", "t.conll", "word tag\nAnn B\nleft O\n\n", {"header": False}, cells={"token": ["word", "Ann", "left"]}, guessed=""),
    Case("names of columns", "t.conll", "1 Ann N B\n2 left V O\n\n", {"columns": ["id", "token", "pos", "label"]}, cells={"id": ["1", "2"], "token": ["Ann", "left"], "pos": ["N", "V"], "label": ["B", "O"]}),
    Case("names of some columns", "t.conll", "1 Ann N B\n2 left V O\n\n", {"columns": ["_", "token", "_", "label"]}, cells={"column_1": ["1", "2"], "token": ["Ann", "left"], "column_3": ["N", "V"]}),
    Case("too many names", "t.conll", "Ann N B\nleft V O\n\n", {"columns": ["a", "b", "c", "d", "e"]}, message="line 1: 3 columns, but --columns names 5, of which the last may be missing"),
    Case("ranges and empty nodes", "t.conll", "1\tje\t_\tPRON\n2-3\tdu\t_\t_\n2\tde\t_\tADP\n3\tle\t_\tDET\n3.1\tx\t_\t_\n\n", cells={"column_2": ["je", "de", "le"], "label": ["PRON", "ADP", "DET"]}),
    Case("ranges where words are not numbered", "t.conll", "a X\n4-5 Y\n6.1 X\n\n", cells={"token": ["a", "4-5", "6.1"]}),
    Case("numbers that are words", "t.conll", "1 X\n2 Y\n4 X\n2-3 Y\n\n", cells={"token": ["1", "2", "4", "2-3"]}),
    Case("CoNLL-U", "t.conllu", "# sent_id = 1\n1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_\n1\tde\tde\tADP\t_\t_\t0\troot\t_\t_\n2\tle\tle\tDET\t_\tGender=Masc\t1\tdet\t_\t_\n\n", cells={"id": ["1", "2"], "form": ["de", "le"], "upos": ["ADP", "DET"], "feats": ["_", "Gender=Masc"]}),
    Case("CoNLL-U with too few columns", "t.conllu", "1\tde\tADP\n2\tle\tDET\n\n", message="line 1: 3 columns, but CoNLL-U has 10, of which the last may be missing"),
    Case("a sentence a line", "t.conll", "Ann left\n\nBob came\n\n", message="this one seems to have a sentence a line"),
    Case("a row with another number of columns", "t.conll", "a X\nb\n", message="line 2: 1 column where the lines before have 2 (columns are separated by blanks): 'b'"),
    # JSON.
    Case("objects", "t.ndjson", '{"id": 1, "x": 0.5, "y": "a"}\n\n{"id": 1, "x": 0.6, "y": "b"}\n{"id": 2, "x": 0.7, "y": "a"}\n', cells=COLUMNS),
    Case("a byte order mark before JSON", "t.ndjson", '\ufeff{"id": 1}\n', cells={"id": ["1"]}),
    Case("JSON in UTF-16", "t.ndjson", '{"id": "é"}\n'.encode("utf-16"), cells={"id": ["é"]}),
    Case("ends of lines before JSON as Windows has them", "t.jsonl", '{"id": 1}\r\n{"id": 2}\r\n', cells={"id": ["1", "2"]}),
    Case("keys with tabs", "t.ndjson", '{"id": 1, "a\\tb": 2}\n', cells={"a\tb": ["2"]}),
    Case("keys with slashes, tildes, dots, quotes and stars", "t.ndjson", '{"a/b": 1, "a~b": 2, "a.b": 3, "a\\"b": 4, "*": 5, "$.x": 6, "~1": 7}\n', cells={"a/b": ["1"], "a~b": ["2"], "a.b": ["3"], 'a"b': ["4"], "*": ["5"], "$.x": ["6"], "~1": ["7"]}),
    Case("empty keys", "t.ndjson", '{"": 1, "x": 2}\n', cells={"column_1": ["1"], "x": ["2"]}),
    Case("keys that are numbers", "t.ndjson", '{"0": 1, "1": 2}\n', cells={"0": ["1"], "1": ["2"]}),
    Case("no object", "t.ndjson", '{"id": 1}\n[1]\n', message="line 2: not one JSON object such as {…}: it is not an object"),
    Case("half an object", "t.ndjson", '{"id": 1}\n\n{"id": \n', message="line 3: not one JSON object such as"),
    Case("a key twice", "t.ndjson", '{"id": 1, "id": 2}\n', message="two values of the same name"),
    Case("a long line", "t.ndjson", json.dumps({"id": 1, "x": "y" * 40_000_000}) + "\n", cells={"id": ["1"]}),
]  # fmt: skip


def said(error: pytest.ExceptionInfo[UserError], message: str) -> None:
    rest = str(error.value)
    for part in message.split("…"):
        assert part in rest, str(error.value)
        rest = rest[rest.index(part) + len(part) :]


def found(table: Table, name: str, like: list[Any]) -> list[Any]:
    if any(isinstance(cell, float) for cell in like) or not any(like):
        numbers = table.numbers(name)
        return [None if np.isnan(number) else number for number in numbers.tolist()]
    return table.texts(name).tolist()


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_what_is_read(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.name
    path.write_bytes(case.content.encode() if isinstance(case.content, str) else case.content)

    def read() -> Table:
        table = read_table(path, reading=ReadingOptions.of(case.reading))
        if case.order is not None:
            rows = table.sequences("id", case.order[0])
            k = table.texts("k")[rows.rows]
            assert ["".join(k[a:b]) for a, b in zip(rows.offsets, rows.offsets[1:], strict=False)] == case.order[1]
        return table

    if case.message is not None:
        with pytest.raises(UserError) as error:
            read()
        said(error, case.message)
        return
    table = read()
    for name, cells in (case.cells or {}).items():
        assert found(table, name, cells) == cells
    if case.guessed is not None:
        assert [reading.typed for _, reading in table.guesses()] == ([case.guessed] if case.guessed else [])


@pytest.mark.parametrize("case", [case for case in CASES if case.order], ids=lambda case: case.id)
def test_rows_in_memory_are_in_the_same_order(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.name
    path.write_bytes(case.content.encode() if isinstance(case.content, str) else case.content)
    table = read_table(path, reading=ReadingOptions.of(case.reading))
    assert case.order is not None
    if any(option in case.reading for option in ("decimal", "delimiter")):
        pytest.skip("these are options of files")
    columns = {name: table.texts(name).tolist() for name in table.names}

    def order() -> list[str]:
        in_memory = open_table(columns, sequence="id", reading=ReadingOptions.of(case.reading))
        rows = in_memory.sequences("id", case.order and case.order[0])
        k = in_memory.texts("k")[rows.rows]
        return ["".join(k[a:b]) for a, b in zip(rows.offsets, rows.offsets[1:], strict=False)]

    if case.message is None:
        assert order() == case.order[1]
    else:
        with pytest.raises(UserError):
            order()


def test_the_table_holds_every_case_once() -> None:
    names = [case.id for case in CASES]
    assert len(set(names)) == len(names) >= 150


def many(row: str, header: str = "id,x,y", rows: int = 24) -> str:
    """A table of several sequences of six rows, each as the pattern has it."""
    lines = (row.format(i=i, s=i // 6, c="ab"[i % 2], x=i * 7 % 5 / 2) for i in range(rows))
    return header + "\n" + "".join(line + "\n" for line in lines)


@dataclasses.dataclass(frozen=True)
class Learned:
    """A file, what a person says about it, and what is learned.

    Attributes:
        id: a name.
        name: the file's.
        content: what it holds; of a Parquet file, the SQL that makes it.
        options: the arguments of `bilstm.train`.
        features: those that are used.
        classes: those that are predicted.
        note: what must be said, or that nothing need be.
        message: what must be said instead of all this.
    """

    id: str
    name: str
    content: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    features: list[str] | None = None
    classes: tuple[str, ...] | None = None
    note: str | None = None
    message: str | None = None


SQL = (
    "SELECT i // 6 AS id, (i * 7 % 5) / 2 AS x, CASE i % 2 WHEN 0 THEN 'a' ELSE 'b' END AS y {} FROM range(24) AS t(i)"
)

LEARNED = [
    Learned("a plain table", "t.csv", many("{s},{x},{c}"), features=["x"], classes=("a", "b"), note=""),
    Learned("NA is no label", "t.csv", many("{s},{x},{c}") + "9,1,NA\n9,2,a\n", classes=("a", "b"), note="y: 1 cell with 'NA' has no label; --missing says which texts mean that"),
    Learned("NA is no label, as is said", "t.csv", many("{s},{x},{c}") + "9,1,NA\n9,2,a\n", {"reading": {"missing": ["NA"]}}, classes=("a", "b"), note=""),
    Learned("NA is a label", "t.csv", many("{s},{x},{c}") + "9,1,NA\n9,2,a\n", {"reading": {"missing": []}}, classes=("NA", "a", "b"), note=""),
    Learned("none is a label", "t.csv", many("{s},{x},{c}") + "9,1,none\n9,2,a\n", classes=("a", "b", "none"), note=""),
    Learned("question marks are no labels", "t.csv", many("{s},{x},{c}") + "9,1,?\n9,2,a\n", {"reading": {"missing": ["?"]}}, classes=("a", "b"), note=""),
    Learned("row numbers", "t.csv", many("{s},{x},{c},{i}", "id,x,y,n"), features=["x"], note="n: left out, since it numbers the rows; name it with --features to use it"),
    Learned("row numbers from a hundred", "t.csv", many("{s},{x},{c},1{i:02}", "id,x,y,n"), features=["x"], note="n: left out, since it numbers the rows"),
    Learned("row numbers that are named", "t.csv", many("{s},{x},{c},{i}", "id,x,y,n"), {"features": ["x", "n"]}, features=["x", "n"], note=""),
    Learned("row numbers and nothing else", "t.csv", many("{s},{i},{c}"), features=["x"], note="x: numbers the rows, but there is nothing else to predict from"),
    Learned("numbers within sequences", "t.csv", many("{s},{x},{c},{i}", "id,x,y,n", 12) + many("{s},{x},{c},{i}", "", 12)[1:], {"order": "n"}, message="a second time"),
    Learned("few rows that happen to be numbered", "t.csv", many("{s},{i},{c},{x}", "id,n,y,x", 12), features=["n", "x"], note=""),
    Learned("an index of pandas in CSV", "t.csv", many("{s},{x},{c},{x}", "id,x,y,Unnamed: 0"), features=["x"], note="Unnamed: 0: left out, since it is a data frame's index; name it with --features to use it"),
    Learned("an index without a name in CSV", "t.csv", many("{i},{s},{x},{c}", ",id,x,y"), features=["x"], note="column_1: left out, since it has no name in the file"),
    Learned("an index of pandas in Parquet", "t.parquet", SQL.format(", i * 3 AS __index_level_0__"), features=["x"], note="__index_level_0__: left out, since it is a data frame's index"),
    Learned("an index of pandas that is named", "t.parquet", SQL.format(", i * 3 AS __index_level_0__"), {"features": ["x", "__index_level_0__"]}, features=["x", "__index_level_0__"], note=""),
    Learned("row numbers in Parquet", "t.parquet", SQL.format(", i AS n"), features=["x"], note="n: left out, since it numbers the rows"),
    Learned("texts in bytes", "t.parquet", SQL.format(", encode('é' || i % 3) AS w"), features=["x", "w"], note=""),
    Learned("bytes that are no text", "t.parquet", SQL.format(r", '\xFF'::BLOB AS w"), message="column 'w' of …t.parquet holds lists or objects"),
    Learned("bytes that are no text, left out", "t.parquet", SQL.format(r", '\xFF'::BLOB AS w"), {"drop": ["w"]}, features=["x"]),
    Learned("missing numbers in Parquet", "t.parquet", SQL.replace("(i * 7 % 5) / 2", "CASE WHEN i = 3 THEN -999 ELSE i % 5 END").format(""), {"reading": {"missing": ["-999"]}}, features=["x"]),
    Learned("commas between thousands", "t.csv", many('{s},"50,97{i}",{c}', rows=10), message="line 2: '50,970' in column 'x' has a comma; read it with --thousands ',' (between thousands) or --decimal ',' (a decimal comma), or treat the column as text with --categorical x"),
    Learned("commas between millions", "t.csv", many('{s},"1,250,97{i}",{c}', rows=10), message="line 2: '1,250,970' in column 'x' has commas between thousands; read them with --thousands ',', or treat the column as text"),
    Learned("commas between some thousands", "t.csv", many("{s},{x},{c}") + '9,"50,972",a\n', message="line 26: '50,972' in column 'x' is not a number, as 24 other cells of it are; it has a comma: read it with --thousands ',' (between thousands) or --decimal ',' (a decimal comma), or treat the column as text"),
    Learned("commas between thousands, as is said", "t.csv", many('{s},"50,97{i}",{c}', rows=10), {"reading": {"thousands": ","}}, features=["x"], note=""),
    Learned("decimal commas", "t.csv", many("{s};1,5{i};{c}", "id;x;y"), message="line 2: '1,50' in column 'x' has a decimal comma; write a point, read it with --decimal ',', or treat the column as text with --categorical x"),
    Learned("points between thousands", "t.csv", many("{s};1.234,5{i};{c}", "id;x;y"), message="has points between thousands; read them with --thousands . --decimal ',', or treat"),
    Learned("blanks between thousands", "t.csv", many("{s};{x};{c}", "id;x;y") + "9;1 234,5;a\n", message="is not a number, as 24 other cells of it are; it has groups of digits: read them with --thousands ' ' --decimal ','"),
    Learned("a line break in a cell", "t.csv", many("{s},{c},{c}") + '9,"a\nb",a\n9,c,b\n9,"a\nb",a\n', features=["x"], note='x: the cell in line 26 holds a line break; if " is a character like others, say so with --no-quotes'),
    Learned("a line break in a label", "t.csv", many("{s},{x},{c}") + '9,1,"a\nb"\n', note="y: the cell in line 26 holds a line break"),
    Learned("times with offsets are no features", "t.csv", many("{s},{x},{c},2024-06-01T10:{i:02}:00+02:00", "id,x,y,t"), message="column 't' of …t.csv holds dates or times, which are no features as they are"),
    Learned("times in two columns", "t.csv", many("{s},{x},{c},2024-06-01,10:{i:02}", "id,x,y,d,t"), {"order": "d,t"}, features=["x"], note=""),
    Learned("words", "t.conll", "a X\nb Y\n\n" * 4, {"sequence": None, "label": None}, features=["token"], classes=("X", "Y"), note=""),
    Learned("words that are numbered", "t.conll", "1 a X\n2 b Y\n\n" * 4, {"sequence": None, "label": None}, features=["column_2"], note="token: left out, since it numbers the words; column_2 is used"),
    Learned("words that are numbered, with names", "t.conll", "1 a N X\n2 b V Y\n\n" * 4, {"sequence": None, "label": None, "reading": {"columns": ["id", "token", "pos", "label"]}}, features=["token"], note="id, pos: not used unless named with --features"),
    Learned("ranges of words", "t.conll", "1\tje\t_\tPRON\n2-3\tdu\t_\t_\n2\tde\t_\tADP\n3\tle\t_\tDET\n\n" * 4, {"sequence": None, "label": None}, features=["column_2"], classes=("ADP", "DET", "PRON")),
    Learned("CoNLL-U", "t.conllu", "1\tle\tle\tDET\t_\t_\t0\troot\t_\t_\n2\tchat\tchat\tNOUN\t_\t_\t1\tdet\t_\t_\n\n" * 4, {"sequence": None, "label": "upos"}, features=["form"], classes=("DET", "NOUN")),
    Learned("CoNLL-U's features", "t.conllu", "1\tle\tle\tDET\t_\tGender=Masc|Number=Sing\t0\troot\t_\t_\n2\tva\taller\tVERB\t_\t_\t1\tdet\t_\t_\n\n" * 4, {"sequence": None, "label": "upos", "features": ["form,feats.Number", "feats.Case"], "drop": []}, message="has no value in column 'feats.Case', so it cannot be a feature"),
    Learned("CoNLL-U's features that there are", "t.conllu", "1\tle\tle\tDET\t_\tGender=Masc|Number=Sing\t0\troot\t_\t_\n2\tva\taller\tVERB\t_\t_\t1\tdet\t_\t_\n\n" * 4, {"sequence": None, "label": "upos", "features": ["form,feats.Number"]}, features=["form", "feats.Number"]),
    Learned("one of CoNLL-U's features as the label", "t.conllu", "1\tle\tle\tDET\t_\tNumber=Sing\t0\troot\t_\t_\n2\tvont\taller\tVERB\t_\tNumber=Plur\t1\tdet\t_\t_\n3\tlà\tlà\tADV\t_\t_\t1\tdet\t_\t_\n\n" * 4, {"sequence": None, "label": "feats.Number"}, features=["form"], classes=("Plur", "Sing")),
    Learned("CoNLL-U without a label", "t.conllu", "1\tle\tle\tDET\t_\t_\t0\troot\t_\t_\n2\tchat\tchat\tNOUN\t_\t_\t1\tdet\t_\t_\n\n" * 4, {"sequence": None, "label": None}, message="which column of …t.conllu is to be predicted? Name it with --label"),
    Learned("quotes have no effect on Parquet", "t.parquet", SQL.format(""), {"reading": {"quote": ""}}, message="--quote (quote) says how text files are read, and has no effect on …t.parquet: leave it out"),
    Learned("decimal commas have no effect on Parquet", "t.parquet", SQL.format(""), {"reading": {"decimal": ","}}, message="--decimal (decimal) says how text files are read"),
    Learned("another delimiter", "t.csv", many("{s}^{x}^{c}", "id^x^y"), message="has no column 'id' (the sequence of each row). Did you mean 'id^x^y'? Its columns: 'id^x^y'; is ',' what separates its cells? Say otherwise with --delimiter"),
    Learned("no header", "t.csv", many("{s},{x},{c}")[7:], message="has no column 'id' (the sequence of each row). Its columns: '0', '0.0', 'a'; if the file has no header, say so with --no-header"),
    Learned("names from a list", "t.csv", many("{s},{x},{c}")[7:], {"reading": {"columns": ["id", "x", "y"]}}, features=["x"], note=""),
    Learned("no such option", "t.csv", PLAIN, {"reading": {"separator": ","}}, message="there is no reading option 'separator'."),
    Learned("no options", "t.csv", PLAIN, {"reading": ";"}, message="reading is a dictionary of options or a ReadingOptions, not ';'"),
]  # fmt: skip


def learned(path: Path, case: Learned) -> Prepared:
    if case.name.endswith("parquet"):
        import duckdb

        duckdb.connect().execute(f"COPY ({case.content}) TO '{path}' (FORMAT parquet)").fetchall()
    else:
        path.write_text(case.content, encoding="utf-8")
    table, columns = open_data(path, column_options(**{"sequence": "id", "label": "y", **case.options}))
    return prepare(table, columns, validation_split=0.25)


@pytest.mark.parametrize("case", LEARNED, ids=[case.id for case in LEARNED])
def test_what_is_learned(case: Learned, tmp_path: Path) -> None:
    path = tmp_path / case.name
    if case.message is not None:
        with pytest.raises(UserError) as error:
            learned(path, case)
        said(error, case.message)
        return
    prepared = learned(path, case)
    if case.features is not None:
        assert prepared.schema.features == case.features
    if case.classes is not None:
        assert isinstance(prepared.task, LabelTask)
        assert prepared.task.classes == case.classes
    if case.note is not None:
        notes = " | ".join(prepared.notes)
        assert case.note in notes if case.note else not notes


CONLLU = (
    "# sent_id = 1\n1-2\tdu\t_\t_\t_\t_\t_\t_\t_\t_\n1\tde\tde\tADP\t_\t_\t0\troot\t_\t_\n"
    "2\tle\tle\tDET\t_\tGender=Masc\t1\tdet\t_\tSpaceAfter=No\n2.1\tx\tx\tX\t_\t_\t_\t_\t_\t_\n\n"
    "# sent_id = 2\n1\tle\tle\tDET\t_\t_\t0\troot\t_\t_\n\n"
)


def test_conllu_stays_valid(tmp_path: Path) -> None:
    (tmp_path / "t.conllu").write_text(CONLLU)
    table = read_table(tmp_path / "t.conllu")
    added = {"predicted": np.array(["A", "B|C", "A"], object), "probability": np.array([0.5, 0.25, 1.0])}
    write_table(table, added, tmp_path / "out.conllu")
    lines = CONLLU.splitlines()
    lines[2] = lines[2][:-1] + "predicted=A|probability=0.5"
    lines[3] += "|predicted=B\\pC|probability=0.25"
    lines[7] = lines[7][:-1] + "predicted=A|probability=1.0"
    assert (tmp_path / "out.conllu").read_text().splitlines() == lines
    again = read_table(tmp_path / "out.conllu")
    assert [again.texts(name).tolist() for name in again.names[:-1]] == [
        table.texts(name).tolist() for name in table.names[:-1]
    ]
    check_predictions_path(tmp_path / "out.conllu")  # it may be replaced
    with pytest.raises(UserError, match="is not a file of predictions"):
        check_predictions_path(tmp_path / "t.conllu")

    write_table(table, added, tmp_path / "out.conll")
    assert (tmp_path / "out.conll").read_text().splitlines()[2] == CONLLU.splitlines()[2] + "\tA\t0.5"


@pytest.mark.parametrize(
    ("content", "written"),
    [
        ("a\n\u00a0\nb\n", "a\tX\n\u00a0\tX\nb\tX\n"),
        ("a Y \nb\u3000 Z\n", "a Y X\nb\u3000 Z X\n"),
        ("word tag\na Y\nb Z\n", "word tag predicted\na Y X\nb Z X\n"),
        ("a\tY\n\t\nb\tZ\n", "a\tY\tX\n\t\nb\tZ\tX\n"),
        ("# 1 2\na Y\nb Z\n", "# 1 2\na Y X\nb Z X\n"),
    ],
)
def test_columns_of_words_are_written_as_they_were(tmp_path: Path, content: str, written: str) -> None:
    (tmp_path / "t.conll").write_text(content)
    table = read_table(tmp_path / "t.conll")
    write_table(table, {"predicted": np.array(["X"] * table.rows, object)}, tmp_path / "out.conll")
    assert (tmp_path / "out.conll").read_text() == written
    again = read_table(tmp_path / "out.conll")
    assert again.texts("token").tolist() == table.texts("token").tolist()
    assert again.texts("sequence").tolist() == table.texts("sequence").tolist()
    assert again.texts("label").tolist() == ["X"] * table.rows


def test_a_large_parquet_file_with_parentheses_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb

    monkeypatch.setattr(parquetfiles, "LARGE_PARQUET", 1)
    path = tmp_path / "data (1).parquet"
    duckdb.connect().execute(f"COPY (SELECT i AS id, 2 * i AS x FROM range(9) AS t(i)) TO '{path}' (FORMAT parquet)")
    table = read_table(path)
    assert (table.names, table.rows) == (["id", "x"], 9)
    assert table.numbers("x").tolist() == list(range(0, 18, 2))


@pytest.mark.parametrize("kind", ["TIME", "TIMESTAMP"])
def test_times_of_parquet_that_pass_midnight(tmp_path: Path, kind: str) -> None:
    import duckdb

    path = tmp_path / "t.parquet"
    cells = "TIMESTAMP '2024-06-01 23:59:59' + i * INTERVAL 1 SECOND"
    sql = f"SELECT 1 AS id, CAST({cells} AS {kind}) AS t, i AS k FROM range(3) AS t(i)"
    duckdb.connect().execute(f"COPY ({sql}) TO '{path}' (FORMAT parquet)").fetchall()
    if kind == "TIMESTAMP":
        assert read_table(path).sequences("id", "t").rows.tolist() == [0, 1, 2]
        return
    with pytest.raises(UserError, match="row 2: '00:00:00' in column 't' comes after '23:59:59'"):
        read_table(path).sequences("id", "t")
    one_day = read_table(path, reading=ReadingOptions(one_day=True))
    assert one_day.sequences("id", "t").rows.tolist() == [1, 2, 0]


@pytest.mark.parametrize("unit", ["time64", "timestamp", "zoned"])
def test_nanoseconds_of_parquet_are_kept_or_refused(tmp_path: Path, unit: str) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    kinds = {"time64": pyarrow.time64("ns"), "timestamp": pyarrow.timestamp("ns")}
    kind = kinds.get(unit, pyarrow.timestamp("ns", tz="Europe/Berlin"))
    parquet.write_table(pyarrow.table({"id": [1, 1], "t": pyarrow.array([400, 0], kind)}), tmp_path / "t.parquet")
    try:
        rows = read_table(tmp_path / "t.parquet").sequences("id", "t").rows.tolist()
    except UserError as error:
        assert "holds nanoseconds, which this version of DuckDB does not keep" in str(error)  # noqa: PT017
    else:
        assert rows == [1, 0]


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("t.csv", "id;w\n1;'é;x'\n2;ü\n", {"encoding": "latin-1", "quote": "'", "delimiter": ";"}),
        ("t.csv.gz", "id,w\n1,é\n", {"encoding": "cp1252"}),
        ("t.csv", "\ufeffid,w\n1,é\n", {"encoding": "utf-16-le"}),
        ("t.tsv", 'id\tw\n1\t"\n2\ta"b\n', {"quote": ""}),
        ("t.conll", "é X\nb Y\n", {"encoding": "latin-1"}),
    ],
)
def test_what_is_written_is_read_by_the_same_options(
    tmp_path: Path, name: str, content: str, options: dict[str, Any]
) -> None:
    encoded = content.encode(options.get("encoding", "utf-8"))
    (tmp_path / name).write_bytes(gzip.compress(encoded) if name.endswith(".gz") else encoded)
    table = read_table(tmp_path / name, reading=ReadingOptions(**options))
    write_table(table, {"predicted": np.array(["ö"] * table.rows, object)}, tmp_path / f"out.{name}")
    again = read_table(tmp_path / f"out.{name}", reading=ReadingOptions(**options))
    kept = [each for each in table.names if each != "label"]
    assert "label" in table.names or kept == ["id", "w"]
    assert [again.texts(each).tolist() for each in kept] == [table.texts(each).tolist() for each in kept]
    assert again.texts("label" if name == "t.conll" else "predicted").tolist() == ["ö"] * table.rows
    assert not list(tmp_path.glob("*.encoded"))


def test_what_an_encoding_cannot_hold_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("id,w\n1,é\n".encode("latin-1"))
    table = read_table(tmp_path / "t.csv", reading=ReadingOptions(encoding="latin-1"))
    with pytest.raises(UserError, match="it would be latin-1, as .*t.csv is, which has no '猫'; use another ending"):
        write_table(table, {"predicted": np.array(["猫"], object)}, tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
    write_table(table, {"predicted": np.array(["猫"], object)}, tmp_path / "out.tsv")
    assert (tmp_path / "out.tsv").read_text(encoding="utf-8") == "id\tw\tpredicted\n1\té\t猫\n"
