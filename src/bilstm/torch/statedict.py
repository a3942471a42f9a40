"""Taggers that others have trained in PyTorch, from their state_dicts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bilstm.errors import listed
from bilstm.layers import (
    CRF,
    GRU,
    LSTM,
    Bidirectional,
    Dense,
    Embedding,
    Input,
    Layer,
    Recurrent,
    SimpleRNN,
    TimeDistributed,
)
from bilstm.models import Sequential
from bilstm.torch import modules
from bilstm.torch.modules import arrays_of, module_of

Parts = list[tuple[str | None, Layer]]
_CELLS: dict[int, type[Recurrent]] = {4: LSTM, 3: GRU, 1: SimpleRNN}  # by their number of gates
_TRANSITIONS = {"start_transitions", "end_transitions", "transitions"}
_IGNORED = ("num_batches_tracked",)
_HOW = "pass layers=[(prefix, layer), ...], first to last, to from_state_dict"


def guess_layers(state: Mapping[str, Tensor] | nn.Module) -> Parts:
    """The layers whose weights a tagger's state_dict seems to hold: look at them, correct them, and pass them on.

    An embedding, recurrent layers that return a row for each step, one linear layer and a CRF are recognised, each but
    the recurrent ones optional. What a state_dict does not say is assumed: tanh in a `torch.nn.RNN`; and after the last
    linear layer nothing before a CRF, else sigmoid for one output and softmax for several.

    Returns:
        (prefix, layer) from first to last: the prefix of the names of its weights, and the layer. A recurrent module of
        several layers has its prefix in several pairs, one for each of them.

    Raises:
        ValueError: other weights are there, or the layers do not follow each other.
    """
    embedding: Parts = []
    recurrent: Parts = []
    linear: list[tuple[str, int, bool]] = []
    crf: Parts = []
    for prefix, own in _groups(_weights(state)).items():
        shape = tuple(own["weight"].shape) if "weight" in own else ()
        if "weight_ih_l0" in own:
            recurrent += [(prefix, layer) for layer in _recurrent(prefix, own)]
        elif own.keys() >= _TRANSITIONS:
            crf.append((prefix, CRF(len(own["start_transitions"]))))
        elif own.keys() == {"weight"} and len(shape) == 2 and not recurrent:
            embedding.append((prefix, Embedding(*shape)))
        elif own.keys() <= {"weight", "bias"} and len(shape) == 2:
            linear.append((prefix, shape[0], "bias" in own))
        else:
            names = listed([_joined(prefix, name) for name in own])
            raise ValueError(f"from_state_dict: it is unknown what {names} is for: {_HOW}")
    several: list[tuple[str, list[Any]]] = [("embedding", embedding), ("linear layer", linear), ("CRF", crf)]
    for what, found in several:
        if len(found) > 1:
            names = listed(str(each[0]) for each in found)
            raise ValueError(f"from_state_dict: there is more than one {what}, {names}: {_HOW}")
    if not recurrent:
        raise ValueError(f"from_state_dict: there is no recurrent layer: {_HOW}")
    dense: Parts = []
    for prefix, units, use_bias in linear:
        activation = None if crf else "sigmoid" if units == 1 else "softmax"
        dense.append((prefix, TimeDistributed(Dense(units, activation, use_bias))))
    return [*embedding, *recurrent, *dense, *crf]


def from_state_dict(
    state: Mapping[str, Tensor] | nn.Module, layers: Iterable[tuple[str | None, Layer]] | None = None
) -> Sequential:
    """A `Sequential` with the weights of a tagger trained in PyTorch.

    Its answers are those of the tagger's modules, run in the order of the layers, each sequence to its own length.

    Gates are reordered, and both biases of an LSTM become one.

    Args:
        state: a state_dict of PyTorch's, such as `torch.load(file, weights_only=True)` returns, or a module.
        layers: (prefix, layer) from first to last: the prefix of the names of a layer's weights in the state_dict, and
            the layer of `bilstm.layers`; None as the prefix of a layer without weights. What `guess_layers` returns if
            left out.

    Raises:
        ValueError: weights are missing or left over, or have another shape; the message names them.
    """
    weights = _weights(state)
    parts = guess_layers(weights) if layers is None else list(layers)
    if not parts:
        raise ValueError("from_state_dict: layers is empty")
    width = _features(parts[0], weights)
    used, seen, arrays = set[str](), dict[str, int](), []
    chain: list[Layer] = [Input((None, width))]
    for prefix, layer in parts:
        module = module_of(layer, width)
        names = _names(module, prefix, seen)
        _check(layer, module, names, weights)
        module.load_state_dict({own: weights[name] for own, name in names.items()})
        used.update(names.values())
        arrays += arrays_of(module)
        chain.append(layer)
        width = layer.output_features(width)
    left = [name for name in weights if name not in used and not name.endswith(_IGNORED)]
    if left:
        raise ValueError(f"from_state_dict: no layer takes {listed(left)}: {_HOW}")
    model = Sequential(chain)
    if arrays:
        model.set_weights(arrays)
    return model


def _weights(state: Mapping[str, Tensor] | nn.Module) -> Mapping[str, Tensor]:
    weights = state.state_dict() if isinstance(state, nn.Module) else state
    if not isinstance(weights, Mapping) or not all(isinstance(each, Tensor) for each in weights.values()):
        raise ValueError("from_state_dict: a state_dict is needed, names and tensors, or a module")
    return weights


def _groups(weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The weights of each module, by the prefix of their names."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, weight in weights.items():
        prefix, _, name = key.rpartition(".")
        groups.setdefault(prefix, {})[name] = weight
    return groups


def _joined(prefix: str | None, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _recurrent(prefix: str, own: Mapping[str, Tensor]) -> list[Layer]:
    """A layer for each of a recurrent module."""
    units = own["weight_hh_l0"].shape[1]
    cell = _CELLS.get(len(own["weight_hh_l0"]) // units)
    if cell is None or any(name.startswith("weight_hr") for name in own):
        raise ValueError(f"from_state_dict: {prefix} has projections, or is neither LSTM, GRU nor RNN")
    layers: list[Layer] = []
    for number in range(1 + max(int(name) for key in own for name in re.findall(r"_l(\d+)", key))):
        layer = cell(units, return_sequences=True, use_bias=f"bias_ih_l{number}" in own)
        layers.append(Bidirectional(layer) if f"weight_ih_l{number}_reverse" in own else layer)
    return layers


def _features(first: tuple[str | None, Layer], weights: Mapping[str, Tensor]) -> int:
    """The number of features of a step, from the first layer's weights."""
    prefix, layer = first
    if layer.input_features is not None:
        return layer.input_features
    inner = layer.layer if isinstance(layer, TimeDistributed) else layer
    name = "weight_ih_l0" if isinstance(inner, (Recurrent, Bidirectional)) else "weight"
    weight = weights.get(_joined(prefix, name))
    if weight is None or weight.dim() < 2:
        raise ValueError(
            f"from_state_dict: {_joined(prefix, name)} does not say how many features a step has: put an "
            f"(None, Masking(..., input_shape=(None, features))) or the right prefix first"
        )
    return int(weight.shape[1])


