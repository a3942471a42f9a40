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
from bilstm.ragged import FloatArray, Ragged
from bilstm.torch.arrangement import Arrangement, Direction
from bilstm.torch.compiling import recorded, transformed
from bilstm.torch.forms import Form, Rows, gather_states, scatter_states
from bilstm.torch.openmp import free_cpus

# What PyTorch's own operations give for the same rows, states and weights: outputs, in the form of the rows or for each
# sequence, and states.
Reference = Callable[[Rows, Sequence[Tensor], Sequence[Tensor]], tuple[Tensor, ...]]


class Engine:
    """A network of the engine that computes recurrent layers of PyTorch's, and the weights it had last.

    Args:
        plan: the network's layers, for inputs of this many features.
        directions: all that are in them, in the order of their weights.
        reference: the same by PyTorch's operations, for second derivatives.
        states: (cells, kinds of states, units); None where they are not wanted.
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
        states: tuple[int, int, int] | None = None,
        drops: bool = False,
        key: Any = None,
    ) -> None:
        self._directions, self.reference = directions, reference
        self.states, self.drops, self.key = states, drops, key
        self.lock = Lock()  # of the weights
        self.network = Network(plan, features)
        self._arrangement: Arrangement | None = None
        self._written: list[FloatArray] = []  # copies of the weights: PyTorch does not count all changes
        self.writes = 0  # of other weights than before

    def write(self, weights: Sequence[Tensor]) -> None:
        """Give the network these weights, PyTorch's, unless it has them.

        All on the calling thread: PyTorch's threads keep processors busy for some milliseconds after an operation.
        """
        arrays = [array_of(weight) for weight in weights]
        if self._written and all(map(_equal_bits, arrays, self._written)):
            return
        copies, self._written = self._written, []  # if it ends here, they are written again
        if self._arrangement is None:
            self._arrangement = Arrangement(self._directions, [array.shape for array in arrays])
        self.network.write(self._arrangement.gather(arrays))
        self.writes += 1
        copies = copies or [np.empty_like(array) for array in arrays]
        for copy, array in zip(copies, arrays, strict=True):
            copy[...] = array
        self._written = copies

    def work(self, form: Form) -> int:
        """Multiply-adds of a forward pass over rows of this form, about."""
        return int(form.offsets[-1]) * self.network.parameter_count

    def gradients(self) -> list[Tensor]:
        """The network's, for each of PyTorch's weights. An LSTM's two biases have the same."""
        assert self._arrangement is not None
        flat = self.network.read("gradients", self._arrangement.flat)
        return [torch.from_numpy(array) for array in self._arrangement.scatter(flat)]


