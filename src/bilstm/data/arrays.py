"""Arrays, lists and dictionaries of sequences -> tables in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data.frames import read_cells, repeated
from bilstm.data.memory import Cells, Form, MemoryTable
from bilstm.errors import UserError
from bilstm.ragged import IndexArray, Ragged, offsets_of

WORDS = "words"
INCONSISTENT = "Found input variables with inconsistent numbers of samples"  # scikit-learn's words
FORMS = (
    "a list of (steps, features) arrays, a (n, steps, features) array, a Ragged, a list of lists of strings, one per "
    "step, or a data frame"
)


def read_sequences(X: Any, label: str = "X") -> MemoryTable:
    """Sequences as a table whose columns are called "0", "1" and so on, or "words" where steps are strings.

    Args:
        X: a list of (steps, features) arrays, of (steps,) arrays, of lists of strings, or of dictionaries with a list
            for each column; a (n, steps, features) array, a (n, steps) array with one feature; or a `Ragged`.
        label: what messages call it.

    Raises:
        UserError: X has none of these forms, no sequence, one without steps, or an infinite value; the message says
            which.
    """
    if isinstance(X, Ragged):
        return _table(X.values.astype(np.float64), X.offsets, "ragged", label)
    if isinstance(X, (list, tuple)) and X and all(isinstance(sequence, Mapping) for sequence in X):
        return _join_dictionaries(X, label)
    if isinstance(X, (list, tuple)):
        return _join(X, "list", label)
    return _read_array(X, label)


def read_rows(
    y: Any, offsets: IndexArray, per_sequence: bool, name: str = "y", column: str = "label", missing: Any = None
) -> dict[str, Cells]:
    """Targets or groups that were passed with sequences, as columns with a row for each time step.

    Args:
        y: for each step: a list with an array for each sequence, a (n, steps) array, or a `Ragged`; for several labels
            or quantities with a further dimension. For each sequence: (n,), or (n, outputs).
        offsets: (n + 1,) of the sequences.
        per_sequence: whether y has an entry for each sequence.
        name: what messages call y.
        column: the name of the column; of several "label 0", "label 1" and so on.
        missing: what stands for a missing value besides None and NaN.

    Raises:
        UserError: y has none of these forms, or another number of sequences or steps.
    """
    count, lengths = len(offsets) - 1, np.diff(offsets)
    if per_sequence:
        array = as_array(y)
        if array.ndim not in (1, 2) or len(array) != count:
            problem = f"{name} has shape {array.shape}"
            raise UserError(f"{INCONSISTENT}: X has {count} sequences and needs one entry for each, but {problem}")
        return {key: repeated(cells, lengths) for key, cells in read_matrix(array, name, column, missing).items()}
    if not isinstance(y, (list, tuple)):
        y = list(y if isinstance(y, Ragged) else np.atleast_1d(np.asarray(y)))
    if len(y) != count:
        raise UserError(f"{INCONSISTENT}: X has {count} sequences, {name} has {len(y)}")
    arrays = [as_array(labels) for labels in y]
    row = arrays[0].shape[1:]
    for position, (array, steps) in enumerate(zip(arrays, lengths.tolist(), strict=True)):
        if array.shape not in ((steps, *row), *([(steps,), (steps, 1)] if row in ((), (1,)) else [])) or len(row) > 1:
            raise UserError(f"{name}: sequence {position} has shape {array.shape}, but X has {steps} steps")
    kinds = {array.dtype.kind for array in arrays}
    alike = kinds <= set("biuf") or kinds == {"U"}
    rows = [array.reshape(len(array), -1) for array in arrays]
    joined = np.concatenate(rows if alike else [array.astype(object) for array in rows])
    return read_matrix(joined[:, 0] if row == () else joined, name, column, missing)


def as_array(values: Any) -> npt.NDArray[Any]:
    """An array of Python values, in which a missing one stays None or NaN."""
    if not isinstance(values, (list, tuple)):
        return np.asarray(values)
    # As objects first: otherwise NumPy would write a missing value among strings as "nan" or "None".
    objects = np.array(values, object)
    texts = {isinstance(value, str) for value in objects.ravel()}
    simple = all(isinstance(value, (str, int, float, np.generic)) for value in objects.ravel())
    return np.array(values) if simple and len(texts) == 1 else objects


def read_values(values: npt.NDArray[Any], missing: Any = None) -> Cells:
    """A (rows,) array as a column, in which None, NaN and `missing` are no values."""
    kind = values.dtype.kind
    if kind == "f":
        return Cells("number", values.astype(np.float64)).without(missing)
    if kind in "iu":
        return Cells("number", values.astype(np.float64), integers=values).without(missing)
    if kind == "b":
        return Cells("boolean", values.astype(np.float64)).without(missing)
    if kind == "M":
        return Cells("time", values.astype(str).astype(object), keys=values)
    cells = values.tolist()
    if missing is not None:  # before their kind is found: it may be a number among strings
        cells = [None if type(cell) is type(missing) and cell == missing else cell for cell in cells]
    return read_cells(cells).without(missing)


def read_matrix(values: npt.NDArray[Any], name: str, column: str, missing: Any = None) -> dict[str, Cells]:
    """A (rows,) or (rows, columns) array as columns: see `read_rows`.

    Raises:
        UserError: it has another shape.
    """
    if values.ndim == 1:
        return {column: read_values(values, missing)}
    if values.ndim != 2 or values.shape[1] == 0:
        raise UserError(f"{name} has shape {values.shape}, but needs one entry, or a row of entries, for each")
    if values.shape[1] == 1:
        return {column: read_values(values[:, 0], missing)}
    return {f"{column} {index}": read_values(values[:, index], missing) for index in range(values.shape[1])}


def _table(values: npt.NDArray[Any], offsets: IndexArray, form: Form, label: str) -> MemoryTable:
    """A table of (total_steps, features) numbers or (total_steps,) strings."""
    if len(offsets) < 2:
        raise UserError(f"{label} has no sequences: 0 sample(s) while a minimum of 1 is required.")
    if values.ndim == 2 and not values.shape[1]:
        shape = (len(offsets) - 1, 0)
        raise UserError(f"{label} has 0 feature(s) (shape={shape}) while a minimum of 1 is required.")
    _check_steps(offsets, label)
    if values.ndim == 1:
        return MemoryTable({WORDS: Cells("text", values)}, offsets, form=form, label=label)
    columns = {str(feature): Cells("number", cells) for feature, cells in enumerate(values.T)}
    table = MemoryTable(columns, offsets, form=form, label=label)
    infinite = np.isinf(values)
    if infinite.any():
        step, feature = np.argwhere(infinite)[0].tolist()
        raise UserError(
            f"{label} has {values[step, feature]} in {table.place(step)}, feature {feature}: pass finite numbers, or "
            f"NaN for a missing value"
        )
    return table


def _read_array(X: Any, label: str) -> MemoryTable:
    if hasattr(X, "tocsr"):
        raise UserError(f"Sparse data is not supported: {label} must be {FORMS}")
    array = np.asarray(X)
    if array.dtype.kind == "c":
        raise UserError(f"Complex data not supported: {label} must be {FORMS}")
    if array.dtype == object and array.ndim:
        return _join(list(array), "array" if array.ndim > 1 else "objects", label)
    if array.ndim not in (2, 3) or array.dtype.kind not in "fiubU":
        raise UserError(f"Reshape your data: {label} must be {FORMS}, not {array.dtype} of shape {array.shape}")
    if array.ndim == 2 and array.shape[1]:
        array = array[:, :, np.newaxis]
    count, steps = array.shape[:2]
    rows = array.reshape(count * steps, array.shape[2] if array.ndim == 3 else 0)
    values = _words(rows) if array.dtype.kind == "U" else rows.astype(np.float64)
    return _table(values, np.arange(count + 1, dtype=np.int64) * steps, "array", label)


def _join(sequences: Sequence[Any], form: Form, label: str) -> MemoryTable:
    arrays: list[npt.NDArray[Any]] = []
    for position, sequence in enumerate(sequences):
        try:
            arrays.append(_read_sequence(sequence))
            _check_alike(arrays[0], arrays[-1])
        except (TypeError, ValueError) as error:
            raise UserError(f"sequence {position} of {label}: {error}") from None
    values = np.concatenate(arrays) if arrays else np.zeros((0, 1))
    return _table(values, offsets_of([len(array) for array in arrays]), form, label)


def _join_dictionaries(sequences: Sequence[Mapping[str, Any]], label: str) -> MemoryTable:
    """Each dictionary is a sequence with lists of steps; a single value stands for all of the sequence's steps."""
    names = list(dict.fromkeys(name for sequence in sequences for name in sequence))
    lengths, columns = [], dict[str, list[Any]]()
    for position, sequence in enumerate(sequences):
        where = f"sequence {position} of {label}"
        steps = {name: len(value) for name, value in sequence.items() if _is_listed(value)}
        if not steps:
            raise UserError(f"{where} has no list of steps: give each column a list with a value for each time step")
        first = next(iter(steps))
        for name, length in steps.items():
            if length != steps[first]:
                raise UserError(f"{where}: {name!r} has {length} steps, but {first!r} has {steps[first]}")
        lengths.append(steps[first])
        for name in names:
            cells = sequence[name] if name in steps else [sequence.get(name)] * steps[first]
            columns.setdefault(name, []).extend(cells)
    table = MemoryTable(
        {name: read_cells(values) for name, values in columns.items()}, offsets_of(lengths), form="list", label=label
    )
    _check_steps(table.offsets, label)
    table.lists = [name for name in names if any(_is_listed(sequence.get(name)) for sequence in sequences)]
    return table


