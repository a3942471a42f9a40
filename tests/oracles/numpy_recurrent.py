"""Recurrent layers in plain NumPy, forward and by hand backward, one sequence and one step at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from oracles.numpy_layers import Array, Context, Layer, State, sigmoid

HARD_SLOPES = {"hard_sigmoid": 1 / 6, "hard_sigmoid_keras2": 0.2}


class GateActivation:
    """What squashes the sums of gates, and its derivative, from its value."""

    def __init__(self, name: str) -> None:
        if name != "sigmoid" and name not in HARD_SLOPES:
            raise ValueError(f"unknown recurrent_activation {name!r}")
        self.slope_within = HARD_SLOPES.get(name)

    def __call__(self, sums: Array) -> Array:
        if self.slope_within is None:
            return sigmoid(sums)
        return np.clip(sums * self.slope_within + 0.5, 0, 1)

    def slope(self, gate: Array) -> Array:
        if self.slope_within is None:
            return np.asarray(gate * (1 - gate))
        return np.where((gate > 0) & (gate < 1), self.slope_within, 0).astype(gate.dtype)


class Recurrent(Layer):
    """Weights kernel (inputs, gates units), recurrent kernel (units, gates units) and biases.

    Outputs are in processing order: with go_backwards the sequence's last step comes first.
    A sequence without steps leaves its initial state as it was, and that is its last output.
    """

    gates: int
    states = 1

    def __init__(
        self,
        index: int,
        width: int,
        units: int,
        return_sequences: bool = False,
        go_backwards: bool = False,
        biases: int | None = None,
        recurrent_activation: str = "sigmoid",
        use_bias: bool = True,
    ) -> None:
        columns = self.gates * units
        bias = (columns,) if biases is None else (biases, columns)
        super().__init__(index, units, [(width, columns), (units, columns), bias], use_bias)
        self.units = units
        self.return_sequences = return_sequences
        self.go_backwards = go_backwards
        self.gate = GateActivation(recurrent_activation)

    def step(self, x: Array, state: State) -> tuple[State, tuple[Array, ...]]:
        """The state after a step, h first, and what `step_back` needs."""
        raise NotImplementedError

    def step_back(self, kept: tuple[Array, ...], by_state: State) -> tuple[Array, State]:
        """The gradients by the step's input and by the state before it; adds to those by the weights."""
        raise NotImplementedError

    def forward(self, inputs: list[Array], context: Context) -> list[Array]:
        initial = context.states.get(self.index, [None])
        outputs, final = self.run(inputs, initial[0])
        context.final_states[self.index] = [final]
        return outputs

    def run(self, inputs: list[Array], initial: State | None) -> tuple[list[Array], State]:
        """All sequences from their initial states (zeros when None): the outputs and the final states."""
        dtype = self.weights[0].dtype
        if initial is None:
            initial = (np.zeros((len(inputs), self.units), dtype),) * self.states
        final = tuple(np.array(part, dtype) for part in initial)
        self.tape: list[list[tuple[Array, ...]]] = []
        outputs = []
        for number, sequence in enumerate(inputs):
            state: State = tuple(part[number].copy() for part in final)
            tape, hidden = [], []
            for x in sequence[::-1] if self.go_backwards else sequence:
                state, kept = self.step(x, state)
                tape.append(kept)
                hidden.append(state[0])
            self.tape.append(tape)
            rows = hidden if self.return_sequences else [state[0]]
            outputs.append(np.array(rows, dtype).reshape(-1, self.units))
            for part, own in zip(final, state, strict=True):
                part[number] = own
        return outputs, final

    def backward(self, gradients: list[Array]) -> list[Array]:
        """The gradient by the inputs, in the order of the inputs."""
        kernel = self.weights[0]
        by_inputs = []
        for rows, tape in zip(gradients, self.tape, strict=True):
            by_state: State = (np.zeros(self.units, kernel.dtype),) * self.states
            by_sequence = np.zeros((len(tape), len(kernel)), kernel.dtype)
            for number in reversed(range(len(tape))):
                if self.return_sequences:
                    by_state = (by_state[0] + rows[number], *by_state[1:])
                elif number == len(tape) - 1:
                    by_state = (rows[0], *by_state[1:])
                by_sequence[number], by_state = self.step_back(tape[number], by_state)
            by_inputs.append(by_sequence[::-1] if self.go_backwards else by_sequence)
        return by_inputs


