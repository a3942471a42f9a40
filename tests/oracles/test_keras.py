"""Live against Keras 3: the same weights and data give the same outputs, losses and trained weights.

Every network is built twice by one function, from bilstm's layers and from Keras's. Keras is given sequences of
different lengths as a padded array behind a Masking layer; only the true steps are compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import bilstm.layers
import bilstm.models
import bilstm.optimizers
from bilstm.engine.losses import CRF_LIKELIHOOD, LOSSES, TABLE, Loss, TargetKind
from bilstm.ragged import Ragged, offsets_of
from oracles.numpy_engine import NumpyNetwork

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Keras's and PyTorch's own imports warn of is not ours to judge
    keras = pytest.importorskip("keras")

# PyTorch and Keras warn of their own use of each other; bilstm's warnings stay errors.
pytestmark = pytest.mark.filterwarnings("ignore:::keras", "ignore:::torch")

Array = np.ndarray[Any, Any]
Layers = Any  # the module bilstm.layers or keras.layers
Network = Callable[[Layers], Sequence[Any]]

PADDING = -7.0  # never drawn as an input
OUTPUT_TOLERANCE = 1e-5


# --- The same network on both sides ---------------------------------------------------------------------------------


@dataclass
class Twins:
    """One network in both libraries, with the same weights."""

    ours: Any
    theirs: Any

    @classmethod
    def of(
        cls,
        network: Network,
        features: int,
        seed: int,
        *,
        tokens: bool = False,
        masking: bool = True,
        scale: float = 0.5,
    ) -> Twins:
        """Build both and give them random weights.

        Args:
            tokens: the network starts with an Embedding, which makes Keras's mask itself.
            masking: the sequences may differ in length.
            scale: the standard deviation of the weights.
        """
        ours = bilstm.models.Sequential([bilstm.layers.Input((None, features)), *network(bilstm.layers)])
        masks = [keras.layers.Masking(mask_value=PADDING)] if masking and not tokens else []
        shape = (None,) if tokens else (None, features)
        theirs = keras.Sequential([keras.Input(shape), *masks, *network(keras.layers)])
        generator = np.random.default_rng(seed)
        shapes = [weights.shape for weights in theirs.get_weights()]
        assert [weights.shape for weights in ours.get_weights()] == shapes
        weights = [generator.normal(0, scale, shape).astype(np.float32) for shape in shapes]
        names = [variable.name for variable in theirs.weights]
        weights = [abs(w) if name == "moving_variance" else w for w, name in zip(weights, names, strict=True)]
        ours.set_weights(weights)
        theirs.set_weights(weights)
        return cls(ours, theirs)

    def compile(self, loss: str, optimizer: str = "adam", metrics: list[str] | None = None, **settings: Any) -> None:
        name = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}[optimizer]
        self.ours.compile(loss=loss, optimizer=getattr(bilstm.optimizers, name)(**settings), metrics=metrics)
        self.theirs.compile(loss=loss, optimizer=getattr(keras.optimizers, name)(**settings), metrics=metrics)


def padded(sequences: Ragged, fill: float = PADDING) -> Array:
    return sequences.to_padded(fill)


def draw_lengths(generator: np.random.Generator, count: int, longest: int) -> Array:
    """Lengths from 1, the longest among them."""
    lengths = generator.integers(1, longest, count, endpoint=True)
    lengths[generator.integers(count)] = longest
    return lengths


def draw(generator: np.random.Generator, lengths: Array, features: int) -> Ragged:
    return Ragged(generator.normal(0, 1, (lengths.sum(), features)), offsets_of(lengths))


def draw_shapes(seed: int) -> tuple[np.random.Generator, Ragged, int]:
    """Random sequences of random shapes, and a random number of units."""
    generator = np.random.default_rng(seed)
    lengths = draw_lengths(generator, int(generator.integers(1, 6)), int(generator.integers(1, 9)))
    return generator, draw(generator, lengths, int(generator.integers(1, 6))), int(generator.integers(1, 8))


def values_of(output: Any) -> Array:
    """(total_steps, features) of what predict returned, whether Ragged or an array."""
    return output.values if isinstance(output, Ragged) else np.asarray(output).reshape(-1, np.shape(output)[-1])


def true_steps(array: Array, lengths: Array, *, at_the_end: bool = False) -> Array:
    """The true steps of Keras's padded output, which lie at each row's end where Keras has turned it round."""
    steps = np.arange(array.shape[1])
    exists = steps >= array.shape[1] - lengths[:, np.newaxis] if at_the_end else steps < lengths[:, np.newaxis]
    return array[exists]


def predict(model: Any, inputs: Array) -> Any:
    return model.predict_on_batch(inputs)


# The kinds of recurrent layers: a class of both libraries' and arguments of its own.
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "LSTM": ("LSTM", {}),
    "GRU": ("GRU", {}),
    "GRU, reset before": ("GRU", {"reset_after": False}),
    "SimpleRNN": ("SimpleRNN", {}),
    "SimpleRNN, relu": ("SimpleRNN", {"activation": "relu"}),
    "LSTM, hard gates": ("LSTM", {"recurrent_activation": "hard_sigmoid"}),
    "LSTM, Keras 2's hard gates": ("LSTM", {"recurrent_activation": "hard_sigmoid_keras2"}),
    "GRU, hard gates": ("GRU", {"recurrent_activation": "hard_sigmoid"}),
    "GRU, reset before, Keras 2's hard gates": (
        "GRU",
        {"reset_after": False, "recurrent_activation": "hard_sigmoid_keras2"},
    ),
}
every_cell = pytest.mark.parametrize("cell", CELLS)


def recurrent_layer(layers: Layers, cell: str, units: int, **options: Any) -> Any:
    name, own = CELLS[cell]
    if layers is not bilstm.layers and own.get("recurrent_activation") == "hard_sigmoid_keras2":
        own = own | {"recurrent_activation": hard_sigmoid_of_keras_2}
    return getattr(layers, name)(units, **own, **options)


@keras.saving.register_keras_serializable()  # Bidirectional makes its second layer of the first's description
def hard_sigmoid_of_keras_2(x: Any) -> Any:
    """As its documentation has it: 0 below -2.5, 1 above 2.5, 0.2 x + 0.5 between."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


