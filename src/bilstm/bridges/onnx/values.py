"""What the tensors of an ONNX graph stand for while it is read: rows of a chain of layers, lengths, constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.bridges.refusals import RefusedError, joined
from bilstm.layers import Bidirectional, Layer, Recurrent, Reverse
from bilstm.ragged import FloatArray

FEATURE, DIRECTION = "feature", "direction"
Axis = tuple[str, int]  # its name and size; sizes that are not fixed are stood for by large primes


@dataclass(frozen=True)
class Constant:
    """A tensor that does not depend on the input's values."""

    array: npt.NDArray[Any]


@dataclass(frozen=True)
class Filled:
    """A tensor of one value, such as an initial state of zeros."""

    value: float


@dataclass(frozen=True)
class Lengths:
    """How many steps each sequence has; sorted, or in the input's order."""

    sorted: bool = False


@dataclass(frozen=True)
class Mask:
    """Which steps are within their sequence."""


@dataclass(frozen=True)
class Order:
    """The order of the sequences by their lengths, or its inverse."""

    inverse: bool = False


@dataclass(frozen=True, eq=False)
class Step:
    """A layer with its weights, and the name of the node that it was."""

    layer: Layer
    arrays: list[FloatArray]
    node: str


@dataclass(frozen=True)
class Rows:
    """What a chain of layers makes of the input.

    Attributes:
        steps: the layers.
        axes: of the tensor.
        pending: the directions of a recurrent layer that are not joined yet; one axis tells them apart, unless there
            is one only.
        turned: whether the pending direction's output is in the order of processing.
        summed: the node that added up the rows over time, to be divided by the lengths, or "".
        padding: what the graph put beyond each sequence's length, None where it did not.
        sorted: whether the sequences are in the order of their lengths, not in that of the input.
    """

    steps: tuple[Step, ...]
    axes: tuple[Axis, ...]
    pending: tuple[Step, ...] = ()
    turned: bool = False
    summed: str = ""
    padding: float | None = None
    sorted: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(size for _, size in self.axes)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.axes]

    @property
    def features(self) -> int:
        return dict(self.axes)[FEATURE]

    def settled(self) -> Rows:
        """With what is pending as a layer.

        Raises:
            RefusedError: it is two directions that were not joined.
        """
        if self.summed:
            raise RefusedError("a sum over time must be divided by the lengths")
        if not self.pending:
            return self
        if DIRECTION in self.names or len(self.pending) != 1:
            raise RefusedError(
                "the two directions of a recurrent layer must be joined: concatenated, added, multiplied"
            )
        (step,) = self.pending
        layer = step.layer
        assert isinstance(layer, Recurrent)
        steps = [*self.steps, step]
        if layer.go_backwards and layer.return_sequences and not self.turned:
            steps.append(Step(Reverse(), [], step.node))
        return replace(self, steps=tuple(steps), pending=(), turned=False)

    def then(self, layer: Layer, arrays: list[FloatArray], node: str, axes: tuple[Axis, ...] | None = None) -> Rows:
        """With another layer; its features take the place of those before it."""
        before = self.settled()
        width = layer.output_features(before.features) if FEATURE in before.names else layer.output_features(1)
        renamed = tuple((name, width if name == FEATURE else size) for name, size in axes or before.axes)
        return replace(before, steps=(*before.steps, Step(layer, arrays, node)), axes=renamed, padding=None)

    def direction(self, index: int) -> Rows:
        """One of the pending directions."""
        axes = tuple(axis for axis in self.axes if axis[0] != DIRECTION)
        return replace(self, axes=axes, pending=(self.pending[index],))


def merged(first: Rows, second: Rows, merge_mode: str) -> Rows:
    """Two directions that read the same rows, as one layer.

    Raises:
        RefusedError: they are no such directions.
    """
    ways = [*first.pending, *second.pending]
    others = replace(second, pending=(), axes=first.axes), replace(first, pending=())
    if len(ways) != 2 or others[0] != others[1] or first.names != second.names or first.turned:
        raise RefusedError("a model of bilstm is one chain of layers; only the two directions of a layer can be joined")
    forward, backward = (step.layer for step in ways)
    assert isinstance(forward, Recurrent)
    assert isinstance(backward, Recurrent)
    if forward.go_backwards or not backward.go_backwards:
        if merge_mode == "concat" or forward.go_backwards == backward.go_backwards:
            raise RefusedError("of two directions the first must read forwards and the second backwards")
        (forward, backward), ways = (backward, forward), ways[::-1]
    try:
        layer: Bidirectional = joined(forward, backward, merge_mode)
    except ValueError as error:
        raise RefusedError(str(error)) from None
    axes = tuple((name, layer.output_features(1) if name == FEATURE else size) for name, size in first.axes)
    step = Step(layer, [*ways[0].arrays, *ways[1].arrays], ways[0].node)
    return replace(first, steps=(*first.steps, step), axes=axes, pending=())


@dataclass(frozen=True)
class States:
    """The final states of several recurrent layers, one after the other."""

    each: tuple[Rows, ...]


Value = Constant | Filled | Lengths | Mask | Order | Rows | States


def is_value(value: Value | None, number: float) -> bool:
    """Whether a tensor holds nothing but this number."""
    if isinstance(value, Filled):
        return value.value == number
    return isinstance(value, Constant) and bool(np.all(value.array == number))


# --- Axes ------------------------------------------------------------------------------------------------------------


def resized(axes: tuple[Axis, ...], axis: int, size: int) -> tuple[Axis, ...]:
    return (*axes[:axis], (axes[axis][0], size), *axes[axis + 1 :])


def without(rows: Rows, axes: Sequence[int]) -> Rows:
    for axis in axes:
        name, size = rows.axes[axis]
        if size != 1 or (name == FEATURE and (rows.steps or rows.pending)):
            raise RefusedError(f"it leaves out an axis of size {size}")
    return replace(rows, axes=tuple(axis for place, axis in enumerate(rows.axes) if place not in axes))


def reshaped(rows: Rows, shape: tuple[int, ...]) -> Rows:
    """Rows in another shape: without the axis of one direction, with both directions' features side by side, or with
    batch and time as one axis, and back.
    """
    if shape == rows.shape:
        return rows
    names = rows.names
    if DIRECTION in names:
        at = names.index(DIRECTION)
        if rows.shape[at] == 1 and shape == rows.shape[:at] + rows.shape[at + 1 :]:
            return without(rows, [at])
        together = (*rows.shape[:at], 2 * rows.features, *rows.shape[at + 2 :])
        if names[at + 1 : at + 2] == [FEATURE] and len(rows.pending) == 2 and shape == together:
            return merged(rows.direction(0), rows.direction(1), "concat")
    elif len(names) == 3 and names[2] == FEATURE and shape == (rows.shape[0] * rows.shape[1], rows.shape[2]):
        rows = rows.settled()
        joint = "+".join(f"{name}:{size}" for name, size in rows.axes[:2])
        return replace(rows, axes=((joint, shape[0]), rows.axes[2]))
    elif len(names) == 2 and "+" in names[0]:
        pairs = [part.rsplit(":", 1) for part in names[0].split("+")]
        axes = tuple((name, int(size)) for name, size in pairs)
        if shape == (axes[0][1], axes[1][1], rows.shape[1]):
            return replace(rows, axes=(*axes, rows.axes[1]))
    elif shape == tuple(size for name, size in rows.axes if not (name == FEATURE and size == 1)):
        return without(rows, [names.index(FEATURE)])
    raise RefusedError(f"it changes the shape in a way that is not supported, from {rows.shape} to {shape}")
