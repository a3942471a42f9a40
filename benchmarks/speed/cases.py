"""What is measured: the cases, their data and weights, and the operations that they need.

Every process makes the data and the weights by itself, from the case alone, so that all work on the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
LabelArray = npt.NDArray[np.int32]

# Adam's. Keras and we add epsilon before the correction of biases, PyTorch and Optax after it: so small a one makes the
# same steps either way.
LEARNING_RATE = 0.001
EPSILON = 1e-12

# In Keras's order. A GRU's reset gate comes after the recurrent product, and has two biases, as Keras's and PyTorch's.
GATES = {"lstm": "ifco", "gru": "zrh"}

WINDOW = 5  # steps that a convolution reads


@dataclass(frozen=True)
class Batch:
    """Sequences of one training step or prediction.

    Attributes:
        x: (sequences, longest, inputs) float32, zero after each sequence's last step.
        labels: (sequences, longest) int32 classes, -1 after each sequence's last step.
    """

    x: FloatArray
    labels: LabelArray


@dataclass(frozen=True)
class Case:
    """One row of the table: a network, the shape of a batch, and what is done with it.

    Attributes:
        name: such as "N1".
        task: "train" for training steps, "predict" for predictions.
        lengths: steps of each sequence of a batch.
        units: hidden units of each direction.
        layers: bidirectional layers; a Dense layer follows, applied to every step.
        outputs: classes, with a softmax; or 1 for a sigmoid.
        batches: different batches, all with sequences of the same lengths.
        target: how many times as fast as the best exact peer bilstm is to be.
        one_call: whether each training step is a call of its own, which hands the loss back.
        rivals: another case whose peers count here too, as they do the same task in another way.
        target_over: the only peer's setting that the target speaks of; every exact peer if empty.
        cell: of the recurrent layers, one of GATES.
        filters: of a convolution over WINDOW steps in front of the recurrent layers, with ReLU; 0 for none.
    """

    name: str
    task: str
    lengths: tuple[int, ...]
    inputs: int
    units: int
    layers: int
    outputs: int
    batches: int
    target: float = 0.0
    one_call: bool = False
    rivals: str = ""
    target_over: str = ""
    cell: str = "lstm"
    filters: int = 0

    @property
    def trains(self) -> bool:
        return self.task == "train"

    @property
    def ragged(self) -> bool:
        return len(set(self.lengths)) > 1

    @property
    def longest(self) -> int:
        return max(self.lengths)

    @property
    def sequences(self) -> int:
        return len(self.lengths)

    @property
    def width(self) -> int:
        """Of the rows that the first recurrent layer reads."""
        return self.filters or self.inputs

    @property
    def activation(self) -> str:
        return "sigmoid" if self.outputs == 1 else "softmax"

    @property
    def loss(self) -> str:
        return "binary_crossentropy" if self.outputs == 1 else "sparse_categorical_crossentropy"

    @property
    def shape(self) -> str:
        """Such as "T500 B32 I16 C32 H64, 2 layers"."""
        steps = f"T{min(self.lengths)}–{self.longest}" if self.ragged else f"T{self.longest}"
        layers = f", {self.layers} layers" if self.layers > 1 else ""
        filters = f" C{self.filters}" if self.filters else ""
        return f"{steps} B{self.sequences} I{self.inputs}{filters} H{self.units}{layers}"

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """(sequences, longest) whether there is such a step."""
        return np.arange(self.longest) < np.array(self.lengths)[:, np.newaxis]

    @cached_property
    def data(self) -> list[Batch]:
        random = np.random.default_rng(1)
        batches = []
        for _ in range(self.batches):
            x = random.standard_normal((self.sequences, self.longest, self.inputs), np.float32)
            labels = random.integers(0, max(self.outputs, 2), self.mask.shape, np.int32)
            batches.append(Batch(x * self.mask[:, :, np.newaxis], np.where(self.mask, labels, np.int32(-1))))
        return batches

    @cached_property
    def reversal(self) -> npt.NDArray[np.int64]:
        """(sequences, longest) the steps of each sequence from its last to its first; what follows stays in place."""
        steps = np.arange(self.longest)
        lengths = np.array(self.lengths)[:, np.newaxis]
        return np.where(self.mask, lengths - 1 - steps, steps)

    @cached_property
    def weights(self) -> list[FloatArray]:
        """In Keras's order: a convolution's kernel (WINDOW, inputs, filters) and bias (filters); for each layer
        forward's kernel (inputs, gates·units), recurrent kernel (units, gates·units) and bias (gates·units), of a GRU
        (2, gates·units), then backward's; at last Dense's kernel and bias.
        """
        random = np.random.default_rng(2)
        arrays: list[FloatArray] = []
        if self.filters:
            shapes = (WINDOW, self.inputs, self.filters), (self.filters,)
            arrays += [_uniform(random, shape, WINDOW * self.inputs) for shape in shapes]
        inputs, gates = self.width, len(GATES[self.cell]) * self.units
        for _ in range(self.layers):
            for _ in range(2):
                for rows in (inputs, self.units):
                    arrays.append(_uniform(random, (rows, gates), self.units))
                bias = _uniform(random, (gates,) if self.cell == "lstm" else (2, gates), self.units)
                if self.cell == "lstm":
                    bias[self.units : 2 * self.units] += 1.0
                arrays.append(bias)
            inputs = 2 * self.units
        arrays.append(_uniform(random, (inputs, self.outputs), inputs))
        arrays.append(_uniform(random, (self.outputs,), inputs))
        return arrays

    @property
    def operations(self) -> int:
        """Additions and multiplications in the matrix products that one batch needs, without any padding.

        Training adds the gradients of the weights, and those of the inputs except the first layer's.
        """
        forward = needless = 2 * WINDOW * self.inputs * self.filters
        inputs = self.width
        for layer in range(self.layers):
            # Two directions, and for each gate a multiplication and an addition.
            products = 2 * 2 * len(GATES[self.cell]) * self.units
            forward += products * (inputs + self.units)
            if layer == 0 and not self.filters:
                needless = products * inputs
            inputs = 2 * self.units
        forward += 2 * inputs * self.outputs
        return sum(self.lengths) * (3 * forward - needless if self.trains else forward)


def _uniform(random: np.random.Generator, shape: tuple[int, ...], fan: int) -> FloatArray:
    bound = fan**-0.5
    return random.uniform(-bound, bound, shape).astype(np.float32)


def spread(shortest: int, longest: int, count: int) -> tuple[int, ...]:
    """`count` lengths, evenly spread, in no order."""
    lengths = np.linspace(shortest, longest, count).round().astype(int)
    return tuple(int(length) for length in np.random.default_rng(3).permutation(lengths))


_WORDS = spread(4, 60, 32)
_LONG = spread(200, 2000, 32)

_LSTM = {
    case.name: case
    for case in (
        Case("S1 fit", "train", (10,), 1, 20, 1, 1, batches=1000, target=15),
        Case("S1 call", "train", (10,), 1, 20, 1, 1, batches=100, target=10, one_call=True, rivals="S1 fit"),
        Case("S2", "train", (10,) * 32, 1, 20, 1, 1, batches=100, target=8),
        Case("N1", "train", (500,) * 32, 16, 64, 2, 10, batches=2, target=3.5),
        Case("N2", "train", _WORDS, 128, 128, 1, 20, batches=8, target=3.3),
        Case("N3", "train", _WORDS, 512, 256, 1, 20, batches=4, target=3.3),
        Case("N4", "train", (800,) * 16, 40, 320, 3, 50, batches=1, target=1.5),
        Case("L1", "predict", (10,), 1, 20, 1, 1, batches=100, target=8),
        Case("L2", "predict", (100,), 16, 64, 2, 10, batches=20, target=2.6),
        Case("L3", "predict", (30,), 512, 256, 1, 20, batches=20, target=1.6),
        Case("P1", "predict", (500,) * 32, 16, 64, 2, 10, batches=4, target=1.5),
        Case("P2", "predict", _WORDS, 128, 128, 1, 20, batches=8, target=2.4),
        Case("P3", "predict", _WORDS, 512, 256, 1, 20, batches=8, target=2.2),
        Case("X1", "train", _LONG, 16, 64, 1, 10, batches=1, target=900, target_over="packed"),
    )
}
_GRU = ("N1", "N2", "N3", "P1", "P2", "P3")  # the cases that GRUs are measured in, too
_CONVOLUTION = ("N1", "P1")  # and those that a convolution is put in front of
CASES = (
    _LSTM
    | {f"{name} GRU": replace(_LSTM[name], name=f"{name} GRU", cell="gru") for name in _GRU}
    | {f"{name} Conv1D": replace(_LSTM[name], name=f"{name} Conv1D", filters=32) for name in _CONVOLUTION}
)


def case_from(description: dict[str, Any]) -> Case:
    """The reverse of `dataclasses.asdict` after a journey through JSON."""
    return Case(**description | {"lengths": tuple(description["lengths"])})