# --- Outputs --------------------------------------------------------------------------------------------------------

every_seed = pytest.mark.parametrize("seed", range(3))
both_returns = pytest.mark.parametrize("return_sequences", [True, False], ids=["steps", "last"])


@every_seed
@both_returns
@pytest.mark.parametrize(
    ("cell", "merge_mode"),
    [*(("LSTM", mode) for mode in ("concat", "sum", "mul", "ave", None)), *((cell, "mul") for cell in [*CELLS][1:])],
)
def test_bidirectional(cell: str, merge_mode: str | None, return_sequences: bool, seed: int) -> None:
    _, X, units = draw_shapes(seed)

    def network(layers: Layers) -> Sequence[Any]:
        recurrent = recurrent_layer(layers, cell, units, return_sequences=return_sequences)
        return [layers.Bidirectional(recurrent, merge_mode=merge_mode)]

    twins = Twins.of(network, X.features, seed)
    ours, theirs = twins.ours.predict(X, verbose=0), predict(twins.theirs, padded(X))
    pairs = zip(ours, theirs, strict=True) if merge_mode is None else [(ours, theirs)]
    for mine, other in pairs:
        expected = true_steps(other, X.lengths) if return_sequences else other
        np.testing.assert_allclose(values_of(mine), expected, rtol=0, atol=OUTPUT_TOLERANCE)


@every_seed
@both_returns
@pytest.mark.parametrize(
    ("first", "second"), [("LSTM", "LSTM"), ("LSTM", "GRU"), ("GRU, reset before", "SimpleRNN"), ("SimpleRNN", "GRU")]
)
def test_a_backward_layer_of_its_own(first: str, second: str, return_sequences: bool, seed: int) -> None:
    _, X, units = draw_shapes(100 + seed)

    def network(layers: Layers) -> Sequence[Any]:
        options = {"return_sequences": return_sequences, "go_backwards": True}
        backward = recurrent_layer(layers, second, units + 2, **options)
        forward = recurrent_layer(layers, first, units, return_sequences=return_sequences)
        return [layers.Bidirectional(forward, backward_layer=backward)]

    twins = Twins.of(network, X.features, seed)
    theirs = predict(twins.theirs, padded(X))
    expected = true_steps(theirs, X.lengths) if return_sequences else theirs
    np.testing.assert_allclose(values_of(twins.ours.predict(X, verbose=0)), expected, rtol=0, atol=OUTPUT_TOLERANCE)


@every_seed
@both_returns
@pytest.mark.parametrize("go_backwards", [False, True], ids=["forward", "backward"])
@every_cell
def test_one_direction(cell: str, go_backwards: bool, return_sequences: bool, seed: int) -> None:
    """Backwards, the answers come in the order of reading, last step first; in Keras after the padding."""
    _, X, units = draw_shapes(200 + seed)

    def network(layers: Layers) -> Sequence[Any]:
        options = {"return_sequences": return_sequences, "go_backwards": go_backwards}
        return [recurrent_layer(layers, cell, units, **options)]

    twins = Twins.of(network, X.features, seed)
    theirs = predict(twins.theirs, padded(X))
    expected = true_steps(theirs, X.lengths, at_the_end=go_backwards) if return_sequences else theirs
    np.testing.assert_allclose(values_of(twins.ours.predict(X, verbose=0)), expected, rtol=0, atol=OUTPUT_TOLERANCE)


