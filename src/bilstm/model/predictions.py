"""What a model predicts, as columns to be written: for each time step, each sequence, or each run of equal labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data import scratch
from bilstm.data.conll import ConllRows
from bilstm.data.dataset import Dataset
from bilstm.data.filetable import FileTable
from bilstm.data.jsontext import is_array, json_objects
from bilstm.data.marked import FORMS
from bilstm.data.names import literal
from bilstm.data.paths import format_of
from bilstm.data.reading import column_names
from bilstm.data.stores import StoredPath, as_path, exists, identity
from bilstm.data.table import Format
from bilstm.data.writing import (
    Addition,
    DictionaryColumn,
    check_new_names,
    check_output,
    exported,
    write_query,
    write_sequences,
    write_table,
)
from bilstm.engine.network import Paths
from bilstm.errors import UserError, counted, listed, shown
from bilstm.files import AnyPath, check_replaceable, check_writable
from bilstm.metrics.events import find_events
from bilstm.model.annotating import write_annotated
from bilstm.model.spans import check_spans, span_chunks
from bilstm.model.trained import TrainedModel, check_paths
from bilstm.ragged import IndexArray
from bilstm.tasks import LabelSetTask, LabelTask, Outputs, Task
from bilstm.tasks.labels import check_background

DECIMALS = 6
EVENTS = ("sequence", "start", "end", "label", "confidence")
ANNOTATED = ("text", "tokens", "spans")
SPANS = (*EVENTS[:-1], "probability")


@dataclass(frozen=True, kw_only=True)
class PredictionOptions:
    """What predictions consist of.

    Attributes:
        probabilities: whether to give each label's probability as well.
        top: how many of the likeliest labels to give, each with its probability.
        events: whether to give runs of equal labels instead of steps.
        background: the label that is no event.
        spans: whether to give the spans that tags such as B-X and I-X mark instead of steps.
        paths: how many of the likeliest labels of a sequence as a whole to give, each with its probability.
        annotate: the form in which to give texts with spans instead of steps, one of `bilstm.data.marked.FORMS`;
            `probabilities` then are those of the spans.
    """

    probabilities: bool = False
    top: int = 1
    events: bool = False
    background: str | None = None
    spans: bool = False
    paths: int = 0
    annotate: str | None = None

    @property
    def runs(self) -> bool:
        """Whether to give runs of steps, which are a table of their own."""
        return self.events or self.spans

    def check(self, task: Task) -> None:
        """Refuse what a model for this task cannot give.

        Raises:
            UserError: the message says why.
        """
        if self.annotate is not None:
            if self.annotate not in FORMS:
                raise UserError(f"--annotate is one of {', '.join(FORMS)}, and not {shown(self.annotate)}")
            others = {"--events": self.events, "--spans": self.spans, "--top": self.top > 1, "--paths": self.paths}
            if other := next((name for name, chosen in others.items() if chosen), None):
                raise UserError(f"--annotate writes texts with spans, which cannot be combined with {other}")
            check_spans(task, "--annotate")
            return
        if self.probabilities and task.what == "quantity":
            raise UserError("--probabilities gives the probabilities of labels, but the model predicts quantities")
        if self.events and (task.per_sequence or not isinstance(task, LabelTask)):
            raise UserError(f"--events is for labels of time steps, but the model's task is {task.kind}")
        if self.spans:
            check_spans(task, "--spans")
        if self.paths:
            check_paths(task, "--paths", self.paths)
        if not isinstance(task, LabelTask):
            if self.top > 1:
                raise UserError(f"--top is for one label at a time, but the model's task is {task.kind}")
            return
        if self.top > len(task.classes):
            raise UserError(f"the model knows {counted(len(task.classes), 'label')}, so it has no {self.top} likeliest")
        check_background(task.classes, self.background)
        lower = [name.lower() for name in task.classes]
        twice = [name for name in task.classes if lower.count(name.lower()) > 1] if self.probabilities else []
        if twice:
            raise UserError(
                f"the labels {listed(twice)} differ in capitals only, so that columns cannot be named after them; "
                f"--top gives probabilities, too"
            )

    def names(self, task: Task) -> list[str]:
        """The names of the columns."""
        if isinstance(task, LabelTask):
            ranks = ["", *(f"_{rank}" for rank in range(2, self.top + 1))]
            likeliest = [f"{what}{rank}" for rank in ranks for what in ("predicted", "probability")]
            paths = [f"path_{rank}{what}" for rank in range(1, self.paths + 1) for what in ("", "_probability")]
            return [*likeliest, *(f"probability_of_{name}" for name in task.classes if self.probabilities), *paths]
        if len(task.columns) == 1:
            return ["predicted"]
        names = [f"predicted_{name}" for name in task.columns]
        return names + [f"probability_of_{name}" for name in task.columns if self.probabilities]


def predicted_columns(
    model: TrainedModel,
    data: Dataset,
    options: PredictionOptions,
    output_rows: IndexArray,
    length: int,
    outputs: Outputs | None = None,
) -> dict[str, Addition]:
    """Columns of predictions, by their names.

    Args:
        output_rows: for each row of outputs its row in the columns.
        length: the number of rows of the columns.
        outputs: what the network gives for all the data, where that is known.
    """
    task = model.task
    if not len(data):
        return empty_columns(task, options, length)
    columns: list[npt.NDArray[Any]] = []
    for group, steps, own in _chunks(model, data, outputs):
        rows = output_rows[group if data.per_sequence else steps]
        values = _values(task, own, options)
        if options.paths:
            bounds = data.values.offsets[group.start : group.stop + 1]
            paths = model.likeliest_paths(data.values.take_steps(steps, bounds - bounds[0]), options.paths)
            values += _values_of_paths(paths, np.diff(bounds))
        if not columns:
            columns = [_empty(length, value.dtype) for value in values]
        for column, value in zip(columns, values, strict=True):
            column[rows] = value
    return _named(task, options, columns)


def columns_of(task: Task, options: PredictionOptions, outputs: Outputs) -> dict[str, Addition]:
    """Columns of predictions, by their names, with a row for each row of outputs."""
    return _named(task, options, _values(task, outputs, options))


def empty_columns(task: Task, options: PredictionOptions, length: int = 0) -> dict[str, Addition]:
    """Columns of predictions, by their names, of rows that have none."""
    labels = np.zeros(0, np.int32) if isinstance(task, LabelTask) else None
    values = _values(task, Outputs(np.zeros((0, task.outputs), np.float32), labels), options)
    values += [np.zeros(0, np.int32), np.zeros(0, np.float64)] * options.paths
    return _named(task, options, [_empty(length, value.dtype) for value in values])


def _named(task: Task, options: PredictionOptions, columns: list[npt.NDArray[Any]]) -> dict[str, Addition]:
    """Columns, in the order of `_values`, by their names."""
    names = options.names(task)
    if isinstance(task, LabelTask):
        return {
            name: DictionaryColumn(column, task.classes) if column.dtype == np.int32 else column
            for name, column in zip(names, columns, strict=True)
        }
    return dict(zip(names, columns, strict=True))


def _chunks(model: TrainedModel, data: Dataset, outputs: Outputs | None) -> Iterable[tuple[slice, slice, Outputs]]:
    if outputs is None:
        return model.output_chunks(data.values)
    return [(slice(0, len(data)), slice(0, len(data.rows)), outputs)]


def _empty(length: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Rows that no prediction fills have none."""
    column = scratch.empty(length, dtype)
    column[:] = -1 if np.dtype(dtype).kind == "i" else np.nan
    return column


