"""`torch.nn.LSTM` and `GRU` that run on the engine where they can, and on PyTorch where they cannot."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

from bilstm.engine import plans
from bilstm.ragged import IndexArray
from bilstm.torch.arrangement import Direction
from bilstm.torch.compiling import outside_graphs, recorded
from bilstm.torch.forms import Rows, rows_of_nested, rows_of_packed, rows_of_padded
from bilstm.torch.indices import as_index, padded, unpadded
from bilstm.torch.running import Engine, engine_takes, run


class OnEngine(nn.RNNBase):
    """What the drop-in layers add to PyTorch's."""

    _engine: Engine | None = None
    _kinds: int  # of states that a cell has

    def __getstate__(self) -> dict[str, Any]:
        """Without the engine's network, which is made again when it is needed."""
        state: dict[str, Any] = super().__getstate__()
        state.pop("_engine", None)
        return state

    def forward(self, input: Any, hx: Any = None) -> Any:  # PyTorch's name
        return super().forward(input, hx) if recorded() else self._forward(input, hx)

    @outside_graphs
    def _forward(self, input: Any, hx: Any) -> Any:
        """On the engine, or as PyTorch does it where the arguments do not fit: its errors are known."""
        self.update_weights()
        if not self.runs_here(input, hx):
            return self._by_pytorch(input, hx)
        if isinstance(input, Tensor) and input.is_nested:
            rows: Rows | None = rows_of_nested(input)
        elif isinstance(input, PackedSequence):
            rows = rows_of_packed(input)
        else:
            rows = rows_of_padded(input, self.batch_first)
        states: tuple[Any, ...] = hx if isinstance(hx, tuple) else () if hx is None else (hx,)
        if rows is None or rows.data.shape[-1] != self.input_size or not self._fit(rows, states):
            return self._by_pytorch(input, hx)
        engine, weights = self._own_engine(), self.weights_and_biases()
        try:
            output, *last = run(engine, rows, states, weights, dropping=self.training)
        except NotImplementedError:
            return self._by_pytorch(input, hx)
        return rows.form.wrap(output), tuple(last) if len(last) > 1 else last[0]

    def _by_pytorch(self, input: Any, hx: Any) -> Any:
        if not isinstance(input, Tensor) or not input.is_nested:
            return super().forward(input, hx)
        output, states = super().forward(pack_sequence(input.unbind(), enforce_sorted=False), hx)
        if input.layout != torch.jagged:
            return torch.nested.as_nested_tensor(unpack_sequence(output)), states
        rows = torch.cat(unpack_sequence(output))
        return torch.nested.nested_tensor_from_jagged(rows, input.offsets()), states

    def update_weights(self) -> None:
        """Take notice of parameters that others have set."""
        own = self._parameters
        if any(
            own.get(name) is not weight
            for name, weight in zip(self._flat_weights_names, self._flat_weights, strict=True)
        ):
            self._update_flat_weights()  # which looks at parametrizations, too, and takes several times as long

    def runs_here(self, input: Any, hx: Any = None) -> bool:
        """Whether the engine can compute it: float32 on the CPU, without projections, not traced or exported."""
        if self.proj_size or torch.is_autocast_enabled("cpu"):
            return False
        if isinstance(input, Tensor) and input.is_nested and input.layout != torch.jagged:
            return False  # no rows that lie one after the other
        states = hx if isinstance(hx, tuple) else () if hx is None else (hx,)
        return engine_takes(input.data if isinstance(input, PackedSequence) else input, *states, *self._flat_weights)

    def _own_engine(self) -> Engine:
        if self._engine is None:
            ways = [Direction(self.mode, self.hidden_size)] * (2 if self.bidirectional else 1)
            structs = [way.plan(backward=i == 1) for i, way in enumerate(ways)]
            drops, plan = 0 < self.dropout < 1 and self.num_layers > 1, []
            for layer in range(self.num_layers):
                plan.append(plans.recurrent(2 * layer, structs))
                if drops and layer + 1 < self.num_layers:
                    plan.append(plans.dropout(2 * layer + 1, float(self.dropout)))
            # Not a method of this layer's: the engine would hold the layer, which holds it.
            reference = partial(_reference, self.mode, self.input_size, self.hidden_size, self.num_layers, len(ways))
            directions, states = ways * self.num_layers, (len(ways) * self.num_layers, self._kinds, self.hidden_size)
            self._engine = Engine(plan, self.input_size, directions, reference, states=states, drops=drops)
        return self._engine

    def weights_and_biases(self) -> list[Tensor]:
        """Four for each layer and direction, with biases of zero where there are none."""
        if self.bias:
            return list(self._flat_weights)
        gates = self._flat_weights[0].shape[0]
        pairs = [self._flat_weights[i : i + 2] for i in range(0, len(self._flat_weights), 2)]
        return [tensor for pair in pairs for tensor in (*pair, torch.zeros(gates), torch.zeros(gates))]

    def _fit(self, rows: Rows, states: Sequence[Tensor]) -> bool:
        """Whether states have the shapes that PyTorch wants."""
        cells = self.num_layers * (2 if self.bidirectional else 1)
        shape = (cells, rows.count, self.hidden_size) if rows.batched else (cells, self.hidden_size)
        return not states or (len(states) == self._kinds and all(state.shape == shape for state in states))


