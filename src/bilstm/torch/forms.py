"""PyTorch's forms of batches, and the engine's: all time steps of a sequence, then those of the next.

Each form is known to PyTorch, with gradients, and in NumPy, for a call of the engine that has its own: an operation of
PyTorch's takes microseconds, and one of autograd's several.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from bilstm.ragged import FloatArray, IndexArray, equal_offsets, offsets_of
from bilstm.torch.indices import as_index, put, take


class Form(ABC):
    """How a tensor holds the steps of sequences.

    Attributes:
        offsets: (sequences + 1,) where each begins in rows that lie one after the other.
        wrap: from a tensor of outputs in this form to what the caller gets.
        order: (sequences,) the position in the caller's batch of each; None where it is the same.
        batched: whether states have a dimension for sequences.
    """

    def __init__(
        self,
        offsets: IndexArray,
        wrap: Callable[[Tensor], Any] = lambda tensor: tensor,
        order: Tensor | None = None,
        batched: bool = True,
    ) -> None:
        self.offsets, self.wrap, self.order, self.batched = offsets, wrap, order, batched

    @property
    def count(self) -> int:
        return len(self.offsets) - 1

    @abstractmethod
    def rows(self, data: Tensor) -> Tensor:
        """(total_steps, features) of a tensor in this form."""

    @abstractmethod
    def shaped(self, rows: Tensor) -> Tensor:
        """The reverse, zeros where no step is. Each is also the other's gradient."""

    @abstractmethod
    def gather(self, array: FloatArray) -> FloatArray:
        """What `rows` does, C-contiguous."""

    @abstractmethod
    def scatter(self, rows: FloatArray) -> FloatArray:
        """What `shaped` does."""


class Consecutive(Form):
    """(sequences, steps, features) where all have as many steps, or the rows themselves.

    Args:
        shape: of the tensor but for its features.
    """

    def __init__(self, offsets: IndexArray, shape: tuple[int, ...], **keywords: Any) -> None:
        super().__init__(offsets, **keywords)
        self.shape = shape

    def rows(self, data: Tensor) -> Tensor:
        return data.reshape(-1, data.shape[-1])

    def shaped(self, rows: Tensor) -> Tensor:
        return rows.view(*self.shape, -1)

    def gather(self, array: FloatArray) -> FloatArray:
        return np.ascontiguousarray(array.reshape(-1, array.shape[-1]))

    def scatter(self, rows: FloatArray) -> FloatArray:
        return rows.reshape(*self.shape, -1)


class StepsFirst(Form):
    """(steps, sequences, features) where all have as many steps."""

    def __init__(self, steps: int, count: int) -> None:
        super().__init__(equal_offsets(count, steps))
        self.steps = steps

    def rows(self, data: Tensor) -> Tensor:
        return data.transpose(0, 1).reshape(-1, data.shape[-1])

    def shaped(self, rows: Tensor) -> Tensor:
        return rows.view(self.count, self.steps, -1).transpose(0, 1)

    def gather(self, array: FloatArray) -> FloatArray:
        return np.ascontiguousarray(array.transpose(1, 0, 2)).reshape(-1, array.shape[-1])

    def scatter(self, rows: FloatArray) -> FloatArray:
        return rows.reshape(self.count, self.steps, -1).transpose(1, 0, 2)


class Chosen(Form):
    """Rows at different indices among the rows of another form.

    Args:
        inner: the other form.
        index: (total_steps,) of each step.
        total: how many rows the other form has.
    """

    def __init__(self, offsets: IndexArray, inner: Form, index: IndexArray, total: int, **keywords: Any) -> None:
        super().__init__(offsets, batched=inner.batched, **keywords)
        self.inner, self.index, self.total = inner, index, total

    def rows(self, data: Tensor) -> Tensor:
        return take(self.inner.rows(data), as_index(self.index, data))

    def shaped(self, rows: Tensor) -> Tensor:
        return self.inner.shaped(put(rows, as_index(self.index, rows), self.total))

    def gather(self, array: FloatArray) -> FloatArray:
        return self.inner.gather(array).take(self.index, axis=0)

    def scatter(self, rows: FloatArray) -> FloatArray:
        make = np.empty if len(rows) == self.total else np.zeros
        array = make((self.total, rows.shape[1]), np.float32)
        array[self.index] = rows
        return self.inner.scatter(array)


