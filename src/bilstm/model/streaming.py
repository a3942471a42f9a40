"""Predictions on a stream of JSON objects, one a line: for each sequence as soon as it is complete."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import re
import select
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from bilstm.data.arrays import read_sequences
from bilstm.data.dataset import Dataset, Observations
from bilstm.data.frames import read_cells
from bilstm.data.memory import MemoryTable
from bilstm.data.reading import check_json
from bilstm.data.readingoptions import PLAIN, ReadingOptions
from bilstm.data.schema import Schema, not_a_number
from bilstm.data.sources import divide_texts
from bilstm.data.writing import DictionaryColumn
from bilstm.errors import UserError, suggestion
from bilstm.model.predictions import EVENTS, PredictionOptions, find_runs, predicted_columns
from bilstm.model.prepare import read_dataset
from bilstm.model.trained import TrainedModel
from bilstm.ragged import Extent, IndexArray
from bilstm.tasks import LabelTask

_NAME = "standard input"
_AT_ONCE = 1 << 22  # bytes that are read before what is complete in them is predicted
_EXAMPLE = 200  # characters of an object that a message shows
_MISSING = frozenset({"", "na", "n/a", "<na>", "nan", "-nan", "null", "none"})  # the spellings of no number


@dataclasses.dataclass
class Line:
    """A line with a JSON object.

    Attributes:
        number: counted from 1.
        text: without blanks around it.
        cells: what the object holds.
        key: the text of its sequence; None where it is a sequence of its own, or where a problem hides it.
        problem: why it cannot be used, or None.
    """

    number: int
    text: str = ""
    cells: dict[str, Any] = dataclasses.field(default_factory=dict)
    key: str | None = None
    problem: UserError | None = None


class _Lines(MemoryTable):
    """Lines as a table: a row is a line or, where each is a sequence, one of its steps."""

    def __init__(self, table: MemoryTable, lines: Sequence[Line]) -> None:
        super().__init__(table.columns, table.offsets, form=table.form, label=_NAME, rows=table.rows)
        self.lists, self.reading, self._lines = table.lists, table.reading, lines

    def _sequence_codes(self, sequence: str) -> tuple[IndexArray, npt.NDArray[np.object_]]:
        keys = [line.key for line in self._lines]
        changes = [i > 0 and key != keys[i - 1] for i, key in enumerate(keys)]
        return np.cumsum(changes), np.array(keys, object)

    def place(self, row: int) -> str:
        if self.offsets is None:
            return f"{_NAME}, line {self._lines[row].number}"
        line = int(np.searchsorted(self.offsets, row, "right")) - 1
        return f"{_NAME}, line {self._lines[line].number}, step {row - self.offsets[line] + 1}"


@dataclasses.dataclass
class Streamed:
    """What a stream held: how many sequences, of how many steps, and what was noticed while encoding them."""

    extent: Extent = dataclasses.field(default_factory=Extent)
    observations: Observations = dataclasses.field(default_factory=Observations)


def predict_stream(source: IO[bytes], target: IO[bytes], model: TrainedModel, options: PredictionOptions) -> Streamed:
    """Predict for sequences as they come.

    The rows of a sequence are contiguous. A sequence is complete when a row of another one comes, or the end; then its
    rows are written, each with what the model predicts; or its events; or, where there is one answer a sequence, one
    object. An object that is a sequence of its own, with lists of steps or a text, is written with its answers.

    Args:
        source: JSON objects, one a line.
        target: where the answers go.

    Raises:
        UserError: a line is not a JSON object, or not one that the model can take; the answers for the sequences that
            were complete before it are written first.
    """
    options.check(model.task)
    streamed = Streamed()

    def predict(lines: Sequence[Line]) -> None:
        table, data = _read(lines, model)
        if not options.events:
            _check_new_names(lines, options.names(model.task), model)
        answers = (
            _events(model, table, data, lines, options) if options.events else _answers(model, data, lines, options)
        )
        target.writelines(answers)
        target.flush()
        streamed.extent.add(data.values.lengths)
        streamed.observations.add(data.observations)

    def predict_complete(lines: Sequence[Line]) -> None:
        try:
            predict(lines)
        except UserError:  # it was raised before anything was written
            for sequence in _divided(lines):
                predict(sequence)

    waiting: list[Line] = []
    start: Line | None = None
    for came in _arrivals(source, model):
        first = len(waiting)  # those before are of one sequence
        bad = None
        for line in came:
            start = start or line
            line.problem = line.problem or _mixture(start, line)
            if line.problem:
                bad = line
                break
            waiting.append(line)
        last = len(waiting)
        if waiting and waiting[-1].key is not None and (bad is None or bad.key in (None, waiting[-1].key)):
            new = range(len(waiting) - 1, max(first, 1) - 1, -1)
            last = next((i for i in new if waiting[i - 1].key != waiting[i].key), 0)
        if last:
            predict_complete(waiting[:last])
            del waiting[:last]
        if bad is not None and bad.problem is not None:
            raise bad.problem
    if waiting:
        predict_complete(waiting)
    if not streamed.extent.steps:
        raise UserError(f"{_NAME} is empty: it has no JSON object with a step")
    return streamed


def _divided(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """The lines of each sequence."""
    for _, group in itertools.groupby(lines, lambda line: line.number if line.key is None else line.key):
        yield list(group)


def _mixture(start: Line, line: Line) -> UserError | None:
    """The error of a stream with a time step in one line and a whole sequence in another, or None."""
    if (line.key is None) == (start.key is None):
        return None
    kinds = ("a time step", "a sequence of its own")
    return UserError(
        f"{_NAME}, line {line.number} is {kinds[line.key is None]}, but line {start.number} is "
        f"{kinds[start.key is None]}: a stream has one or the other"
    )


def _read(lines: Sequence[Line], model: TrainedModel) -> tuple[MemoryTable, Dataset]:
    schema = model.schema
    own = lines[0].key is None
    if schema.text is not None:
        texts = {schema.text.column: read_cells([_text(line.cells[schema.text.column]) for line in lines])}
        table = divide_texts(_Lines(MemoryTable(texts, label=_NAME), lines), schema.text)
    else:
        roles: dict[str, Callable[[Any], Any]] = {column.name: _text for column in schema.categorical}
        number = partial(_number, reading=schema.reading)
        roles |= {column.name: number for column in schema.numeric}
        for name in _order_columns(schema, lines[0].cells):
            roles.setdefault(name, number)
        if own:
            sequences = [
                {n: [read(v) for v in c] if isinstance(c := line.cells[n], list) else c for n, read in roles.items()}
                for line in lines
            ]
            table = read_sequences(sequences, _NAME)
        else:
            columns = {str(schema.sequence): read_cells([line.key for line in lines])}
            columns |= {name: read_cells([read(line.cells[name]) for line in lines]) for name, read in roles.items()}
            table = MemoryTable(columns, label=_NAME)
    table = _Lines(table.read_as(schema.reading), lines)
    return table, read_dataset(schema, model.task, table, with_truth=False)


def _text(cell: Any) -> Any:
    """A cell of text, as one is read from a file: numbers and truth values as they are written."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return repr(cell) if isinstance(cell, (int, float)) else cell or None