def _reference(
    mode: str, features: int, units: int, layers: int, directions: int, rows: Rows, states: Any, weights: Any
) -> tuple[Tensor, ...]:
    """See `running.Reference`."""
    kind, order = nn.LSTM if mode == "LSTM" else nn.GRU, rows.form.order
    layer = kind(features, units, layers, bidirectional=directions == 2)
    names = [name for names in layer._all_weights for name in names]
    parts = rows.values.split(np.diff(rows.offsets).tolist())
    packed = pack_sequence(list(parts), enforce_sorted=False)
    states = [state if rows.batched else state.unsqueeze(1) for state in states]
    states = [state if order is None else state.index_select(1, order) for state in states]
    hx = None if not states else tuple(states) if len(states) > 1 else states[0]
    output, last = torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (packed, hx))
    last = last if isinstance(last, tuple) else (last,)
    last = [state if order is None else state.index_select(1, torch.argsort(order)) for state in last]
    outputs = rows.form.shaped(torch.cat(unpack_sequence(output)))
    return outputs, *(state if rows.batched else state.squeeze(1) for state in last)


def output_of_rows(
    module: Any,
    values: Tensor,
    offsets: IndexArray,
    weights: dict[str, Tensor] | None = None,
    *,
    batch_first: bool | None = None,
) -> Tensor:
    """(total_steps, outputs) of a recurrent module that reads forwards, for the (total_steps, features) of sequences.

    Args:
        module: returns outputs for a padded batch, or a tuple that begins with them.
        weights: others than the module's own.
        batch_first: whether batches are (sequences, steps, features); `module.batch_first` if left out.

    Raises:
        ValueError: the module returns something else.
    """
    if weights is None and isinstance(module, OnEngine) and module.runs_here(values):
        nested = module(torch.nested.nested_tensor_from_jagged(values, as_index(offsets, values)))[0]
        rows: Tensor = nested.values()
        return rows
    batch_first = module.batch_first if batch_first is None else batch_first
    batch = padded(values, offsets)  # no step depends on what follows it
    batch = batch if batch_first else batch.transpose(0, 1)
    output = module(batch) if weights is None else torch.func.functional_call(module, weights, (batch,))
    output = output[0] if isinstance(output, tuple) else output
    if not isinstance(output, Tensor) or output.dim() != 3 or output.shape[:2] != batch.shape[:2]:
        what = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"{type(module).__name__} must return an output for each step of a batch of shape {tuple(batch.shape)}, "
            f"not {what}"
        )
    return unpadded(output if batch_first else output.transpose(0, 1), offsets)


class LSTM(OnEngine, nn.LSTM):
    """`torch.nn.LSTM`, computed by bilstm's engine on the CPU in float32, forward and backward.

    Constructor, parameters, `state_dict`, inputs (batched, unbatched, PackedSequence), states, outputs and errors are
    PyTorch's; inputs may also be jagged nested tensors. Each sequence is read to its own length, and its result does
    not depend on the rest of the batch. Dropout between layers draws other values than PyTorch's, from a seed that
    PyTorch's generator gives.

    On other devices, in other types, with projections, under autocast and where a model is traced or exported,
    PyTorch's own code runs.
    """

    _kinds = 2


class GRU(OnEngine, nn.GRU):
    """`torch.nn.GRU`, computed by bilstm's engine on the CPU in float32, forward and backward.

    Constructor, parameters, `state_dict`, inputs (batched, unbatched, PackedSequence), states, outputs and errors are
    PyTorch's; inputs may also be jagged nested tensors. Each sequence is read to its own length, and its result does
    not depend on the rest of the batch. Dropout between layers draws other values than PyTorch's, from a seed that
    PyTorch's generator gives.

    On other devices, in other types, under autocast and where a model is traced or exported, PyTorch's own code runs.
    """

    _kinds = 1
