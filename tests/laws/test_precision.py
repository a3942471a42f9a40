"""bfloat16 weights predict what float32 ones predict that were rounded before, to the last bit, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm import utils
from bilstm.engine.network import Network
from bilstm.engine.plans import dense
from bilstm.layers import Layer
from bilstm.models import Sequential
from bilstm.ragged import Ragged
from laws.test_invariance import POOLS, THREADS, large, long, pooled
from oracles.models import Case, bits, cases, compiled, numbers, set_random_weights, tagger, weight_bits

PRECISIONS = ("float32", "bfloat16")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = utils.threads()
    yield
    utils.set_threads(before)


def rounded(values: Any) -> npt.NDArray[np.float32]:
    """To the nearest number of 8 significant bits and of float32's exponents, ties to even: by its definition."""
    exact = np.asarray(values, np.float64)
    finite = np.where(np.isfinite(exact), exact, 0)
    quantum = np.ldexp(1.0, np.maximum(np.frexp(finite)[1], -125) - 8)
    nearest = np.rint(finite / quantum) * quantum
    nearest = np.where(np.abs(nearest) < 2.0**128, nearest, np.copysign(np.inf, nearest))
    return np.where(np.isfinite(exact), nearest, exact).astype(np.float32)


def with_rounded_weights(case: Case, model: Sequential) -> Sequential:
    """Another with its weights rounded: those that rows are multiplied by, but no biases, embeddings,
    queries or transitions.
    """
    other = case.model()
    apart = "bias", "embeddings", "query", "transitions", "start", "end", "gamma", "beta", "moving"
    tensors = {
        name: tensor if any(word in name for word in apart) else rounded(tensor)
        for name, tensor in model.tensors().items()
    }
    other.set_tensors(tensors)
    return other


def with_other_weights(case: Case) -> Sequential:
    """Not the initial ones, of which biases are numbers that rounding leaves as they are."""
    model, random = case.model(), np.random.default_rng(case.seed)
    set_random_weights(model, random, 0.7)
    return model


def check(case: Case) -> None:
    model = with_other_weights(case)
    other = with_rounded_weights(case, model)
    assert weight_bits(model) != weight_bits(other)
    assert bits(model.predict_rows(case.data, precision="bfloat16")) == bits(other.predict_rows(case.data))
    scores = model.evaluate(case.data, case.y, precision="bfloat16"), other.evaluate(case.data, case.y)
    np.testing.assert_array_equal(*scores)  # NaN for NaN: large weights overflow


@given(cases(crf=True))
@settings(max_examples=100)
def test_they_predict_what_rounded_weights_predict(case: Case) -> None:
    check(case)


@given(cases(most=1, longest=60, crf=True))
@settings(max_examples=60)
def test_and_for_a_single_sequence(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("count", THREADS)
@pytest.mark.parametrize("case", [large(), long([300, 299, 180, 7, *[20] * 20]), long([400]), pooled(POOLS[2])])
def test_and_where_all_threads_have_work(case: Case, count: int) -> None:
    utils.set_threads(count)
    check(case)


@given(st.lists(st.floats(width=32), min_size=1, max_size=70))
@settings(max_examples=200)
def test_weights_are_rounded_to_nearest_even(weights: list[float]) -> None:
    network = Network([dense(0, len(weights))], 1)
    network.write(np.array([*weights, *[0.0] * len(weights)], np.float32))
    one = Ragged(np.ones((1, 1)), np.array([0, 1]))
    np.testing.assert_array_equal(network.predict(one, precision="bfloat16")[0][0], rounded(weights))


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (0x3F808000, 0x3F80),  # ties: to the even one, down
        (0x3F818000, 0x3F82),  # and up
        (0x3F808001, 0x3F81),
        (0x3F807FFF, 0x3F80),
        (0x3FFFFFFF, 0x4000),  # into the next exponent
        (0x7F7FFFFF, 0x7F80),  # float32's largest: infinity
        (0x00000001, 0x0000),
        (0x00018000, 0x0002),  # subnormal numbers, too
        (0x807FFFFF, 0x8080),
    ],
)
def test_the_halves_of_words(weight: int, expected: int) -> None:
    network = Network([dense(0, 1)], 1)
    network.write(np.array([weight, 0], np.uint32).view(np.float32))
    found = network.predict(Ragged(np.ones((1, 1)), np.array([0, 1])), precision="bfloat16")[0]
    assert found[0, 0] == np.array(expected << 16, np.uint32).view(np.float32)


