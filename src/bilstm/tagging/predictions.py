"""What a model says of each step of a table, or of each run of steps with one label, as columns to be written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data import scratch
from bilstm.data.columns import Columns, Encoded
from bilstm.data.reading import format_of
from bilstm.data.table import Format, Table, literal
from bilstm.data.writing import Addition, Coded, check_output, exported, write_query, write_table
from bilstm.errors import UserError, counted, listed, shown, suggestion
from bilstm.metrics.events import find_events
from bilstm.ragged import FloatArray
from bilstm.tagging.tagger import Tagger

DECIMALS = 6
EVENTS = ("sequence", "start", "end", "label", "confidence")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be said.

    Attributes:
        probabilities: whether to give each class's probability besides.
        top: how many of the likeliest labels to give, each with its probability.
        events: whether to give runs of equal labels instead of steps.
        background: the label that is no event.
    """

    probabilities: bool = False
    top: int = 1
    events: bool = False
    background: str | None = None

    def check(self, classes: tuple[str, ...]) -> None:
        """Refuse what a model of these classes cannot say.

        Raises:
            UserError: the message says why.
        """
        if self.top > len(classes):
            raise UserError(f"the model knows {counted(len(classes), 'label')}, so it has no {self.top} likeliest ones")
        check_background(classes, self.background)
        lower = [name.lower() for name in classes]
        twice = [name for name in classes if lower.count(name.lower()) > 1] if self.probabilities else []
        if twice:
            raise UserError(
                f"the labels {listed(twice)} differ in capitals only, so that columns cannot be named after them; "
                f"--top gives probabilities, too"
            )

    def names(self, classes: tuple[str, ...]) -> list[str]:
        """The names of the columns."""
        ranks = ["", *(f"_{rank}" for rank in range(2, self.top + 1))]
        likeliest = [f"{what}{rank}" for rank in ranks for what in ("predicted", "probability")]
        return likeliest + [f"probability_of_{name}" for name in classes if self.probabilities]


def check_background(classes: tuple[str, ...], name: str | None) -> int | None:
    """The class that is no event, by its name.

    Raises:
        UserError: there is none of this name.
    """
    if name is None:
        return None
    if name not in classes:
        raise UserError(
            f"the background {shown(name)} is no label that the model knows.{suggestion(name, classes)} "
            f"It knows {listed(classes)}"
        )
    return classes.index(name)


def step_columns(tagger: Tagger, encoded: Encoded, wanted: Wanted) -> dict[str, Addition]:
    """Columns with a value for each row of the table, by their names."""
    classes, rows = tagger.columns.classes, len(encoded.rows)
    codes = [scratch.empty(rows, np.int32) for _ in range(wanted.top)]
    confidences = [scratch.empty(rows, np.float64) for _ in range(wanted.top)]
    others = [scratch.empty(rows, np.float64) for _ in classes if wanted.probabilities]
    for _, steps, probabilities in tagger.predict_portions(encoded.values):
        places = encoded.rows[steps]
        ranked = _likeliest(probabilities, wanted.top)
        for rank in range(wanted.top):
            codes[rank][places] = ranked[:, rank]
            confidences[rank][places] = _rounded(probabilities[np.arange(len(places)), ranked[:, rank]])
        for class_, column in enumerate(others):
            column[places] = _rounded(probabilities[:, class_])
    likeliest = [c for pair in zip((Coded(c, classes) for c in codes), confidences, strict=True) for c in pair]
    return dict(zip(wanted.names(classes), [*likeliest, *others], strict=True))


def find_runs(table: Table, tagger: Tagger, encoded: Encoded, wanted: Wanted) -> None:
    """Make a table `found` in the database of a table, with the runs of equal labels and the rows where they are."""
    background = check_background(tagger.columns.classes, wanted.background)
    create = "CREATE TABLE found AS SELECT * FROM beside"
    for group, steps, probabilities in tagger.predict_portions(encoded.values):
        offsets = encoded.values.offsets[group.start : group.stop + 1] - steps.start
        predicted = probabilities.argmax(axis=1)
        runs = find_events(predicted, offsets)
        first, last = offsets[runs.sequences] + runs.onsets, offsets[runs.sequences] + runs.offsets
        sums = np.add.reduceat(probabilities.max(axis=1).astype(np.float64), first)
        columns: dict[str, npt.NDArray[Any]] = {
            "first_row": encoded.rows[steps][first],
            "last_row": encoded.rows[steps][last],
            "first_step": runs.onsets,
            "last_step": runs.offsets,
            "code": runs.classes,
            "confidence": _rounded(sums / (last + 1 - first)),
        }
        wanted_ones = runs.classes != (-1 if background is None else background)
        columns = {name: column[wanted_ones] for name, column in columns.items()}
        with table.beside(columns):
            table.query(create)
        create = "INSERT INTO found SELECT * FROM beside"


def runs_query(table: Table, columns: Columns, output: Format) -> str:
    """SQL: the events of `found`, in the columns EVENTS names, in the order of the file."""
    names = ", ".join(map(literal, columns.classes))
    sequence = "list_row + 1" if table.lists else "NULL"
    if columns.sequence in table.names:
        sequence = exported(table, columns.sequence, output)
    start, end, joins = "first_step", "last_step", ""
    if columns.order is not None:
        start, end = "a.moment", "z.moment"
        moments = f"(SELECT rowid AS r, {exported(table, columns.order, output)} AS moment FROM cells)"
        joins = f"JOIN {moments} AS a ON a.r = first_row JOIN {moments} AS z ON z.r = last_row"
    values = (sequence, start, end, f"([{names}])[1 + code]", "confidence")
    selected = ", ".join(f'{value} AS "{name}"' for value, name in zip(("s.key", *values[1:]), EVENTS, strict=True))
    return (
        f"SELECT {selected} FROM (SELECT rowid AS number, * FROM found) "
        f"JOIN (SELECT rowid AS r, {sequence} AS key FROM cells) AS s ON s.r = first_row {joins} ORDER BY number"
    )


def check_predictions(table: Table, wanted: Wanted, classes: tuple[str, ...], path: str) -> Format:
    """The format in which predictions on a table will be written to this path; see `check_output`.

    Raises:
        UserError: they cannot be.
    """
    wanted.check(classes)
    if not wanted.events:
        return check_output(table, wanted.names(classes), path)
    output = format_of(path)
    if output == "conll":
        raise UserError(f"cannot write {path}: events are a table of their own; use .csv, .parquet or .ndjson")
    return output


def write_predictions(
    table: Table, tagger: Tagger, columns: Columns, encoded: Encoded, wanted: Wanted, path: str
) -> None:
    """Write a table with what the model says of each step, or a table of events.

    Args:
        columns: the model's, with the names that this table has for them.
        encoded: the table as the model takes it.

    Raises:
        UserError: the file cannot be written.
    """
    output = check_predictions(table, wanted, columns.classes, path)
    if not wanted.events:
        write_table(table, step_columns(tagger, encoded, wanted), path)
        return
    find_runs(table, tagger, encoded, wanted)
    write_query(table, runs_query(table, columns, output), path, output)


def _likeliest(probabilities: FloatArray, count: int) -> npt.NDArray[np.int64]:
    """(steps, count) the likeliest classes, of equally likely ones the first."""
    ranked: npt.NDArray[np.int64] = probabilities.argmax(axis=1)[:, np.newaxis]
    if count > 1:
        ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    return ranked


def _rounded(probabilities: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(np.round(probabilities.astype(np.float64), DECIMALS), np.float64)