@every_seed
@every_cell
def test_layers_without_biases(cell: str, seed: int) -> None:
    generator, _, _ = draw_shapes(250 + seed)
    X = draw(generator, np.full(3, 6), 2)
    twins = Twins.of(unbiased(cell), 2, seed, masking=False)
    theirs = predict(twins.theirs, padded(X))
    np.testing.assert_allclose(
        values_of(twins.ours.predict(X, verbose=0)), theirs.reshape(-1, 2), rtol=0, atol=OUTPUT_TOLERANCE
    )


@every_seed
def test_reverse_turns_backward_answers_to_their_steps(seed: int) -> None:
    generator, _, units = draw_shapes(300 + seed)
    X = draw(generator, np.full(4, 7), 3)

    def network(layers: Layers) -> Sequence[Any]:
        turned = layers.Reverse() if layers is bilstm.layers else layers.Lambda(lambda steps: keras.ops.flip(steps, 1))
        recurrent = layers.LSTM(units, return_sequences=True, go_backwards=True)
        return [recurrent, turned, layers.TimeDistributed(layers.Dense(2, activation="tanh"))]

    twins = Twins.of(network, 3, seed, masking=False)
    theirs = predict(twins.theirs, padded(X))
    np.testing.assert_allclose(
        values_of(twins.ours.predict(X, verbose=0)), theirs.reshape(-1, 2), rtol=0, atol=OUTPUT_TOLERANCE
    )


@pytest.mark.parametrize("wrapped", [True, False], ids=["TimeDistributed", "bare"])
@pytest.mark.parametrize("activation", ["linear", "sigmoid", "softmax", "tanh", "relu"])
def test_dense_at_every_step(activation: str, wrapped: bool) -> None:
    _, X, units = draw_shapes(17)

    def network(layers: Layers) -> Sequence[Any]:
        dense = layers.Dense(3, activation=activation)
        recurrent = layers.Bidirectional(layers.LSTM(units, return_sequences=True))
        return [recurrent, layers.TimeDistributed(dense) if wrapped else dense]

    twins = Twins.of(network, X.features, seed=17, scale=0.8)
    expected = true_steps(predict(twins.theirs, padded(X)), X.lengths)
    np.testing.assert_allclose(values_of(twins.ours.predict(X, verbose=0)), expected, rtol=0, atol=OUTPUT_TOLERANCE)


def embedded_stack(layers: Layers, *, return_sequences: bool = True) -> Sequence[Any]:
    """Embedding, two bidirectional layers of different merge modes, dropout (idle outside training), softmax."""
    embedding = layers.Embedding(9, 4) if layers is bilstm.layers else layers.Embedding(9, 4, mask_zero=True)
    return [
        embedding,
        layers.Bidirectional(layers.LSTM(5, return_sequences=True), merge_mode="concat"),
        layers.Dropout(0.4),
        layers.Bidirectional(layers.LSTM(3, return_sequences=return_sequences), merge_mode="ave"),
        layers.Dense(4, activation="softmax"),
    ]


def mixed_stack(layers: Layers) -> Sequence[Any]:
    """A forward layer on a bidirectional one, and its last state through two dense layers."""
    return [
        layers.Bidirectional(layers.LSTM(4, return_sequences=True), merge_mode="mul"),
        layers.LSTM(5),
        layers.Dense(6, activation="relu"),
        layers.Dense(2, activation="tanh"),
    ]


@every_seed
@both_returns
def test_stacked_layers_on_an_embedding(return_sequences: bool, seed: int) -> None:
    generator = np.random.default_rng(400 + seed)
    lengths = draw_lengths(generator, 5, 8)
    tokens = Ragged(generator.integers(1, 9, lengths.sum()), offsets_of(lengths))
    twins = Twins.of(lambda layers: embedded_stack(layers, return_sequences=return_sequences), 1, seed, tokens=True)
    theirs = predict(twins.theirs, padded(tokens, 0)[:, :, 0])
    expected = true_steps(theirs, lengths) if return_sequences else theirs
    np.testing.assert_allclose(
        values_of(twins.ours.predict(tokens, verbose=0)), expected, rtol=0, atol=OUTPUT_TOLERANCE
    )


@every_seed
def test_stacked_layers_to_one_answer_a_sequence(seed: int) -> None:
    _, X, _ = draw_shapes(500 + seed)
    twins = Twins.of(mixed_stack, X.features, seed)
    ours, theirs = twins.ours.predict(X, verbose=0), predict(twins.theirs, padded(X))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=OUTPUT_TOLERANCE)


convolutions = pytest.mark.parametrize(
    ("size", "dilation", "padding", "activation"),
    [
        (1, 1, "same", "tanh"),
        (2, 1, "same", "relu"),
        (3, 1, "same", "sigmoid"),
        (4, 1, "same", None),
        (5, 2, "same", "relu"),
        (4, 3, "same", "softmax"),
        (3, 1, "causal", "relu"),
        (4, 3, "causal", "tanh"),
    ],
)


