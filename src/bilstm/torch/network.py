"""Trained networks as modules of PyTorch's, and back."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bilstm import layers as keras
from bilstm.model.trained import TrainedModel
from bilstm.models import Sequential
from bilstm.models.structure import mask_value_of
from bilstm.ragged import IndexArray, Ragged, offsets_of
from bilstm.torch.compiling import outside_graphs
from bilstm.torch.forms import Consecutive, Rows
from bilstm.torch.indices import put, take
from bilstm.torch.modules import (
    ColumnEmbedding,
    Crf,
    Dense,
    Embedding,
    WordEncoder,
    applied,
    arrays_of,
    module_of,
    set_arrays,
)
from bilstm.torch.sequences import rows_of_any


class SequenceNetwork(nn.Module):
    """A network of bilstm's as a module of PyTorch's, with the same answers: `to_torch` makes it.

    Its recurrent layers are `LSTM` and `GRU` of this package, so that on the CPU in float32 they run on the engine, and
    elsewhere in PyTorch. An LSTM's second bias, which the engine's layers do not have, is zero and not learned.

    Attributes:
        layers: a module for each layer of the network, with the same index.
        features: the number of features of a step.
    """

    def __init__(self, model: Sequential) -> None:
        super().__init__()
        if not model.built or model.input_features is None:
            raise ValueError(
                "to_torch: the model has no weights yet: give its first layer input_shape=(steps, features)"
            )
        self._config = model.get_config()
        self.features = model.input_features
        self._mask_value = mask_value_of(model.layers[0])
        self.layers = nn.ModuleList()
        width, arrays = self.features, model.get_weights()
        for layer in model.layers:
            module, count = module_of(layer, width), len(layer.weight_specs(width))
            set_arrays(module, arrays[:count])
            arrays = arrays[count:]
            self.layers.append(module)
            width = layer.output_features(width)

    def forward(
        self, x: Any, lengths: Any = None, mask: Any = None, *, words: Ragged | None = None, logits: bool = False
    ) -> Any:
        """What `predict` of the network gives.

        Args:
            x: (sequences, steps, features), or of one feature (sequences, steps); (steps, features) of one sequence; a
                PackedSequence; a jagged nested tensor; a list of (steps, features) tensors; or a `bilstm.Ragged`.
            lengths: (sequences,) of padded batches, the number of real steps of each sequence, which are its first.
            mask: (sequences, steps) of padded batches, not 0 for real steps, wherever they are.
            words: those that the last feature refers to, where a `WordEncoder` reads them; a Ragged's own if left out.
            logits: whether to return what the last layer's activation is applied to, or a CRF's scores of labels, as
                PyTorch's losses and `CRF` take them.

        Returns:
            In the form of the input, with zeros where no step is; (total_steps, outputs) for a Ragged; (sequences,
            outputs) where the network has one row for a sequence. Two of them after a Bidirectional of merge_mode None.

        Raises:
            TypeError: the input is of another form.
            ValueError: shapes contradict each other, a sequence has no real step, or there are no logits or words.
        """
        if logits and not isinstance(self.layers[-1], (Dense, Crf)):
            raise ValueError("logits: the last layer is neither Dense nor a CRF")
        rows = _rows(self, x, lengths, mask)
        values, offsets, kept = self._unmasked(rows)
        begins: IndexArray | None = offsets
        for layer in self.layers:
            if isinstance(layer, WordEncoder):
                values = _encoded(layer, values, getattr(x, "words", None) if words is None else words)
            elif not (logits and layer is self.layers[-1]):
                values, begins = applied(layer, values, begins)
            elif isinstance(layer, Dense):
                values = layer.logits(values)
        if begins is None:
            return _each(values, rows.by_sequence)
        if kept is not None:
            values = _each(values, lambda each: put(each, kept, int(rows.offsets[-1])))
        return _each(values, rows.shaped_like_input)

    @outside_graphs
    def _unmasked(self, rows: Rows) -> tuple[Tensor, IndexArray, Tensor | None]:
        """The steps that are not masked, where sequences begin, and the indices of these steps; None: all."""
        values = rows.values
        if self._mask_value is None:
            return values, rows.offsets, None
        kept = (values != self._mask_value).any(dim=1)
        index = kept.nonzero().squeeze(1)
        offsets = offsets_of(kept.cpu().numpy())[rows.offsets]
        if not np.diff(offsets).all():
            at = int(np.diff(offsets).argmin())
            raise ValueError(f"sequence {at} has only masked steps, with the value {self._mask_value:g}: leave it out")
        return take(values, index), offsets, index


@outside_graphs
def _encoded(layer: WordEncoder, values: Tensor, words: Ragged | None) -> Tensor:
    if words is None:
        raise ValueError("the network reads words: give sequences as a Ragged that has them, or give words")
    encoded: Tensor = layer(values, words)
    return encoded


def _each(values: Any, function: Any) -> Any:
    return tuple(map(function, values)) if isinstance(values, tuple) else function(values)


@outside_graphs
def _rows(network: SequenceNetwork, x: Any, lengths: Any, mask: Any) -> Rows:
    """Any form of a batch, of which the features are checked."""
    if isinstance(x, (Ragged, list, tuple)) and not isinstance(x, PackedSequence):
        if lengths is not None or mask is not None:
            raise ValueError("a Ragged or a list has its own lengths: leave lengths and mask out")
        rows = _rows_of_list(network, x)
    else:
        rows = rows_of_any("SequenceNetwork", _with_features(network, x), batch_first=True, lengths=lengths, mask=mask)
    if rows.data.shape[-1] != network.features:
        raise ValueError(f"the network takes {network.features} features, the sequences have {rows.data.shape[-1]}")
    return rows


def _with_features(network: SequenceNetwork, x: Any) -> Any:
    """With a dimension for the features, where there is one feature and none for it."""
    if network.features != 1:
        return x
    if isinstance(x, PackedSequence) and x.data.dim() == 1:
        return x._replace(data=x.data.unsqueeze(1))
    return x.unsqueeze(-1) if isinstance(x, Tensor) and x.dim() == 2 else x


def _rows_of_list(network: SequenceNetwork, x: Any) -> Rows:
    if isinstance(x, Ragged):
        like = next(iter(network.state_dict().values()), torch.zeros(0))
        indices = isinstance(network.layers[0], (Embedding, ColumnEmbedding, WordEncoder))  # which need their precision
        values = torch.from_numpy(np.require(x.values, requirements="W"))
        values = values.to(like.device, torch.float32 if indices else like.dtype)
        offsets = x.offsets
    else:
        parts = [each.unsqueeze(1) if each.dim() == 1 and network.features == 1 else each for each in x]
        if not parts or any(part.dim() != 2 for part in parts):
            raise ValueError("a list must hold a (steps, features) tensor for each sequence, and at least one")
        values, offsets = torch.cat(parts), offsets_of([len(part) for part in parts])
    if not len(offsets) > 1 or not np.diff(offsets).all():
        raise ValueError("there must be a sequence, and each must have a step")

    def wrap(rows: Tensor) -> Any:
        return rows if isinstance(x, Ragged) else list(rows.split(np.diff(offsets).tolist()))

    return Rows(Consecutive(offsets, (len(values),), wrap=wrap), values)


def to_torch(model: Any) -> SequenceNetwork:
    """A module of PyTorch's that gives the same answers: to fine-tune it, on a GPU or distributed, or to build upon.

    The module has the layers' names and weights, not a trained model's schema: it takes what the schema makes of data,
    `model.read(data).values`. `from_torch` brings it back.

    Args:
        model: a `Sequential` that is built, a `TrainedModel`, or an estimator that is fitted.

    Raises:
        TypeError: it is none of these.
        ValueError: it has no weights yet, or a layer that PyTorch lacks: a GRU with reset_after=False, or gates other
            than "sigmoid".
    """
    return SequenceNetwork(_network_of("to_torch", model))


def from_torch(module: SequenceNetwork, like: Any = None) -> Any:
    """The model of a module that `to_torch` made, with the module's weights.

    Args:
        module: what `to_torch` returned, trained further or not, on any device.
        like: the `TrainedModel` or estimator whose network it was. A copy of it with the new weights is returned. Its
            record remains that of its own training, without the temperature, which was found for the old weights.

    Returns:
        A `Sequential`, compiled if that was; or the copy of `like`.

    Raises:
        TypeError: `module` or `like` is of another kind.
        ValueError: a weight is not finite, or `like` has another network.
    """
    if not isinstance(module, SequenceNetwork):
        raise TypeError(
            f"from_torch: a module that to_torch made is needed, not a {type(module).__name__}: for other taggers "
            f"there is from_state_dict"
        )
    network = Sequential.from_config(module._config, draw=False)
    network.set_weights([array for layer in module.layers for array in arrays_of(layer)])
    return network if like is None else _with_network(like, network)


def _network_of(owner: str, model: Any) -> Sequential:
    found = _trained_model(model)
    if found is not None:
        return found.network
    if not isinstance(model, Sequential):
        raise TypeError(f"{owner}: a Sequential, a TrainedModel or a fitted estimator is needed, not {model!r:.100}")
    return model


def _trained_model(model: Any) -> TrainedModel | None:
    """The model itself, or that of a fitted estimator."""
    found = getattr(model, "model_", model)
    return found if isinstance(found, TrainedModel) else None


def _with_network(like: Any, network: Sequential) -> Any:
    old = _trained_model(like)
    if old is None:
        raise TypeError(f"from_torch: like must be a TrainedModel or a fitted estimator, not {like!r:.100}")
    described = [[keras.to_json(layer) for layer in each.layers] for each in (old.network, network)]
    if described[0] != described[1] or old.network.input_features != network.input_features:
        raise ValueError("from_torch: like has another network than the module")
    training = dict(old.training)
    if not all(map(np.array_equal, old.network.get_weights(), network.get_weights())):
        training.pop("calibration", None)
    model = TrainedModel(old.schema, old.task, network, training, old.baseline)
    model.precision, model.warn = old.precision, old.warn
    if old is like:
        return model
    estimator = copy.copy(like)
    estimator.model_, estimator.training_ = model, training
    return estimator