def _values(task: Task, outputs: Outputs, options: PredictionOptions) -> list[npt.NDArray[Any]]:
    """The values of some rows, a (rows,) array for each column."""
    if isinstance(task, LabelTask):
        ranked = outputs.likeliest(options.top)
        values: list[npt.NDArray[Any]] = []
        for rank in range(options.top):
            codes = ranked[:, rank]
            values += [codes.astype(np.int32), rounded(outputs.values[np.arange(len(codes)), codes])]
        return values + [rounded(column) for column in outputs.values.T if options.probabilities]
    predicted = list(task.predicted(outputs).T)
    if isinstance(task, LabelSetTask) and options.probabilities:
        return predicted + [rounded(column) for column in outputs.values.T]
    return predicted


def _values_of_paths(paths: Paths, lengths: IndexArray) -> list[npt.NDArray[Any]]:
    """A column of labels and one of the probability of its sequence's for each path; -1 and 0 where there are fewer."""
    chances = rounded(np.exp(paths.log_probabilities)).repeat(lengths, axis=1)
    return [column for pair in zip(paths.labels, chances, strict=True) for column in pair]


@dataclass(frozen=True)
class Runs:
    """Runs of steps: of equal labels, or those that are spans.

    Attributes:
        first, last: (runs,) the positions of their first and last steps in the data.
        first_step, last_step: (runs,) the same, counted from their sequence's first step.
        codes: (runs,) their labels.
        confidences: (runs,) how sure they are: of equal labels the mean probability of the label over their steps, of
            spans their own.
    """

    first: IndexArray
    last: IndexArray
    first_step: IndexArray
    last_step: IndexArray
    codes: IndexArray
    confidences: npt.NDArray[np.float64]


