"""The real steps of batches that callers give, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from bilstm.ragged import offsets_of
from bilstm.torch.compiling import outside_graphs, to_numpy
from bilstm.torch.forms import Chosen, Rows, rows_of_nested, rows_of_packed, rows_of_padded


@outside_graphs
def rows_of_any(
    owner: str, input: Any, *, batch_first: bool, lengths: Any = None, mask: Any = None, prefix: bool = False
) -> Rows:
    """The real steps of any form of a batch, of which each sequence has at least one.

    Args:
        owner: what the messages begin with.
        input: a PackedSequence, a jagged nested tensor, or a tensor as of `rows_of_padded`.
        lengths: (sequences,) the number of each sequence's real steps, which are its first.
        mask: (steps, sequences), or batch first (sequences, steps), not 0 for real steps, wherever they are.
        prefix: whether a mask must be of each sequence's first steps.

    Raises:
        TypeError: the input is not of these forms.
        ValueError: shapes contradict each other, or a sequence has no real step.
    """
    if isinstance(input, PackedSequence) or (isinstance(input, Tensor) and input.is_nested):
        if lengths is not None or mask is not None:
            raise ValueError(f"{owner}: a PackedSequence or nested tensor has its own lengths: leave lengths, mask out")
        rows = rows_of_packed(input) if isinstance(input, PackedSequence) else rows_of_nested(input)
        if rows is None:
            raise ValueError(f"{owner}: each step needs one dimension of features")
        if not np.diff(rows.offsets).all():
            raise ValueError(f"{owner}: sequence {int(np.diff(rows.offsets).argmin())} has no steps: leave it out")
        return rows
    if not isinstance(input, Tensor):
        raise TypeError(f"{owner}: a Tensor or a PackedSequence is needed, not {type(input).__name__}")
    rows = rows_of_padded(input, batch_first)
    if rows is None:
        form = "(sequences, steps, features)" if batch_first else "(steps, sequences, features)"
        raise ValueError(f"{owner}: a batch has shape {form}, none of them 0, not {tuple(input.shape)}")
    if lengths is None and mask is None:
        return rows
    if lengths is not None and mask is not None:
        raise ValueError(f"{owner}: give lengths or a mask, not both")
    steps = int(rows.offsets[1])
    kept = _kept_lengths(owner, lengths, rows, steps) if mask is None else _kept_mask(owner, mask, rows, batch_first)
    counts = kept.sum(axis=1)
    if not counts.all():
        raise ValueError(f"{owner}: sequence {int(counts.argmin())} has no real steps: leave it out")
    if prefix and (kept[:, 1:] > kept[:, :-1]).any():
        wrong = int((kept[:, 1:] > kept[:, :-1]).any(axis=1).argmax())
        raise ValueError(f"{owner}: the mask must be on for the first steps of each sequence: of {wrong} it is not")
    if kept.all():
        return rows
    return Rows(Chosen(offsets_of(counts), rows.form, np.flatnonzero(kept), kept.size), rows.data)


def _kept_lengths(owner: str, lengths: Any, rows: Rows, steps: int) -> npt.NDArray[np.bool_]:
    array = to_numpy(lengths) if isinstance(lengths, Tensor) else np.asarray(lengths)
    if array.size != rows.count or array.dtype.kind not in "iu":
        raise ValueError(f"{owner}: {rows.count} sequences need as many whole numbers as lengths, not {lengths!r:.100}")
    if array.min() < 0 or array.max() > steps:
        raise ValueError(
            f"{owner}: lengths must be from 1 to {steps}, the number of steps, not {array.tolist()!s:.100}"
        )
    return np.arange(steps) < array.reshape(-1, 1)


def _kept_mask(owner: str, mask: Any, rows: Rows, batch_first: bool) -> npt.NDArray[np.bool_]:
    array = to_numpy(mask) if isinstance(mask, Tensor) else np.asarray(mask)
    steps = int(rows.offsets[1])
    shape: tuple[int, ...] = (rows.count, steps) if batch_first else (steps, rows.count)
    if not rows.batched:
        shape = (steps,)
    if array.shape != shape:
        raise ValueError(f"{owner}: the mask must have shape {shape}, not {array.shape}")
    kept: npt.NDArray[np.bool_] = array.astype(bool)
    if not rows.batched:
        return kept[np.newaxis]
    return kept if batch_first else kept.T