class Rows:
    """A batch in one of the forms.

    Attributes:
        form: how `data` holds the steps.
        data: the caller's.
    """

    def __init__(self, form: Form, data: Tensor) -> None:
        self.form, self.data = form, data
        self.offsets, self.count, self.batched = form.offsets, form.count, form.batched

    @property
    def values(self) -> Tensor:
        """(total_steps, features)."""
        return self.form.rows(self.data)

    def shaped_like_input(self, rows: Tensor) -> Any:
        """Rows of outputs in the form that the input has."""
        return self.form.wrap(self.form.shaped(rows))

    def by_sequence(self, rows: Tensor) -> Tensor:
        """(sequences, outputs), a row for each sequence, in the caller's order; (outputs,) if there is no batch."""
        if not self.batched:
            return rows[0]
        return rows if self.form.order is None else put(rows, self.form.order, self.count)


def rows_of_parts(values: Tensor, offsets: IndexArray) -> Rows:
    """Of rows that lie one after the other already."""
    return Rows(Consecutive(offsets, (len(values),)), values)


def rows_of_padded(input: Tensor, batch_first: bool) -> Rows | None:
    """(steps, features), (steps, sequences, features) or, batch first, (sequences, steps, features); None: neither."""
    shape = input.shape
    if len(shape) == 2 and shape[0]:
        return Rows(Consecutive(equal_offsets(1, shape[0]), tuple(shape[:1]), batched=False), input)
    if len(shape) != 3 or not input.numel():
        return None
    if not batch_first:
        return Rows(StepsFirst(shape[0], shape[1]), input)
    return Rows(Consecutive(equal_offsets(shape[0], shape[1]), tuple(shape[:2])), input)


def rows_of_packed(input: PackedSequence) -> Rows | None:
    """Sequences in the order of the packed batch, longest first."""
    sizes, data = input.batch_sizes.numpy(), input.data
    if data.dim() != 2 or not len(sizes):
        return None
    lengths = np.searchsorted(-sizes, -np.arange(sizes[0]), side="left")
    starts = offsets_of(sizes)[:-1]
    steps, positions = np.arange(len(sizes)), np.arange(sizes[0])
    there = steps < lengths[:, np.newaxis]
    index = (starts + positions[:, np.newaxis])[there]

    def packed(outputs: Tensor) -> PackedSequence:
        return PackedSequence(outputs, input.batch_sizes, input.sorted_indices, input.unsorted_indices)

    offsets = offsets_of(lengths)
    inner = Consecutive(offsets, (len(data),))
    return Rows(Chosen(offsets, inner, index, len(data), wrap=packed, order=input.sorted_indices), data)


def rows_of_nested(input: Tensor) -> Rows | None:
    """A jagged nested tensor of shape (sequences, steps of each, features)."""
    values: Tensor = input.values()
    begins: Tensor = input.offsets()
    if values.dim() != 2 or input.dim() != 3:
        return None

    def nested(outputs: Tensor) -> Tensor:
        nested: Tensor = torch.nested.nested_tensor_from_jagged(outputs, begins)
        return nested

    offsets = begins.cpu().numpy().astype(np.int64)
    return Rows(Consecutive(offsets, (len(values),), wrap=nested), values)


# --- States: PyTorch's (cells, sequences, units) of each kind, and the engine's (sequences, state_width) --------------


def gather_states(form: Form, parts: Sequence[FloatArray]) -> FloatArray:
    """The engine's states."""
    cells, units = parts[0].shape[0], parts[0].shape[-1]
    states = np.empty((form.count, cells, len(parts), units), np.float32)
    for kind, part in enumerate(parts):
        by_sequence = (part if form.batched else part[:, np.newaxis]).transpose(1, 0, 2)
        states[:, :, kind] = by_sequence if form.order is None else by_sequence[form.order.numpy()]
    return states.reshape(form.count, -1)


def scatter_states(form: Form, states: FloatArray, shape: tuple[int, int, int]) -> list[FloatArray]:
    """PyTorch's states; the shape is (cells, kinds, units)."""
    all_kinds, parts = states.reshape(form.count, *shape), []
    for kind in range(shape[1]):
        part = np.empty((shape[0], form.count, shape[2]), np.float32)
        part[:, slice(None) if form.order is None else form.order.numpy()] = all_kinds[:, :, kind].transpose(1, 0, 2)
        parts.append(part if form.batched else part[:, 0])
    return parts