def _names(module: nn.Module, prefix: str | None, seen: dict[str, int]) -> dict[str, str]:
    """The module's own names for its weights, and the state_dict's."""
    if not isinstance(module, (modules.Recurrent, modules.BothDirections)):
        return {name: _joined(prefix, name.rpartition(".")[2]) for name in module.state_dict()}
    number = seen.get(str(prefix), 0)
    seen[str(prefix)] = number + 1
    names = {}
    for name in module.state_dict():  # such as cell.weight_ih_l0, both.backward_layer.weight_ih_l0
        parent, _, own = name.rpartition(".")
        suffix = "_reverse" if parent.endswith("backward_layer") else ""
        names[name] = _joined(prefix, f"{own.removesuffix('0')}{number}{suffix}")
    return names


def _check(layer: Layer, module: nn.Module, names: Mapping[str, str], weights: Mapping[str, Tensor]) -> None:
    missing = [name for name in names.values() if name not in weights]
    if missing:
        raise ValueError(f"from_state_dict: {layer!r} needs {listed(missing)}, which is not there")
    for own, name in names.items():
        expected, found = tuple(module.state_dict()[own].shape), tuple(weights[name].shape)
        if expected != found:
            raise ValueError(f"from_state_dict: {layer!r} needs {name} of shape {expected}, not {found}")
    wrong = [name for name in names.values() if not torch.isfinite(weights[name]).all()]
    if wrong:
        raise ValueError(f"from_state_dict: {listed(wrong)} holds NaN or infinity")
