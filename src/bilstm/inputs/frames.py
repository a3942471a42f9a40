"""Data frames of pandas, Polars or PyArrow, a row for each step -> sequences; narwhals makes them alike."""

from __future__ import annotations

import datetime
import decimal
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bilstm.errors import listed, shown, suggestion
from bilstm.inputs.labels import INCONSISTENT, as_array
from bilstm.inputs.steps import Steps
from bilstm.ragged import IndexArray, offsets_of

if TYPE_CHECKING:
    import narwhals.stable.v2 as nw

_NUMBERS = (numbers.Real, decimal.Decimal, np.bool_)
_TIMES = (datetime.date, datetime.time, datetime.timedelta)
_NESTED = (list, tuple, set, dict, bytes, np.ndarray)


def is_frame(X: Any) -> bool:
    """Whether something is a table, of whichever library; as in scikit-learn, one without names is but an array."""
    if not hasattr(type(X), "columns"):
        return False
    # A lazy table, which is not asked for its names, since it would have to work for the answer, has no `to_numpy`.
    return not hasattr(type(X), "to_numpy") or any(isinstance(name, str) for name in X.columns)


class Frame:
    """A table in memory, divided into sequences.

    Args:
        X: a data frame of pandas, Polars, PyArrow or another library that narwhals knows; not a lazy one.
        sequence: the column whose value all rows of one sequence share.
        order: the column by which the rows of a sequence are sorted: numbers, dates or times. None: the rows of a
            sequence stand together, in order.

    Attributes:
        names: of its columns.
        offsets: (n_sequences + 1,) int64.
        rows: (total_steps,) int64: rows[offsets[i]:offsets[i + 1]] are the rows of sequence i, counted from 0. The
            sequences are in the order in which they begin.

    Raises:
        ValueError: it is no such table, or its rows cannot be divided so; the message names the row.
    """

    def __init__(self, X: Any, sequence: str | None, order: str | None = None) -> None:
        self._table = _in_memory(X)
        self.names: list[str] = self._table.columns
        odd = [name for name in self.names if not isinstance(name, str)]
        if odd:
            raise ValueError(f"X has a column named {odd[0]!r}: the names of columns must be strings")
        if not len(self._table):
            raise ValueError("X has no rows: 0 sample(s) while a minimum of 1 is required.")
        if sequence is None:
            raise ValueError(
                "X is a table, a row for each step: name the column that tells its sequences apart, such as "
                "sequence='id'; if each row is a sequence of its own, give an array of its numbers"
            )
        if sequence == order:
            raise ValueError(f"the sequence and the order are two columns, but both are {sequence!r}")
        self._keys = {sequence, order}
        self._cells = self._present(sequence, "the sequence of each row")
        codes = self._codes(sequence)
        self.offsets = offsets_of(np.bincount(codes))
        self.rows = self._as_they_stand(codes) if order is None else self._sorted(codes, order)

    def features(self, **others: Any) -> list[str]:
        """The columns to learn from: all but the sequence, the order, and others that are given by name.

        Args:
            others: what comes with X, such as y and groups.

        Raises:
            ValueError: one is given as a column of X, which would be learnt from; or no column is left.
        """
        taken = set(self._keys)
        for what, given in others.items():
            series = None if given is None else self._series(given, what)
            if isinstance(given, str):
                taken.add(given)
            elif series is not None and series.name in self.names:
                raise ValueError(
                    f"{what} is called {series.name!r}, as is a column of X, which would be learnt from: drop that "
                    f"from X, or give {what}={series.name!r}"
                )
        names = [name for name in self.names if name not in taken]
        if not names:
            raise ValueError(f"X has no column left to learn from: 0 feature(s); its columns: {listed(self.names)}")
        return names

    def steps(self, names: Sequence[str]) -> Steps:
        """The columns of these names.

        Raises:
            ValueError: one is missing, holds what cannot be learnt from, or an infinite number.
        """
        columns = {name: self._feature(name)[self.rows] for name in names}
        return Steps(columns, self.offsets, rows=self.rows)

    def by_step(self, given: Any, what: str) -> list[npt.NDArray[Any]]:
        """An array for each sequence of what is given for each row: a column's name, a column, or an array.

        Args:
            what: it is, for messages, such as "y".

        Raises:
            ValueError: there is no such column, or not one entry for each row.
        """
        return np.split(self._values(given, what), self.offsets[1:-1])

    def by_sequence(self, given: Any, what: str) -> npt.NDArray[Any]:
        """(n_sequences,) the same, where all rows of a sequence have one value.

        Raises:
            ValueError: they have not, or see `by_step`.
        """
        values = self._values(given, what)
        missing = np.array([value is None or value != value for value in values.tolist()])
        if missing.any():
            raise ValueError(f"row {self.rows[missing.argmax()]} of X has no value in {what}")
        firsts: npt.NDArray[Any] = values[self.offsets[:-1]]
        differs = np.flatnonzero(values != np.repeat(firsts, np.diff(self.offsets)))
        if len(differs):
            row = self.rows[differs[0]]
            first = firsts[np.searchsorted(self.offsets, differs[0], "right") - 1]
            raise ValueError(
                f"row {row} of X has {shown(values[differs[0]])} in {what}, but its sequence {shown(self._cells[row])} "
                f"begins with {shown(first)}: all rows of a sequence share one value"
            )
        return firsts

    # --- Sequences -----------------------------------------------------------------------------------------------

    def _codes(self, sequence: str) -> IndexArray:
        """(rows,) the number of each row's sequence, in the order of their first rows."""
        places: dict[Any, int] = {}
        try:
            found = (places.setdefault(cell, len(places)) for cell in self._cells)
            return np.fromiter(found, np.int64, len(self._cells))
        except TypeError:
            raise ValueError(f"column {sequence!r} of X holds lists, which tell no sequences apart") from None

    def _as_they_stand(self, codes: IndexArray) -> IndexArray:
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        again = starts[codes[starts] != np.arange(len(starts))]
        if len(again):
            raise ValueError(
                f"row {again[0]} of X: sequence {shown(self._cells[again[0]])} goes on after rows of another one; sort "
                f"the rows, or name the column that gives their order, such as order='time'"
            )
        return np.arange(len(codes), dtype=np.int64)

    def _sorted(self, codes: IndexArray, order: str) -> IndexArray:
        cells = self._present(order, "the order within a sequence")
        kind = _kind(self._table[order])
        if kind not in ("number", "time"):
            raise ValueError(
                f"column {order!r} of X holds {_worded(kind)}, which cannot order rows: make numbers, dates or times "
                f"of it"
            )
        keys = np.unique(self._table[order].to_numpy(), return_inverse=True)[1]
        rows = np.lexsort((keys, codes))
        repeated = np.flatnonzero((np.diff(keys[rows]) == 0) & (np.diff(codes[rows]) == 0))
        if len(repeated):
            before, row = rows[repeated[0]], rows[repeated[0] + 1]
            raise ValueError(
                f"row {row} of X: sequence {shown(self._cells[row])} has {order} {shown(cells[row])} a second time, "
                f"after row {before}"
            )
        return rows

    # --- Columns -------------------------------------------------------------------------------------------------

    def _column(self, name: str, what: str) -> nw.Series[Any]:
        if name not in self.names:
            raise ValueError(
                f"X has no column {name!r} ({what}).{suggestion(name, self.names)} Its columns: {listed(self.names)}"
            )
        return self._table[name]

    def _present(self, name: str, what: str) -> list[Any]:
        """A column's cells, none of which may be missing."""
        series = self._column(name, what)
        missing = _missing(series)
        if missing.any():
            raise ValueError(f"row {missing.argmax()} of X has no value in column {name!r}, {what}")
        cells: list[Any] = series.to_list()
        return cells

    def _feature(self, name: str) -> npt.NDArray[Any]:
        """(rows,) float64, NaN where missing; or strings, None where missing."""
        series = self._column(name, "a feature")
        kind = _kind(series)
        if kind == "text":
            return _texts(series)
        if kind == "nothing":
            return np.full(len(series), np.nan)
        if kind != "number":
            advice = {
                "time": f"use it as the order (order={name!r}), make numbers of it such as the hour, or leave it out",
                "nested": "give each number a column of its own, or leave it out",
            }
            how = advice.get(kind, "make it all numbers or all strings, or leave it out")
            raise ValueError(f"column {name!r} of X holds {_worded(kind)}, which are no feature as they are: {how}")
        found = self._as_numbers(series)
        infinite = np.flatnonzero(np.isinf(found))
        if len(infinite):
            raise ValueError(
                f"X has {found[infinite[0]]} in row {infinite[0]}, column {name!r}: give finite numbers, or NaN where "
                f"one is missing"
            )
        return found

    @staticmethod
    def _as_numbers(series: nw.Series[Any]) -> npt.NDArray[np.float64]:
        import narwhals.stable.v2 as nw

        return np.array(series.cast(nw.Float64).to_numpy(), np.float64)

    # --- What comes with it --------------------------------------------------------------------------------------

    def _series(self, given: Any, what: str) -> nw.Series[Any] | None:
        """The column that is given, by name or itself; None if it is something else."""
        import narwhals.stable.v2 as nw

        if isinstance(given, str):
            return self._column(given, what)
        if is_frame(given):
            table = _in_memory(given)
            return table[table.columns[0]] if len(table.columns) == 1 else None
        series = nw.from_native(given, series_only=True, pass_through=True)
        return series if isinstance(series, nw.Series) else None

    def _values(self, given: Any, what: str) -> npt.NDArray[Any]:
        """(total_steps,) in the order of the sequences."""
        series = self._series(given, what)
        if series is None:
            array = as_array(given)
        elif (missing := _missing(series)).any():
            array = np.array([None, *series.to_list()], object)[1:]  # an array of objects whatever they are
            array[missing] = None
        else:
            array = series.to_numpy()
        if array.shape == (len(self.rows), 1):
            array = array[:, 0]
        if array.shape != self.rows.shape:
            raise ValueError(f"{INCONSISTENT}: X has {len(self.rows)} rows, but {what} has shape {array.shape}")
        return array[self.rows]


