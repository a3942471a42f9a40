"""Files that a live Keras writes, opened by bilstm.bridges.keras: the predictions are Keras's.

With Keras 3, and with Keras 2's code where tf_keras is installed beside (it needs TensorFlow): `pip install tf-keras`.
Keras reads each sequence alone, so that there is no padding, and where bilstm says that padding changes nothing, all of
them in one padded batch, too.
"""

from __future__ import annotations

import importlib.util
import subprocess
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bilstm.bridges.keras import checking, load, read, running
from bilstm.ragged import Ragged, offsets_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Keras's and PyTorch's own imports warn of is not ours to judge
    keras = pytest.importorskip("keras")
    LIBRARIES: dict[str, ModuleType] = {"keras3": keras}
    if importlib.util.find_spec("tf_keras"):
        LIBRARIES["tf_keras"] = importlib.import_module("tf_keras")

pytestmark = pytest.mark.filterwarnings("ignore:::keras", "ignore:::torch", "ignore:::tf_keras", "ignore:::tensorflow")

Layers = Any  # the module keras.layers or tf_keras.layers
TOLERANCE = 1e-5
MASK = -7.0  # never drawn as an input
FEATURES, VOCABULARY = 3, 9


@dataclass(frozen=True)
class Case:
    """A network, as a function of the module with the layers.

    Attributes:
        tokens: whether its input is whole numbers.
        backward: whether its rows are in the order of a backward layer's reading.
    """

    network: Callable[[Layers], Sequence[Any]]
    tokens: bool = False
    backward: bool = False


def masked(network: Callable[[Layers], Sequence[Any]], **settings: Any) -> Case:
    return Case(lambda layers: [layers.Masking(MASK), *network(layers)], **settings)


CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "LSTM": ("LSTM", {}),
    "LSTM hard": ("LSTM", {"recurrent_activation": "hard_sigmoid"}),
    "LSTM unbiased": ("LSTM", {"use_bias": False}),
    "LSTM dropout": ("LSTM", {"dropout": 0.3, "recurrent_dropout": 0.2}),
    "GRU": ("GRU", {}),
    "GRU before": ("GRU", {"reset_after": False}),
    "GRU hard": ("GRU", {"recurrent_activation": "hard_sigmoid", "reset_after": False}),
    "GRU unbiased": ("GRU", {"use_bias": False}),
    "SimpleRNN": ("SimpleRNN", {}),
    "SimpleRNN relu": ("SimpleRNN", {"activation": "relu", "use_bias": False, "dropout": 0.1}),
}


def cell(layers: Layers, name: str, units: int = 4, **options: Any) -> Any:
    kind, own = CELLS[name]
    return getattr(layers, kind)(units, **own, **options)


def one_direction(name: str, steps: bool, backward: bool) -> Case:
    def network(layers: Layers) -> Sequence[Any]:
        return [cell(layers, name, return_sequences=steps, go_backwards=backward)]

    return masked(network, backward=backward and steps)


def both_directions(name: str, mode: str | None, steps: bool) -> Case:
    def network(layers: Layers) -> Sequence[Any]:
        return [layers.Bidirectional(cell(layers, name, return_sequences=steps), merge_mode=mode)]

    return masked(network)


def own_backward(first: str, second: str, mode: str, *, turned: bool) -> Case:
    def network(layers: Layers) -> Sequence[Any]:
        forward = cell(layers, first, return_sequences=True, go_backwards=turned)
        backward = cell(layers, second, return_sequences=True, go_backwards=not turned)
        return [layers.Bidirectional(forward, backward_layer=backward, merge_mode=mode)]

    return masked(network, backward=turned)


def head(*make: Callable[[Layers], Any]) -> Case:
    """Layers after a recurrent layer."""

    def network(layers: Layers) -> Sequence[Any]:
        return [layers.Bidirectional(layers.LSTM(3, return_sequences=True)), *(each(layers) for each in make)]

    return masked(network)


def plain(*make: Callable[[Layers], Any]) -> Case:
    return Case(lambda layers: [each(layers) for each in make])


