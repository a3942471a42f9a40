"""The layers of a `Sequential` as modules of PyTorch's, which read sequences one after the other, without padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bilstm import layers as keras
from bilstm.layers import Layer
from bilstm.ragged import FloatArray, IndexArray, Ragged, offsets_of
from bilstm.torch.bidirectional import Bidirectional
from bilstm.torch.cells import arrays_of_cell, cell_of, set_cell
from bilstm.torch.compiling import outside_graphs
from bilstm.torch.crf import CRF
from bilstm.torch.indices import last_rows, padded, reversed_rows, unpadded
from bilstm.torch.recurrent import output_of_rows

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: torch.softmax(x, dim=-1),
    "tanh": torch.tanh,
    "relu": torch.relu,
}
Offsets = IndexArray | None  # where sequences begin; None: each has one row


class OfSequences(nn.Module):
    """A module that knows where sequences begin. All others take the rows alone."""

    def forward(self, rows: Any, offsets: Any) -> tuple[Any, Offsets]:  # PyTorch's name
        raise NotImplementedError


# --- Layers of single rows --------------------------------------------------------------------------------------------


class Dense(nn.Linear):
    def __init__(self, features: int, layer: keras.Dense) -> None:
        super().__init__(features, layer.units, layer.use_bias)
        self.activation = layer.activation

    def forward(self, input: Tensor) -> Tensor:
        return _ACTIVATIONS[self.activation](self.logits(input))

    def logits(self, input: Tensor) -> Tensor:
        logits: Tensor = super().forward(input)
        return logits

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, activation={self.activation!r}"

    def arrays(self) -> list[Tensor]:
        return [self.weight.T, *([] if self.bias is None else [self.bias])]


class Embedding(nn.Embedding):
    def __init__(self, features: int, layer: keras.Embedding) -> None:
        super().__init__(layer.input_dim, layer.output_dim)

    def forward(self, input: Tensor) -> Tensor:
        embedded: Tensor = super().forward(input[:, 0].long())
        return embedded

    def arrays(self) -> list[Tensor]:
        return [self.weight]


class ColumnEmbedding(nn.Module):
    def __init__(self, features: int, layer: keras.ColumnEmbedding) -> None:
        super().__init__()
        self.numeric, self.unknown_rate = layer.numeric, layer.unknown_rate or (0.0,) * len(layer.vocabularies)
        pairs = zip(layer.vocabularies, layer.dimensions, strict=True)
        self.tables = nn.ModuleList(nn.Embedding(size, dimensions) for size, dimensions in pairs)
        for table, frozen in zip(self.tables, layer.frozen or (False,) * len(self.tables), strict=True):
            table.weight.requires_grad_(not frozen)

    def forward(self, input: Tensor) -> Tensor:
        embedded = []
        for i, (table, rate) in enumerate(zip(self.tables, self.unknown_rate, strict=True)):
            column = input[:, self.numeric + i].long()
            if self.training and rate:
                column = column.masked_fill(torch.rand(len(column), device=column.device) < rate, 0)
            embedded.append(table(column))
        return torch.cat([input[:, : self.numeric].to(embedded[0].dtype), *embedded], dim=1)

    def arrays(self) -> list[Tensor]:
        return [table.weight for table in self.tables]


class WordEncoder(nn.Module):
    def __init__(self, features: int, layer: keras.WordEncoder) -> None:
        super().__init__()
        self.layers = nn.ModuleList(module_of(inner, width) for inner, width in layer._inputs())

    def forward(self, input: Tensor, words: Ragged) -> Tensor:
        """Each word once, however often it occurs."""
        found, positions = input[:, -1].long().unique(return_inverse=True)
        if len(found) and (int(found[0]) < 0 or int(found[-1]) >= len(words)):
            raise ValueError(f"a step refers to word {int(found[-1])}, but there are {len(words)} words")
        own = words[found.cpu().numpy()]
        values: Any = torch.from_numpy(own.values).to(input.device)
        begins: Offsets = own.offsets
        for layer in self.layers:
            values, begins = applied(layer, values, begins)
        return torch.cat([values[positions], input[:, :-1].to(values.dtype)], dim=1)

    def arrays(self) -> list[Tensor]:
        return [array for layer in self.layers for array in getattr(layer, "arrays", list)()]


def applied(layer: nn.Module, values: Any, begins: Offsets) -> tuple[Any, Offsets]:
    """A layer's output rows, and where sequences begin in them."""
    return _to_sequences(layer, values, begins) if isinstance(layer, OfSequences) else (layer(values), begins)


