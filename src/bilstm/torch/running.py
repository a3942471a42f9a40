"""One call of the engine as an operation of PyTorch's autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bilstm.engine import plans
from bilstm.engine.library import DirectionStruct, LayerStruct
from bilstm.engine.network import Network, Pass
from bilstm.ragged import FloatArray, IndexArray, Ragged

_CELLS = {"LSTM": "lstm", "GRU": "gru"}
# What PyTorch's own operations give for the same: (values, offsets, states, weights) -> (rows, states).
Reference = Callable[[Tensor, IndexArray, Tensor | None, list[Tensor]], tuple[Tensor, Tensor | None]]


class Direction(NamedTuple):
    """A cell of PyTorch's that reads sequences in one direction: its mode, "LSTM" or "GRU", and its units."""

    mode: str
    units: int

    def plan(self, *, backward: bool) -> DirectionStruct:
        return plans.direction(_CELLS[self.mode], self.units, reverse=backward, flip=backward)


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
        self.directions, self.reference, self.drops, self.key = directions, reference, drops, key
        self.lock = Lock()  # of the weights
        self.network = Network(plan, features)
        self._written: list[FloatArray] = []
        self.writes = 0  # of other weights than before

    def write(self, weights: list[Tensor]) -> None:
        """Give the network these weights, PyTorch's, unless it has them.

        In NumPy: after a large operation, PyTorch's threads keep processors busy for some milliseconds.
        """
        arrays = [array_of(weight) for weight in weights]
        if self._written and all(map(np.array_equal, self._written, arrays)):
            return
        flat, at = np.empty(self.network.parameter_count, np.float32), 0
        for i, direction in enumerate(self.directions):
            kernel, recurrent, *biases = arrays[4 * i : 4 * i + 4]
            both = [biases[0] + biases[1]] if direction.mode == "LSTM" else biases  # PyTorch adds an LSTM's two
            for array in (kernel, recurrent, *both):
                for gate in _gates(direction):
                    own = array[gate.theirs]
                    target = flat[at : at + array.size].reshape(-1, len(array)) if array.ndim == 2 else flat[at:]
                    target[..., gate.ours] = own.T
                at += array.size
        self.network.write(flat)
        self.writes += 1
        self._written = [array.copy() for array in arrays]

    def gradients(self, weights: list[Tensor]) -> list[Tensor]:
        """The network's, for each of PyTorch's weights. An LSTM's two biases have the same."""
        gradients: list[Tensor] = []
        flat, at = self.network.read("gradients"), 0
        for i, weight in enumerate(weights):
            direction = self.directions[i // 4]
            if direction.mode == "LSTM" and i % 4 == 3:
                gradients.append(gradients[-1].clone())
                continue
            array, size = np.empty(tuple(weight.shape), np.float32), weight.numel()
            rows = flat[at : at + size].reshape(-1, len(array))
            for gate in _gates(direction):
                array[gate.theirs] = rows[:, gate.ours].T if array.ndim == 2 else rows[0, gate.ours]
            gradients.append(torch.from_numpy(array))
            at += size
        return gradients


class _Gate(NamedTuple):
    """Rows of PyTorch's weights, and the engine's columns that hold the same."""

    theirs: slice
    ours: slice


def _gates(direction: Direction) -> list[_Gate]:
    """Where gates are: a GRU's are r, z, n in PyTorch and z, r, n in the engine; an LSTM's have one order."""
    if direction.mode == "LSTM":
        return [_Gate(slice(0, 4 * direction.units), slice(0, 4 * direction.units))]
    r, z, n = (slice(i * direction.units, (i + 1) * direction.units) for i in range(3))
    return [_Gate(r, z), _Gate(z, r), _Gate(n, n)]


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
                gradients = [*engine.gradients(weights)]
        results = [None if array is None else torch.from_numpy(array) for array in (of_values, of_states)]
        return None, None, None, *results, *gradients


def array_of(tensor: Tensor) -> FloatArray:
    """C-contiguous."""
    array: FloatArray = tensor.detach().contiguous().numpy()
    return array


def engine_takes(*tensors: Any) -> bool:
    """Whether the engine can compute with them: float32 on the CPU, and no transform of functions, trace or export."""
    if torch.jit.is_scripting() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export():
        return False
    if getattr(torch.compiler, "is_exporting", lambda: False)():
        return False
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return all(
        isinstance(tensor, Tensor)
        and tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and not wrapped(tensor)
        for tensor in tensors
    )


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