@pytest.mark.parametrize("place", range(3))
def test_weights_that_are_no_numbers_stay_so(place: int) -> None:
    """NaNs with few bits, which rounding by addition alone would make infinities or zeros."""
    for pattern in (0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF):
        network = Network([dense(0, 3)], 1)
        weights = np.zeros(6, np.uint32)
        weights[place] = pattern
        network.write(weights.view(np.float32))
        found = network.predict(Ragged(np.ones((1, 1)), np.array([0, 1])), precision="bfloat16")[0][0]
        assert np.isnan(found).tolist() == [i == place for i in range(3)]


# --- With the weights of the moment ----------------------------------------------------------------------------------


def changed_by_training(model: Sequential) -> None:
    model.train_on_batch(numbers(3, 4, 1), np.ones((3, 4)))


def changed_by_setting(model: Sequential) -> None:
    model.set_weights([weight * np.float32(1.1) for weight in model.get_weights()])


def changed_by_an_update(model: Sequential) -> None:
    assert model.network is not None
    assert model.optimizer is not None
    model.network.write(np.ones(model.count_params(), np.float32), "gradients")
    model.network.update(model.optimizer.plan())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("change", [changed_by_training, changed_by_setting, changed_by_an_update])
def test_changed_weights_count_at_once(change: Any, precision: str) -> None:
    model, x = compiled(), numbers(1, 5, 1)
    predictor = model.predictor(steps=5, precision=precision)
    before = bits(predictor(x))
    assert bits(predictor(x)) == before
    change(model)
    other = compiled()
    other.set_weights(model.get_weights())
    after = bits(other.predict(x, precision=precision))
    assert bits(predictor(x)) == bits(model.predict(x, precision=precision)) == after != before


def test_precisions_side_by_side() -> None:
    model, x = tagger(units=20), numbers(2, 9, 2)
    expected = {precision: bits(tagger(units=20).predict(x, precision=precision)) for precision in PRECISIONS}
    assert expected["float32"] != expected["bfloat16"]
    predictors = {p: model.predictor(sequences=2, steps=9, precision=p) for p in PRECISIONS}
    for precision in PRECISIONS * 2:
        assert bits(model.predict(x, precision=precision)) == expected[precision]
        assert bits(predictors[precision](x)) == expected[precision]
    assert bits(model.predict(x)) == bits(model.predictor(sequences=2, steps=9)(x)) == expected["float32"]


def test_many_threads_ask_for_them_at_once_while_another_trains() -> None:
    model, x = compiled(), numbers(4, 30, 1)
    known, one_at_a_time = [model.get_weights()], Lock()

    def train(_: int) -> bytes:
        with one_at_a_time:
            changed_by_training(model)
            known.append(model.get_weights())
        return b""

    with ThreadPoolExecutor(4) as pool:
        tasks = [
            pool.submit(train, i) if i % 5 == 0 else pool.submit(model.predict, x, precision="bfloat16")
            for i in range(200)
        ]
        found = {bits(task.result()) for task in tasks if not isinstance(task.result(), bytes)}
    other, possible = compiled(), set()
    for weights in known:
        other.set_weights(weights)
        possible.add(bits(other.predict(x, precision="bfloat16")))
    assert found <= possible


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float16", "bf16", None, 16, "BFLOAT16"])
def test_other_precisions(precision: Any) -> None:
    model, x = compiled(), numbers(2, 3, 1)
    for name, predict in (
        ("predict", lambda: model.predict(x, precision=precision)),
        ("predict_classes", lambda: model.predict_classes(x, precision=precision)),
        ("evaluate", lambda: model.evaluate(x, np.ones((2, 3)), precision=precision)),
        ("predictor", lambda: model.predictor(steps=3, precision=precision)),
    ):
        with pytest.raises(ValueError, match=f"{name}: precision must be one of 'float32', 'bfloat16', not"):
            predict()


def test_training_is_in_float32() -> None:
    model, x = compiled(), numbers(2, 3, 1)
    model.fit(x, np.ones((2, 3)), verbose=0, precision="float32")
    with pytest.raises(ValueError, match=r"fit: precision='bfloat16' is not supported \(only 'float32'\)"):
        model.fit(x, np.ones((2, 3)), verbose=0, precision="bfloat16")


@pytest.mark.parametrize("layer", POOLS, ids=lambda layer: type(layer).__name__)
def test_classes_are_of_the_precision_asked_for(layer: Layer) -> None:
    case = pooled(layer)
    model = with_other_weights(case)
    found = model.predict_classes(case.data, precision="bfloat16")
    np.testing.assert_array_equal(found, with_rounded_weights(case, model).predict_classes(case.data))
