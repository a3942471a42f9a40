"""Forward passes that are kept for their backward passes, and gradients that go to and come from recurrent states.

Against the NumPy oracle in float64, and against PyTorch's layers where it is installed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm import utils
from bilstm.engine.network import Network
from bilstm.engine.plans import PRECISIONS, OptimizerPlan, Targets
from bilstm.layers import LSTM, Bidirectional, Dense, Dropout
from bilstm.models import Sequential
from bilstm.ragged import Ragged, offsets_of
from oracles.models import bits
from oracles.networks import CELLS, Problem, bidirectional, inputs, network_for, problems
from oracles.numpy_engine import NumpyNetwork, States
from oracles.test_engine import close, engine_model

Floats = npt.NDArray[Any]
STEP = 1e-6  # of differences, in float64
PLAN = OptimizerPlan()


def network_of(model: Sequential) -> Network:
    assert model.network is not None
    return model.network


def states_of(states: Floats, layers: list[dict[str, Any]]) -> States:
    """The engine's array, as the oracle takes states: {layer: [(h, c) or (h,) for each direction]}."""
    result: States = {}
    column = 0
    for index, layer in enumerate(layers):
        config = layer["config"]
        inner = [config["layer"], config["backward_layer"] or config["layer"]] if "layer" in config else [layer]
        if not all("return_sequences" in part["config"] for part in inner):
            continue
        result[index] = []
        for part in inner:
            parts = []
            for _ in range(2 if part["class_name"] == "LSTM" else 1):
                parts.append(states[:, column : column + part["config"]["units"]])
                column += part["config"]["units"]
            result[index].append(tuple(parts))
    return result


def array_of(states: States) -> Floats:
    return np.concatenate([part for each in states.values() for way in each for part in way], axis=1)


# --- Against the oracle -----------------------------------------------------------------------------------------------


@given(problems(), st.booleans())
@settings(max_examples=150)
def test_gradients_of_inputs_and_weights(problem: Problem, training: bool) -> None:
    """Along random directions, against differences of the oracle."""
    oracle, batch, random = problem.network, problem.batch, np.random.default_rng(1)
    network = network_of(engine_model(oracle.description, batch.features, oracle.weights))
    network.iteration = 3
    options: dict[str, Any] = {"training": training, "seed": 5}
    output, _, kept = network.forward(batch, **options)
    options["step"] = 3
    close(output, oracle.forward(batch, **options), 1e-5)
    by_outputs = random.normal(size=output.shape).astype(np.float32)
    by_inputs, _ = kept.backward(by_outputs, inputs=True)
    assert by_inputs is not None

    indexes = {"Embedding": 1, "ColumnEmbedding": 2, "WordEncoder": 1}.get(oracle.description[0]["class_name"], 0)
    movable = list(range(batch.features - indexes))
    direction = np.zeros(batch.values.shape)
    direction[:, movable] = random.normal(size=(batch.total_steps, len(movable)))
    pairs = zip(oracle.weights, oracle.learned, strict=True)
    weights = [random.normal(size=weight.shape) if learned else np.zeros_like(weight) for weight, learned in pairs]
    known = oracle.weights

    def moved(step: float) -> float:
        oracle.set_weights([weight + step * way for weight, way in zip(known, weights, strict=True)])
        return float((by_outputs * forward_of_values(oracle, batch, step * direction, options)).sum())

    expected = (moved(STEP) - moved(-STEP)) / (2 * STEP)
    oracle.set_weights(known)
    by_weights = engine_model(oracle.description, batch.features, oracle.weights)._unflatten(network.read("gradients"))
    terms = [by_inputs * direction, *(a * b for a, b in zip(by_weights, weights, strict=True))]
    scale = sum(float(np.abs(term).sum()) for term in terms)
    assert sum(float(term.sum()) for term in terms) == pytest.approx(expected, abs=1e-4 * scale + 1e-4)


def forward_of_values(oracle: NumpyNetwork, batch: Ragged, change: Floats, options: dict[str, Any]) -> Any:
    """In float64, which `Ragged` does not make by itself."""
    return oracle.forward(Ragged._checked(batch.values + change, batch.offsets, batch.words), **options)