def find_runs(
    model: TrainedModel, data: Dataset, options: PredictionOptions, outputs: Outputs | None = None
) -> tuple[Sequence[str], Sequence[str], list[Runs]]:
    """The names of the columns of runs, those of their labels, and the runs, some sequences' in each part.

    Args:
        outputs: what the network gives for all the data, where that is known.
    """
    if not options.spans:
        assert isinstance(model.task, LabelTask)
        return EVENTS, model.task.classes, list(_equal_labels(model, data, options.background, outputs))
    types: list[str] = []
    chunks = []
    for group, steps, (events, types, probabilities) in span_chunks(model, data.values):  # noqa: B007
        begins = data.values.offsets[group.start + events.sequences]
        ends = begins + events.onsets, begins + events.offsets, events.onsets, events.offsets
        chunks.append(Runs(*ends, events.classes, rounded(probabilities)))
    return SPANS, types, chunks


def _equal_labels(
    model: TrainedModel, data: Dataset, background: str | None, outputs: Outputs | None
) -> Iterator[Runs]:
    """The runs of equal predicted labels, without those of the background."""
    assert isinstance(model.task, LabelTask)
    ground = check_background(model.task.classes, background)
    for group, steps, own in _chunks(model, data, outputs):
        offsets = data.values.offsets[group.start : group.stop + 1] - steps.start
        runs = find_events(own.labels, offsets)
        first, last = offsets[runs.sequences] + runs.onsets, offsets[runs.sequences] + runs.offsets
        sums = np.add.reduceat(own.confidences.astype(np.float64), first)
        kept = runs.classes != (-1 if ground is None else ground)
        ends = (first + steps.start, last + steps.start, runs.onsets, runs.offsets, runs.classes)
        confidences = rounded(sums / (last + 1 - first))
        yield Runs(*(each[kept] for each in (*ends, confidences)))


def check_predictions_path(path: AnyPath, *, inputs: Sequence[AnyPath] = (), force: bool = False) -> None:
    """Find out now whether predictions can be written to `path` and replace nothing but predictions.

    Args:
        path: the file that will be written.
        inputs: files that are being read, and must not be overwritten.
        force: replace an existing file of any content.

    Raises:
        UserError: the file cannot be written, or exists, is not empty and does not hold predictions.
    """
    target = as_path(path)
    if not isinstance(target, StoredPath):
        check_writable(target, inputs=inputs)
    elif target.address in map(identity, inputs):
        raise UserError(f"cannot write {path}: it is being read; give another name")
    if not force and exists(target):
        check_replaceable(target, "a file of predictions", _holds_predictions)


def _holds_predictions(path: AnyPath) -> bool:
    if format_of(path) == "conll":  # without names: its last column is a probability, a quantity, or 0 or 1
        rows = ConllRows(as_path(path))
        last = next(iter(rows))[-1]
        if rows.universal:
            return re.search(r"(^|[|])predicted(_\w+)?=", last) is not None
        return re.fullmatch(r"-?[0-9.]+(e[+-]?[0-9]+)?", last) is not None
    if format_of(path) == "ndjson" and is_array(path):
        _, first = next(json_objects(as_path(path)))
        return first.keys() == {"data", "predictions"}
    names = column_names(path)
    return tuple(names) in (EVENTS, SPANS, ANNOTATED) or any(re.match("predicted(_|$)", name) for name in names)


