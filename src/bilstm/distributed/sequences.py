"""Tables that come one after the other, divided where sequences end instead of where they happen to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from bilstm.errors import UserError, shown
from bilstm.model.streaming import REMEMBERED


def whole_sequences(tables: Iterable[pa.Table], sequence: str) -> Iterator[pa.Table]:
    """Tables of whole sequences, of tables in which a sequence may begin and end anywhere.

    Args:
        tables: long tables with the same columns, in which the rows of a sequence are contiguous.
        sequence: the column that identifies the sequences.

    Raises:
        UserError: a sequence is not contiguous.
    """
    held: list[pa.Table] = []  # rows of the sequence that is not complete
    ended = OrderedDict[Any, None]()  # the last ones that are

    def complete(tables: list[pa.Table]) -> pa.Table:
        whole = pa.concat_tables(tables)
        for key in pa.compute.unique(whole.column(sequence)).to_pylist():
            if key in ended:
                raise UserError(
                    f"sequence {shown(key)} is not contiguous: it continues after rows of another one; sort each "
                    f"partition by {sequence!r}"
                )
            ended[key] = None
        while len(ended) > REMEMBERED:
            ended.popitem(last=False)
        return whole

    for table in tables:
        if not table.num_rows:
            continue
        start = _last_sequence(table.column(sequence))
        if start or (held and held[-1].column(sequence)[-1] != table.column(sequence)[0]):
            yield complete([*held, table.slice(0, start)])
            held = []
        held.append(table.slice(start))
    if held:
        yield complete(held)


def _last_sequence(keys: pa.ChunkedArray) -> int:
    """The first row of the sequence that the last row belongs to, if its rows are contiguous."""
    different = pa.compute.fill_null(pa.compute.not_equal(keys, keys[-1]), True)
    rows = np.flatnonzero(different.to_numpy())
    return int(rows[-1]) + 1 if len(rows) else 0