@outside_graphs  # NumPy, and the engine
def _to_sequences(layer: OfSequences, values: Any, begins: Offsets) -> tuple[Any, Offsets]:
    result: tuple[Any, Offsets] = layer(values, begins)
    return result


class BatchNormalization(nn.Module):
    """As Keras's: unlike PyTorch's, its moving variance is of the variances that it divides by."""

    def __init__(self, features: int, layer: keras.BatchNormalization) -> None:
        super().__init__()
        self.momentum, self.epsilon = layer.momentum, layer.epsilon
        self.weight = nn.Parameter(torch.ones(features)) if layer.scale else None
        self.bias = nn.Parameter(torch.zeros(features)) if layer.center else None
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, input: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        if self.training:
            mean, variance = input.mean(dim=0), input.var(dim=0, unbiased=False)
            with torch.no_grad():
                self.running_mean.lerp_(mean, 1 - self.momentum)
                self.running_var.lerp_(variance, 1 - self.momentum)
        scaled: Tensor = (input - mean) * torch.rsqrt(variance + self.epsilon)
        scaled = scaled if self.weight is None else scaled * self.weight
        return scaled if self.bias is None else scaled + self.bias

    def arrays(self) -> list[Tensor]:
        learned = [each for each in (self.weight, self.bias) if each is not None]
        return [*learned, self.running_mean, self.running_var]


# --- Layers of sequences ----------------------------------------------------------------------------------------------


class SpatialDropout(OfSequences):
    def __init__(self, features: int, layer: keras.SpatialDropout1D) -> None:
        super().__init__()
        self.dropout = nn.Dropout(layer.rate)

    def forward(self, rows: Tensor, offsets: IndexArray) -> tuple[Tensor, Offsets]:
        if not self.training:
            return rows, offsets
        kept = self.dropout(rows.new_ones(len(offsets) - 1, rows.shape[1]))
        return rows * kept[_sequences(offsets, rows)], offsets


class Convolution(OfSequences):
    def __init__(self, features: int, layer: keras.Conv1D) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            features, layer.filters, layer.kernel_size, dilation=layer.dilation_rate, bias=layer.use_bias
        )
        reach = (layer.kernel_size - 1) * layer.dilation_rate
        before = reach if layer.padding == "causal" else reach // 2
        self.ends, self.activation = (before, reach - before), layer.activation

    def forward(self, rows: Tensor, offsets: IndexArray) -> tuple[Tensor, Offsets]:
        batch = nn.functional.pad(padded(rows, offsets).transpose(1, 2), self.ends)
        output = unpadded(self.conv(batch).transpose(1, 2), offsets)
        return _ACTIVATIONS[self.activation](output), offsets

    def arrays(self) -> list[Tensor]:
        return [self.conv.weight.permute(2, 1, 0), *([] if self.conv.bias is None else [self.conv.bias])]


class Recurrent(OfSequences):
    def __init__(self, features: int, layer: keras.Recurrent) -> None:
        super().__init__()
        self.cell = cell_of(features, layer)
        self.backwards, self.return_sequences = layer.go_backwards, layer.return_sequences

    def forward(self, rows: Tensor, offsets: IndexArray) -> tuple[Tensor, Offsets]:
        rows = output_of_rows(self.cell, reversed_rows(rows, offsets) if self.backwards else rows, offsets)
        return (rows, offsets) if self.return_sequences else (last_rows(rows, offsets), None)

    def arrays(self) -> list[Tensor]:
        return arrays_of_cell(self.cell)


