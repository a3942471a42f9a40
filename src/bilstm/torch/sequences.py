"""PyTorch's forms of batches, and the engine's: all time steps of a sequence, then those of the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
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


class _Permuted(torch.autograd.Function):
    """Rows in another order. The gradient of an index_select would be a slow sum."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors
        return _permuted(gradient, inverse, order), None, None


def _permuted(rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    permuted: Tensor = _Permuted.apply(rows, order, inverse)
    return permuted


def rows_of_padded(given: Tensor, batch_first: bool) -> Rows | None:
    """(steps, features), (steps, sequences, features) or, batch first, (sequences, steps, features); None: neither."""
    if given.dim() == 2:
        return Rows(given, np.array([0, len(given)]), lambda rows: rows, batched=False) if len(given) else None
    if given.dim() != 3 or not given.numel():
        return None
    by_sequence = given if batch_first else given.transpose(0, 1)
    count, steps, features = by_sequence.shape

    def shaped(rows: Tensor) -> Tensor:
        found = rows.view(count, steps, -1)
        return found if batch_first else found.transpose(0, 1)

    return Rows(by_sequence.reshape(-1, features), np.arange(count + 1) * steps, shaped)


def rows_of_packed(given: PackedSequence) -> Rows | None:
    """Sequences in the order of the packed batch, longest first."""
    sizes = given.batch_sizes.numpy()
    if given.data.dim() != 2 or not len(sizes):
        return None
    lengths = np.searchsorted(-sizes, -np.arange(sizes[0]), side="left")
    starts = offsets_of(sizes)[:-1]
    steps, positions = np.arange(len(sizes)), np.arange(sizes[0])
    there = steps < lengths[:, np.newaxis]
    order = torch.from_numpy((starts + positions[:, np.newaxis])[there])
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order))

    def packed(rows: Tensor) -> PackedSequence:
        data = _permuted(rows, inverse, order)
        return PackedSequence(data, given.batch_sizes, given.sorted_indices, given.unsorted_indices)

    return Rows(_permuted(given.data, order, inverse), offsets_of(lengths), packed, given.sorted_indices)


def rows_of_nested(given: Tensor) -> Rows | None:
    """A jagged nested tensor of shape (sequences, steps of each, features)."""
    values: Tensor = given.values()
    offsets: Tensor = given.offsets()
    if values.dim() != 2 or given.dim() != 3:
        return None

    def nested(rows: Tensor) -> Tensor:
        found: Tensor = torch.nested.nested_tensor_from_jagged(rows, offsets)
        return found

    return Rows(values, offsets.numpy().astype(np.int64), nested)
