"""Predictions on a stream of JSON objects, a line each: of a sequence as soon as it is complete."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import select
from collections.abc import Iterator, Sequence
from typing import IO, Any

import numpy as np

from bilstm.data.columns import Columns, notes_on
from bilstm.data.reading import check_json, connect, table_of_objects
from bilstm.data.table import Table
from bilstm.data.writing import Coded, check_new_names
from bilstm.errors import UserError, suggestion
from bilstm.ragged import Extent
from bilstm.tagging.predictions import Wanted, find_runs, runs_query, step_columns
from bilstm.tagging.tagger import Tagger

_NAME = "standard input"
_AT_ONCE = 1 << 22  # bytes that are read before what is complete in them is predicted


@dataclasses.dataclass
class Line:
    """A line with a JSON object.

    Attributes:
        number: counted from 1.
        text: without blanks around it.
        key: the text of its sequence, or None where it is a sequence of its own, with lists of steps.
    """

    number: int
    text: str
    key: str | None


@dataclasses.dataclass
class Lines:
    """Where the objects of a table stand."""

    numbers: list[int]

    def line(self, row: int) -> int:
        """The line on which an object stands, counted from 1."""
        return self.numbers[row]


@dataclasses.dataclass
class Streamed:
    """What a stream held.

    Attributes:
        extent: how many sequences, of how many steps.
        missing, unknown: see `Encoded`.
    """

    extent: Extent = dataclasses.field(default_factory=Extent)
    missing: dict[str, int] = dataclasses.field(default_factory=dict)
    unknown: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about it."""
        return notes_on(self.extent.steps, self.missing, self.unknown)


def predict_stream(source: IO[bytes], target: IO[bytes], tagger: Tagger, columns: Columns, wanted: Wanted) -> Streamed:
    """Label the steps of sequences as they come.

    The rows of a sequence follow each other. A sequence is complete when a row of another one comes, or the end; then
    its rows are written, each with what the model says of it, or its events.

    Args:
        source: JSON objects, one a line and step, or one a line and sequence, with lists of steps.
        target: where the objects go, each with further values.
        columns: the model's, with the names that the objects have for them.

    Raises:
        UserError: a line is no JSON object, or one that the model cannot take; what stands before it is written.
    """
    wanted.check(columns.classes)
    connection = connect()
    steps = [*columns.features, columns.label]
    told = Streamed()

    def label(lines: Sequence[Line]) -> None:
        changes = [i == 0 or line.key is None or line.key != lines[i - 1].key for i, line in enumerate(lines)]
        numbers = Lines([line.number for line in lines])
        keys = np.cumsum(changes, dtype=np.int64)
        table = table_of_objects(connection, _NAME, [line.text for line in lines], keys, numbers, steps)
        if not wanted.events:
            check_new_names(table, wanted.names(columns.classes))
        encoded = columns.encode(table)
        if wanted.events:
            find_runs(table, tagger, encoded, wanted)
            rows = table.query(f"SELECT to_json(e) FROM ({runs_query(table, columns, 'ndjson')}) AS e")
            target.writelines(f"{row}\n".encode() for (row,) in rows)
        else:
            additions = _values(table, step_columns(tagger, encoded, wanted), len(lines))
            target.writelines(_extended(line.text, added) for line, added in zip(lines, additions, strict=True))
        target.flush()
        told.extent.add(encoded.values.lengths)
        for total, found in ((told.missing, encoded.missing), (told.unknown, encoded.unknown)):
            total.update({name: total.get(name, 0) + count for name, count in found.items()})

    waiting: list[Line] = []
    for came in _arrivals(source, columns):
        waiting += came
        if waiting and waiting[-1].key is not None:
            last = next((i for i in range(len(waiting) - 1, 0, -1) if waiting[i - 1].key != waiting[-1].key), 0)
        else:
            last = len(waiting)
        if last:
            label(waiting[:last])
            del waiting[:last]
    if waiting:
        label(waiting)
    if not told.extent.steps:
        raise UserError(f"{_NAME} is empty: it has no JSON object with a step")
    return told


def _values(table: Table, additions: dict[str, Any], lines: int) -> Iterator[dict[str, Any]]:
    """What is added to each object."""
    columns = [a.texts(0, len(a.codes)) if isinstance(a, Coded) else a.tolist() for a in additions.values()]
    if not table.lists:
        yield from (dict(zip(additions, values, strict=True)) for values in zip(*columns, strict=True))
        return
    (rows,) = table.arrays("SELECT list_row FROM cells ORDER BY rowid")
    ends = np.searchsorted(rows, np.arange(lines + 1))
    for start, stop in itertools.pairwise(ends):
        yield {name: column[start:stop] for name, column in zip(additions, columns, strict=True)}


def _extended(text: str, added: dict[str, Any]) -> bytes:
    return f"{text[:-1].rstrip()}, {json.dumps(added, ensure_ascii=False)[1:]}\n".encode()


def _arrivals(source: IO[bytes], columns: Columns) -> Iterator[list[Line]]:
    """The lines that have come since they were last asked for; waits until there are some."""
    number, rest = 0, b""
    while True:
        chunk = _available(source)
        *complete, rest = (rest + chunk).split(b"\n") if chunk else (rest, b"")
        came = []
        for line in complete:
            number += 1
            text = _decoded(number, line).strip()
            if text:
                came.append(_line(number, text, columns))
        yield came
        if not chunk:
            return


def _available(source: IO[bytes]) -> bytes:
    """What can be read now, or after waiting; nothing at the end."""
    chunks = []
    size = 0
    while size < _AT_ONCE:
        chunk = source.read1(_AT_ONCE)  # type: ignore[attr-defined]
        chunks.append(chunk)
        size += len(chunk)
        if not chunk or not _has_more(source):
            break
    return b"".join(chunks)


def _has_more(source: IO[bytes]) -> bool:
    """Whether there is more to read at once, as far as this can be told."""
    try:
        return bool(select.select([source.fileno()], [], [], 0)[0])
    except (OSError, io.UnsupportedOperation):  # no pipe, or Windows
        return False


def _decoded(number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise UserError(f"{_NAME}, line {number}: not UTF-8 text (byte 0x{byte:02x})") from None


def _line(number: int, text: str, columns: Columns) -> Line:
    found = check_json(_NAME, number, text)
    lists = any(isinstance(found.get(name), list) for name in (*columns.features, columns.label))
    roles = {} if lists else {columns.sequence: "the sequence of each row"}
    roles |= dict.fromkeys(columns.features, "a feature of the model")
    if columns.order is not None:
        roles[columns.order] = "the order within a sequence"
    for name, role in roles.items():
        if name not in found:  # in a file, others may have it; here, none may come
            raise UserError(
                f"{_NAME}, line {number}: there is no {name!r} ({role}).{suggestion(name, found)} "
                f"Where its value is missing, give null"
            )
    if lists:
        return Line(number, text, None)
    key = found[columns.sequence]
    if key is None or key == "":
        raise UserError(f"{_NAME}, line {number}: {columns.sequence!r}, the row's sequence, is missing")
    return Line(number, text, key if isinstance(key, str) else json.dumps(key))