class LSTM(Recurrent):
    """Gates i, f, c, o; one bias."""

    gates = 4
    states = 2

    def step(self, x: Array, state: State) -> tuple[State, tuple[Array, ...]]:
        kernel, recurrent, bias = self.with_bias(self.weights)
        h, c = state
        i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4)
        i, f, g, o = self.gate(i), self.gate(f), np.tanh(g), self.gate(o)
        c_next = f * c + i * g
        return (o * np.tanh(c_next), c_next), (x, h, c, i, f, g, o, c_next)

    def step_back(self, kept: tuple[Array, ...], by_state: State) -> tuple[Array, State]:
        kernel, recurrent = self.weights[:2]
        by_kernel, by_recurrent, by_bias = self.with_bias(self.gradients)
        x, h, c, i, f, g, o, c_next = kept
        by_h, by_c = by_state
        tanh_c = np.tanh(c_next)
        by_c = by_c + by_h * o * (1 - tanh_c**2)
        slope = self.gate.slope
        by_gates = np.concatenate(
            [by_c * g * slope(i), by_c * c * slope(f), by_c * i * (1 - g**2), by_h * tanh_c * slope(o)]
        )
        by_kernel += np.outer(x, by_gates)
        by_recurrent += np.outer(h, by_gates)
        by_bias += by_gates
        return kernel @ by_gates, (recurrent @ by_gates, by_c * f)


class GRU(Recurrent):
    """Gates z, r, h. With reset_after two biases, of the inputs and of the recurrent product; else one."""

    gates = 3

    def __init__(self, index: int, width: int, units: int, reset_after: bool = True, **options: Any) -> None:
        super().__init__(index, width, units, biases=2 if reset_after else None, **options)
        self.reset_after = reset_after

    def step(self, x: Array, state: State) -> tuple[State, tuple[Array, ...]]:
        kernel, recurrent, bias = self.with_bias(self.weights)
        (h,) = state
        if self.reset_after:
            x_z, x_r, x_h = np.split(x @ kernel + bias[0], 3)
            h_z, h_r, h_h = np.split(h @ recurrent + bias[1], 3)
            z, r = self.gate(x_z + h_z), self.gate(x_r + h_r)
            candidate = np.tanh(x_h + r * h_h)
        else:
            x_z, x_r, x_h = np.split(x @ kernel + bias, 3)
            u_z, u_r, u_h = np.split(recurrent, 3, axis=1)
            z, r = self.gate(x_z + h @ u_z), self.gate(x_r + h @ u_r)
            h_h = r * h
            candidate = np.tanh(x_h + h_h @ u_h)
        return (z * h + (1 - z) * candidate,), (x, h, z, r, candidate, h_h)

    def step_back(self, kept: tuple[Array, ...], by_state: State) -> tuple[Array, State]:
        kernel, recurrent = self.weights[:2]
        by_kernel, by_recurrent, by_bias = self.with_bias(self.gradients)
        x, h, z, r, candidate, h_h = kept
        (by_h,) = by_state
        by_z = by_h * (h - candidate) * self.gate.slope(z)
        by_candidate = by_h * (1 - z) * (1 - candidate**2)
        if self.reset_after:
            by_r = by_candidate * h_h * self.gate.slope(r)
            by_gates = np.concatenate([by_z, by_r, by_candidate])
            by_products = np.concatenate([by_z, by_r, by_candidate * r])
            by_recurrent += np.outer(h, by_products)
            by_bias += np.stack([by_gates, by_products])
            by_before = recurrent @ by_products
        else:
            u_z, u_r, u_h = np.split(recurrent, 3, axis=1)
            by_reset = u_h @ by_candidate
            by_r = by_reset * h * self.gate.slope(r)
            by_gates = np.concatenate([by_z, by_r, by_candidate])
            by_recurrent += np.hstack([np.outer(h, by_z), np.outer(h, by_r), np.outer(h_h, by_candidate)])
            by_bias += by_gates
            by_before = u_z @ by_z + u_r @ by_r + by_reset * r
        by_kernel += np.outer(x, by_gates)
        return kernel @ by_gates, (by_before + by_h * z,)


