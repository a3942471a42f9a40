"""The engine's CRF against the enumeration of all label sequences, and against pytorch-crf on longer ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.engine.network import Network, Paths
from bilstm.engine.plans import Targets
from bilstm.layers import CRF, Dense, Input
from bilstm.models import Sequential
from bilstm.ragged import Ragged, offsets_of
from oracles.numpy_crf import Array, Chain

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


def network_of(model: Sequential) -> Network:
    assert model.network is not None
    return model.network


class Problem:
    """A CRF with random weights, some of whose transitions are forbidden, and random scores of some sequences.

    Args:
        seed: of everything random.
        scale: of weights and scores: large ones make most sequences of labels impossible in float32.
        whole: whether weights and scores are whole numbers, so that many sequences of labels are equally likely.
    """

    def __init__(self, seed: int, *, scale: float = 2.0, whole: bool = False, forbid: bool = True) -> None:
        random = np.random.default_rng(seed)
        self.labels = int(random.integers(1, 5))
        lengths = random.integers(1, 6, int(random.integers(1, 5)))

        def draw(*shape: int) -> Any:
            values = random.normal(0, scale, shape).astype(np.float32)
            return np.rint(values) if whole else values

        self.data = Ragged(draw(int(lengths.sum()), self.labels), offsets_of(lengths))
        self.forbidden = random.random((self.labels + 2, self.labels)) < 0.3 * forbid
        self.forbidden[:, 0] = False  # so that each sequence has labels
        self.forbidden[-1, 0] = False
        model = Sequential([Input((None, self.labels)), CRF(self.labels, self.forbidden)])
        weights = [draw(*weight.shape) for weight in model.get_weights()]
        model.set_weights(weights)
        self.model, self.network = model, network_of(model)
        self.chain = Chain.of(weights, self.forbidden)
        self.random = random

    @property
    def sequences(self) -> list[Array]:
        return [np.asarray(sequence, np.float64) for sequence in self.data]

    def possible(self) -> list[tuple[int, ...]]:
        """Labels of each sequence, drawn from those that are possible."""
        every = [self.chain.paths(sequence)[0] for sequence in self.sequences]
        return [paths[int(self.random.integers(len(paths)))] for paths in every]

    def allowed(self) -> npt.NDArray[np.float32]:
        """(total_steps, labels) sets of labels that have a possible one in common, some rows unlabelled."""
        shape = self.data.values.shape
        sets = (self.random.random(shape) < 0.4).astype(np.float32)
        sets[np.arange(len(sets)), np.concatenate(self.possible())] = 1
        sets[self.random.random(len(sets)) < 0.3] = np.nan
        return sets


def close(result: Any, expected: Any, **tolerance: float) -> None:
    np.testing.assert_allclose(result, expected, **(CLOSE | tolerance))


problems = st.builds(
    Problem,
    st.integers(0, 10**6),
    scale=st.sampled_from([0.0, 0.5, 2.0, 30.0, 1000.0]),
    whole=st.booleans(),
    forbid=st.booleans(),
)


@given(problems)
def test_probabilities_are_those_of_all_sequences_of_labels(problem: Problem) -> None:
    outputs = problem.network.predict(problem.data)[0]
    expected = [problem.chain.expected(sequence)[1] for sequence in problem.sequences]
    close(outputs, np.concatenate(expected))
    close(outputs.sum(axis=1), 1.0)


@given(problems)
def test_what_is_forbidden_has_no_probability_at_all(problem: Problem) -> None:
    outputs, firsts = problem.network.predict(problem.data)[0], problem.data.offsets[:-1]
    assert not outputs[firsts][:, problem.forbidden[-2]].any()
    assert not outputs[problem.data.offsets[1:] - 1][:, problem.forbidden[-1]].any()


@given(problems)
def test_likelihoods_of_labels(problem: Problem) -> None:
    paths = problem.possible()
    labels = np.concatenate(paths).astype(np.int32)
    expected = [
        problem.chain.score(sequence, path) - problem.chain.expected(sequence)[0]
        for sequence, path in zip(problem.sequences, paths, strict=True)
    ]
    close(problem.network.log_likelihoods(problem.data, Targets(labels=labels)), expected)
    close(problem.model.log_likelihoods(problem.data, labels), expected)
    score = problem.network.evaluate(problem.data, Targets(labels=labels), "crf_likelihood")
    close(score[0], -np.sum(expected))
    assert score[1] == len(labels)


@given(problems)
def test_likelihoods_of_what_is_known_in_part(problem: Problem) -> None:
    sets, bounds = problem.allowed(), problem.data.offsets
    filled = np.where(np.isnan(sets), 1, sets)
    expected = [
        problem.chain.expected(sequence, filled[bounds[i] : bounds[i + 1]])[0] - problem.chain.expected(sequence)[0]
        for i, sequence in enumerate(problem.sequences)
    ]
    close(problem.network.log_likelihoods(problem.data, Targets(values=sets)), expected)
    if problem.labels > 1:  # a single column would be labels
        close(problem.model.log_likelihoods(problem.data, np.where(np.isnan(sets), -1, sets)), expected)
    score = problem.network.evaluate(problem.data, Targets(values=sets), "crf_likelihood")
    close(score[0], -np.sum(expected))
    assert score[1] == (~np.isnan(sets).any(axis=1)).sum()


@given(problems, st.integers(1, 40))
def test_the_best_paths_in_their_order(problem: Problem, count: int) -> None:
    output, (labels, log_probabilities) = problem.network.decode(problem.data, count)
    close(output, problem.network.predict(problem.data)[0], rtol=0, atol=0)
    for i, sequence in enumerate(problem.sequences):
        steps = slice(*problem.data.offsets[i : i + 2])
        expected = problem.chain.best(sequence, count)
        close(log_probabilities[: len(expected), i], [log for _, log in expected])
        assert (log_probabilities[len(expected) :, i] == -np.inf).all()
        assert (labels[len(expected) :, steps] == -1).all()
        scores = [problem.chain.score(sequence, tuple(path)) for path in labels[: len(expected), steps].tolist()]
        close(scores, [problem.chain.score(sequence, path) for path, _ in expected])
        assert len({tuple(path) for path in labels[: len(expected), steps].tolist()}) == len(expected)


@given(st.integers(0, 10**6), st.integers(1, 40))
def test_ties_are_decided_as_documented(seed: int, count: int) -> None:
    problem = Problem(seed, whole=True)
    labels = problem.network.decode(problem.data, count)[1].labels
    best = problem.network.decode(problem.data)[1].labels
    assert (labels[0] == best[0]).all()
    for i, sequence in enumerate(problem.sequences):
        steps = slice(*problem.data.offsets[i : i + 2])
        expected = [path for path, _ in problem.chain.best(sequence, count)]
        assert [tuple(path) for path in labels[: len(expected), steps].tolist()] == expected


@given(problems, st.booleans(), st.booleans())
def test_gradients(problem: Problem, partly: bool, weighted: bool) -> None:
    """Of the CRF's weights and of a dense layer's before it, whose inputs and outputs are scores."""
    model = Sequential([Input((None, problem.labels)), Dense(problem.labels), CRF(problem.labels, problem.forbidden)])
    model.set_weights([np.eye(problem.labels), np.zeros(problem.labels), *problem.model.get_weights()])
    bounds, rows = problem.data.offsets, problem.data.total_steps
    labels = np.concatenate(problem.possible())
    sets: Any = problem.allowed() if partly else np.eye(problem.labels, dtype=np.float32)[labels]
    weights = np.repeat(problem.random.random(len(problem.data)), problem.data.lengths) if weighted else np.ones(rows)
    targets = Targets(None if partly else labels, sets if partly else None, weights if weighted else None)
    network_of(model).gradient(problem.data, targets, "crf_likelihood")
    filled = np.where(np.isnan(sets), 1, sets)
    transitions = np.zeros((problem.labels,) * 2)
    scores = np.zeros((rows, problem.labels))
    for i, sequence in enumerate(problem.sequences):
        own = slice(bounds[i], bounds[i + 1])
        if np.isnan(sets[own]).any(axis=1).all():
            continue
        _, marginals, pairs = problem.chain.expected(sequence)
        _, known_marginals, known_pairs = problem.chain.expected(sequence, filled[own])
        weight = weights[bounds[i]].astype(np.float32)
        transitions += (pairs - known_pairs) * weight
        scores[own] = (marginals - known_marginals) * weight
    labelled = max(1, (~np.isnan(sets).any(axis=1)).sum())
    ends = scores[bounds[:-1]].sum(axis=0), scores[bounds[1:] - 1].sum(axis=0)
    values = problem.data.values.astype(np.float64)
    expected = [values.T @ scores, scores.sum(axis=0), transitions, *ends]
    result = model._unflatten(network_of(model).read("gradients"))
    size = max(1.0, float(np.abs(values).max(initial=1.0)))
    for own_gradient, of_oracle in zip(result, expected, strict=True):
        close(own_gradient, of_oracle.reshape(own_gradient.shape) / labelled, atol=1e-5 * size)
    assert not result[2][problem.forbidden[:-2]].any()


def test_sums_that_floating_point_loses_are_found_with_logarithms() -> None:
    """The only way to the end is one that all else outweighs by far more than float64 holds."""
    forbidden = [(0, 1), (0, None), (1, 0)]  # label 0 never becomes 1, and must not be the last
    model = Sequential([Input((None, 2)), CRF(2, forbidden)])
    model.set_weights([np.zeros(weight.shape) for weight in model.get_weights()])
    x = np.zeros((1, 50, 2), np.float32)
    x[:, :, 0] = 100
    x[:, 20, 0] = -3000
    assert (model.predict(x)[0, :, 1] == 1).all()
    assert model.predict_classes(x).tolist() == [[1] * 50]
    close(model.log_likelihoods(x, np.ones((1, 50))), [0.0])
    model.compile("sgd", "crf_likelihood")
    assert model.evaluate(x, np.ones((1, 50))) == 0


def test_a_label_that_cannot_be_reached_may_have_any_score() -> None:
    forbidden = [(None, 1), (0, 1)]
    model = Sequential([Input((None, 2)), CRF(2, forbidden)])
    model.set_weights([np.zeros(weight.shape) for weight in model.get_weights()])
    x = np.zeros((1, 300, 2), np.float32)
    x[:, :, 1] = 50
    assert (model.predict(x)[0, :, 0] == 1).all()
    network_of(model).gradient(Ragged(x[0], offsets_of([300])), Targets(np.zeros(300, np.int32)), "crf_likelihood")
    assert np.isfinite(network_of(model).read("gradients")).all()


def long_problem(labels: int, seed: int = 3) -> tuple[Sequential, list[npt.NDArray[Any]], list[npt.NDArray[Any]]]:
    random = np.random.default_rng(seed)
    model = Sequential([Input((None, labels)), CRF(labels)])
    model.set_weights([random.normal(0, 1, weight.shape) for weight in model.get_weights()])
    lengths = [1, 2, 30, 200, 7, 90]
    x = [random.normal(0, 3, (steps, labels)).astype(np.float32) for steps in lengths]
    return model, x, [random.integers(0, labels, steps) for steps in lengths]


@pytest.mark.parametrize("labels", [1, 9, 40])
def test_long_sequences_against_pytorch_crf(labels: int) -> None:
    torch, torchcrf = pytest.importorskip("torch"), pytest.importorskip("torchcrf")
    model, x, y = long_problem(labels)
    peer = torchcrf.CRF(labels, batch_first=True).double()
    with torch.no_grad():
        transitions, start, end = map(torch.from_numpy, model.get_weights())
        peer.transitions.copy_(transitions)
        peer.start_transitions.copy_(start[0])
        peer.end_transitions.copy_(end[0])
    lengths = torch.tensor([len(sequence) for sequence in x])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    pad = torch.nn.utils.rnn.pad_sequence
    emissions = pad([torch.from_numpy(sequence).double() for sequence in x], batch_first=True).requires_grad_()
    tags = pad([torch.from_numpy(sequence) for sequence in y], batch_first=True)
    likelihoods = peer(emissions, tags, mask, reduction="none")
    close(model.log_likelihoods(x, y), likelihoods.detach().numpy())
    assert [path.tolist() for path in model.predict_classes(x)] == peer.decode(emissions, mask)
    (-likelihoods.sum() / int(lengths.sum())).backward()
    data = Ragged.from_sequences(x)
    network_of(model).gradient(data, Targets(np.concatenate(y).astype(np.int32)), "crf_likelihood")
    expected = torch.cat(
        [part.grad.flatten() for part in (peer.transitions, peer.start_transitions, peer.end_transitions)]
    )
    close(network_of(model).read("gradients"), expected.numpy())


def test_paths_have_names() -> None:
    problem = Problem(5)
    paths = problem.network.decode(problem.data, 3)[1]
    assert isinstance(paths, Paths)
    assert paths.labels.shape == (3, problem.data.total_steps)
