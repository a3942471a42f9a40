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
    order = torch.from_numpy((starts + positions[:, np.newaxis])[there])
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order))

    def packed(rows: Tensor) -> PackedSequence:
        data = _permuted(rows, inverse, order)
        return PackedSequence(data, input.batch_sizes, input.sorted_indices, input.unsorted_indices)

    return Rows(_permuted(input.data, order, inverse), offsets_of(lengths), packed, input.sorted_indices)


def rows_of_nested(input: Tensor) -> Rows | None:
    """A jagged nested tensor of shape (sequences, steps of each, features)."""
    values: Tensor = input.values()
    offsets: Tensor = input.offsets()
    if values.dim() != 2 or input.dim() != 3:
        return None

    def nested(rows: Tensor) -> Tensor:
        nested: Tensor = torch.nested.nested_tensor_from_jagged(rows, offsets)
        return nested

    return Rows(values, offsets.numpy().astype(np.int64), nested)