@pytest.mark.parametrize("lengths", [[4, 9, 1, 9], [6], [3] * 40])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("merge_mode", ["concat", "mul"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_states(cell: Any, merge_mode: str, recompute: bool, lengths: list[int]) -> None:
    """Of the first states, of inputs and weights, from gradients of outputs and of the last states."""
    random = np.random.default_rng(len(lengths))
    layers = [bidirectional(merge_mode, forward=cell(19), backward=cell(19, backwards=True)), cell(5, backwards=True)]
    oracle = network_for(layers, 2, random)
    oracle.set_weights([weight / np.sqrt(len(weight)) for weight in oracle.weights])
    network = network_of(engine_model(layers, 2, oracle.weights))
    network.recompute = recompute
    batch = inputs(layers, lengths, random)
    first = random.normal(size=(len(batch), network.state_width)).astype(np.float32)
    output, last, kept = network.forward(batch, first, return_states=True)
    assert last is not None
    by_output, by_last = (random.normal(size=each.shape).astype(np.float32) for each in (output, last))
    ways = [random.normal(size=each.shape) for each in (first, batch.values)]

    def moved(step: float) -> tuple[Floats, Floats]:
        wide = Ragged._checked(batch.values + step * ways[1], batch.offsets, batch.words)
        found, states = oracle.forward(wide, states=states_of(first + step * ways[0], layers), return_states=True)
        return found, array_of(states)

    for own, expected in zip((output, last), moved(0.0), strict=True):
        close(own, expected, 1e-6)
    for kinds in (("outputs",), ("states",), ("outputs", "states")):
        weighted = by_output if "outputs" in kinds else np.zeros_like(by_output)
        gradient = by_last if "states" in kinds else None
        by_inputs, by_first = kept.backward(weighted, gradient, inputs=True, states=True)
        assert by_inputs is not None
        assert by_first is not None
        expected = sum(
            (1 if step > 0 else -1) * float((found * weights).sum()) / (2 * STEP)
            for step in (STEP, -STEP)
            for found, weights in zip(moved(step), (weighted, 0 if gradient is None else gradient), strict=True)
        )
        terms = by_first * ways[0], by_inputs * ways[1]
        scale = sum(float(np.abs(term).sum()) for term in terms)
        assert sum(float(term.sum()) for term in terms) == pytest.approx(expected, abs=1e-5 * scale)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_weights_after_states(cell: Any) -> None:
    """The first states are features of the recurrent weights, like the outputs of a step before."""
    random = np.random.default_rng(3)
    layers = [cell(18), cell(3, backwards=True)]
    oracle = network_for(layers, 2, random)
    oracle.set_weights([weight / np.sqrt(len(weight)) for weight in oracle.weights])
    model = engine_model(layers, 2, oracle.weights)
    network, batch = network_of(model), inputs(layers, [1, 4, 2], random)
    first = random.normal(size=(3, network.state_width)).astype(np.float32)
    output, last, kept = network.forward(batch, first, return_states=True)
    assert last is not None
    by_output, by_last = (random.normal(size=each.shape).astype(np.float32) for each in (output, last))
    kept.backward(by_output, by_last)
    found, known = model._unflatten(network.read("gradients")), oracle.weights
    for i, gradient in enumerate(found):  # one array's weights after the other
        way, sums = random.normal(size=gradient.shape), []
        for step in (STEP, -STEP):
            oracle.set_weights([weight + step * way if n == i else weight for n, weight in enumerate(known)])
            rows, states = oracle.forward(batch, states=states_of(first, layers), return_states=True)
            sums.append(float((rows * by_output).sum() + (array_of(states) * by_last).sum()))
        expected = (sums[0] - sums[1]) / (2 * STEP)
        assert (gradient * way).sum() == pytest.approx(expected, abs=1e-5 * float(np.abs(gradient * way).sum()))
    oracle.set_weights(known)


# --- Laws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
@given(st.lists(st.integers(2, 30), min_size=1, max_size=20), st.data())
@settings(max_examples=20)
def test_chunks_with_states_between_them_are_one_pass(cell: Any, lengths: list[int], data: st.DataObject) -> None:
    """Outputs to the last bit; gradients as nearly as sums in another order can be."""
    random = np.random.default_rng(len(lengths))
    layers = [cell(17), cell(5)]
    oracle = network_for(layers, 2, random)
    network = network_of(engine_model(layers, 2, [weight / np.sqrt(len(weight)) for weight in oracle.weights]))
    whole = inputs(layers, lengths, random)
    cuts = [data.draw(st.integers(1, length - 1)) for length in lengths]
    parts = [
        Ragged.from_sequences([own[:cut] for own, cut in zip(whole, cuts, strict=True)]),
        Ragged.from_sequences([own[cut:] for own, cut in zip(whole, cuts, strict=True)]),
    ]
    output, ends, kept = network.forward(whole, return_states=True)
    by_output = random.normal(size=output.shape).astype(np.float32)
    by_inputs, _ = kept.backward(by_output, inputs=True)
    by_weights = network.read("gradients")

    def of_part(rows: Floats, part: int) -> Floats:
        return np.concatenate(
            [own[:cut] if part == 0 else own[cut:] for own, cut in zip(whole.with_values(rows), cuts, strict=True)]
        )

    first, states, kept_first = network.forward(parts[0], return_states=True)
    second, last, kept_second = network.forward(parts[1], states, return_states=True)
    for part, own in enumerate((first, second)):
        assert bits(own) == bits(of_part(output, part))
    assert bits(last) == bits(ends)
    of_second, by_states = kept_second.backward(of_part(by_output, 1), inputs=True, states=True)
    sums = network.read("gradients")
    of_first, _ = kept_first.backward(of_part(by_output, 0), by_states, inputs=True)
    assert by_inputs is not None
    for part, own_gradient in enumerate((of_first, of_second)):
        close(own_gradient, of_part(by_inputs, part), 1e-5)
    close(sums + network.read("gradients"), by_weights, 1e-5)


@given(problems())
@settings(max_examples=60)
def test_a_loss_of_ones_own_has_the_gradients_of_the_engines(problem: Problem) -> None:
    oracle, batch = problem.network, problem.batch
    network = network_of(engine_model(oracle.description, batch.features, oracle.weights))
    rows = len(batch) if network.one_row_each else batch.total_steps
    wanted = np.random.default_rng(2).normal(size=(rows, network.outputs)).astype(np.float32)
    network.gradient(batch, Targets(values=wanted), "mean_squared_error", training=True, seed=9)
    expected = network.read("gradients")
    output, _, kept = network.forward(batch, training=True, seed=9)
    for _ in range(2):  # as often as wanted
        kept.backward(2 * (output - wanted) / output.size)
        close(network.read("gradients"), expected, 1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("units", [20, 150])
def test_threads_and_recomputing_change_no_bit(units: int, threads: int) -> None:
    layers = [
        Bidirectional(LSTM(units, return_sequences=True)),
        Dropout(0.2),
        Bidirectional(LSTM(units, return_sequences=True), "sum"),
        Dense(3, "tanh"),
    ]
    model = Sequential(layers, seed=1)
    model.build((None, 4))
    network, random = network_of(model), np.random.default_rng(1)
    data = Ragged(random.normal(size=(2000, 4)), offsets_of([700, 300, 1, 500, 499]))
    states = random.normal(size=(5, network.state_width)).astype(np.float32)
    by_output = random.normal(size=(2000, 3)).astype(np.float32)
    by_last = random.normal(size=states.shape).astype(np.float32)

    def all_of_it() -> list[bytes]:
        output, last, kept = network.forward(data, states, training=True, seed=3, return_states=True)
        found = kept.backward(by_output, by_last, inputs=True, states=True)
        return [bits(each) for each in (output, last, *found, network.read("gradients"))]

    before = utils.threads()
    try:
        utils.set_threads(1)
        expected = all_of_it()
        utils.set_threads(threads)
        for network.recompute in (False, True):
            assert all_of_it() == expected
    finally:
        utils.set_threads(before)


# --- Truncated backpropagation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 40])
def test_gradients_of_a_chunk_go_no_further_back_than_its_first_step(count: int) -> None:
    random = np.random.default_rng(4)
    model = Sequential([LSTM(9, return_sequences=True), Dense(2)], seed=1)
    model.build((None, 3))
    network = network_of(model)
    data = Ragged(random.normal(size=(5 * count, 3)), np.arange(count + 1) * 5)
    targets = Targets(values=random.normal(size=(5 * count, 2)).astype(np.float32))
    states = random.normal(size=(count, network.state_width)).astype(np.float32)
    output, last, kept = network.forward(data, states, return_states=True)
    assert targets.values is not None
    kept.backward(2 * (output - targets.values) / output.size)
    expected = network.read("gradients")
    after = states.copy()
    network.gradient(data, targets, "mean_squared_error", states=after, states_out=after)  # in their own place
    close(network.read("gradients"), expected, 1e-6)
    assert bits(after) == bits(last)
    network.gradient(data, targets, "mean_squared_error")
    assert np.abs(network.read("gradients") - expected).max() > 1e-3


# --- States left on the way -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cell", CELLS)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=30), st.data())
@settings(max_examples=10)
def test_states_left_on_the_way_are_those_of_a_piece_that_ends_there(
    cell: Any, precision: str, lengths: list[int], data: st.DataObject
) -> None:
    """Of directions that read forwards; the others leave theirs where they end."""
    random = np.random.default_rng(len(lengths))
    forwards = [cell(17), cell(5)]
    both = [bidirectional(forward=cell(17), backward=cell(4, backwards=True))]
    for layers, carried in ((forwards, slice(None)), (both, slice(17 * (2 if cell(1)["class_name"] == "LSTM" else 1)))):
        oracle = network_for(layers, 2, random)
        network = network_of(engine_model(layers, 2, [weight / np.sqrt(len(weight)) for weight in oracle.weights]))
        whole = inputs(layers, lengths, random)
        leave_at = np.array([data.draw(st.integers(1, length)) for length in lengths])
        states = random.normal(size=(len(whole), network.state_width)).astype(np.float32)
        ends = Ragged.from_sequences([own[:step] for own, step in zip(whole, leave_at, strict=True)])
        options: Any = {"return_states": True, "precision": precision}
        output, found = network.predict(whole, states, leave_at=leave_at, **options)
        expected_output, last = network.predict(whole, states, **options)
        _, expected = network.predict(ends, states, **options)
        assert bits(output) == bits(expected_output)
        assert found is not None
        assert expected is not None
        assert last is not None
        assert bits(found[:, carried]) == bits(expected[:, carried])
        rest = np.setdiff1d(np.arange(network.state_width), np.arange(network.state_width)[carried])
        assert bits(found[:, rest]) == bits(last[:, rest])


# --- Refusals ---------------------------------------------------------------------------------------------------------


def small() -> tuple[Network, Ragged]:
    model = Sequential([LSTM(2, return_sequences=True), Dense(1)], seed=1)
    model.build((None, 2))
    return network_of(model), Ragged(np.ones((3, 2)), [0, 1, 3])


def test_weights_that_have_changed_since() -> None:
    network, data = small()
    for change in (lambda: network.write(network.read()), lambda: network.update(PLAN)):
        _, _, kept = network.forward(data)
        kept.backward(np.ones((3, 1), np.float32))
        change()
        with pytest.raises(ValueError, match="the weights have changed since the forward pass"):
            kept.backward(np.ones((3, 1), np.float32))


def test_gradients_of_another_shape() -> None:
    network, data = small()
    _, _, kept = network.forward(data)
    with pytest.raises(ValueError, match=r"gradients of outputs have shape \(3, 1\), not \(2, 1\)"):
        kept.backward(np.ones((2, 1), np.float32))
    with pytest.raises(ValueError, match=r"gradients of states have shape \(2, 4\), not \(2, 2\)"):
        kept.backward(np.ones((3, 1), np.float32), np.ones((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"leave_at has shape \(2,\), not \(3,\)"):
        network.predict(data, return_states=True, leave_at=np.ones(3, np.int64))
    with pytest.raises(ValueError, match=r"states have shape \(2, 4\), not \(1, 4\)"):
        network.forward(data, np.ones((1, 4), np.float32))
    targets = Targets(values=np.ones((3, 1), np.float32))
    with pytest.raises(ValueError, match="states_out must be a C-contiguous float32 array"):
        network.gradient(data, targets, "mean_squared_error", states_out=np.ones((2, 4)))  # type: ignore[arg-type]


def test_values_that_are_not_finite() -> None:
    network, data = small()
    data.values[1, 1] = np.nan
    with pytest.raises(ValueError, match="a value of sequence 1 is not finite, in its step 0"):
        network.forward(data)


def test_no_sequences() -> None:
    network, _ = small()
    output, _, kept = network.forward(Ragged(np.zeros((0, 2)), [0]))
    assert output.shape == (0, 1)
    kept.backward(output)
    assert not network.read("gradients").any()


def test_a_pass_outlives_what_it_reads() -> None:
    network, data = small()
    states = np.ones((2, 4), np.float32)
    output, _, kept = network.forward(Ragged(data.values.copy(), data.offsets.copy()), states.copy())
    expected = kept.backward(np.ones_like(output), inputs=True)[0]
    again = network.forward(Ragged(data.values.copy(), data.offsets.copy()), states.copy())[2]
    del network, data
    found = again.backward(np.ones_like(output), inputs=True)[0]
    np.testing.assert_array_equal(found, expected)