@convolutions
@every_seed
def test_convolution(size: int, dilation: int, padding: str, activation: str | None, seed: int) -> None:
    """Each sequence by itself in Keras; here, all in one batch."""
    _, X, filters = draw_shapes(900 + seed)

    def network(layers: Layers) -> Sequence[Any]:
        settings = {"padding": padding, "dilation_rate": dilation, "activation": activation}
        return [
            layers.Conv1D(filters, size, **settings),
            layers.Bidirectional(layers.LSTM(5, return_sequences=True)),
            layers.Conv1D(3, size, 1, padding, "channels_last", dilation, 1, activation),
        ]

    twins = Twins.of(network, X.features, seed, masking=False)
    theirs = np.concatenate([predict(twins.theirs, sequence[np.newaxis])[0] for sequence in X])
    ours = values_of(twins.ours.predict(X, verbose=0))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=OUTPUT_TOLERANCE)


@convolutions
def test_gradients_of_a_convolution(size: int, dilation: int, padding: str, activation: str | None) -> None:
    """A step of plain descent by a rate of 1 takes the gradient away."""

    def network(layers: Layers) -> Sequence[Any]:
        settings = {"padding": padding, "dilation_rate": dilation, "activation": activation}
        return [layers.Dense(3), layers.Conv1D(4, size, **settings), layers.Dense(2)]

    generator = np.random.default_rng(size)
    X, y = generator.normal(size=(3, 6, 2)), generator.normal(size=(3, 6, 2))
    twins = Twins.of(network, 2, 1, masking=False)
    twins.compile("mean_squared_error", "sgd", learning_rate=1.0)
    before = twins.ours.get_weights()
    for model in (twins.ours, twins.theirs):
        model.train_on_batch(X, y)
    for weights, ours, theirs in zip(before, twins.ours.get_weights(), twins.theirs.get_weights(), strict=True):
        assert np.abs(weights - theirs).max() > 1e-3
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_initial_weights_of_a_convolution_are_spread_as_keras_spreads_them() -> None:
    shape = {"filters": 50, "kernel_size": 7, "padding": "same"}
    for layers, models in ((bilstm.layers, bilstm.models), (keras.layers, keras)):
        kernel, bias = models.Sequential([layers.Input((None, 30)), layers.Conv1D(**shape)]).get_weights()
        assert not bias.any()
        assert np.abs(kernel).max() == pytest.approx(np.sqrt(6 / (7 * (30 + 50))), rel=1e-3)
        assert kernel.std() == pytest.approx(np.sqrt(2 / (7 * (30 + 50))), rel=0.03)


@every_seed
def test_average_pooling_of_own_steps_only(seed: int) -> None:
    _, X, units = draw_shapes(600 + seed)
    twins = Twins.of(pooled(units, "GlobalAveragePooling1D"), X.features, seed)
    ours, theirs = twins.ours.predict(X, verbose=0), predict(twins.theirs, padded(X))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=OUTPUT_TOLERANCE)


@every_seed
def test_max_pooling_of_own_steps_only(seed: int) -> None:
    """Keras's takes no notice of a mask, so it is given each sequence by itself."""
    _, X, units = draw_shapes(700 + seed)
    twins = Twins.of(pooled(units, "GlobalMaxPooling1D"), X.features, seed, masking=False)
    theirs = [predict(twins.theirs, sequence[np.newaxis])[0] for sequence in X]
    np.testing.assert_allclose(twins.ours.predict(X, verbose=0), theirs, rtol=0, atol=OUTPUT_TOLERANCE)


@pytest.mark.parametrize("kind", ["MaxPooling1D", "AveragePooling1D"])
@pytest.mark.parametrize(("size", "strides"), [(2, None), (3, 2), (2, 3), (1, 1)])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_pooling_of_windows(kind: str, size: int, strides: int | None, padding: str) -> None:
    """Keras's takes no notice of a mask, so it is given each sequence by itself.

    Its averages on PyTorch repeat a sequence's end where padding is not the same on both sides, unlike those on
    TensorFlow and JAX, which leave it out as ours do: no length here has such padding.
    """

    def network(layers: Layers) -> Sequence[Any]:
        recurrent = [layers.Bidirectional(layers.LSTM(3, return_sequences=True)) for _ in range(2)]
        windows = getattr(layers, kind)(size, strides, padding)
        return [recurrent[0], windows, recurrent[1], layers.GlobalAveragePooling1D(), layers.Dense(2, "softmax")]

    random = np.random.default_rng(size)
    twins = Twins.of(network, 2, 5, masking=False)
    X = [random.normal(size=(length, 2)).astype(np.float32) for length in (3, 11, 5, 7, 9)]
    theirs = [predict(twins.theirs, sequence[np.newaxis])[0] for sequence in X]
    np.testing.assert_allclose(twins.ours.predict(X, verbose=0), theirs, rtol=0, atol=OUTPUT_TOLERANCE)