class SimpleRNN(Recurrent):
    """h = activation(x W + h U + b), with tanh or relu."""

    gates = 1

    def __init__(self, index: int, width: int, units: int, activation: str = "tanh", **options: Any) -> None:
        if activation not in ("tanh", "relu"):
            raise ValueError(f"layer {index}: unknown activation {activation!r}")
        super().__init__(index, width, units, **options)
        self.activation = activation

    def step(self, x: Array, state: State) -> tuple[State, tuple[Array, ...]]:
        kernel, recurrent, bias = self.with_bias(self.weights)
        (h,) = state
        sums = x @ kernel + h @ recurrent + bias
        after = np.tanh(sums) if self.activation == "tanh" else np.maximum(sums, 0)
        return (after,), (x, h, after)

    def step_back(self, kept: tuple[Array, ...], by_state: State) -> tuple[Array, State]:
        kernel, recurrent = self.weights[:2]
        by_kernel, by_recurrent, by_bias = self.with_bias(self.gradients)
        x, h, after = kept
        by_sums = by_state[0] * (1 - after**2 if self.activation == "tanh" else after > 0)
        by_kernel += np.outer(x, by_sums)
        by_recurrent += np.outer(h, by_sums)
        by_bias += by_sums
        return kernel @ by_sums, (recurrent @ by_sums,)


CELLS: dict[str, type[Recurrent]] = {"LSTM": LSTM, "GRU": GRU, "SimpleRNN": SimpleRNN}


class Bidirectional(Layer):
    """Two recurrent layers; the second one's outputs are reversed before they are merged.

    A merge_mode of None concatenates here.
    """

    def __init__(self, index: int, first: Recurrent, second: Recurrent, merge_mode: str | None) -> None:
        if first.go_backwards == second.go_backwards or first.return_sequences != second.return_sequences:
            raise ValueError(f"layer {index}: the directions must differ in go_backwards only, not in return_sequences")
        if merge_mode not in ("concat", "sum", "mul", "ave", None):
            raise ValueError(f"layer {index}: unknown merge_mode {merge_mode!r}")
        joined = merge_mode in ("concat", None)
        if not joined and first.units != second.units:
            raise ValueError(f"layer {index}: merge_mode {merge_mode!r} needs the same units in both directions")
        super().__init__(index, first.units + second.units if joined else first.units, first.shapes + second.shapes)
        self.first = first
        self.second = second
        self.joined = joined
        self.merge_mode = merge_mode

    def set_weights(self, weights: list[Array]) -> None:
        super().set_weights(weights)
        own = len(self.first.shapes)
        self.first.weights, self.second.weights = self.weights[:own], self.weights[own:]
        self.first.gradients, self.second.gradients = self.gradients[:own], self.gradients[own:]

    def forward(self, inputs: list[Array], context: Context) -> list[Array]:
        initial = context.states.get(self.index, [None, None])
        self.a, final_a = self.first.run(inputs, initial[0])
        b, final_b = self.second.run(inputs, initial[1])
        self.b = [rows[::-1] for rows in b]
        context.final_states[self.index] = [final_a, final_b]
        return [self._merge(a, b) for a, b in zip(self.a, self.b, strict=True)]

    def _merge(self, a: Array, b: Array) -> Array:
        if self.joined:
            return np.concatenate([a, b], axis=1)
        if self.merge_mode == "mul":
            return a * b
        return a + b if self.merge_mode == "sum" else (a + b) / 2

    def backward(self, gradients: list[Array]) -> list[Array]:
        if self.joined:
            by_a = [rows[:, : self.first.units] for rows in gradients]
            by_b = [rows[:, self.first.units :] for rows in gradients]
        elif self.merge_mode == "mul":
            by_a = [rows * b for rows, b in zip(gradients, self.b, strict=True)]
            by_b = [rows * a for rows, a in zip(gradients, self.a, strict=True)]
        else:
            by_a = by_b = [rows if self.merge_mode == "sum" else rows / 2 for rows in gradients]
        first = self.first.backward(by_a)
        second = self.second.backward([rows[::-1] for rows in by_b])
        return [a + b for a, b in zip(first, second, strict=True)]
