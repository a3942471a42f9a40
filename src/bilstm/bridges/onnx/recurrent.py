"""ONNX's LSTM, GRU and RNN as directions of our layers: the reverse of what `network` writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bilstm.bridges.onnx.values import Constant, Filled, Lengths, Step, Value, is_value
from bilstm.bridges.refusals import RefusedError
from bilstm.layers import GRU, LSTM, Recurrent, SimpleRNN
from bilstm.ragged import FloatArray

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (0, 1, 2), "RNN": (0,)}  # of ONNX's i o f c: our i f c o
_DEFAULTS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}


def read_directions(
    operator: str, inputs: Sequence[Value | None], attributes: Mapping[str, Any], steps: int, node: str
) -> list[Step]:
    """The layers, one for each direction, that read steps and return a row for each.

    Args:
        inputs: the node's, of which the first is the sequences.
        attributes: the node's.
        steps: the number of time steps.

    Raises:
        RefusedError: an attribute, an initial state or an activation is not supported.
    """
    names = ("W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
    given = dict(zip(names, inputs[1:], strict=False))
    kernels, recurrent_kernels = (_weights(given.get(name), name, 3) for name in "WR")
    biases = None if given.get("B") is None else _weights(given["B"], "B", 2)
    _check(given, attributes, steps)
    direction = attributes.get("direction", b"forward").decode()
    backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}.get(direction)
    units = recurrent_kernels.shape[2]
    rows = _GATES[operator] * units
    count = len(backwards or ())
    if (
        not count
        or kernels.shape[:2] != (count, rows)
        or recurrent_kernels.shape != (count, rows, units)
        or (biases is not None and biases.shape != (count, 2 * rows))
    ):
        raise RefusedError(f"its weights have other shapes than direction {direction!r} and {units} units need")
    activations = _activations(operator, attributes, count)
    found = []
    for index, backward in enumerate(backwards or ()):
        layer = _layer(operator, units, activations[index], attributes, backward, biases is not None)
        arrays = [_ours(operator, array[index].T) for array in (kernels, recurrent_kernels)]
        if biases is not None:
            both = _ours(operator, biases[index].reshape(2, -1))
            arrays.append(both if isinstance(layer, GRU) and layer.reset_after else both.sum(axis=0))
        found.append(Step(layer, arrays, node))
    return found


def _layer(
    operator: str, units: int, activations: Sequence[str], attributes: Mapping[str, Any], backward: bool, biased: bool
) -> Recurrent:
    common: dict[str, Any] = {"return_sequences": True, "go_backwards": backward, "use_bias": biased}
    if operator == "RNN":
        return SimpleRNN(units, activations[0], **common)
    if operator == "LSTM":
        return LSTM(units, recurrent_activation=activations[0], **common)
    after = attributes.get("linear_before_reset", 0) == 1
    return GRU(units, reset_after=after, recurrent_activation=activations[0], **common)


def _activations(operator: str, attributes: Mapping[str, Any], count: int) -> list[list[str]]:
    """Our names of each direction's activations."""
    defaults = _DEFAULTS[operator]
    names = [name.decode().lower() for name in attributes.get("activations", [])] or [*defaults] * count
    slopes, shifts = (list(attributes.get(f"activation_{name}", [])) for name in ("alpha", "beta"))
    found: list[list[str]] = []
    for index in range(count):
        own = names[index * len(defaults) : (index + 1) * len(defaults)]
        ours = []
        for name in own:
            slope, shift = (values.pop(0) if values and name == "hardsigmoid" else None for values in (slopes, shifts))
            ours.append(
                _gate(0.2 if slope is None else slope, 0.5 if shift is None else shift)
                if name == "hardsigmoid"
                else name
            )
        allowed = ("tanh", "relu") if operator == "RNN" else ("sigmoid", "hard_sigmoid", "hard_sigmoid_keras2")
        if len(own) != len(defaults) or ours[0] not in allowed or any(name != "tanh" for name in ours[1:]):
            raise RefusedError(f"activations {', '.join(own) or 'none'} are not supported")
        found.append(ours)
    return found


def _gate(slope: float, shift: float) -> str:
    for name, alpha in (("hard_sigmoid", 1 / 6), ("hard_sigmoid_keras2", 0.2)):
        if abs(slope - alpha) < 1e-6 and abs(shift - 0.5) < 1e-6:
            return name
    return f"HardSigmoid({slope:g}, {shift:g})"


def _check(given: Mapping[str, Value | None], attributes: Mapping[str, Any], steps: int) -> None:
    """Refuse what changes the result."""
    for name in ("initial_h", "initial_c"):
        if given.get(name) is not None and not is_value(given[name], 0):
            raise RefusedError(f"its initial state {name} is not zero")
    if given.get("P") is not None and not is_value(given["P"], 0):
        raise RefusedError("peepholes are not supported")
    lengths = given.get("sequence_lens")
    if lengths is not None and not isinstance(lengths, Lengths) and not is_value(lengths, steps):
        frozen = isinstance(lengths, (Constant, Filled))
        raise RefusedError(
            "its sequence lengths are fixed: export the model without them"
            if frozen
            else "its sequence lengths are not an input"
        )
    for name, default in (("clip", 0), ("input_forget", 0)):
        if attributes.get(name, default) != default:
            raise RefusedError(f"{name}={attributes[name]} is not supported")


def _weights(value: Value | None, name: str, dimensions: int) -> FloatArray:
    if not isinstance(value, Constant) or value.array.ndim != dimensions:
        raise RefusedError(f"its {name} is no array of {dimensions} dimensions that is stored in the file")
    return np.asarray(value.array, np.float32)


def _ours(operator: str, array: FloatArray) -> FloatArray:
    """The gates, along the last axis, in our order."""
    blocks = np.split(array, _GATES[operator], axis=-1)
    return np.concatenate([blocks[gate] for gate in _ORDER[operator]], axis=-1)
