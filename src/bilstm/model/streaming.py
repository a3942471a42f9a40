"""Predictions on a stream of JSON objects, one per line: for each sequence as soon as it is complete."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any

import numpy as np

from bilstm.data.dataset import Dataset, Observations
from bilstm.data.marked import line_of
from bilstm.data.memory import MemoryTable
from bilstm.data.writing import Addition, DictionaryColumn
from bilstm.errors import UserError, shown
from bilstm.model.annotating import mark_lines, span_labels
from bilstm.model.lines import NAME, Arrivals, Line, LineReader, order_columns
from bilstm.model.linetables import check_new_names, located, read_lines
from bilstm.model.predictions import PredictionOptions, find_runs, predicted_columns
from bilstm.model.trained import TrainedModel
from bilstm.models.lookahead import LookAhead
from bilstm.ragged import Extent
from bilstm.signals import held

REMEMBERED = 10_000  # the last sequences, whose rows may not come again


@dataclasses.dataclass
class Streamed:
    """What a stream held.

    Attributes:
        extent: the sequences that were answered, and their steps.
        observations: what was noticed while encoding them.
        lines: how many lines were answered.
        skipped: how many lines were left out.
    """

    extent: Extent = dataclasses.field(default_factory=Extent)
    observations: Observations = dataclasses.field(default_factory=Observations)
    lines: int = 0
    skipped: int = 0


def predict_stream(
    source: IO[bytes],
    write: Callable[[bytes], object],
    model: TrainedModel,
    options: PredictionOptions,
    on_error: Callable[[UserError], object] | None = None,
    *,
    look_ahead: LookAhead | None = None,
    block: int = 1,
) -> Streamed:
    """Predict for sequences as they come.

    The rows of a sequence are contiguous. A sequence is complete when a row of another one comes, or the end; then its
    rows are written, each with what the model predicts; or its events; or, where there is one answer per sequence, one
    object. An object that is a sequence of its own, with lists of steps or a text, is written with its answers.

    A signal that comes while there is work is raised after the answers for all sequences that are complete.

    Args:
        source: JSON objects, one per line.
        write: takes the answers for one or several whole sequences.
        on_error: takes what is wrong with a line, which is left out, or with a sequence, all of whose lines are. None:
            raise it.
        look_ahead: None: answers come when a sequence is complete. Else for a row as soon as this number of further
            rows of its sequence, which are then in order, have come; see `TrainedModel.stream`.
        block: how many rows become final together.

    Raises:
        UserError: a line is not a JSON object, or not one that the model can take; the answers for the sequences that
            were complete before it are written first.
    """
    options.check(model.task)
    if options.annotate == "label-studio":
        raise UserError(
            "the tasks of Label Studio are one JSON array, which no stream can be: give a file instead of -"
        )
    stream = line_stream(write, model, options, on_error, look_ahead=look_ahead, block=block)
    arrivals = Arrivals(source)
    while not arrivals.ended:
        with held() if arrivals.wait() else contextlib.nullcontext():
            stream.take(arrivals.lines())
    with held():
        stream.end()
    if not stream.streamed.lines and not stream.streamed.skipped:
        raise UserError(f"{NAME} is empty: it has no JSON object with a step")
    return stream.streamed


def line_stream(
    write: Callable[[bytes], object],
    model: TrainedModel,
    options: PredictionOptions,
    on_error: Callable[[UserError], object] | None = None,
    *,
    look_ahead: LookAhead | None = None,
    block: int = 1,
    source: str = NAME,
) -> LineStream:
    """What answers lines; for the arguments see `predict_stream`.

    Args:
        source: what messages call that from which the lines come.

    Raises:
        UserError: the model cannot work with bounded look-ahead.
    """
    if look_ahead is None:
        return SequenceLines(write, model, options, on_error, source)
    from bilstm.model.livelines import LiveLines

    return LiveLines(write, model, options, on_error, look_ahead, block, source)


class LineStream(ABC):
    """Lines in, answers out: reads lines, and refuses those that do not fit the sequences so far.

    Args:
        write, on_error: see `predict_stream`.
        source: what messages call that from which the lines come.

    Attributes:
        streamed: what has been answered.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        model: TrainedModel,
        options: PredictionOptions,
        on_error: Callable[[UserError], object] | None = None,
        source: str = NAME,
    ) -> None:
        self._source = source
        self._write, self._model, self._options, self._on_error = write, model, options, on_error
        self._names = () if options.runs or options.annotate else tuple(options.names(model.task))
        self._labels = span_labels(model.task) if options.annotate else []
        self._reader = LineReader(model, source)
        self._first: Line | None = None
        self._key: str | None = None
        self._last = OrderedDict[bytes, int]()  # of the sequences that were complete last, the line of the last row
        self.streamed = Streamed()

    def take(self, contents: Iterable[bytes]) -> None:
        """Answer what is complete with these lines."""
        complete: list[Line] = []
        for content in contents:
            line = self._reader.read(content)
            if line is None:
                continue
            problem = line.problem or self._mixture(line) or self._return(line)
            if problem is None:
                self._first = self._first or line
                complete += self._added(line)
            elif self._on_error:
                self._skip(problem, 1)
            else:
                if line.key not in (None, self._key):
                    complete += self._completed()
                self._predict(complete)
                raise problem
        self._predict(complete)

    def end(self) -> None:
        """Answer the last sequence."""
        self._predict(self._completed())

    @property
    @abstractmethod
    def pending(self) -> int:
        """How many lines are buffered."""

    @abstractmethod
    def _added(self, line: Line) -> list[Line]:
        """The lines that are complete with this one."""

    @abstractmethod
    def _completed(self) -> list[Line]:
        """The lines that are complete since the last sequence ends."""

    @abstractmethod
    def _predict(self, lines: list[Line]) -> None:
        """Answer lines that are complete, up to one that cannot be answered, which is refused or skipped."""

    def _remember(self, line: Line) -> None:
        """The last line of a sequence: its rows may not come again."""
        self._last[_digest(str(line.key))] = line.number
        if len(self._last) > REMEMBERED:
            self._last.popitem(last=False)

    def _mixture(self, line: Line) -> UserError | None:
        """The error of a stream with a time step in one line and a whole sequence in another, or None."""
        first = self._first
        if first is None or (line.key is None) == (first.key is None):
            return None
        kinds = ("a time step", "a sequence of its own")
        return UserError(
            f"{line.name} is {kinds[line.key is None]}, but line {first.number} is {kinds[first.key is None]}: a "
            f"stream has one or the other"
        )

    def _return(self, line: Line) -> UserError | None:
        """The error of a sequence that was complete already, or None."""
        if line.key is None or line.key == self._key or (last := self._last.get(_digest(line.key))) is None:
            return None
        return UserError(
            f"{line.name}: sequence {shown(line.key)} is not contiguous: after its row in line {last} came one of "
            f"another sequence, which completed it; sort the rows, or give later sequences identifiers of their own"
        )

    def _skip(self, error: UserError, lines: int) -> None:
        self.streamed.skipped += lines
        assert self._on_error
        self._on_error(error)


