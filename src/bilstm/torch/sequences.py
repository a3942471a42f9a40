"""PyTorch's forms of batches, and the engine's: all time steps of a sequence, then those of the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from bilstm.ragged import IndexArray, offsets_of


@dataclass
class Rows:
    """A batch's steps, sequence by sequence.

    Attributes:
        values: (total_steps, features).
        offsets: (sequences + 1,) where each sequence begins.
        shaped_like_input: from rows of outputs to the form that the input has.
        order: (sequences,) the position in the caller's batch of each; None where it is the same.
        batched: whether states have a dimension for sequences.
    """

    values: Tensor
    offsets: IndexArray
    shaped_like_input: Callable[[Tensor], Any]
    order: Tensor | None = None
    batched: bool = True

    @property
    def count(self) -> int:
        return len(self.offsets) - 1

    def by_sequence(self, rows: Tensor) -> Tensor:
        """(sequences, outputs), a row for each sequence, in the caller's order; (outputs,) if there is no batch."""
        if not self.batched:
            return rows[0]
        return rows if self.order is None else put(rows, self.order, self.count)


# --- Rows chosen by their indices: the gradient of an index_select would be a slow sum ------------------------------


class _Taken(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor) -> Tensor:
        ctx.count = len(rows)
        ctx.save_for_backward(index)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return put(gradient, ctx.saved_tensors[0], ctx.count), None


class _Put(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(index)
        make = rows.new_empty if count == len(rows) else rows.new_zeros
        return make((count, *rows.shape[1:])).index_copy_(0, index, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return take(gradient, ctx.saved_tensors[0]), None, None


@torch.compiler.disable
def take(rows: Tensor, index: Tensor) -> Tensor:
    """The rows with these indices, of which none may occur twice."""
    taken: Tensor = _Taken.apply(rows, index)
    return taken


@torch.compiler.disable
def put(rows: Tensor, index: Tensor, count: int) -> Tensor:
    """`count` rows: these ones at different indices, and zeros elsewhere. The reverse of `take`."""
    result: Tensor = _Put.apply(rows, index, count)
    return result


def _index(index: npt.NDArray[np.int64], like: Tensor) -> Tensor:
    return torch.from_numpy(index).to(like.device)


def reversed_rows(rows: Tensor, offsets: IndexArray) -> Tensor:
    """The steps of each sequence, from its last to its first."""
    lengths = np.diff(offsets)
    return take(rows, _index(np.repeat(offsets[:-1] + offsets[1:] - 1, lengths) - np.arange(len(rows)), rows))


def last_rows(rows: Tensor, offsets: IndexArray) -> Tensor:
    """(sequences, …) the last step of each sequence."""
    return take(rows, _index(offsets[1:] - 1, rows))


def padded(rows: Tensor, offsets: IndexArray) -> Tensor:
    """(sequences, longest, …) with zeros after each sequence's last step."""
    lengths = np.diff(offsets)
    longest = int(lengths.max())
    if len(rows) == len(lengths) * longest:
        return rows.view(len(lengths), longest, *rows.shape[1:])
    return put(rows, _index(_positions(lengths, longest), rows), len(lengths) * longest).view(
        len(lengths), longest, *rows.shape[1:]
    )


def unpadded(array: Tensor, offsets: IndexArray) -> Tensor:
    """The reverse of `padded`; steps beyond a sequence's end may hold anything."""
    flat = array.flatten(0, 1)
    if len(flat) == offsets[-1]:
        return flat
    return take(flat, _index(_positions(np.diff(offsets), array.shape[1]), array))


def _positions(lengths: IndexArray, longest: int) -> npt.NDArray[np.int64]:
    """Of each step in a flattened padded array."""
    return np.flatnonzero(np.arange(longest) < lengths[:, np.newaxis])


# --- From the caller's forms ------------------------------------------------------------------------------------------


def rows_of_padded(input: Tensor, batch_first: bool) -> Rows | None:
    """(steps, features), (steps, sequences, features) or, batch first, (sequences, steps, features); None: neither."""
    if input.dim() == 2:
        return Rows(input, np.array([0, len(input)]), lambda rows: rows, batched=False) if len(input) else None
    if input.dim() != 3 or not input.numel():
        return None
    by_sequence = input if batch_first else input.transpose(0, 1)
    count, steps, features = by_sequence.shape

    def shaped(rows: Tensor) -> Tensor:
        shaped = rows.view(count, steps, -1)
        return shaped if batch_first else shaped.transpose(0, 1)

    return Rows(by_sequence.reshape(-1, features), np.arange(count + 1) * steps, shaped)


def rows_of_packed(input: PackedSequence) -> Rows | None:
    """Sequences in the order of the packed batch, longest first."""
    sizes = input.batch_sizes.numpy()
    if input.data.dim() != 2 or not len(sizes):
        return None
    lengths = np.searchsorted(-sizes, -np.arange(sizes[0]), side="left")
    starts = offsets_of(sizes)[:-1]
    steps, positions = np.arange(len(sizes)), np.arange(sizes[0])
    there = steps < lengths[:, np.newaxis]
    order = _index((starts + positions[:, np.newaxis])[there], input.data)

    def packed(rows: Tensor) -> PackedSequence:
        data = put(rows, order, len(rows))
        return PackedSequence(data, input.batch_sizes, input.sorted_indices, input.unsorted_indices)

    return Rows(take(input.data, order), offsets_of(lengths), packed, input.sorted_indices)


def rows_of_nested(input: Tensor) -> Rows | None:
    """A jagged nested tensor of shape (sequences, steps of each, features)."""
    values: Tensor = input.values()
    offsets: Tensor = input.offsets()
    if values.dim() != 2 or input.dim() != 3:
        return None

    def nested(rows: Tensor) -> Tensor:
        nested: Tensor = torch.nested.nested_tensor_from_jagged(rows, offsets)
        return nested

    return Rows(values, offsets.cpu().numpy().astype(np.int64), nested)


@torch.compiler.disable
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
    index, total, shaped = _index(np.flatnonzero(kept), input), len(rows.values), rows.shaped_like_input
    return Rows(
        take(rows.values, index),
        offsets_of(counts),
        lambda outputs: shaped(put(outputs, index, total)),
        batched=rows.batched,
    )


def _kept_lengths(owner: str, lengths: Any, rows: Rows, steps: int) -> npt.NDArray[np.bool_]:
    array = np.asarray(lengths.cpu() if isinstance(lengths, Tensor) else lengths)
    if array.size != rows.count or array.dtype.kind not in "iu":
        raise ValueError(f"{owner}: {rows.count} sequences need as many whole numbers as lengths, not {lengths!r:.100}")
    if array.min() < 0 or array.max() > steps:
        raise ValueError(
            f"{owner}: lengths must be from 1 to {steps}, the number of steps, not {array.tolist()!s:.100}"
        )
    return np.arange(steps) < array.reshape(-1, 1)


def _kept_mask(owner: str, mask: Any, rows: Rows, batch_first: bool) -> npt.NDArray[np.bool_]:
    array = np.asarray(mask.detach().cpu() if isinstance(mask, Tensor) else mask)
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
