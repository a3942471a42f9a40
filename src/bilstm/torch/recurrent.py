"""`torch.nn.LSTM` and `GRU` that run on the engine where they can, and on PyTorch where they cannot."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bilstm.torch.running import Engine, run
from bilstm.torch.sequences import Rows, rows_of_nested, rows_of_packed, rows_of_padded


class _OnEngine(nn.RNNBase):
    """What both layers add to PyTorch's."""

    _engine: Engine | None = None
    _states: int  # that a cell has

    def __getstate__(self) -> dict[str, Any]:
        """Without the engine's network, which is made again when it is needed."""
        state: dict[str, Any] = super().__getstate__()
        state.pop("_engine", None)
        return state

    def forward(self, input: Any, hx: Any = None) -> Any:  # PyTorch's name
        self._update_flat_weights()  # which others may have been set meanwhile
        if not self._runs_here(input, hx):
            return super().forward(input, hx)
        return self._forward(input, hx)

    @torch.compiler.disable
    def _forward(self, input: Any, hx: Any) -> Any:
        """On the engine, or as PyTorch does it where the arguments do not fit: its errors are known."""
        if isinstance(input, Tensor) and input.is_nested:
            rows: Rows | None = rows_of_nested(input)
        elif isinstance(input, PackedSequence):
            rows = rows_of_packed(input)
        else:
            rows = rows_of_padded(input, self.batch_first)
        states = None if rows is None else self._first_states(rows, hx)
        if rows is None or (hx is not None and states is None) or rows.values.shape[1] != self.input_size:
            return super().forward(input, hx)
        try:
            output, last = run(self._own_engine(), rows, states, self._weights_and_biases(), dropping=self.training)
        except NotImplementedError:
            return super().forward(input, hx)
        return rows.shaped_like_input(output), self._last_states(rows, last)

    def _runs_here(self, input: Any, hx: Any) -> bool:
        """Whether the engine can compute it: float32 on the CPU, without projections, not traced or exported."""
        if self.proj_size or torch.jit.is_scripting() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export():
            return False
        if getattr(torch.compiler, "is_exporting", lambda: False)() or torch.is_autocast_enabled("cpu"):
            return False
        if isinstance(input, Tensor) and input.is_nested and input.layout != torch.jagged:
            return False
        states = hx if isinstance(hx, tuple) else () if hx is None else (hx,)
        data = input.data if isinstance(input, PackedSequence) else input
        tensors = [data, *states, *self._flat_weights]
        if not all(isinstance(tensor, Tensor) for tensor in tensors):
            return False
        wrapped = torch._C._functorch.is_functorch_wrapped_tensor
        return not any(
            tensor.dtype != torch.float32 or tensor.device.type != "cpu" or wrapped(tensor) for tensor in tensors
        )

    def _own_engine(self) -> Engine:
        if self._engine is None:
            self._engine = Engine(
                self.mode, self.input_size, self.hidden_size, self.num_layers, self.bidirectional, self.dropout
            )
        return self._engine

    def _weights_and_biases(self) -> list[Tensor]:
        """Four for each layer and direction, with biases of zero where there are none."""
        if self.bias:
            return list(self._flat_weights)
        gates = self._flat_weights[0].shape[0]
        pairs = [self._flat_weights[i : i + 2] for i in range(0, len(self._flat_weights), 2)]
        return [tensor for pair in pairs for tensor in (*pair, torch.zeros(gates), torch.zeros(gates))]

    def _first_states(self, rows: Rows, hx: Any) -> Tensor | None:
        """(sequences, state_width) as the engine has them; None where there are none, or not of the right shape."""
        if hx is None:
            return None
        parts = hx if isinstance(hx, tuple) else (hx,)
        cells = self.num_layers * (2 if self.bidirectional else 1)
        shape = (cells, rows.count, self.hidden_size) if rows.batched else (cells, self.hidden_size)
        if len(parts) != self._states or any(part.shape != shape for part in parts):
            return None
        stacked = torch.stack([part if rows.batched else part.unsqueeze(1) for part in parts], dim=1)
        if rows.order is not None:
            stacked = stacked.index_select(2, rows.order)
        return stacked.permute(2, 0, 1, 3).reshape(rows.count, -1)

    def _last_states(self, rows: Rows, states: Tensor) -> Any:
        cells = self.num_layers * (2 if self.bidirectional else 1)
        stacked = states.view(rows.count, cells, self._states, self.hidden_size).permute(2, 1, 0, 3)
        if rows.order is not None:
            stacked = stacked.index_select(2, torch.argsort(rows.order))
        parts = [part.contiguous() if rows.batched else part.squeeze(1) for part in stacked]
        return tuple(parts) if len(parts) > 1 else parts[0]


class LSTM(_OnEngine, nn.LSTM):
    """`torch.nn.LSTM`, computed by bilstm's engine on the CPU in float32, forward and backward.

    Constructor, parameters, `state_dict`, inputs (batched, unbatched, PackedSequence), states, outputs and errors are
    PyTorch's; inputs may also be jagged nested tensors. Each sequence is read to its own length, and its result does
    not depend on the rest of the batch. Dropout between layers draws other values than PyTorch's, from a seed that
    PyTorch's generator gives.

    On other devices, in other types, with projections, under autocast and where a model is traced or exported,
    PyTorch's own code runs.
    """

    _states = 2


class GRU(_OnEngine, nn.GRU):
    """`torch.nn.GRU`, computed by bilstm's engine on the CPU in float32, forward and backward.

    Constructor, parameters, `state_dict`, inputs (batched, unbatched, PackedSequence), states, outputs and errors are
    PyTorch's; inputs may also be jagged nested tensors. Each sequence is read to its own length, and its result does
    not depend on the rest of the batch. Dropout between layers draws other values than PyTorch's, from a seed that
    PyTorch's generator gives.

    On other devices, in other types, under autocast and where a model is traced or exported, PyTorch's own code runs.
    """

    _states = 1
