"""One call of the engine as an operation of PyTorch's autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bilstm.engine.library import LayerStruct
from bilstm.engine.network import Network, Pass
from bilstm.ragged import FloatArray, IndexArray, Ragged
from bilstm.torch.arrangement import Arrangement, Direction
from bilstm.torch.compiling import recorded

# What PyTorch's own operations give for the same: (values, offsets, states, weights) -> (rows, states).
Reference = Callable[[Tensor, IndexArray, Tensor | None, list[Tensor]], tuple[Tensor, Tensor | None]]


class Engine:
    """A network of the engine that computes recurrent layers of PyTorch's, and the weights it had last.

    Args:
        plan: the network's layers, for inputs of this many features.
        directions: all that are in them, in the order of their weights.
        reference: the same by PyTorch's operations, for second derivatives.
        drops: whether there is dropout among the layers.
        key: what the owner knows it by.
    """

    def __init__(
        self,
        plan: Sequence[LayerStruct],
        features: int,
        directions: Sequence[Direction],
        reference: Reference,
        *,
        drops: bool = False,
        key: Any = None,
    ) -> None:
        self._directions, self.reference, self.drops, self.key = directions, reference, drops, key
        self.lock = Lock()  # of the weights
        self.network = Network(plan, features)
        self._arrangement: Arrangement | None = None
        self._written: list[bytes] = []  # the weights, to see whether others come: PyTorch does not count all changes
        self.writes = 0  # of other weights than before

    def write(self, weights: Sequence[Tensor]) -> None:
        """Give the network these weights, PyTorch's, unless it has them.

        In NumPy: after a large operation, PyTorch's threads keep processors busy for some milliseconds.
        """
        arrays = [array_of(weight) for weight in weights]
        found = [array.tobytes() for array in arrays]
        if found == self._written:
            return
        if self._arrangement is None:
            self._arrangement = Arrangement(self._directions, [array.shape for array in arrays])
        self.network.write(self._arrangement.gather(arrays))
        self.writes += 1
        self._written = found

    def gradients(self) -> list[Tensor]:
        """The network's, for each of PyTorch's weights. An LSTM's two biases have the same."""
        assert self._arrangement is not None
        return [torch.from_numpy(array) for array in self._arrangement.scatter(self.network.read("gradients"))]


class _Run(torch.autograd.Function):
    """Rows and states of outputs; see `run`."""

    @staticmethod
    def forward(
        ctx: Any,
        engine: Engine,
        offsets: IndexArray,
        seed: int | None,
        values: Tensor,
        states: Tensor | None,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        data = Ragged._checked(array_of(values), offsets)
        with engine.lock:
            engine.write(list(weights))
            output, last, ctx.kept = _forward(engine, data, states, seed)
            ctx.writes = engine.writes
        ctx.engine, ctx.offsets, ctx.seed, ctx.shape = engine, offsets, seed, output.shape
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(values, states, *weights)
        return torch.from_numpy(output), torch.from_numpy(last)

    @staticmethod
    def backward(ctx: Any, by_output: Tensor | None, by_states: Tensor | None) -> tuple[Tensor | None, ...]:
        values, states, *weights = ctx.saved_tensors
        if torch.is_grad_enabled():  # of the gradient, too
            return None, None, None, *_differentiable(ctx, values, states, weights, by_output, by_states)
        engine: Engine = ctx.engine
        gradients: list[Tensor | None] = [None] * len(weights)
        with engine.lock:
            if ctx.writes != engine.writes:  # other weights were there meanwhile
                engine.write(weights)
                data = Ragged._checked(array_of(values), ctx.offsets)
                ctx.kept, ctx.writes = _forward(engine, data, states, ctx.seed)[2], engine.writes
            of_values, of_states = ctx.kept.backward(
                np.zeros(ctx.shape, np.float32) if by_output is None else array_of(by_output),
                None if by_states is None else array_of(by_states),
                inputs=ctx.needs_input_grad[3],
                states=ctx.needs_input_grad[4],
            )
            if any(ctx.needs_input_grad[5:]):
                gradients = [*engine.gradients()]
        results = [None if array is None else torch.from_numpy(array) for array in (of_values, of_states)]
        return None, None, None, *results, *gradients


def array_of(tensor: Tensor) -> FloatArray:
    """C-contiguous."""
    array: FloatArray = tensor.detach().numpy()
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def engine_takes(*tensors: Any) -> bool:
    """Whether the engine can compute with them: float32 on the CPU, and no transform of functions or recording."""
    if recorded() or torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    return all(isinstance(each, Tensor) and each.dtype == torch.float32 and each.is_cpu for each in tensors)


def _forward(
    engine: Engine, data: Ragged, states: Tensor | None, seed: int | None
) -> tuple[FloatArray, FloatArray, Pass]:
    first = None if states is None else array_of(states)
    output, last, kept = engine.network.forward(
        data, first, training=seed is not None, seed=seed or 0, return_states=True
    )
    assert last is not None
    return output, last, kept


def _differentiable(
    ctx: Any,
    values: Tensor,
    states: Tensor | None,
    weights: list[Tensor],
    by_output: Tensor | None,
    by_states: Tensor | None,
) -> list[Tensor | None]:
    """The gradients as PyTorch's own operations give them, of which there are gradients again."""
    if ctx.seed is not None:
        raise NotImplementedError("there are no second derivatives through the dropout between layers")
    results = ctx.engine.reference(values, ctx.offsets, states, weights)
    pairs = [(result, by) for result, by in zip(results, (by_output, by_states), strict=True) if by is not None]
    inputs = [tensor for tensor in (values, states, *weights) if tensor is not None and tensor.requires_grad]
    outputs, gradients = zip(*pairs, strict=True)
    found = iter(torch.autograd.grad(outputs, inputs, gradients, create_graph=True, allow_unused=True))
    return [
        next(found) if tensor is not None and tensor.requires_grad else None for tensor in (values, states, *weights)
    ]


def run(
    engine: Engine,
    values: Tensor,
    offsets: IndexArray,
    states: Tensor | None,
    weights: list[Tensor],
    *,
    dropping: bool,
) -> tuple[Tensor, Tensor]:
    """(rows, outputs) and the states after the last steps, (sequences, state_width).

    Args:
        values: (total_steps, features) of the sequences that begin at `offsets`.
        states: before the first steps, as the engine has them; zeros if left out.
        weights: four for each direction, PyTorch's.
        dropping: whether dropout between layers drops.

    Raises:
        NotImplementedError: the engine does not take such values.
    """
    dropping = dropping and engine.drops
    seed = int(torch.randint(2**62, ()).item()) if dropping else None
    tensors = [values, *([] if states is None else [states]), *weights]
    learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    try:
        if learns or dropping:
            results: tuple[Tensor, Tensor] = _Run.apply(engine, offsets, seed, values, states, *weights)
            return results
        with engine.lock:
            engine.write(weights)
            data = Ragged._checked(array_of(values), offsets)
            output, last = engine.network.predict(
                data, None if states is None else array_of(states), return_states=True
            )
        assert last is not None
        return torch.from_numpy(output), torch.from_numpy(last)
    except ValueError as error:
        raise NotImplementedError(str(error)) from error