CASES: dict[str, Case] = {
    **{
        f"{name}, {'steps' if steps else 'last'}{', backward' * backward}": one_direction(name, steps, backward)
        for name in CELLS
        for steps, backward in ((True, False), (False, True), (True, True))
    },
    **{
        f"Bidirectional {name}, {mode}": both_directions(name, mode, steps)
        for name, steps in (("LSTM", True), ("GRU before", False))
        for mode in ("concat", "sum", "mul", "ave", None)
    },
    **{f"Bidirectional {name}": both_directions(name, "concat", True) for name in CELLS},
    "backward layer": own_backward("LSTM", "GRU", "concat", turned=False),
    "backward layer, turned": own_backward("LSTM", "LSTM unbiased", "mul", turned=True),
    **{
        f"Dense {activation}": head(lambda layers, a=activation: layers.Dense(3, activation=a))  # type: ignore[misc]
        for activation in ("linear", "sigmoid", "softmax", "tanh", "relu")
    },
    "Dense unbiased": head(lambda layers: layers.Dense(3, use_bias=False)),
    "TimeDistributed": head(
        lambda layers: layers.TimeDistributed(layers.Dropout(0.2)),
        lambda layers: layers.TimeDistributed(layers.Dense(2, activation="relu", use_bias=False)),
        lambda layers: layers.TimeDistributed(layers.Dense(3)),
        lambda layers: layers.Activation("softmax"),
    ),
    "no mask, activations": plain(
        lambda layers: layers.Dense(4),
        lambda layers: layers.ReLU(),
        lambda layers: layers.Dense(4),
        lambda layers: layers.Activation("linear"),
        lambda layers: layers.Dense(3),
        lambda layers: layers.Softmax(),
    ),
    "dropouts": head(
        lambda layers: layers.Dropout(0.5, noise_shape=(None, 1, None)),
        lambda layers: layers.SpatialDropout1D(0.2),
        lambda layers: layers.GaussianNoise(0.1),
        lambda layers: layers.GaussianDropout(0.1),
        lambda layers: layers.Dense(2),
    ),
    "stack": head(
        lambda layers: layers.Bidirectional(layers.LSTM(2, return_sequences=True), merge_mode="sum"),
        lambda layers: layers.Bidirectional(layers.GRU(2, return_sequences=True)),
        lambda layers: layers.Bidirectional(layers.LSTM(3)),
        lambda layers: layers.Dense(2),
        lambda layers: layers.Dense(2, activation="sigmoid"),
    ),
    "GlobalAveragePooling1D": head(lambda layers: layers.GlobalAveragePooling1D()),
    "GlobalMaxPooling1D": head(lambda layers: layers.GlobalMaxPooling1D()),
    "MaxPooling1D": head(lambda layers: layers.MaxPooling1D(2), lambda layers: layers.GlobalMaxPooling1D()),
    "MaxPooling1D same": head(
        lambda layers: layers.MaxPooling1D(3, strides=1, padding="same"), lambda layers: layers.LSTM(2)
    ),
    "AveragePooling1D": head(
        lambda layers: layers.AveragePooling1D(3, strides=2), lambda layers: layers.GlobalAveragePooling1D()
    ),
    "Conv1D": plain(
        lambda layers: layers.Conv1D(4, 3, padding="same", activation="relu"),
        lambda layers: layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
    ),
    "Conv1D causal": plain(
        lambda layers: layers.Conv1D(4, 2, padding="causal", dilation_rate=2, use_bias=False),
        lambda layers: layers.LSTM(3, return_sequences=True),
    ),
    "Conv1D masked": masked(
        lambda layers: [layers.Conv1D(4, 3, padding="same"), layers.Activation("tanh"), layers.LSTM(3)]
    ),
    "BatchNormalization": Case(
        lambda layers: [
            layers.Masking(MASK),
            layers.BatchNormalization(),
            layers.LSTM(3, return_sequences=True),
            layers.BatchNormalization(axis=2, momentum=0.5, epsilon=0.1, center=False),
            layers.LSTM(4),
            layers.BatchNormalization(axis=1, scale=False),
            layers.BatchNormalization(center=False, scale=False),
            layers.Dense(2),
        ]
    ),
    "no mask, both": plain(lambda layers: layers.Bidirectional(layers.LSTM(3, return_sequences=True))),
    "no mask, forward": plain(lambda layers: layers.LSTM(3, return_sequences=True), lambda layers: layers.Dense(1)),
    "no mask, mean": plain(lambda layers: layers.Dense(3), lambda layers: layers.GlobalAveragePooling1D()),
    "Embedding": Case(
        lambda layers: [
            layers.Embedding(VOCABULARY, 4, mask_zero=True),
            layers.SpatialDropout1D(0.1),
            layers.Bidirectional(layers.GRU(3, return_sequences=True, dropout=0.2)),
            layers.Dense(3, activation="softmax"),
        ],
        tokens=True,
    ),
    "Embedding, no mask": Case(
        lambda layers: [layers.Embedding(VOCABULARY, 4), layers.Bidirectional(layers.LSTM(3))], tokens=True
    ),
}