def _order_columns(schema: Schema, cells: Mapping[str, Any]) -> list[str]:
    """The columns that sort the steps of a sequence: one of this name, or `a,b`."""
    if schema.order is None or schema.order in cells or "," not in schema.order:
        return [] if schema.order is None else [schema.order]
    return [name.strip() for name in schema.order.split(",") if name.strip()]


def _number(cell: Any, reading: ReadingOptions = PLAIN) -> Any:
    """A cell of a number, as one is read from a file, where it may be written as text; other text is left as it is."""
    if not isinstance(cell, str):
        return cell
    text = reading.plain_number(cell.strip(" \t")).lower()
    if text in _MISSING if reading.missing is None else cell.strip(" \t") in ("", *reading.missing):
        return None
    if not text.isascii():  # Python reads the digits of other scripts, and passes over other blanks
        return cell
    if text in ("true", "false"):
        return text == "true"
    try:
        return cell if "_" in text else int(text) if re.fullmatch("[+-]?[0-9]+", text) else float(text)
    except ValueError:
        return cell


def _check_new_names(lines: Sequence[Line], names: Sequence[str], model: TrainedModel) -> None:
    for line in lines:
        written: Iterable[str] = line.cells
        if model.task.per_sequence and line.key is not None:
            written = (str(model.schema.sequence),)
        for name in written:
            if name in names:
                raise UserError(f"{_NAME}, line {line.number}: there is a value {name!r} already, which would be lost")


def _answers(model: TrainedModel, data: Dataset, lines: Sequence[Line], options: PredictionOptions) -> Iterator[bytes]:
    own = lines[0].key is None
    count = len(data) if data.per_sequence else len(data.rows)
    places = np.arange(len(data)) if data.per_sequence else data.rows
    columns = predicted_columns(model, data, options, places, count)
    values = {
        name: column.texts(0, count) if isinstance(column, DictionaryColumn) else column.tolist()
        for name, column in columns.items()
    }
    if not own and data.per_sequence:
        firsts = data.rows[data.values.offsets[:-1]]
        for place, row in enumerate(firsts.tolist()):
            answer = {str(model.schema.sequence): lines[row].cells[str(model.schema.sequence)]}
            yield _written(answer | {name: column[place] for name, column in values.items()})
        return
    bounds = data.values.offsets if own and not data.per_sequence else None
    for place, line in enumerate(lines):
        chosen = place if bounds is None else slice(bounds[place], bounds[place + 1])
        yield _extended(line.text, {name: column[chosen] for name, column in values.items()})


