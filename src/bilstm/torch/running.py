"""One call of the engine as an operation of PyTorch's autograd."""

from __future__ import annotations

from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

from bilstm.engine import plans
from bilstm.engine.network import Network, Pass
from bilstm.ragged import FloatArray, IndexArray, Ragged
from bilstm.torch.sequences import Rows

_KEEPS = {"LSTM": "lstm", "GRU": "gru"}


class Engine:
    """A network of the engine with the shape of a recurrent layer of PyTorch's, and the weights it had last.

    Args:
        mode: "LSTM" or "GRU".
        dropout: between layers, in training.
    """

    def __init__(self, mode: str, inputs: int, units: int, layers: int, bidirectional: bool, dropout: float) -> None:
        self.mode, self.inputs, self.units, self.layers = mode, inputs, units, layers
        self.bidirectional, self.dropout = bidirectional, float(dropout)
        self.lock = Lock()  # of the weights
        cell, structs = _KEEPS[mode], []
        for layer in range(layers):
            ways = [plans.direction(cell, units)]
            if bidirectional:
                ways.append(plans.direction(cell, units, reverse=True, flip=True))
            structs.append(plans.recurrent(2 * layer, ways))
            if self.drops and layer + 1 < layers:
                structs.append(plans.dropout(2 * layer + 1, self.dropout))
        self.network = Network(structs, inputs)
        self._written: list[FloatArray] = []
        self.writes = 0  # of other weights than before

    @property
    def drops(self) -> bool:
        return 0 < self.dropout < 1 and self.layers > 1

    def write(self, weights: list[Tensor]) -> None:
        """Give the network these weights, PyTorch's, unless it has them.

        In NumPy: after a large operation, PyTorch's threads keep processors busy for some milliseconds.
        """
        arrays = [_array(weight) for weight in weights]
        if self._written and all(map(np.array_equal, self._written, arrays)):
            return
        flat, at = np.empty(self.network.parameter_count, np.float32), 0
        for i in range(0, len(arrays), 4):
            kernel, recurrent, *biases = arrays[i : i + 4]
            both = [biases[0] + biases[1]] if self.mode == "LSTM" else biases  # PyTorch adds an LSTM's two
            for array in (kernel, recurrent, *both):
                for gate in self._gates(len(array)):
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
            if self.mode == "LSTM" and i % 4 == 3:
                gradients.append(gradients[-1].clone())
                continue
            array, size = np.empty(tuple(weight.shape), np.float32), weight.numel()
            rows = flat[at : at + size].reshape(-1, len(array))
            for gate in self._gates(len(array)):
                array[gate.theirs] = rows[:, gate.ours].T if array.ndim == 2 else rows[0, gate.ours]
            gradients.append(torch.from_numpy(array))
            at += size
        return gradients

    def _gates(self, rows: int) -> list[_Gate]:
        """Where gates are: a GRU's are r, z, n in PyTorch and z, r, n in the engine; an LSTM's have one order."""
        if self.mode == "LSTM":
            return [_Gate(slice(0, rows), slice(0, rows))]
        r, z, n = (slice(i * self.units, (i + 1) * self.units) for i in range(3))
        return [_Gate(r, z), _Gate(z, r), _Gate(n, n)]


class _Gate(NamedTuple):
    """Rows of PyTorch's weights, and the engine's columns that hold the same."""

    theirs: slice
    ours: slice


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
        data = Ragged._checked(_array(values), offsets)
        with engine.lock:
            engine.write(list(weights))
            output, last, ctx.kept = _forward(engine, data, states, seed)
            ctx.writes = engine.writes
        ctx.engine, ctx.offsets, ctx.seed = engine, offsets, seed
        ctx.save_for_backward(values, states, *weights)
        return torch.from_numpy(output), torch.from_numpy(last)

    @staticmethod
    def backward(ctx: Any, by_output: Tensor, by_states: Tensor) -> tuple[Tensor | None, ...]:
        values, states, *weights = ctx.saved_tensors
        if torch.is_grad_enabled():  # of the gradient, too
            return None, None, None, *_differentiable(ctx, values, states, weights, by_output, by_states)
        engine: Engine = ctx.engine
        gradients: list[Tensor | None] = [None] * len(weights)
        with engine.lock:
            engine.write(weights)
            arguments = _array(by_output), _array(by_states)
            needed = {"inputs": ctx.needs_input_grad[3], "states": ctx.needs_input_grad[4]}
            if ctx.writes != engine.writes:  # other weights were there meanwhile
                data = Ragged._checked(_array(values), ctx.offsets)
                ctx.kept, ctx.writes = _forward(engine, data, states, ctx.seed)[2], engine.writes
            of_values, of_states = ctx.kept.backward(*arguments, **needed)
            if any(ctx.needs_input_grad[5:]):
                gradients = [*engine.gradients(weights)]
        results = [None if array is None else torch.from_numpy(array) for array in (of_values, of_states)]
        return None, None, None, *results, *gradients