def build(library: Any, case: Case, style: str, seed: int) -> Any:
    """Keras's model with random weights."""
    network = case.network(library.layers)
    shape, dtype = ((None,), "int32") if case.tokens else ((None, FEATURES), "float32")
    if style == "sequential":
        model = library.Sequential([library.Input(shape, dtype=dtype), *network])
    else:
        first = output = library.Input(shape, dtype=dtype)
        for layer in network:
            output = layer(output)
        model = library.Model(first, output)
    generator = np.random.default_rng(seed)
    weights = [generator.normal(0, 0.5, array.shape) for array in model.get_weights()]
    names = [variable.name for variable in model.weights]
    model.set_weights([abs(w) if "variance" in name else w for w, name in zip(weights, names, strict=True)])
    return model


def draw(case: Case, seed: int) -> Ragged:
    generator = np.random.default_rng(seed)
    lengths = np.array([3, 8, 5, 4])
    size = lengths.sum()
    values = generator.integers(1, VOCABULARY, (size, 1)) if case.tokens else generator.normal(size=(size, FEATURES))
    return Ragged(values, offsets_of(lengths))


def outputs_of(predicted: Any) -> list[Any]:
    return list(predicted) if isinstance(predicted, (list, tuple)) else [predicted]


def predict(model: Any, x: Any, case: Case) -> list[Any]:
    """Keras's outputs of a padded array, of which there are two if both directions are kept apart."""
    return [np.asarray(each) for each in outputs_of(model.predict_on_batch(x[:, :, 0] if case.tokens else x))]


def padded(x: Ragged, case: Case, *, front: bool = False) -> Any:
    array = x.to_padded(0.0 if case.tokens else MASK)
    if front:
        for row, sequence in zip(array, x, strict=True):
            row[:] = 0.0 if case.tokens else MASK
            row[len(row) - len(sequence) :] = sequence
    return array


def write(model: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of .h5, that it is of old
        model.save(path)
    return path


def rows(predicted: Any) -> list[Any]:
    """Each output's rows, those of sequences one after the other."""
    return [each.values if isinstance(each, Ragged) else np.asarray(each) for each in outputs_of(predicted)]


def check_alone(model: Any, ours: Any, x: Ragged, case: Case) -> None:
    """Keras reads each sequence alone."""
    alone = [predict(model, sequence[np.newaxis], case) for sequence in x]
    for number, mine in enumerate(rows(ours.predict(x, verbose=0))):
        per_step = ours.network is not None and not ours.network.one_row_each
        theirs = np.concatenate([each[number][0] if per_step else each[number] for each in alone])
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=TOLERANCE)


def padding_changes(model: Any, ours: Any, x: Ragged, case: Case, *, front: bool) -> bool:
    """Whether Keras's predictions for the true steps of a padded batch are other ones."""
    theirs = predict(model, padded(x, case, front=front), case)
    longest, lengths = int(x.lengths.max()), x.lengths[:, np.newaxis]
    steps = np.arange(longest)
    at_the_end = front != case.backward  # where the true steps lie in the output
    exists = steps >= longest - lengths if at_the_end else steps < lengths
    mine = rows(ours.predict(x, verbose=0))
    pairs = [(a, b if b.ndim == 2 else b[exists]) for a, b in zip(mine, theirs, strict=True)]
    return any(float(np.abs(a - b).max()) > TOLERANCE for a, b in pairs)


every_library = pytest.mark.parametrize("library", LIBRARIES)
CHANGED_BY_PADDING = {  # in Keras
    "GlobalMaxPooling1D",
    "MaxPooling1D",
    "MaxPooling1D same",
    "AveragePooling1D",
    "Conv1D",
    "Conv1D masked",
    "no mask, both",
    "no mask, mean",
    "Embedding, no mask",
}