def check_predictions(table: FileTable, options: PredictionOptions, model: TrainedModel, path: AnyPath) -> Format:
    """The format in which predictions for a table will be written to this path.

    Raises:
        UserError: they cannot be.
    """
    task = model.task
    options.check(task)
    output = format_of(path)
    if options.annotate:
        right = ".json" if options.annotate == "label-studio" else ".ndjson or .jsonl"
        named = Path(path).name.removesuffix(".gz")
        if output != "ndjson" or named.endswith(".json") != (options.annotate == "label-studio"):
            raise UserError(
                f"cannot write {path}: texts in the form {options.annotate} are written to {right}, or to -"
            )
        return output
    own_table = options.runs or (task.per_sequence and not table.lists)
    if not own_table:
        return check_output(table, options.names(task), path, lists=not task.per_sequence)
    if output == "conll":
        what = "spans" if options.spans else "events" if options.events else "predictions for sequences"
        raise UserError(f"cannot write {path}: {what} are a table of their own; use .csv, .parquet or .ndjson")
    if not options.runs and model.schema.sequence in options.names(task):
        check_new_names(table, [str(model.schema.sequence)])
    return output


def write_predictions(
    model: TrainedModel, table: FileTable, data: Dataset, options: PredictionOptions, path: AnyPath
) -> None:
    """Write a table with what the model predicts for each row, a table of sequences, or a table of events.

    Raises:
        UserError: the file cannot be written.
    """
    output = check_predictions(table, options, model, path)
    if options.annotate:
        write_annotated(model, table, data, options.annotate, path, probabilities=options.probabilities)
    elif options.runs:
        _write_runs(model, table, data, options, path, output)
    elif not model.task.per_sequence:
        write_table(table, predicted_columns(model, data, options, data.rows, len(data.rows)), path)
    else:
        firsts = data.rows[data.values.offsets[:-1]]
        if table.lists:
            rows = table.input_rows(firsts)
            columns = predicted_columns(model, data, options, rows, table.input_count)
            write_sequences(table, columns, path, output)
        else:
            columns = predicted_columns(model, data, options, np.arange(len(data)), len(data))
            write_sequences(table, columns, path, output, firsts, model.schema.sequence or table.own_sequence)


def _write_runs(
    model: TrainedModel,
    table: FileTable,
    data: Dataset,
    options: PredictionOptions,
    path: AnyPath,
    output: Format,
) -> None:
    """Collect the runs in the table's database, which joins them with the cells that name their ends."""
    header, labels, chunks = find_runs(model, data, options)
    nowhere = np.zeros(0, np.int64)
    create = "CREATE OR REPLACE TABLE runs AS SELECT * FROM additions"
    for runs in chunks or [Runs(nowhere, nowhere, nowhere, nowhere, nowhere, np.zeros(0, np.float64))]:
        columns = {
            "first_row": data.rows[runs.first],
            "last_row": data.rows[runs.last],
            "first_step": runs.first_step,
            "last_step": runs.last_step,
            "code": runs.codes,
            "confidence": runs.confidences,
        }
        with table.additions(columns):
            table.query(create)
        create = "INSERT INTO runs SELECT * FROM additions"
    schema = model.schema
    sequence = "list_row + 1" if table.lists else "NULL"
    if (name := schema.sequence or table.own_sequence) in table.names:
        sequence = exported(table, str(name), output)
    start, end, joins = "first_step", "last_step", ""
    if schema.order is not None:
        start, end = "a.moment", "z.moment"
        moments = [exported(table, name, output) for name in table.order_columns(schema.order)]
        moment = moments[0] if len(moments) == 1 else f"concat_ws(' ', {', '.join(moments)})"
        cells = f"(SELECT rowid AS r, {moment} AS moment FROM cells)"
        joins = f"JOIN {cells} AS a ON a.r = first_row JOIN {cells} AS z ON z.r = last_row"
    names = ", ".join(map(literal, labels or ("",)))
    values = ("s.key", start, end, f"([{names}])[1 + code]", "confidence")
    selected = ", ".join(f'{value} AS "{name}"' for value, name in zip(values, header, strict=True))
    sql = (
        f"SELECT {selected} FROM (SELECT rowid AS number, * FROM runs) "
        f"JOIN (SELECT rowid AS r, {sequence} AS key FROM cells) AS s ON s.r = first_row {joins} ORDER BY number"
    )
    write_query(table, sql, path, output)


def rounded(probabilities: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Probabilities as they are written."""
    return np.asarray(np.round(probabilities.astype(np.float64), DECIMALS), np.float64)