def _events(
    model: TrainedModel, table: MemoryTable, data: Dataset, lines: Sequence[Line], options: PredictionOptions
) -> Iterator[bytes]:
    assert isinstance(model.task, LabelTask)
    sequence, order = model.schema.sequence, _order_columns(model.schema, lines[0].cells) or None
    for runs in find_runs(model, data, options.background):
        for place in range(len(runs.codes)):
            first, last = int(data.rows[runs.first[place]]), int(data.rows[runs.last[place]])
            ends: list[Any] = [int(runs.first_step[place]), int(runs.last_step[place])]
            if table.offsets is None:
                key = lines[first].cells[str(sequence)]
                if order is not None:
                    ends = [_joined([lines[row].cells[name] for name in order]) for row in (first, last)]
            else:
                line = int(np.searchsorted(table.offsets, first, "right")) - 1
                key = lines[line].cells.get(str(sequence), lines[line].number)
                if order is not None:
                    steps = [row - table.offsets[line] for row in (first, last)]
                    ends = [_joined([lines[line].cells[name][step] for name in order]) for step in steps]
            label = model.task.classes[runs.codes[place]]
            values = (key, *ends, label, float(runs.confidences[place]))
            yield _written(dict(zip(EVENTS, values, strict=True)))


def _joined(cells: list[Any]) -> Any:
    return cells[0] if len(cells) == 1 else " ".join(map(str, cells))


def _written(answer: dict[str, Any]) -> bytes:
    return f"{json.dumps(answer, ensure_ascii=False)}\n".encode()


def _extended(text: str, added: dict[str, Any]) -> bytes:
    return f"{text[:-1].rstrip()}, {json.dumps(added, ensure_ascii=False)[1:]}\n".encode()


def _arrivals(source: IO[bytes], model: TrainedModel) -> Iterator[list[Line]]:
    """The lines that have come since they were last asked for; waits until there are some."""
    number, rest = 0, b""
    while True:
        chunk = _available(source)
        *complete, rest = (rest + chunk).split(b"\n") if chunk else (rest, b"")
        came = []
        for each in complete:
            number += 1
            line = Line(number)
            try:
                line.text = _decoded(number, each).strip()
                if line.text:
                    _read_object(line, model)
            except UserError as error:
                line.problem = error
            if line.text or line.problem:
                came.append(line)
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
    except (OSError, io.UnsupportedOperation):  # not a pipe, or Windows
        return False


def _decoded(number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise UserError(f"{_NAME}, line {number}: not UTF-8 text (byte 0x{byte:02x})") from None


def _read_object(line: Line, model: TrainedModel) -> None:
    """Fill in what the object of a line holds, and its sequence before anything that may be wrong with the rest."""
    schema, where = model.schema, f"{_NAME}, line {line.number}"
    cells = line.cells = check_json(_NAME, line.number, line.text, _example(model))
    own = schema.text is not None or any(
        isinstance(cells.get(n), list) for n in (*schema.features, *model.task.columns)
    )
    roles: dict[str, str] = {}
    if not own:
        if schema.sequence is None:
            names = "" if schema.named else "; --features gives its features other names"
            raise UserError(
                f"{where} has no list of steps: for this model, a line is a sequence such as {_example(model)}, or a "
                f"time step whose sequence is in a column that --sequence names{names}"
            )
        roles[schema.sequence] = "the sequence of each row"
        key = cells.get(schema.sequence)
        line.key = None if key in (None, "") else key if isinstance(key, str) else json.dumps(key)
    roles |= dict.fromkeys(schema.features, "a feature of the model")
    roles |= dict.fromkeys(_order_columns(schema, cells), "the order within a sequence")
    for name, role in roles.items():
        if name not in cells:  # in a file, other rows may have it; here, none may come
            raise UserError(
                f"{where}: there is no {name!r} ({role}).{suggestion(name, cells)} Where its value is missing, "
                f"give null"
            )
    if not own and line.key is None:
        raise UserError(f"{where}: {schema.sequence!r}, the row's sequence, is missing")
    for column in schema.numeric:  # here, where text among numbers is found whatever comes at once
        steps = cells[column.name]
        for step, cell in enumerate(steps if isinstance(steps, list) else [steps], 1):
            if isinstance(cell, str) and isinstance(_number(cell, schema.reading), str):
                raise not_a_number(f"{where}, step {step}" if own else where, column.name, cell)


def _example(model: TrainedModel) -> str:
    """An object that the model can take: a text, a sequence with lists, or a time step."""
    schema = model.schema
    if schema.text is not None:
        return json.dumps({schema.text.column: "Where is it?"})
    steps: dict[str, tuple[Any, Any]] = dict.fromkeys(_order_columns(schema, {}), (1, 2))
    steps |= {column.name: (0.5, 1.5) for column in schema.numeric}
    steps |= {column.name: ("a", "b") for column in schema.categorical}
    if schema.sequence is None or schema.conll_columns is not None:
        example = json.dumps({name: list(cells) for name, cells in steps.items()})
    else:
        example = json.dumps({schema.sequence: 1, **{name: first for name, (first, _) in steps.items()}})
    return example if len(example) <= _EXAMPLE else f"{example[:_EXAMPLE]} …}}"