@pytest.mark.parametrize("rate", [0.3, 0.7])
def test_spatial_dropout_keeps_or_drops_a_column_of_a_sequence_at_all_its_steps(rate: float) -> None:
    """Which ones is each library's own affair; ours are drawn as tests/oracles/numpy_layers.py says."""
    count, steps, features = 40, 7, 50
    ones = np.ones((count, steps, features), np.float32)
    described = [bilstm.layers.to_json(bilstm.layers.SpatialDropout1D(rate))]
    reference = NumpyNetwork(described, features, []).forward(
        Ragged(ones.reshape(-1, features), np.arange(count + 1) * steps), training=True, seed=3
    )
    theirs = np.asarray(keras.layers.SpatialDropout1D(rate, seed=1)(ones, training=True))
    for factors in (theirs, reference.reshape(ones.shape)):
        assert (factors == factors[:, :1]).all()
        np.testing.assert_allclose(np.unique(factors), [0, 1 / (1 - rate)], rtol=1e-6)
        assert (factors == 0).mean() == pytest.approx(rate, abs=0.05)
    model = bilstm.models.Sequential([bilstm.layers.SpatialDropout1D(rate, input_shape=(None, features))])
    np.testing.assert_array_equal(model.predict(ones), ones)


# --- Training -------------------------------------------------------------------------------------------------------

STEPS, FEATURES, BATCH, BATCHES = 4, 2, 4, 8


@dataclass(frozen=True)
class Case:
    """200 training steps of one network on random data.

    Attributes:
        network: the layers.
        loss: the loss's name; it decides what the targets look like.
        outputs: the width of the last layer.
        per_step: True where every step has a target, False where every sequence has one.
        ragged: sequences of different lengths.
        tokens: the inputs are indices for an Embedding.
        weights: "none", one a "sequence" or one a "step".
        settings: the optimizer's.
    """

    network: Network
    loss: str
    outputs: int = 1
    per_step: bool = True
    ragged: bool = True
    tokens: bool = False
    weights: str = "none"
    optimizer: str = "adam"
    settings: dict[str, Any] = field(default_factory=dict)


def tagger(units: int, outputs: int, activation: str, merge_mode: str = "concat", cell: str = "LSTM") -> Network:
    def network(layers: Layers) -> Sequence[Any]:
        recurrent = recurrent_layer(layers, cell, units, return_sequences=True)
        return [
            layers.Bidirectional(recurrent, merge_mode=merge_mode),
            layers.TimeDistributed(layers.Dense(outputs, activation=activation)),
        ]

    return network


def classifier(units: int, outputs: int, activation: str, merge_mode: str = "concat", cell: str = "LSTM") -> Network:
    def network(layers: Layers) -> Sequence[Any]:
        recurrent = layers.Bidirectional(recurrent_layer(layers, cell, units), merge_mode=merge_mode)
        return [recurrent, layers.Dense(outputs, activation=activation)]

    return network


def convolved(padding: str) -> Network:
    def network(layers: Layers) -> Sequence[Any]:
        return [
            layers.Conv1D(5, 3, padding=padding, activation="relu"),
            layers.Conv1D(4, 2, padding=padding, dilation_rate=2, activation="tanh"),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
            layers.TimeDistributed(layers.Dense(2, activation="sigmoid")),
        ]

    return network


def unbiased(cell: str, padding: str = "same", activation: str = "sigmoid") -> Network:
    def network(layers: Layers) -> Sequence[Any]:
        recurrent = recurrent_layer(layers, cell, 5, return_sequences=True, use_bias=False)
        return [
            layers.Conv1D(4, 2, padding=padding, activation="tanh", use_bias=False),
            layers.Bidirectional(recurrent),
            layers.TimeDistributed(layers.Dense(3, use_bias=False)),
            layers.Dense(2, activation, use_bias=False),
        ]

    return network


def pooled(units: int, pooling: str, outputs: int = 3) -> Network:
    def network(layers: Layers) -> Sequence[Any]:
        recurrent = layers.Bidirectional(layers.LSTM(units, return_sequences=True))
        return [recurrent, getattr(layers, pooling)(), layers.Dense(outputs, activation="softmax")]

    return network


def normalized(layers: Layers) -> Sequence[Any]:
    return [
        layers.BatchNormalization(),
        layers.Bidirectional(layers.LSTM(5, return_sequences=True)),
        layers.BatchNormalization(momentum=0.9, center=False),
        layers.TimeDistributed(layers.Dense(4, activation="tanh")),
        layers.BatchNormalization(-1, 0.5, 0.01, scale=False),
        layers.Dense(2, activation="sigmoid"),
    ]