def _check_steps(offsets: IndexArray | None, label: str) -> None:
    """Refuse sequences without steps."""
    if offsets is not None and (offsets[1:] == offsets[:-1]).any():
        raise UserError(f"sequence {int((offsets[1:] == offsets[:-1]).argmax())} of {label} has no steps")


def _is_listed(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim == 1)


def _read_sequence(sequence: Any) -> npt.NDArray[Any]:
    if isinstance(sequence, (str, bytes)):
        raise UserError(
            "text must be divided into steps: list(text) for its characters, text.split() for its words, of each text"
        )
    if isinstance(sequence, list) and sequence and isinstance(sequence[0], str):
        return _words(np.array(sequence, object)[:, np.newaxis])
    array = np.asarray(sequence)
    if array.ndim not in (1, 2):
        raise UserError(f"a sequence has shape (steps, features), not {array.shape}")
    rows = array[:, np.newaxis] if array.ndim == 1 else array
    if array.dtype.kind == "U" or (array.dtype == object and any(isinstance(value, str) for value in array.flat)):
        return _words(rows)
    if array.dtype.kind not in "fiubO":
        raise UserError(f"steps must be numbers or strings, not {array.dtype}")
    return rows.astype(np.float64)


def _words(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if rows.shape[1] != 1:
        raise UserError(f"a step is one string, not {rows.shape[1]}")
    words = rows[:, 0].astype(object)
    others = [word for word in words if not isinstance(word, str)]
    if others:
        raise UserError(f"steps must be all numbers or all strings, but {others[0]!r} is among strings")
    return words


def _check_alike(first: npt.NDArray[Any], array: npt.NDArray[Any]) -> None:
    if first.ndim != array.ndim:
        names = ("strings", "numbers") if array.ndim == 1 else ("numbers", "strings")
        raise UserError(f"its steps are {names[0]}, but those of sequence 0 are {names[1]}")
    if array.shape[1:] != first.shape[1:]:
        raise UserError(f"it has {array.shape[1]} features, but sequence 0 has {first.shape[1]}")