class BothDirections(OfSequences):
    def __init__(self, features: int, layer: keras.Bidirectional) -> None:
        super().__init__()
        self.both = Bidirectional(
            cell_of(features, layer.forward),
            layer.merge_mode,
            cell_of(features, layer.backward),
            layer.forward.return_sequences,
        )
        self.backwards = layer.forward.go_backwards  # as the rows that result then are, too

    def forward(self, rows: Tensor, offsets: IndexArray) -> tuple[Any, Offsets]:
        output = self.both.of_rows(reversed_rows(rows, offsets) if self.backwards else rows, offsets)
        return output, offsets if self.both.return_sequences else None

    def arrays(self) -> list[Tensor]:
        return [*arrays_of_cell(self.both.forward_layer), *arrays_of_cell(self.both.backward_layer)]


class Reverse(OfSequences):
    def forward(self, rows: Any, offsets: IndexArray) -> tuple[Any, Offsets]:
        if isinstance(rows, tuple):
            return tuple(reversed_rows(each, offsets) for each in rows), offsets
        return reversed_rows(rows, offsets), offsets


class GlobalPooling(OfSequences):
    def __init__(self, features: int, layer: keras.GlobalAveragePooling1D | keras.GlobalMaxPooling1D) -> None:
        super().__init__()
        self.maximum = isinstance(layer, keras.GlobalMaxPooling1D)

    def forward(self, rows: Tensor, offsets: IndexArray) -> tuple[Tensor, Offsets]:
        if not self.maximum:
            lengths = torch.from_numpy(np.diff(offsets)).to(rows.device)
            return _sums(rows, offsets) / lengths.unsqueeze(1), None
        lowest = padded(rows, offsets).masked_fill(~_within(offsets, rows).unsqueeze(2), -torch.inf)
        return lowest.amax(dim=1), None  # which divides the gradient among equals, as Keras does


class AttentionPooling(OfSequences):
    def __init__(self, features: int, layer: keras.GlobalAttentionPooling1D) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, layer.units)
        self.query = nn.Parameter(torch.zeros(layer.units))

    def forward(self, rows: Tensor, offsets: IndexArray) -> tuple[Tensor, Offsets]:
        scores = padded(torch.tanh(self.hidden(rows)) @ self.query, offsets)
        shares = torch.softmax(scores.masked_fill(~_within(offsets, rows), -torch.inf), dim=1)
        return _sums(rows * unpadded(shares, offsets).unsqueeze(1), offsets), None

    def arrays(self) -> list[Tensor]:
        return [self.hidden.weight.T, self.hidden.bias, self.query]


class WindowPooling(OfSequences):
    def __init__(self, features: int, layer: keras.AveragePooling1D | keras.MaxPooling1D) -> None:
        super().__init__()
        self.maximum = isinstance(layer, keras.MaxPooling1D)
        self.size, self.stride, self.same = layer.pool_size, layer.strides, layer.padding == "same"

    def forward(self, rows: Tensor, offsets: IndexArray) -> tuple[Tensor, Offsets]:
        lengths = np.diff(offsets)
        counts, before = (lengths - self.size) // self.stride + 1, np.zeros_like(lengths)
        if self.same:
            counts = -(-lengths // self.stride)
            before = np.maximum((counts - 1) * self.stride + self.size - lengths, 0) // 2
        elif (counts < 1).any():
            at = int((counts < 1).argmax())
            raise ValueError(f"sequence {at} is too short for pooling: {lengths[at]} steps, a window has {self.size}")
        ends = offsets_of(counts)
        first = np.repeat(offsets[:-1] - before - ends[:-1] * self.stride, counts) + np.arange(ends[-1]) * self.stride
        places = first[:, np.newaxis] + np.arange(self.size)
        inside = places >= np.repeat(offsets[:-1], counts)[:, np.newaxis]
        inside &= places < np.repeat(offsets[1:], counts)[:, np.newaxis]
        index, there = (torch.from_numpy(each).to(rows.device) for each in (np.where(inside, places, 0), inside))
        windows = rows[index]  # (windows, size, features)
        outside = ~there.unsqueeze(2)
        if self.maximum:
            return windows.masked_fill(outside, -torch.inf).max(dim=1).values, ends
        return windows.masked_fill(outside, 0).sum(dim=1) / there.sum(dim=1, keepdim=True), ends


class Crf(OfSequences):
    def __init__(self, features: int, layer: keras.CRF) -> None:
        super().__init__()
        self.crf = CRF(layer.labels, batch_first=True, forbidden=layer.forbidden)

    def forward(self, rows: Tensor, offsets: IndexArray) -> tuple[Tensor, Offsets]:
        return self.crf.marginals_of_rows(rows, offsets), offsets

    def arrays(self) -> list[Tensor]:
        crf = self.crf
        return [crf.transitions, crf.start_transitions.unsqueeze(0), crf.end_transitions.unsqueeze(0)]


def _sequences(offsets: IndexArray, like: Tensor) -> Tensor:
    """(total_steps,) of which sequence each step is."""
    lengths = np.diff(offsets)
    return torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)).to(like.device)