class SequenceLines(LineStream):
    """Answers sequences once they are complete; only the lines of the one that is not are buffered."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._rows: list[Line] = []

    @property
    def pending(self) -> int:
        return len(self._rows)

    def _added(self, line: Line) -> list[Line]:
        if line.key is None:
            return [line]
        complete = [] if line.key == self._key else self._completed()
        self._key = line.key
        self._rows.append(line)
        return complete

    def _completed(self) -> list[Line]:
        complete, self._rows = self._rows, []
        if complete:
            self._remember(complete[-1])
        self._key = None
        return complete

    def _predict(self, lines: list[Line]) -> None:
        """Answer whole sequences; where one of them cannot be, those before it, and what is wrong with it."""
        if not lines:
            return
        try:
            data, answers = self._answered(lines)
        except UserError as error:
            sequences = list(divided(lines))
            if len(sequences) > 1:
                for half in (sequences[: len(sequences) // 2], sequences[len(sequences) // 2 :]):
                    self._predict([line for sequence in half for line in sequence])
                return
            error = located(error, lines, self._source)
            if self._on_error is None:
                raise error from None
            self._skip(error, len(lines))
            return
        self._write(answers)
        self.streamed.lines += len(lines)
        if data is not None:
            self.streamed.extent.add(data.values.lengths)
            self.streamed.observations.add(data.observations)

    def _answered(self, lines: list[Line]) -> tuple[Dataset | None, bytes]:
        check_new_names(lines, frozenset(self._names), self._model)
        with_steps = [line for line in lines if not line.empty]
        data, answers = None, iter(list[bytes]())
        if with_steps:
            table, data = read_lines(with_steps, self._model, self._source)
            if self._options.runs:
                return data, b"".join(_runs(self._model, table, data, with_steps, self._options))
            if not self._options.annotate:
                answers = _answers(self._model, data, with_steps, self._options)
        if self._options.annotate:
            form, probabilities = self._options.annotate, self._options.probabilities
            marked = mark_lines(self._model, data, lines, divided(lines))
            texts = (line_of(text, form, self._labels, probabilities=probabilities) for text in marked)
            return data, "".join(texts).encode()
        if self._options.runs or len(with_steps) == len(lines):
            return data, b"".join(answers)
        nothing = dict.fromkeys(self._names)
        return data, b"".join(extended(line.text, nothing) if line.empty else next(answers) for line in lines)


def divided(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """The lines of each sequence."""
    for _, group in itertools.groupby(lines, lambda line: line.number if line.key is None else line.key):
        yield list(group)


def _digest(key: str) -> bytes:
    """A key of any length in a few bytes."""
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _answers(model: TrainedModel, data: Dataset, lines: Sequence[Line], options: PredictionOptions) -> Iterator[bytes]:
    own = lines[0].key is None
    count = len(data) if data.per_sequence else len(data.rows)
    output_rows = np.arange(len(data)) if data.per_sequence else data.rows
    columns = predicted_columns(model, data, options, output_rows, count)
    values = as_lists(columns)
    if not own and data.per_sequence:
        firsts = data.rows[data.values.offsets[:-1]]
        for index, row in enumerate(firsts.tolist()):
            answer = {str(model.schema.sequence): lines[row].cells[str(model.schema.sequence)]}
            yield _written(answer | {name: column[index] for name, column in values.items()})
        return
    bounds = data.values.offsets if own and not data.per_sequence else None
    for index, line in enumerate(lines):
        chosen = index if bounds is None else slice(bounds[index], bounds[index + 1])
        yield extended(line.text, {name: column[chosen] for name, column in values.items()})


def as_lists(columns: dict[str, Addition]) -> dict[str, list[Any]]:
    """The values of columns as JSON holds them."""
    return {
        name: column.texts(0, len(column.codes)) if isinstance(column, DictionaryColumn) else column.tolist()
        for name, column in columns.items()
    }


def _runs(
    model: TrainedModel, table: MemoryTable, data: Dataset, lines: Sequence[Line], options: PredictionOptions
) -> Iterator[bytes]:
    sequence, order = model.schema.sequence, order_columns(model.schema, lines[0].cells) or None
    header, labels, chunks = find_runs(model, data, options)
    for runs in chunks:
        for index in range(len(runs.codes)):
            first, last = int(data.rows[runs.first[index]]), int(data.rows[runs.last[index]])
            ends: list[Any] = [int(runs.first_step[index]), int(runs.last_step[index])]
            if table.offsets is None:
                key = None if sequence is None else lines[first].cells[sequence]
                if order is not None:
                    ends = [_joined([lines[row].cells[name] for name in order]) for row in (first, last)]
            else:
                line = int(np.searchsorted(table.offsets, first, "right")) - 1
                key = lines[line].cells.get(str(sequence), lines[line].number)
                if order is not None:
                    steps = [row - table.offsets[line] for row in (first, last)]
                    ends = [_joined([lines[line].cells[name][step] for name in order]) for step in steps]
            label = labels[runs.codes[index]]
            values = (key, *ends, label, float(runs.confidences[index]))
            yield _written(dict(zip(header, values, strict=True)))


def _joined(cells: list[Any]) -> Any:
    return cells[0] if len(cells) == 1 else " ".join(map(str, cells))


def _written(answer: dict[str, Any]) -> bytes:
    return f"{json.dumps(answer, ensure_ascii=False)}\n".encode()


def extended(text: str, added: dict[str, Any]) -> bytes:
    """An object with further values at its end."""
    return f"{text[:-1].rstrip()}, {json.dumps(added, ensure_ascii=False)[1:]}\n".encode()
