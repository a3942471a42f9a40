"""Data frames of pandas, Polars, PyArrow and others -> tables in memory; narwhals makes them alike."""

from __future__ import annotations

import datetime
import decimal
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bilstm.data.memory import Cells, MemoryTable, check_names
from bilstm.errors import UserError
from bilstm.ragged import offsets_of

if TYPE_CHECKING:
    import narwhals.stable.v2 as nw

_NUMBERS = (numbers.Real, decimal.Decimal, np.bool_)
_TIMES = (datetime.date, datetime.time, datetime.timedelta)
_IS_NESTED = "holds lists, bytes or objects: a cell is one value"
_NESTED = (list, tuple, set, dict, bytes, np.ndarray)
_MIXED = "holds values of several kinds: make it all numbers or all strings, or leave it out"


def is_frame(X: Any) -> bool:
    """Whether something is a table of any library; as in scikit-learn, a pandas frame without names is an array."""
    if not hasattr(type(X), "columns"):  # a column is an array, too
        return hasattr(type(X), "__arrow_c_stream__") and not hasattr(type(X), "__array__")
    # A lazy table, whose names cost work to find out, has no `to_numpy`.
    return not hasattr(type(X), "to_numpy") or any(isinstance(name, str) for name in X.columns)


def read_frame(X: Any, label: str = "X", steps: Sequence[str] = (), *, long: bool = False) -> MemoryTable:
    """A data frame as a table; where columns hold lists, each row is a sequence, and the lists are its steps.

    Args:
        X: a data frame of pandas, Polars, PyArrow or another library that narwhals knows, or an object with Arrow's
            PyCapsule interface; not a lazy one.
        label: what messages call it.
        steps: columns that have a value for each step: if one of them holds lists, each row is a sequence.
        long: whether each row is a step unless `steps` tell otherwise, whatever other columns hold.

    Raises:
        UserError: it is none of these, has no row, or the lists of a row have different lengths.
        ImportError: narwhals, or what reads the PyCapsule interface, is not installed.
    """
    table = _in_memory(X, label)
    check_names(table.columns, label)
    lists = [name for name in table.columns if _is_list(table[name])]
    chosen = [name for name in lists if name in steps] or ([] if long else lists)
    if chosen:
        return _read_lists(table, chosen, lists, label)
    return MemoryTable({name: read_series(table[name]) for name in table.columns}, label=label, rows=len(table))


def read_columns(y: Any) -> list[tuple[str | None, Cells]] | None:
    """The name and the cells of a data frame's column, or of each column of a frame; None for anything else."""
    import narwhals.stable.v2 as nw

    series = nw.from_native(y, series_only=True, pass_through=True)
    if isinstance(series, nw.Series):  # which may have Arrow's PyCapsule interface, as frames have
        return [(series.name, read_series(series))]
    if not is_frame(y):
        return None
    table = _in_memory(y, "y")
    return [(name, read_series(table[name])) for name in table.columns]


def read_series(series: nw.Series[Any]) -> Cells:
    """A column's cells."""
    import narwhals.stable.v2 as nw

    dtype = series.dtype
    if dtype == nw.Boolean:
        return Cells("boolean", _floats(series))
    if dtype.is_numeric():
        if not dtype.is_integer():
            return Cells("number", _floats(series))
        integers = series.fill_null(0).to_numpy()
        values = integers.astype(np.float64)  # Arrow refuses those that are rounded
        values[series.is_null().to_numpy()] = np.nan
        return Cells("number", values, integers=integers)
    missing = _missing(series)
    if dtype.is_nested() or dtype == nw.Binary:
        return Cells("nested", _texts(series, missing), problem=_IS_NESTED)
    if dtype.is_temporal():
        return Cells("time", _texts(series, missing), keys=series.to_numpy())
    if series.is_null().all():
        return Cells("number", np.full(len(series), np.nan))
    if dtype in (nw.String, nw.Categorical, nw.Enum):
        return Cells("text", _texts(series, missing))
    return _read_objects(series, missing)


def _read_objects(series: nw.Series[Any], missing: npt.NDArray[np.bool_]) -> Cells:
    """Cells of Python objects, by the types that there are."""
    kinds = {type(cell) for cell in series.drop_nulls().to_list()}

    def are(types: tuple[type, ...] | type) -> bool:
        return all(issubclass(kind, types) for kind in kinds)

    if are((bool, np.bool_)):
        values = [np.nan if absent else float(cell) for cell, absent in zip(series.to_list(), missing, strict=True)]
        return Cells("boolean", np.array(values, np.float64))
    if are(_NUMBERS):
        return Cells("number", _floats(series))
    texts = _texts(series, missing)
    if are(str):
        return Cells("text", texts)
    if are(_TIMES):
        return Cells("time", texts, keys=series.to_numpy())
    if are(_NESTED):
        return Cells("nested", texts, problem=_IS_NESTED)
    return Cells("text", texts, problem=_MIXED)