@every_library
@pytest.mark.parametrize("name", CASES)
def test_predictions_are_those_of_the_source(name: str, library: str, tmp_path: Path) -> None:
    """Through both layouts, of a Sequential model and of a functional one."""
    case, seed = CASES[name], sum(map(ord, name))
    x = draw(case, seed)
    two = ", None" in name  # outputs, which a Sequential cannot have
    for style, ending in (("functional" if two else "sequential", ".h5"), ("functional", ".keras")):
        model = build(LIBRARIES[library], case, style, seed)
        file = read(write(model, tmp_path / f"model{ending}"))
        assert file.version.startswith("2." if library == "tf_keras" else "3.")
        assert (file.layout, file.model.count_params()) == (ending[1:], model.count_params())
        check_alone(model, file.model, x, case)
        assert file.agrees == (name not in CHANGED_BY_PADDING), file.padding
        assert padding_changes(model, file.model, x, case, front=False) == (not file.agrees), file.padding
        if file.agrees and "no mask" not in name and "no mask" not in file.padding and "Conv1D" not in name:
            assert not padding_changes(model, file.model, x, case, front=True), file.padding


@every_library
def test_without_a_mask_a_padded_array_gives_what_keras_makes_of_its_padding(library: str, tmp_path: Path) -> None:
    for name in sorted(CHANGED_BY_PADDING):
        case = CASES[name]
        model = build(LIBRARIES[library], case, "sequential", 1)
        file = read(write(model, tmp_path / "model.h5"))
        assert ("give the padded array" in file.padding) == (name == "Conv1D" or "no mask" in name)
        if "give the padded array" in file.padding:
            array = padded(draw(case, 1), case)
            np.testing.assert_allclose(
                file.model.predict(array, verbose=0), predict(model, array, case)[0], rtol=0, atol=TOLERANCE
            )


@pytest.mark.parametrize("side", ["post", "pre"])
@every_library
def test_padded_like_the_source(library: str, side: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check's sequences, padded to one length, as Keras reads them; it runs in this process here."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        running.main(*command[3:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(checking.subprocess, "run", run)
    for name in ("no mask, both", "no mask, mean", "Embedding, no mask", "Conv1D"):
        case = CASES[name]
        file = read(write(build(LIBRARIES[library], case, "sequential", 1), tmp_path / "model.h5"))
        for converted in (file, file.padded(12, side, 0.0 if case.tokens else 0.5)):
            found = converted.check()
            assert found.difference is not None, found.sentence
            assert found.difference < TOLERANCE
            assert ("each alone" in found.sentence) == (converted is file)


@every_library
def test_models_whose_input_has_a_fixed_shape_and_frozen_layers(library: str, tmp_path: Path) -> None:
    """Of trainable and frozen weights the trainable ones come first in .h5 files."""
    layers = LIBRARIES[library].layers
    forward = layers.LSTM(2, return_sequences=True, trainable=False)
    backward = layers.LSTM(2, return_sequences=True, go_backwards=True)
    bidirectional = layers.Bidirectional(forward, backward_layer=backward)
    model = LIBRARIES[library].Sequential(
        [LIBRARIES[library].Input((5, FEATURES)), layers.Masking(MASK), bidirectional, layers.Dense(1, trainable=False)]
    )
    x = Ragged(np.random.default_rng(1).normal(size=(15, FEATURES)), offsets_of(np.full(3, 5)))
    for ending in (".h5", ".keras"):
        check_alone(model, load(write(model, tmp_path / f"m{ending}")), x, CASES["LSTM, steps"])


@every_library
def test_weights_beside_a_description(library: str, tmp_path: Path) -> None:
    case = CASES["stack"]
    model = build(LIBRARIES[library], case, "sequential", 1)
    (tmp_path / "model.json").write_text(model.to_json())
    model.save_weights(tmp_path / "model.weights.h5")
    file = read(tmp_path / "model.weights.h5", tmp_path / "model.json")
    assert file.layout == "weights"
    assert np.array_equal(
        running.load(
            LIBRARIES[library], str(tmp_path / "model.weights.h5"), str(tmp_path / "model.json")
        ).get_weights()[0],
        model.get_weights()[0],
    )
    check_alone(model, file.model, draw(case, 1), case)
    if library == "tf_keras":
        model.save_weights(tmp_path / "old.h5", save_format="h5")
        check_alone(model, load(tmp_path / "old.h5", tmp_path / "model.json"), draw(case, 1), case)
