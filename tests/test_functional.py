"""Keras's functional style: layers called one after the other make the model that Sequential makes of them."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import bilstm
from bilstm import layers
from bilstm.layers import Input, from_json
from bilstm.models import Model, Sequential, load_model
from oracles.models import Case, bits, cases, weight_bits


@given(cases(crf=True))
@settings(max_examples=30)
def test_a_chain_of_calls_is_the_sequential_model(case: Case) -> None:
    made = [from_json(layer) for layer in case.layers]
    inputs: Any = Input((None, case.data.features))
    outputs = inputs
    for layer in made:
        outputs = layer(outputs)
    model = Model(inputs, outputs, seed=case.seed)
    model.compile("adam", case.loss, ["acc", "mse", "mae"])
    expected = case.model()
    assert isinstance(model, Sequential)
    model.set_weights(expected.get_weights())
    histories = [each.fit(case.data, case.y, shuffle=False, verbose=0).history for each in (model, expected)]
    np.testing.assert_equal(*histories)
    assert weight_bits(model) == weight_bits(expected)
    assert bits(model.predict_rows(case.data)) == bits(expected.predict_rows(case.data))


def test_the_program_of_kerass_page_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """'Bidirectional LSTM on IMDB', its imports changed, on generated data."""
    keras = bilstm
    random, max_features = np.random.default_rng(1), 50
    x_train = [random.integers(max_features, size=random.integers(1, 12)) for _ in range(64)]
    y_train = np.array([sequence.mean() > max_features / 2 for sequence in x_train])
    x_train = keras.utils.pad_sequences(x_train, maxlen=10)
    x_val, y_val = x_train[:16], y_train[:16]

    inputs = keras.Input(shape=(None,), dtype="int32")
    x = layers.Embedding(max_features, 128)(inputs)
    x = layers.Bidirectional(layers.LSTM(64, return_sequences=True))(x)
    x = layers.Bidirectional(layers.LSTM(64))(x)
    outputs = layers.Dense(1, activation="sigmoid")(x)
    model = keras.Model(inputs, outputs)
    model.summary()
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    history = model.fit(x_train, y_train, batch_size=32, epochs=2, validation_data=(x_val, y_val))

    assert list(history.history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    printed = capsys.readouterr().out
    assert printed.startswith('Model: "functional"\n')
    assert "Epoch 2/2" in printed
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert bits(again.predict(x_val)) == bits(model.predict(x_val))
    assert Model.from_config(model.get_config()).get_config() == model.get_config()


@pytest.mark.parametrize(("shape", "features"), [((None,), 1), ((30,), 1), ((None, 1), 1)])
def test_an_embeddings_input_may_give_its_steps_alone(shape: Any, features: int) -> None:
    inputs = Input(shape, dtype="int64")
    assert Model(inputs, layers.Embedding(5, 2)(inputs)).input_features == features
    assert Sequential([Input(shape), layers.Embedding(5, 2)]).input_features == features


def test_an_input_that_contradicts_the_first_layer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Embedding\(.*\) takes 1 features, but the input has 3"):
        Sequential([Input((None, 3)), layers.Embedding(5, 2)])
    with pytest.raises(ValueError, match=r"LSTM\(units=2\) takes 2 features, but the input has 3"):
        Sequential([Input((None, 3)), layers.LSTM(2, input_shape=(None, 2))])


def chain() -> tuple[Any, Any, Any]:
    inputs = Input((None, 2))
    middle = layers.LSTM(3, return_sequences=True)(inputs)
    return inputs, middle, layers.Dense(1)(middle)


def shared() -> Any:
    inputs, layer = Input((None, 2)), layers.Dense(2)
    return Model(inputs, layer(layer(inputs)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda i, m, o: Model(i, [m, o]),
            "Model: 2 outputs, .*; this one branches after LSTM(units=3,",
        ),
        (
            lambda i, m, o: Model(i, {"a": m, "b": layers.Dense(2)(i)}),
            "Model: 2 outputs, .* branches after Input(",
        ),
        (lambda i, m, o: Model([i, Input((None, 3))], o), "Model: 2 inputs, but a model is one chain of layers"),
        (
            lambda i, m, o: layers.Dense(2)([m, o]),
            "Dense(units=2, activation='linear') was called on 2 inputs: ",
        ),
        (
            lambda i, m, o: layers.Dense(2)(np.zeros((2, 3, 2))),
            "Dense(units=2, .*) was called on a ndarray: call",
        ),
        (lambda i, m, o: Model(Input((None, 2)), o), "Model: Dense(units=1, .*) was not called on a chain that begins"),
        (lambda i, m, o: Model(m, o), "Model: inputs must be an Input, not Symbol(output of LSTM("),
        (
            lambda i, m, o: type("Own", (Model,), {})(),
            "Model: inputs must be an Input, not None; a `call` of your own is",
        ),
        (lambda i, m, o: Model(i, i), "Model: outputs must be what calling a layer returned, not Input("),
        (lambda i, m, o: Model(i, np.zeros(3)), "Model: outputs must be what calling a layer returned, not array("),
        (lambda i, m, o: shared(), "Model: Dense(units=2, .*) occurs twice, but layers cannot share weights: make two"),
    ],
)
def test_what_is_no_chain_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message).replace(r"\.\*", ".*")):
        make(*chain())


def test_lists_of_one_are_the_one() -> None:
    inputs, _, outputs = chain()
    assert Model([inputs], [outputs]).count_params() == Model(inputs=inputs, outputs=outputs).count_params()


# --- Layers of a built model -----------------------------------------------------------------------------------------


@given(cases(crf=True))
@settings(max_examples=30)
def test_layers_have_the_models_weights(case: Case) -> None:
    model = case.model()
    arrays = [array for layer in model.layers for array in layer.get_weights()]
    assert [bits(array) for array in arrays] == weight_bits(model)
    assert sum(layer.count_params() for layer in model.layers) == model.count_params()
    for layer in model.layers:
        layer.set_weights([array + 1 for array in layer.weights])
    assert [bits(array + 1) for array in arrays] == weight_bits(model)


def test_weights_of_a_layer_that_do_not_fit() -> None:
    layer = layers.Dense(2)
    for built in (layer, Sequential([layer]).layers[0], layers.Bidirectional(layers.LSTM(2)).forward):
        with pytest.raises(ValueError, match="has no weights of its own yet: it is not part of a model that is built"):
            built.get_weights()
    model = Sequential([Input((None, 3)), layer])
    with pytest.raises(ValueError, match=r"Dense\(.*\) has 2 weight arrays, not 1"):
        layer.set_weights([np.zeros((3, 2))])
    with pytest.raises(ValueError, match=r"kernel has shape \(3, 2\), not \(2, 3\)"):
        layer.set_weights([np.zeros((2, 3)), np.zeros(2)])
    assert layers.to_json(pickle.loads(pickle.dumps(layer))) == layers.to_json(copy.deepcopy(layer))
    del model
    with pytest.raises(ValueError, match="it is not part of a model that is built"):
        layer.count_params()


def test_weights_in_a_file(tmp_path: Path) -> None:
    def model(units: int = 3, *more: Any) -> Sequential:
        return Sequential([Input((None, 2)), layers.LSTM(units, return_sequences=True), *more, layers.Dense(1)])

    first, path = model(), tmp_path / "weights.safetensors"
    first.save_weights(path)
    other = model()
    other.load_weights(path)
    assert weight_bits(other) == weight_bits(first)
    assert weight_bits(load_model(path)) == weight_bits(first)
    first.compile(loss="mse")
    first.save(path)
    other.load_weights(path)
    with pytest.raises(ValueError, match="exists already"):
        first.save_weights(path, overwrite=False)
    name = re.escape(str(path))
    before = weight_bits(other)
    for wrong, message in (
        (model(4), r"does not fit this model: set_weights: layers.0.kernel has shape \(2, 16\), not \(2, 12\)"),
        (model(3, layers.Dropout(0.5)), "layer 1 is Dense in the file, but Dropout here"),
        (model(3, layers.Dense(1)), "layer 2 is missing in the file, but Dense here"),
    ):
        with pytest.raises(ValueError, match=f"^{name}:? {message}$"):
            wrong.load_weights(path)
    assert weight_bits(other) == before
    with pytest.raises(ValueError, match="there is no model file"):
        other.load_weights(tmp_path / "nothing")