class _Run(torch.autograd.Function):
    """Outputs and states; see `run`. All conversions are within: a view is an operation to autograd, too."""

    @staticmethod
    def forward(
        ctx: Any, engine: Engine, form: Form, seed: int | None, kinds: int, data: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        """kinds: how many of the tensors are states; the others are weights."""
        with engine.lock:
            engine.write(tensors[kinds:])
            output, last, ctx.kept = _forward(engine, form, data, tensors[:kinds], seed)
            ctx.writes = engine.writes
        ctx.engine, ctx.form, ctx.seed, ctx.kinds, ctx.shape = engine, form, seed, kinds, output.shape
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(data, *tensors)
        return _as_tensors(engine, form, output, last)

    @staticmethod
    def backward(ctx: Any, by_output: Tensor | None, *by_states: Tensor | None) -> tuple[Tensor | None, ...]:
        data, *tensors = ctx.saved_tensors
        if torch.is_grad_enabled():  # of the gradient, too
            return None, None, None, None, *_differentiable(ctx, data, tensors, (by_output, *by_states))
        engine, form, states, weights = ctx.engine, ctx.form, tensors[: ctx.kinds], tensors[ctx.kinds :]
        needed = ctx.needs_input_grad[4:]
        gradients: list[Tensor | None] = [None] * len(weights)
        with engine.lock:
            if ctx.writes != engine.writes:  # other weights were there meanwhile
                engine.write(weights)
                ctx.kept, ctx.writes = _forward(engine, form, data, states, ctx.seed)[2], engine.writes
            free_cpus(engine.work(form))
            of_rows, of_states = ctx.kept.backward(
                _rows_of(engine, form, by_output, ctx.shape),
                _states_of(engine, form, by_states),
                inputs=needed[0],
                states=any(needed[1 : 1 + ctx.kinds]),
            )
            if any(needed[1 + ctx.kinds :]):
                gradients = [*engine.gradients()]
        of_data = None if of_rows is None else torch.from_numpy(form.scatter(of_rows))
        of_parts: list[Tensor | None] = [None] * ctx.kinds
        if of_states is not None:
            of_parts = [torch.from_numpy(part) for part in scatter_states(form, of_states, engine.states)]
        return None, None, None, None, of_data, *of_parts, *gradients


def array_of(tensor: Tensor) -> FloatArray:
    """C-contiguous."""
    array: FloatArray = tensor.detach().numpy()
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _equal_bits(array: FloatArray, other: FloatArray) -> bool:
    """After a training step, the first few values tell."""
    values, others = array.reshape(-1).view(np.int32), other.reshape(-1).view(np.int32)
    return np.array_equal(values[:64], others[:64]) and np.array_equal(values, others)


def engine_takes(*tensors: Any) -> bool:
    """Whether the engine can compute with them: float32 on the CPU, and no transform of functions or recording."""
    if recorded() or transformed():
        return False
    return all(isinstance(each, Tensor) and each.dtype == torch.float32 and each.is_cpu for each in tensors)


def _forward(
    engine: Engine, form: Form, data: Tensor, states: Sequence[Tensor], seed: int | None
) -> tuple[FloatArray, FloatArray | None, Pass]:
    rows = Ragged._checked(form.gather(data.detach().numpy()), form.offsets)
    free_cpus(engine.work(form))
    return engine.network.forward(
        rows,
        _states_of(engine, form, states),
        training=seed is not None,
        seed=seed or 0,
        return_states=engine.states is not None,
    )


def _as_tensors(engine: Engine, form: Form, output: FloatArray, last: FloatArray | None) -> tuple[Tensor, ...]:
    """The engine's outputs and states as PyTorch has them."""
    shaped = torch.from_numpy(output if engine.network.one_row_each else form.scatter(output))
    if last is None:
        return (shaped,)
    assert engine.states is not None
    return shaped, *map(torch.from_numpy, scatter_states(form, last, engine.states))


def _rows_of(engine: Engine, form: Form, gradient: Tensor | None, shape: tuple[int, ...]) -> FloatArray:
    if gradient is None:
        return np.zeros(shape, np.float32)
    return array_of(gradient) if engine.network.one_row_each else form.gather(gradient.detach().numpy())


def _states_of(engine: Engine, form: Form, parts: Sequence[Tensor | None]) -> FloatArray | None:
    """Those of the engine; zeros for what is None, unless all are."""
    known = next((part for part in parts if part is not None), None)
    if known is None:
        return None
    return gather_states(form, [torch.zeros_like(known).numpy() if p is None else p.detach().numpy() for p in parts])


def _differentiable(
    ctx: Any, data: Tensor, tensors: list[Tensor], gradients: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The gradients as PyTorch's own operations give them, of which there are gradients again."""
    if ctx.seed is not None:
        raise NotImplementedError("there are no second derivatives through the dropout between layers")
    results = ctx.engine.reference(Rows(ctx.form, data), tensors[: ctx.kinds], tensors[ctx.kinds :])
    pairs = [(result, by) for result, by in zip(results, gradients, strict=True) if by is not None]
    outputs, by_outputs = zip(*pairs, strict=True)
    inputs = [tensor for tensor in (data, *tensors) if tensor.requires_grad]
    found = iter(torch.autograd.grad(outputs, inputs, by_outputs, create_graph=True, allow_unused=True))
    return [next(found) if tensor.requires_grad else None for tensor in (data, *tensors)]


def run(
    engine: Engine, rows: Rows, states: Sequence[Tensor], weights: Sequence[Tensor], *, dropping: bool = False
) -> tuple[Tensor, ...]:
    """The outputs in the form of the rows' data, or (sequences, outputs); and states after the last steps.

    Args:
        rows: of the sequences.
        states: PyTorch's, before the first steps; zeros if there are none.
        weights: four for each direction, PyTorch's.
        dropping: whether dropout between layers drops.

    Raises:
        NotImplementedError: the engine does not take such values.
    """
    dropping = dropping and engine.drops
    seed = int(torch.randint(2**62, ()).item()) if dropping else None
    form, data = rows.form, rows.data
    learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (data, *states, *weights))
    try:
        if learns or dropping:
            results: tuple[Tensor, ...] = _Run.apply(engine, form, seed, len(states), data, *states, *weights)
            return results
        with engine.lock:
            engine.write(weights)
            values = Ragged._checked(form.gather(data.detach().numpy()), form.offsets)
            first = _states_of(engine, form, states)
            free_cpus(engine.work(form))
            output, last = engine.network.predict(values, first, return_states=engine.states is not None)
        return _as_tensors(engine, form, output, last)
    except ValueError as error:
        raise NotImplementedError(str(error)) from error