def normalized_rows(layers: Layers) -> Sequence[Any]:
    """After a convolution, and of a row for each sequence."""
    return [
        layers.Conv1D(5, 3, padding="same", activation="relu"),
        layers.BatchNormalization(),
        layers.Bidirectional(layers.GRU(4)),
        layers.BatchNormalization(axis=-1, epsilon=1e-2),
        layers.Dense(3, activation="softmax"),
    ]


def undropped_stack(layers: Layers) -> Sequence[Any]:
    """`embedded_stack` without its dropout, whose random numbers are each library's own."""
    return [layer for layer in embedded_stack(layers) if not isinstance(layer, layers.Dropout)]


CASES = {
    "the tutorial": Case(tagger(20, 1, "sigmoid"), "binary_crossentropy", ragged=False),
    "binary, ragged, two outputs, step weights": Case(
        tagger(5, 2, "sigmoid", "sum"), "binary_crossentropy", 2, weights="step", settings={"learning_rate": 0.01}
    ),
    "sparse categorical on an embedding, two layers, clipped, decaying": Case(
        undropped_stack,
        "sparse_categorical_crossentropy",
        4,
        tokens=True,
        settings={"global_clipnorm": 0.1, "weight_decay": 0.1},
    ),
    "categorical, mul, per sequence, sequence weights": Case(
        classifier(6, 3, "softmax", "mul"), "categorical_crossentropy", 3, per_step=False, weights="sequence"
    ),
    "squared error, stack, settings of Adam": Case(
        mixed_stack,
        "mean_squared_error",
        2,
        per_step=False,
        settings={"learning_rate": 0.003, "beta_1": 0.8, "beta_2": 0.98, "epsilon": 1e-5},
    ),
    "squared error, ave, SGD, clipped, decaying": Case(
        tagger(4, 2, "linear", "ave"),
        "mean_squared_error",
        2,
        ragged=False,
        optimizer="sgd",
        settings={"learning_rate": 0.2, "global_clipnorm": 0.5, "weight_decay": 0.05},
    ),
    "AdamW": Case(
        tagger(5, 2, "sigmoid"),
        "binary_crossentropy",
        2,
        ragged=False,
        optimizer="adamw",
        settings={"learning_rate": 0.02},
    ),
    "GRU": Case(tagger(5, 2, "sigmoid", cell="GRU"), "binary_crossentropy", 2, settings={"learning_rate": 0.01}),
    "GRU, clipped by array": Case(
        classifier(6, 3, "softmax", "mul", "GRU"),
        "sparse_categorical_crossentropy",
        3,
        per_step=False,
        weights="sequence",
        settings={"clipnorm": 0.05},
    ),
    "GRU, reset before": Case(
        tagger(5, 3, "softmax", "sum", "GRU, reset before"), "categorical_crossentropy", 3, weights="step"
    ),
    "SimpleRNN": Case(tagger(6, 1, "sigmoid", "ave", "SimpleRNN"), "binary_crossentropy", ragged=False),
    "SimpleRNN, relu": Case(
        classifier(5, 2, "tanh", "concat", "SimpleRNN, relu"), "mean_squared_error", 2, per_step=False
    ),
    "LSTM, hard gates": Case(
        tagger(5, 2, "sigmoid", cell="LSTM, hard gates"), "binary_crossentropy", 2, settings={"learning_rate": 0.01}
    ),
    "LSTM, Keras 2's hard gates": Case(
        classifier(6, 3, "softmax", "sum", "LSTM, Keras 2's hard gates"),
        "categorical_crossentropy",
        3,
        per_step=False,
        weights="sequence",
    ),
    "GRU, hard gates": Case(tagger(5, 2, "sigmoid", cell="GRU, hard gates"), "binary_crossentropy", 2, weights="step"),
    "GRU, reset before, Keras 2's hard gates": Case(
        tagger(5, 3, "softmax", "ave", "GRU, reset before, Keras 2's hard gates"), "categorical_crossentropy", 3
    ),
    "without biases, clipped, decaying": Case(
        unbiased("LSTM"),
        "binary_crossentropy",
        2,
        ragged=False,
        settings={"learning_rate": 0.01, "clipnorm": 0.02, "weight_decay": 0.1},
    ),
    "GRU without biases, SGD": Case(
        unbiased("GRU", "causal", "linear"),
        "mean_squared_error",
        2,
        ragged=False,
        optimizer="sgd",
        settings={"learning_rate": 0.1, "global_clipnorm": 0.5},
    ),
    "averages": Case(
        pooled(5, "GlobalAveragePooling1D"), "categorical_crossentropy", 3, per_step=False, weights="sequence"
    ),
    "convolutions": Case(convolved("same"), "binary_crossentropy", 2, ragged=False),
    "causal convolutions, step weights": Case(
        convolved("causal"), "binary_crossentropy", 2, ragged=False, weights="step", settings={"learning_rate": 0.01}
    ),
    "batch normalization": Case(normalized, "binary_crossentropy", 2, weights="step", settings={"learning_rate": 0.01}),
    "batch normalization, clipped, decaying": Case(
        normalized, "binary_crossentropy", 2, settings={"global_clipnorm": 0.1, "weight_decay": 0.1}
    ),
    "batch normalization, per sequence": Case(
        normalized_rows,
        "sparse_categorical_crossentropy",
        3,
        per_step=False,
        ragged=False,
        settings={"learning_rate": 0.003, "clipnorm": 0.05},
    ),
    "largest numbers": Case(
        pooled(5, "GlobalMaxPooling1D"), "sparse_categorical_crossentropy", 3, per_step=False, ragged=False
    ),
    "plain SGD, per sequence": Case(
        classifier(4, 1, "sigmoid"),
        "binary_crossentropy",
        per_step=False,
        ragged=False,
        weights="sequence",
        optimizer="sgd",
        settings={"learning_rate": 0.1},
    ),
}