def _array(tensor: Tensor) -> FloatArray:
    array: FloatArray = tensor.detach().contiguous().numpy()
    return array


def _forward(
    engine: Engine, data: Ragged, states: Tensor | None, seed: int | None
) -> tuple[FloatArray, FloatArray, Pass]:
    first = None if states is None else _array(states)
    output, last, kept = engine.network.forward(
        data, first, training=seed is not None, seed=seed or 0, return_states=True
    )
    assert last is not None
    return output, last, kept


def _differentiable(
    ctx: Any, values: Tensor, states: Tensor | None, weights: list[Tensor], by_output: Tensor, by_states: Tensor
) -> list[Tensor | None]:
    """The gradients as PyTorch's own operations give them, of which there are gradients again."""
    engine: Engine = ctx.engine
    if ctx.seed is not None:
        raise NotImplementedError("there are no second derivatives through the dropout between layers")
    kind = nn.LSTM if engine.mode == "LSTM" else nn.GRU
    layer = kind(engine.inputs, engine.units, engine.layers, bidirectional=engine.bidirectional)
    names = [name for names in layer._all_weights for name in names]
    parts = values.split(np.diff(ctx.offsets).tolist())
    packed = pack_sequence(list(parts), enforce_sorted=False)
    cells, count = engine.layers * (2 if engine.bidirectional else 1), len(parts)
    hx: Any = None
    if states is not None:
        stacked = states.view(count, cells, -1, engine.units).permute(2, 1, 0, 3).contiguous()
        hx = (stacked[0], stacked[1]) if engine.mode == "LSTM" else stacked[0]
    output, last = torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (packed, hx))
    rows = torch.cat(unpack_sequence(output))
    last = torch.stack(last if isinstance(last, tuple) else (last,)).permute(2, 1, 0, 3).reshape(count, -1)
    inputs = [tensor for tensor in (values, states, *weights) if tensor is not None and tensor.requires_grad]
    results = iter(torch.autograd.grad((rows, last), inputs, (by_output, by_states), create_graph=True))
    return [
        next(results) if tensor is not None and tensor.requires_grad else None for tensor in (values, states, *weights)
    ]


def run(
    engine: Engine, rows: Rows, states: Tensor | None, weights: list[Tensor], *, dropping: bool
) -> tuple[Tensor, Tensor]:
    """(total_steps, outputs) and the states after the last steps, (sequences, state_width).

    Args:
        states: before the first steps, as the engine has them; zeros if left out.
        weights: four for each layer and direction, PyTorch's.
        dropping: whether dropout between layers drops.

    Raises:
        NotImplementedError: the engine does not take such values.
    """
    dropping = dropping and engine.drops
    seed = int(torch.randint(2**62, ()).item()) if dropping else None
    tensors = [rows.values, *([] if states is None else [states]), *weights]
    learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    try:
        if learns or dropping:
            results: tuple[Tensor, Tensor] = _Run.apply(engine, rows.offsets, seed, rows.values, states, *weights)
            return results
        with engine.lock:
            engine.write(weights)
            data = Ragged._checked(_array(rows.values), rows.offsets)
            output, last = engine.network.predict(data, None if states is None else _array(states), return_states=True)
        assert last is not None
        return torch.from_numpy(output), torch.from_numpy(last)
    except ValueError as error:
        raise NotImplementedError(str(error)) from error