def _in_memory(X: Any) -> nw.DataFrame[Any]:
    try:
        import narwhals.stable.v2 as nw
    except ModuleNotFoundError:
        raise ImportError("bilstm's estimators need narwhals to read tables: pip install 'bilstm[sklearn]'") from None
    try:
        return nw.from_native(X, eager_only=True)
    except (TypeError, ValueError, nw.exceptions.NarwhalsError) as error:
        what = f"{type(X).__module__.partition('.')[0]} {type(X).__name__}"
        raise ValueError(
            f"X is a {what} that cannot be read ({error}): give a data frame of pandas, Polars or PyArrow in memory"
        ) from None


def _missing(series: nw.Series[Any]) -> npt.NDArray[np.bool_]:
    missing: npt.NDArray[np.bool_] = series.is_null().to_numpy()
    return missing | series.is_nan().fill_null(True).to_numpy() if series.dtype.is_float() else missing


def _kind(series: nw.Series[Any]) -> str:
    """What a column holds: "number", "text", "time", "nested", "objects", or "nothing"."""
    import narwhals.stable.v2 as nw

    dtype = series.dtype
    if dtype.is_numeric() or dtype == nw.Boolean:
        return "number"
    if dtype.is_temporal():
        return "time"
    if dtype.is_nested() or dtype == nw.Binary:
        return "nested"
    if series.is_null().all():
        return "nothing"
    if dtype in (nw.String, nw.Categorical, nw.Enum):
        return "text"
    kinds = {type(cell) for cell in series.drop_nulls().to_list()}
    for name, types in (("number", _NUMBERS), ("time", _TIMES), ("nested", _NESTED)):
        if all(issubclass(kind, types) for kind in kinds):
            return name
    return "objects"


def _worded(kind: str) -> str:
    words = {"time": "dates or times", "nested": "lists or bytes", "text": "text", "nothing": "nothing"}
    return words.get(kind, "values of several kinds")


def _texts(series: nw.Series[Any]) -> npt.NDArray[Any]:
    cells, missing = series.to_list(), _missing(series)
    # The categories of pandas may be numbers, which become fractions where a cell is missing.
    named = (int(cell) if isinstance(cell, float) and cell == cell and cell.is_integer() else cell for cell in cells)
    texts = np.array([str(cell) for cell in named], object)
    texts[missing] = None
    return texts
