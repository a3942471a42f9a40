"""Rows that are chosen by their indices: the gradient of PyTorch's index_select would be a slow sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bilstm.ragged import IndexArray
from bilstm.torch.compiling import outside_graphs, transformed


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


@outside_graphs
def take(rows: Tensor, index: Tensor) -> Tensor:
    """The rows with these indices, of which none may occur twice."""
    taken: Tensor = rows.index_select(0, index) if transformed() else _Taken.apply(rows, index)
    return taken


@outside_graphs
def put(rows: Tensor, index: Tensor, count: int) -> Tensor:
    """`count` rows: these ones at different indices, and zeros elsewhere. The reverse of `take`."""
    if transformed():
        return rows.new_zeros((count, *rows.shape[1:])).index_copy(0, index, rows)
    result: Tensor = _Put.apply(rows, index, count)
    return result


def as_index(index: npt.NDArray[np.int64], like: Tensor) -> Tensor:
    """On the device of another tensor."""
    return torch.from_numpy(index if index.flags.writeable else index.copy()).to(like.device)


def reversed_rows(rows: Tensor, offsets: IndexArray) -> Tensor:
    """The steps of each sequence, from its last to its first."""
    lengths = np.diff(offsets)
    return take(rows, as_index(np.repeat(offsets[:-1] + offsets[1:] - 1, lengths) - np.arange(len(rows)), rows))


def last_rows(rows: Tensor, offsets: IndexArray) -> Tensor:
    """(sequences, …) the last step of each sequence."""
    return take(rows, as_index(offsets[1:] - 1, rows))


def padded(rows: Tensor, offsets: IndexArray) -> Tensor:
    """(sequences, longest, …) with zeros after each sequence's last step."""
    lengths = np.diff(offsets)
    longest = int(lengths.max())
    if len(rows) == len(lengths) * longest:
        return rows.view(len(lengths), longest, *rows.shape[1:])
    return put(rows, as_index(_positions(lengths, longest), rows), len(lengths) * longest).view(
        len(lengths), longest, *rows.shape[1:]
    )


def unpadded(array: Tensor, offsets: IndexArray) -> Tensor:
    """The reverse of `padded`; steps beyond a sequence's end may hold anything."""
    flat = array.flatten(0, 1)
    if len(flat) == offsets[-1]:
        return flat
    return take(flat, as_index(_positions(np.diff(offsets), array.shape[1]), array))


def _positions(lengths: IndexArray, longest: int) -> npt.NDArray[np.int64]:
    """Of each step in a flattened padded array."""
    return np.flatnonzero(np.arange(longest) < lengths[:, np.newaxis])