@dataclass(frozen=True)
class Batch:
    """The same sequences, targets and weights in the forms that bilstm and Keras take."""

    X: Ragged
    y: Any
    weights: Any
    keras_X: Array
    keras_y: Array
    keras_weights: Array | None


def draw_batch(generator: np.random.Generator, case: Case) -> Batch:
    lengths = draw_lengths(generator, BATCH, STEPS) if case.ragged else np.full(BATCH, STEPS)
    offsets = offsets_of(lengths)
    if case.tokens:
        X = Ragged(generator.integers(1, 9, lengths.sum()), offsets)
        keras_X = padded(X, 0)[:, :, 0]
    else:
        X = draw(generator, lengths, FEATURES)
        keras_X = padded(X)
    targets = draw_targets(generator, case, int(lengths.sum()) if case.per_step else BATCH)
    weights: Any = None
    if case.weights != "none":
        weights = generator.uniform(0.2, 2, len(targets) if case.weights == "step" else BATCH).astype(np.float32)
    if not case.per_step:
        return Batch(X, targets, weights, keras_X, targets, weights)
    y = Ragged(targets, offsets)
    if weights is None:
        return Batch(X, y, None, keras_X, padded(y, 0), None)
    ragged_weights = Ragged(weights, offsets)
    return Batch(X, y, ragged_weights, keras_X, padded(y, 0), padded(ragged_weights, 0)[:, :, 0])


def draw_targets(generator: np.random.Generator, case: Case, rows: int) -> Array:
    loss = LOSSES[case.loss]
    if loss.targets is TargetKind.LABELS:
        return generator.integers(0, case.outputs, (rows, 1))
    if loss.targets is TargetKind.NUMBERS:
        return generator.normal(0, 1, (rows, case.outputs)).astype(np.float32)
    if loss.activation == "softmax":
        return np.eye(case.outputs, dtype=np.float32)[generator.integers(0, case.outputs, rows)]
    return generator.integers(0, 2, (rows, case.outputs))


def test_names_of_losses_are_keras_names() -> None:
    for name, loss in LOSSES.items():
        if loss is CRF_LIKELIHOOD:  # which Keras has not
            continue
        assert keras.losses.get(name) is keras.losses.get(loss.name)


@pytest.mark.parametrize("per_step", [True, False])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("loss", TABLE, ids=lambda loss: loss.name)
def test_losses_and_their_gradients(loss: Loss, outputs: int, per_step: bool) -> None:
    """Weighted, on one network: values, gradients (a step of plain SGD takes them away), ten steps of Adam."""
    made, weights = (tagger, "step") if per_step else (classifier, "sequence")
    settings: list[tuple[str, float, int]] = [("sgd", 1.0, 1), ("adam", 0.01, 10)]
    for optimizer, learning_rate, steps in settings:
        case = Case(made(4, outputs, loss.activation), loss.name, outputs, per_step, weights=weights)
        batch = draw_batch(np.random.default_rng(outputs), case)
        twins = Twins.of(case.network, FEATURES, 3, scale=0.7)
        twins.compile(loss.name, optimizer, learning_rate=learning_rate)
        for _ in range(steps):
            ours = twins.ours.train_on_batch(batch.X, batch.y, sample_weight=batch.weights)
            theirs = twins.theirs.train_on_batch(batch.keras_X, batch.keras_y, sample_weight=batch.keras_weights)
            assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-7)
        for mine, other in zip(twins.ours.get_weights(), twins.theirs.get_weights(), strict=True):
            np.testing.assert_allclose(mine, other, rtol=0, atol=2e-6 if optimizer == "sgd" else 1e-5)