def _sums(rows: Tensor, offsets: IndexArray) -> Tensor:
    """(sequences, features) over the steps of each."""
    return rows.new_zeros(len(offsets) - 1, rows.shape[1]).index_add(0, _sequences(offsets, rows), rows)


def _within(offsets: IndexArray, like: Tensor) -> Tensor:
    """(sequences, longest) which steps of a padded array are real."""
    lengths = np.diff(offsets)
    return torch.from_numpy(np.arange(lengths.max()) < lengths[:, np.newaxis]).to(like.device)


# --- From layers to modules and back ----------------------------------------------------------------------------------

_MODULES: dict[type[Layer], Callable[[int, Any], nn.Module]] = {
    **dict.fromkeys((keras.LSTM, keras.GRU, keras.SimpleRNN), Recurrent),
    keras.Bidirectional: BothDirections,
    keras.Reverse: lambda features, layer: Reverse(),
    keras.Dense: Dense,
    keras.Embedding: Embedding,
    keras.ColumnEmbedding: ColumnEmbedding,
    keras.WordEncoder: WordEncoder,
    keras.Conv1D: Convolution,
    keras.BatchNormalization: BatchNormalization,
    keras.Dropout: lambda features, layer: nn.Dropout(layer.rate),
    keras.SpatialDropout1D: SpatialDropout,
    keras.Masking: lambda features, layer: nn.Identity(),  # the network leaves these steps out
    **dict.fromkeys((keras.GlobalAveragePooling1D, keras.GlobalMaxPooling1D), GlobalPooling),
    **dict.fromkeys((keras.AveragePooling1D, keras.MaxPooling1D), WindowPooling),
    keras.GlobalAttentionPooling1D: AttentionPooling,
    keras.CRF: Crf,
}


def module_of(layer: Layer, features: int) -> nn.Module:
    """The module that does what a layer does, with weights of its own.

    Raises:
        ValueError: PyTorch has no such layer.
    """
    inner = layer.layer if isinstance(layer, keras.TimeDistributed) else layer
    make = _MODULES.get(type(inner))
    try:
        if make is None:
            raise ValueError("it is not supported")
        with torch.no_grad():
            return make(features, inner)
    except ValueError as error:
        raise ValueError(f"cannot make a module of {layer!r}: {error}") from None


def arrays_of(module: nn.Module) -> list[FloatArray]:
    """The weight arrays of a module that `module_of` made, as its layer has them."""
    arrays: list[Tensor] = getattr(module, "arrays", list)()
    return [array.detach().cpu().to(torch.float32).contiguous().numpy() for array in arrays]


def set_arrays(module: nn.Module, arrays: Sequence[FloatArray]) -> None:
    """The reverse of `arrays_of`."""
    given = [torch.from_numpy(array.copy()) for array in arrays]
    with torch.no_grad():
        if isinstance(module, Recurrent):
            set_cell(module.cell, given)
        elif isinstance(module, BothDirections):
            count = len(arrays_of_cell(module.both.forward_layer))
            set_cell(module.both.forward_layer, given[:count])
            set_cell(module.both.backward_layer, given[count:])
        elif isinstance(module, WordEncoder):
            for layer in module.layers:
                count = len(arrays_of(layer))
                set_arrays(layer, arrays[:count])
                arrays = arrays[count:]
        else:
            for own, array in zip(getattr(module, "arrays", list)(), given, strict=True):
                own.copy_(array)  # views of the parameters
