"""Prepared predictions: the same bits as `predict`, with the weights of the moment, for arrays of one shape."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from bilstm.layers import LSTM, Bidirectional, Dense, GlobalMaxPooling1D
from bilstm.models import Sequential
from oracles.models import above_half, bits, compiled, numbers, tagger


@pytest.mark.parametrize(("sequences", "steps"), [(1, 1), (1, 7), (3, 5), (40, 5), (200, 2)])
@pytest.mark.parametrize("ending", [[], [GlobalMaxPooling1D()]])
def test_it_predicts_what_the_model_predicts(sequences: int, steps: int, ending: list[Any]) -> None:
    layers = [Bidirectional(LSTM(5, return_sequences=True), input_shape=(None, 2)), *ending, Dense(3, "softmax")]
    model = Sequential(layers, seed=1)
    predictor = model.predictor(sequences=sequences, steps=steps)
    x, other = numbers(sequences, steps, 2), numbers(sequences, steps, 2, seed=1)
    assert bits(predictor(x)) == bits(model.predict(x))
    assert predictor.output.shape == model.predict(x).shape
    predictor.input[...] = other
    assert bits(predictor()) == bits(model.predict(other))
    assert predictor() is predictor.output
    assert bits(predictor(x.astype(np.float64).tolist())) == bits(model.predict(x))


def test_weights_are_those_of_the_moment() -> None:
    model = compiled()
    predictor = model.predictor(steps=4)
    x, y = above_half(20)
    before = predictor(x[:1]).copy()
    model.fit(x, y, verbose=0)
    assert bits(predictor()) == bits(model.predict(x[:1])) != bits(before)


def test_it_keeps_what_it_needs() -> None:
    expected = tagger().predict(numbers(1, 3, 2))
    predictor = tagger().predictor(steps=3)
    gc.collect()
    assert bits(predictor(numbers(1, 3, 2))) == bits(expected)


def test_each_thread_has_its_own() -> None:
    model = tagger(units=20)
    sequences = [numbers(1, 30, 2, seed=seed) for seed in range(8)]

    def predict(x: Any) -> bytes:
        predictor = model.predictor(steps=30)
        return bits([predictor(x).copy() for _ in range(50)])

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(predict, sequences))
    assert found == [bits([model.predict(x)] * 50) for x in sequences]


@pytest.mark.parametrize(("sequences", "steps"), [(8, 20_000), (200, 800)])
def test_a_second_thread_is_refused(sequences: int, steps: int) -> None:
    predictor = tagger(units=20).predictor(sequences=sequences, steps=steps)
    expected = bits(predictor(numbers(sequences, steps, 2)))
    begin = Barrier(2)

    def predict(_: int) -> str:
        begin.wait()
        try:
            predictor()
        except ValueError as error:
            return str(error)
        return "predicted"

    for _ in range(20):  # on a busy machine the second may begin when the first has ended
        with ThreadPoolExecutor(2) as threads:
            found = sorted(threads.map(predict, range(2)))
        if found != ["predicted"] * 2:
            break
    assert found == ["a predictor is for one thread at a time: make one for each", "predicted"]
    assert bits(predictor()) == expected


def test_weights_rounded_to_bfloat16() -> None:
    model = tagger(units=20)
    x = numbers(1, 9, 2)
    rounded = model.predictor(steps=9, precision="bfloat16")(x)
    assert bits(rounded) == bits(model.predict(x, precision="bfloat16")) != bits(model.predict(x))


def test_what_it_refuses() -> None:
    model = tagger()
    predictor = model.predictor(sequences=2, steps=3)
    for wrong in (numbers(1, 3, 2), numbers(3, 2), 0.5):
        with pytest.raises(ValueError, match=r"this predictor takes arrays of shape \(2, 3, 2\), not"):
            predictor(wrong)
    for sequences, steps in ((0, 3), (1, 0), (1, 2.5)):
        with pytest.raises((ValueError, TypeError), match="predictor: (sequences|steps) must be"):
            model.predictor(sequences=sequences, steps=steps)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="predictor: the model is not built"):
        Sequential([LSTM(3)]).predictor(steps=2)
    split = Sequential([Bidirectional(LSTM(3, return_sequences=True), merge_mode=None, input_shape=(None, 2))])
    with pytest.raises(ValueError, match=r"predictor: Bidirectional\(merge_mode=None\) has two outputs: use predict"):
        split.predictor(steps=2)


def test_numbers_that_are_not_finite_stay_what_they_are() -> None:
    model = tagger()
    x = numbers(1, 4, 2)
    x[0, 1, 0] = np.nan
    assert bits(model.predictor(steps=4)(x)) == bits(model.predict(x))


def test_what_is_left_of_it_keeps_what_it_needs() -> None:
    """The prediction alone, of which the array, the predictor and the model are gone."""
    model, x = tagger(), numbers(1, 3, 2)
    expected = bits(model.predict(x))
    assert model.network is not None
    output = np.zeros((1, 3, model.network.outputs), np.float32)
    predict = model.network.prepared(x.copy(), output).predict
    seen = weakref.ref(model.network)
    del model
    gc.collect()
    assert seen() is not None
    assert (predict(), bits(output)) == (0, expected)
    del predict
    gc.collect()
    assert seen() is None