MORE = (  # in `make test-slow`
    *("LSTM, Keras 2's hard gates", "GRU, hard gates", "GRU without biases, SGD", "GRU, clipped by array"),
    *("GRU, reset before, Keras 2's hard gates", "batch normalization, clipped, decaying", "averages"),
    *("squared error, stack, settings of Adam", "categorical, mul, per sequence, sequence weights"),
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in MORE else name for name in CASES]
)
def test_two_hundred_training_steps(name: str) -> None:
    case = CASES[name]
    generator = np.random.default_rng(7)
    batches = [draw_batch(generator, case) for _ in range(BATCHES)]
    twins = Twins.of(
        case.network, 1 if case.tokens else FEATURES, 7, tokens=case.tokens, masking=case.ragged, scale=0.3
    )
    twins.compile(case.loss, case.optimizer, **case.settings)
    losses = np.empty((200, 2))
    for step in range(200):
        batch = batches[step % BATCHES]
        losses[step, 0] = twins.ours.train_on_batch(batch.X, batch.y, sample_weight=batch.weights)
        losses[step, 1] = twins.theirs.train_on_batch(batch.keras_X, batch.keras_y, sample_weight=batch.keras_weights)

    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=1e-4)
    assert losses[-BATCHES:].mean() < 0.99 * losses[:BATCHES].mean()  # it did learn, if only by heart
    for mine, other in zip(twins.ours.get_weights(), twins.theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-3)


# --- fit and evaluate -----------------------------------------------------------------------------------------------


def test_fit_has_the_same_history() -> None:
    """10 sequences in batches of 4, the last of 2; two epochs; validated on others; accuracy too."""
    generator = np.random.default_rng(9)
    X, X_valid = (generator.random((count, 5, 2), np.float32) for count in (10, 6))
    y, y_valid = (sequences[:, :, :1] > 0.5 for sequences in (X, X_valid))
    twins = Twins.of(tagger(4, 1, "sigmoid"), 2, seed=9)
    twins.compile("binary_crossentropy", metrics=["acc"], learning_rate=0.02)
    histories = [
        model.fit(
            X,
            y.astype(np.int64),
            epochs=3,
            batch_size=4,
            shuffle=False,
            verbose=0,
            validation_data=(X_valid, y_valid.astype(np.int64)),
        ).history
        for model in (twins.ours, twins.theirs)
    ]
    assert_same_history(*histories, names={"loss", "acc", "val_loss", "val_acc"})


def test_fit_holds_out_the_same_sequences_and_weighs_the_classes_alike() -> None:
    generator = np.random.default_rng(10)
    X = generator.normal(0, 1, (12, 4, 3)).astype(np.float32)
    y = generator.integers(0, 3, 12)
    twins = Twins.of(classifier(4, 3, "softmax"), 3, seed=10)
    twins.compile("sparse_categorical_crossentropy", metrics=["accuracy"], learning_rate=0.02)
    histories = [
        model.fit(
            X,
            y,
            epochs=2,
            batch_size=3,
            shuffle=False,
            verbose=0,
            validation_split=0.25,
            class_weight={0: 0.5, 1: 2.0, 2: 1.0},
        ).history
        for model in (twins.ours, twins.theirs)
    ]
    assert_same_history(*histories, names={"loss", "accuracy", "val_loss", "val_accuracy"})


def assert_same_history(ours: dict[str, list[float]], theirs: dict[str, list[float]], names: set[str]) -> None:
    assert set(ours) == set(theirs) == names
    for name in names:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("metric", ["accuracy", "acc"])
@pytest.mark.parametrize("name", ["the tutorial", "sparse categorical on an embedding, two layers, clipped, decaying"])
def test_evaluate(name: str, metric: str) -> None:
    case = CASES[name]
    batch = draw_batch(np.random.default_rng(11), case)
    twins = Twins.of(case.network, 1 if case.tokens else FEATURES, seed=11, tokens=case.tokens)
    twins.compile(case.loss, metrics=[metric])
    ours = twins.ours.evaluate(batch.X, batch.y, verbose=0)
    theirs = twins.theirs.evaluate(batch.keras_X, batch.keras_y, verbose=0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_weights_of_a_new_network_are_drawn_alike() -> None:
    """Other random numbers, but the same law: bounds, spread, orthogonality, the forget gate's ones."""
    ours, theirs = (
        build([layers.Input((None, 30)), *tagger(20, 7, "softmax")(layers)]).get_weights()
        for build, layers in ((bilstm.models.Sequential, bilstm.layers), (keras.Sequential, keras.layers))
    )
    assert [weights.shape for weights in ours] == [weights.shape for weights in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        if mine.ndim == 1:
            assert (mine == other).all()
        elif mine.shape == (20, 80):
            np.testing.assert_allclose(mine @ mine.T, np.eye(20), atol=1e-5)
            np.testing.assert_allclose(other @ other.T, np.eye(20), atol=1e-5)
        else:
            limit = (6 / sum(mine.shape)) ** 0.5
            assert limit * 0.9 < abs(mine).max() <= limit
            assert mine.std() == pytest.approx(other.std(), rel=0.15)
