"""Keras's recurrent cells as PyTorch's recurrent modules, and their weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bilstm import layers as keras
from bilstm.torch import recurrent


def cell_of(features: int, layer: keras.Recurrent) -> nn.RNNBase:
    """A module of one layer and one direction.

    Raises:
        ValueError: PyTorch has no such cell.
    """
    options = {"bias": layer.use_bias, "batch_first": True}
    if isinstance(layer, keras.SimpleRNN):
        cell = nn.RNN(features, layer.units, nonlinearity=layer.activation, **options)
    elif layer.recurrent_activation != "sigmoid":
        raise ValueError(f"PyTorch's gates have no recurrent_activation {layer.recurrent_activation!r}")
    elif isinstance(layer, keras.LSTM):
        cell = recurrent.LSTM(features, layer.units, **options)
    elif isinstance(layer, keras.GRU) and layer.reset_after:
        cell = recurrent.GRU(features, layer.units, **options)
    else:
        raise ValueError("PyTorch's GRU applies the reset gate after the recurrent product: reset_after=True")
    if layer.use_bias and not isinstance(layer, keras.GRU):
        # PyTorch adds two biases. With both learned, an optimizer such as Adam would move their sum twice as far.
        cell.bias_hh_l0.requires_grad_(False).zero_()
    return cell


def arrays_of_cell(cell: nn.RNNBase) -> list[Tensor]:
    """A recurrent module's weights as Keras has them; a GRU's gates are r, z, n in PyTorch and z, r, h in Keras."""
    gru = cell.mode == "GRU"

    def ordered(weight: Tensor) -> Tensor:
        if not gru:
            return weight
        r, z, n = weight.chunk(3)
        return torch.cat([z, r, n])

    arrays = [ordered(cell.weight_ih_l0).T, ordered(cell.weight_hh_l0).T]
    if not cell.bias:
        return arrays
    both = ordered(cell.bias_ih_l0), ordered(cell.bias_hh_l0)
    return [*arrays, torch.stack(both) if gru else both[0] + both[1]]


def set_cell(cell: nn.RNNBase, arrays: Sequence[Tensor]) -> None:
    """The reverse of `arrays_of_cell`."""
    gru = cell.mode == "GRU"

    def ordered(weight: Tensor) -> Tensor:
        if not gru:
            return weight
        z, r, h = weight.chunk(3)
        return torch.cat([r, z, h])

    cell.weight_ih_l0.copy_(ordered(arrays[0].T))
    cell.weight_hh_l0.copy_(ordered(arrays[1].T))
    if cell.bias and gru:
        cell.bias_ih_l0.copy_(ordered(arrays[2][0]))
        cell.bias_hh_l0.copy_(ordered(arrays[2][1]))
    elif cell.bias:
        cell.bias_ih_l0.copy_(arrays[2])
        cell.bias_hh_l0.zero_()
