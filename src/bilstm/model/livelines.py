"""Predictions on a stream of JSON objects with bounded look-ahead: for each line as soon as its answer is final."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from bilstm.errors import UserError, shown
from bilstm.model.lines import NAME, Line, order_columns
from bilstm.model.linetables import check_new_names, located, read_lines, table_of
from bilstm.model.live import Answers
from bilstm.model.predictions import PredictionOptions, columns_of
from bilstm.model.streaming import LineStream, as_lists, divided, extended
from bilstm.model.trained import TrainedModel
from bilstm.models.lookahead import LookAhead
from bilstm.ragged import Ragged
from bilstm.tasks import Outputs


class LiveLines(LineStream):
    """The lines whose answers are not final yet, and the stream that will give them.

    Raises:
        UserError: the model cannot work with bounded look-ahead, or runs of steps are asked for: events or spans.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        model: TrainedModel,
        options: PredictionOptions,
        on_error: Callable[[UserError], object] | None,
        look_ahead: LookAhead,
        block: int,
        source: str = NAME,
    ) -> None:
        super().__init__(write, model, options, on_error, source)
        if options.runs or options.annotate:
            other = "--events" if options.events else "--spans" if options.spans else "--annotate"
            raise UserError(f"--look-ahead answers step by step, which cannot be combined with {other}")
        self._live = model.stream(look_ahead=look_ahead, block=block)
        self._latest: Line | None = None  # that was read
        self._waiting = deque[Line]()
        self._before: Line | None = None  # the last line of the sequence that is open
        self._ends = False  # that sequence, after the lines that are now complete
        self._steps = 0  # of that sequence

    @property
    def pending(self) -> int:
        return len(self._waiting)

    def _added(self, line: Line) -> list[Line]:
        if self._latest is not None and self._latest.key != line.key:
            self._remember(self._latest)
        self._key, self._latest = line.key, None if line.key is None else line
        return [line]

    def _completed(self) -> list[Line]:
        self._ends = True
        return []

    def _predict(self, lines: list[Line]) -> None:
        for group in divided(lines):
            if self._before is not None and group[0].key != self._before.key:
                self._finish()
            self._take(group)
        if self._ends:
            self._finish()
            self._ends = False

    def _take(self, lines: list[Line]) -> None:
        """Answer lines of one sequence as far as that is final; of several, one of which is wrong, the others."""
        try:
            check_new_names(lines, frozenset(self._names), self._model)
            if lines[0].empty:
                self._write(extended(lines[0].text, dict.fromkeys(self._names)))
                self.streamed.lines += 1
                return
            self._check_order(lines)
            _, data = read_lines(lines, self._model)
        except UserError as error:
            if len(lines) > 1:
                for half in (lines[: len(lines) // 2], lines[len(lines) // 2 :]):
                    self._take(half)
                return
            error = located(error, lines)
            if self._on_error is None:
                raise error from None
            self._skip(error, 1)
            return
        self.streamed.observations.add(data.observations)
        if lines[0].key is None:
            self._answer_whole(lines[0], data.values)
        else:
            self._waiting.extend(lines)
            self._before, self._steps = lines[-1], self._steps + len(lines)
            self._answer(self._live.push_encoded(data.values))

    def _check_order(self, lines: list[Line]) -> None:
        """Refuse a row whose place is before that of the row before it: its answer would be given already."""
        order = order_columns(self._model.schema, lines[0].cells)
        if not order or lines[0].key is None:
            return
        known = [self._before] if self._before is not None else []
        rows = table_of([*known, *lines], self._model).sequences(self._model.schema.sequence, self._model.schema.order)
        behind = np.flatnonzero(np.diff(np.argsort(rows.rows)) < 0)
        if len(behind):
            line = [*known, *lines][int(behind[0]) + 1]
            cells = " ".join(shown(str(line.cells[name])) for name in order)
            raise UserError(
                f"{line.name}: {cells} in {', '.join(map(repr, order))} comes before that of the row before it: with "
                f"--look-ahead, the rows of a sequence come in order"
            )

    def _answer_whole(self, line: Line, values: Ragged) -> None:
        """Write a whole sequence in one line, with its answers."""
        parts = (self._live.push_encoded(values), self._live.finish())
        columns = self._columns(Outputs(np.concatenate([part.outputs.values for part in parts])))
        self._write(extended(line.text, columns))
        self.streamed.lines += 1
        self.streamed.extent.add(values.lengths)

    def _answer(self, answers: Answers) -> None:
        """Write the lines whose answers these are."""
        if not len(answers):
            return
        columns = self._columns(answers.outputs)
        names, lines = list(columns), [self._waiting.popleft() for _ in range(len(answers))]
        rows = zip(lines, zip(*columns.values(), strict=True), strict=True)
        self._write(b"".join(extended(line.text, dict(zip(names, row, strict=True))) for line, row in rows))
        self.streamed.lines += len(lines)

    def _columns(self, outputs: Outputs) -> dict[str, list[Any]]:
        """What is written of each row of outputs."""
        return as_lists(columns_of(self._model.task, self._options, outputs))

    def _finish(self) -> None:
        """End the sequence that is open, if there is one."""
        if self._before is not None:
            self._answer(self._live.finish())
            self.streamed.extent.add(np.array([self._steps]))
        self._before, self._steps = None, 0
