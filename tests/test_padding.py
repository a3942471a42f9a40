"""`Padding`: a model that reads each sequence as a source without masks read it, padded to one length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bilstm
from bilstm.bridges import keras, onnx
from bilstm.errors import UserError
from bilstm.layers import (
    CRF,
    GRU,
    LSTM,
    Bidirectional,
    Conv1D,
    Dense,
    Embedding,
    GlobalMaxPooling1D,
    Input,
    Layer,
    Masking,
    MaxPooling1D,
    Padding,
    Reverse,
    TimeDistributed,
)
from bilstm.models import Sequential
from bilstm.ragged import Ragged, offsets_of
from bilstm.utils import pad_sequences

pytestmark = pytest.mark.fast

STEPS = 7
NETWORKS: dict[str, list[Layer]] = {
    "steps": [Bidirectional(LSTM(3, return_sequences=True)), TimeDistributed(Dense(2, "softmax"))],
    "sequences": [Bidirectional(GRU(3)), Dense(1, "sigmoid")],
    "pooled": [Conv1D(3, 3, padding="same"), MaxPooling1D(2), LSTM(2)],
    "maximum": [Dense(3), GlobalMaxPooling1D()],
    "backwards": [LSTM(2, go_backwards=True), Dense(1)],
}


def pair(layers: list[Layer], *padding: Any, features: int = 2) -> tuple[Sequential, Sequential]:
    """A network, and the same with padding first."""
    plain = Sequential([Input((None, features)), *layers], seed=1)
    padded = Sequential([Input((None, features)), Padding(*padding), *layers], seed=2)
    padded.set_weights(plain.get_weights())
    return plain, padded


def draw(lengths: list[int], features: int = 2) -> Ragged:
    return Ragged(np.random.default_rng(0).normal(size=(sum(lengths), features)), offsets_of(lengths))


@pytest.mark.parametrize("name", NETWORKS)
@given(
    lengths=st.lists(st.integers(1, STEPS), min_size=1, max_size=6),
    side=st.sampled_from(["post", "pre"]),
    value=st.sampled_from([0.0, -2.0]),
)
def test_predictions_are_those_of_the_padded_array(name: str, lengths: list[int], side: str, value: float) -> None:
    plain, padded = pair(NETWORKS[name], STEPS, side, value)
    x = draw(lengths)
    array = pad_sequences(list(x), STEPS, "float32", padding=side, value=value)
    expected = plain.predict(array)
    if expected.ndim == 3:
        own = pad_sequences([np.ones(length) for length in lengths], STEPS, bool, padding=side)
        expected = expected[own]
    for form in (x, list(x)):
        predicted = padded.predict(form)
        if isinstance(predicted, list):
            predicted = np.concatenate(predicted)
        np.testing.assert_array_equal(predicted.values if isinstance(predicted, Ragged) else predicted, expected)


def test_words_are_padded_by_a_word() -> None:
    plain, padded = pair([Embedding(5, 3), Bidirectional(LSTM(2))], 4, features=1)
    np.testing.assert_array_equal(padded.predict([[[3], [4]]]), plain.predict([[[3], [4], [0], [0]]]))


def test_a_model_with_it_is_saved_and_copied(tmp_path: Path) -> None:
    padded = pair(NETWORKS["steps"], STEPS, "pre", 0.5)[1]
    padded.save(tmp_path / "padded.model")
    x = draw([3, 7, 1])
    again = bilstm.load_model(tmp_path / "padded.model")
    np.testing.assert_array_equal(again.predict(x).values, padded.predict(x).values)
    assert repr(again.layers[0]) == "Padding(steps=7, side='pre', value=0.5)"


def test_a_longer_sequence_is_refused_by_its_number() -> None:
    padded = pair(NETWORKS["steps"], STEPS)[1]
    with pytest.raises(UserError, match="sequence 1 of x has 8 time steps, more than the 7 that the model extends"):
        padded.predict(draw([3, 8]))
    assert padded.predict(draw([7])).values.shape == (7, 2)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Dense(2), Padding(3)], "must be the first layer"),
        ([Padding(3), Masking()], "must be the first layer"),
        ([Padding(3), Embedding(3, 2, mask_zero=True)], "must be the first layer"),
        ([Padding(3), Dense(2), CRF(2)], "CRF.* cannot follow Padding"),
        ([Padding(3), LSTM(2, return_sequences=True, go_backwards=True), Reverse()], "LSTM.* cannot follow Padding"),
    ],
)
def test_what_it_does_not_go_with(layers: list[Layer], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sequential([Input((None, 1)), *layers])


def test_arguments() -> None:
    for arguments in ((0,), (3, "left"), (3, "post", np.inf)):
        with pytest.raises(ValueError, match="Padding: "):
            Padding(*arguments)


def test_it_is_for_predictions_only(tmp_path: Path) -> None:
    model = pair(NETWORKS["sequences"], STEPS)[1]
    model.compile("adam", "binary_crossentropy")
    x, y = np.zeros((2, 3, 2), np.float32), np.zeros((2, 1), np.float32)
    for call in (lambda: model.fit(x, y), lambda: model.evaluate(x, y), lambda: model.train_on_batch(x, y)):
        with pytest.raises(ValueError, match="is for predictions: a model with it is neither trained nor scored"):
            call()
    with pytest.raises(ValueError, match=r"predictor: Padding.* leaves out or adds steps"):
        model.predictor(steps=STEPS)
    with pytest.raises(ValueError, match=r"stream: Padding"):
        model.stream()
    with pytest.raises(UserError, match=r"Padding.*not supported"):
        onnx.to_onnx(model)
    with pytest.raises(UserError, match="Padding"):
        keras.save(model, tmp_path / "model.keras")