def _read_lists(table: nw.DataFrame[Any], chosen: list[str], lists: list[str], label: str) -> MemoryTable:
    """Each row is a sequence of the steps in given lists; other lists of the same lengths run alongside, and what else
    there is is repeated for each step."""
    lengths = {name: _lengths(table[name]) for name in lists}
    first = chosen[0]
    for name in chosen[1:]:
        differs = np.flatnonzero(lengths[name] != lengths[first])
        if len(differs):
            row = int(differs[0])
            raise UserError(
                f"row {row} of {label}: column {name!r} has a list of {lengths[name][row]} steps, but {first!r} has "
                f"{lengths[first][row]}: the lists of one row are one sequence"
            )
    alongside = [name for name in lists if np.array_equal(lengths[name], lengths[first])]
    empty = np.flatnonzero(lengths[first] == 0)
    if len(empty):
        raise UserError(f"row {empty[0]} of {label}: the list in column {first!r} has no steps")
    columns = {}
    for name in table.columns:
        if name in alongside:
            columns[name] = read_cells([cell for row in table[name].to_list() for cell in row or ()])
        else:
            columns[name] = repeated(read_series(table[name]), lengths[first])
    flat = MemoryTable(columns, offsets_of(lengths[first]), form="frame", label=label)
    flat.lists = alongside
    return flat


def repeated(cells: Cells, lengths: npt.NDArray[np.int64]) -> Cells:
    """Cells of sequences as cells of their steps."""
    return cells.take(np.repeat(np.arange(len(lengths)), lengths))


def read_cells(values: list[Any]) -> Cells:
    """A list of Python values as a column: None and NaN are missing."""
    missing = np.fromiter(map(_is_absent, values), np.bool_, len(values))
    kinds = {type(value) for value, absent in zip(values, missing, strict=True) if not absent}
    if all(issubclass(kind, str) for kind in kinds) and kinds:
        return Cells("text", _objects([str(value) for value in values], missing))
    if all(issubclass(kind, (bool, np.bool_)) for kind in kinds) and kinds:
        return Cells("boolean", np.array([np.nan if a else float(v) for v, a in zip(values, missing, strict=True)]))
    if all(issubclass(kind, _NUMBERS) for kind in kinds):
        array = np.array([np.nan if a else _float(v) for v, a in zip(values, missing, strict=True)], np.float64)
        whole = kinds and all(issubclass(kind, numbers.Integral) for kind in kinds)
        return Cells("number", array, integers=_integers(values, missing) if whole else None)
    if all(issubclass(kind, _TIMES) for kind in kinds):
        return Cells("time", _objects([str(value) for value in values], missing), keys=np.array(values))
    if any(issubclass(kind, _NESTED) for kind in kinds):
        return Cells(
            "nested",
            _objects([str(value) for value in values], missing),
            problem=_IS_NESTED,
        )
    return Cells("text", _objects([str(value) for value in values], missing), problem=_MIXED)


def _is_absent(value: Any) -> bool:
    """Whether a Python value says that there is none: None, NaN, or pandas' NaT and NA."""
    if value is None or isinstance(value, (str, int)):
        return value is None
    different = value != value
    return different is value or (isinstance(different, (bool, np.bool_)) and bool(different))


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return np.inf if value > 0 else -np.inf


def _integers(values: list[Any], missing: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64] | None:
    try:
        return np.array([0 if a else int(v) for v, a in zip(values, missing, strict=True)], np.int64)
    except OverflowError:
        return None


def _is_list(series: nw.Series[Any]) -> bool:
    import narwhals.stable.v2 as nw

    if isinstance(series.dtype, (nw.List, nw.Array)):
        return True
    if series.dtype != nw.Object:
        return False
    present = series.drop_nulls().to_list()
    return bool(present) and all(isinstance(cell, (list, np.ndarray)) for cell in present)


def _lengths(series: nw.Series[Any]) -> npt.NDArray[np.int64]:
    return np.array([0 if cell is None else len(cell) for cell in series.to_list()], np.int64)


def _in_memory(X: Any, label: str) -> nw.DataFrame[Any]:
    try:
        import narwhals.stable.v2 as nw
    except ModuleNotFoundError:
        raise ImportError("reading data frames needs narwhals: pip install 'bilstm[sklearn]'") from None
    try:
        if not hasattr(type(X), "columns"):
            return nw.from_arrow(X, backend=_arrow_backend())
        return nw.from_native(X, eager_only=True)
    except (TypeError, ValueError, nw.exceptions.NarwhalsError) as error:
        what = f"{type(X).__module__.partition('.')[0]} {type(X).__name__}"
        raise UserError(
            f"{label} is a {what} that cannot be read ({error}): pass a data frame of pandas, Polars or PyArrow in "
            f"memory"
        ) from None


def _arrow_backend() -> str:
    import importlib.util

    for name in ("pyarrow", "polars"):
        if importlib.util.find_spec(name):
            return name
    raise ImportError("reading Arrow's PyCapsule interface needs PyArrow or Polars: pip install pyarrow")


def _missing(series: nw.Series[Any]) -> npt.NDArray[np.bool_]:
    missing: npt.NDArray[np.bool_] = series.is_null().to_numpy()
    return missing | series.is_nan().fill_null(True).to_numpy() if series.dtype.is_float() else missing


def _floats(series: nw.Series[Any]) -> npt.NDArray[np.float64]:
    import narwhals.stable.v2 as nw

    return np.array(series.cast(nw.Float64).to_numpy(), np.float64)


def _objects(texts: list[str], missing: npt.NDArray[np.bool_]) -> npt.NDArray[np.object_]:
    """Texts as cells, None where missing or empty."""
    found = np.empty(len(texts), object)
    found[:] = [text or None for text in texts]
    found[missing] = None
    return found


def _texts(series: nw.Series[Any], missing: npt.NDArray[np.bool_]) -> npt.NDArray[np.object_]:
    # The categories of pandas may be numbers, which become fractions where a cell is missing.
    named = (
        int(cell) if isinstance(cell, float) and cell == cell and cell.is_integer() else cell
        for cell in series.to_list()
    )
    return _objects([str(cell) for cell in named], missing)
