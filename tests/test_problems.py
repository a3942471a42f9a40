"""The generated problems against their definitions, written out again in plain Python, and against each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.problems import cumulative_sum, echo, half_of_total
from bilstm.ragged import Ragged

pytestmark = pytest.mark.fast

Problem = Callable[..., Any]
Definition = Callable[[list[float]], list[int]]


def quarter_reached(numbers: list[float]) -> list[int]:
    return [0 if total < len(numbers) / 4 else 1 for total in itertools.accumulate(numbers)]


def half_reached(numbers: list[float]) -> list[int]:
    running = list(itertools.accumulate(numbers))
    return [int(total >= running[-1] / 2) for total in running]


def echoed(lag: int, numbers: list[float]) -> list[int]:
    steps = range(len(numbers))
    return [int(step + lag in steps and numbers[step + lag] > 0.5) for step in steps]


PROBLEMS: dict[str, tuple[Problem, Definition]] = {
    "cumulative_sum": (cumulative_sum, quarter_reached),
    "half_of_total": (half_of_total, half_reached),
    "echo(2)": (partial(echo, lag=2), partial(echoed, 2)),
    "echo(-1)": (partial(echo, lag=-1), partial(echoed, -1)),
    "echo(0)": (partial(echo, lag=0), partial(echoed, 0)),
}
every_problem = pytest.mark.parametrize("name", PROBLEMS)
every_generator = pytest.mark.parametrize("problem", [cumulative_sum, half_of_total, echo])
seeds = st.integers(0, 2**32)


@every_problem
@given(count=st.integers(1, 20), steps=st.integers(3, 60), seed=seeds)
def test_labels_of_an_array_follow_the_definition(name: str, count: int, steps: int, seed: int) -> None:
    problem, definition = PROBLEMS[name]
    X, y = problem(count, steps, seed=seed)
    assert X.shape == y.shape == (count, steps, 1)
    assert X.dtype == np.float32
    assert y.dtype == np.int64
    assert y[:, :, 0].tolist() == [definition(sequence) for sequence in X[:, :, 0].tolist()]


@every_problem
@given(count=st.integers(1, 20), shortest=st.integers(1, 10), more=st.integers(3, 20), seed=seeds)
def test_labels_of_ragged_sequences_follow_the_definition(
    name: str, count: int, shortest: int, more: int, seed: int
) -> None:
    problem, definition = PROBLEMS[name]
    X, y = problem(count, (shortest, shortest + more), seed=seed)
    assert isinstance(X, Ragged)
    assert isinstance(y, Ragged)
    assert len(X) == count
    assert (X.offsets == y.offsets).all()
    for numbers, labels in zip(X, y, strict=True):
        assert shortest <= len(numbers) <= shortest + more
        assert labels[:, 0].tolist() == definition(numbers[:, 0].tolist())


@every_problem
def test_every_length_of_the_range_occurs_and_numbers_are_uniform(name: str) -> None:
    X, _ = PROBLEMS[name][0](3000, (2, 6), seed=1)
    lengths, counts = np.unique(X.lengths, return_counts=True)
    assert lengths.tolist() == [2, 3, 4, 5, 6]
    assert counts.min() > 500  # 600 expected of each, 22 the standard deviation
    assert 0 <= X.values.min() < 0.01
    assert 0.99 < X.values.max() < 1
    deciles, _ = np.histogram(X.values, bins=10, range=(0, 1))
    assert abs(deciles / X.total_steps - 0.1).max() < 0.01  # 0.0027 the standard deviation


@every_problem
def test_ragged_output_equals_the_array(name: str) -> None:
    problem, _ = PROBLEMS[name]
    X, y = problem(7, 9, seed=3)
    ragged_X, ragged_y = problem(7, 9, seed=3, ragged=True)
    pair_X, pair_y = problem(7, (9, 9), seed=3)
    for ragged, pair, array in ((ragged_X, pair_X, X), (ragged_y, pair_y, y)):
        assert isinstance(ragged, Ragged)
        assert (ragged.to_padded() == array).all()
        assert (pair.values == ragged.values).all()
        assert (pair.offsets == ragged.offsets).all()


@every_problem
def test_a_seed_gives_the_same_sequences_and_a_generator_new_ones(name: str) -> None:
    problem, _ = PROBLEMS[name]
    first, second = (problem(5, 8, seed=11) for _ in range(2))
    assert all((one == other).all() for one, other in zip(first, second, strict=True))
    assert (problem(5, 8, seed=np.random.default_rng(11))[0] == first[0]).all()
    assert (problem(5, 8, seed=12)[0] != first[0]).any()
    generator = np.random.default_rng(11)
    assert (problem(5, 8, seed=generator)[0] != problem(5, 8, seed=generator)[0]).any()
    assert (problem(5, 8)[0] != problem(5, 8)[0]).any()


@given(steps=st.integers(2, 30), cut=st.integers(1, 29), seed=seeds)
def test_the_past_decides_cumulative_sum(steps: int, cut: int, seed: int) -> None:
    """Other numbers from step `cut` on leave the labels before it as they were: recomputed on a changed copy."""
    X, y = cumulative_sum(1, steps, seed=seed)
    numbers = X[0, :, 0].tolist()
    numbers[cut:] = [1 - number for number in numbers[cut:]]
    assert quarter_reached(numbers)[:cut] == y[0, :cut, 0].tolist()


@pytest.mark.parametrize("problem", [cumulative_sum, half_of_total])
def test_running_sums_turn_a_label_once_and_for_good(problem: Problem) -> None:
    _, y = problem(200, 15, seed=5)
    turns = np.diff(y[:, :, 0], axis=1)
    assert (turns >= 0).all()
    assert (turns.sum(axis=1) == 1).mean() > 0.95


def test_half_of_total_read_backwards_is_its_opposite() -> None:
    """x[0] + … + x[t] >= half of the total, exactly where x[t + 1] + … + x[n - 1] is not more than half."""
    X, y = half_of_total(100, 12, seed=8)
    mirrored = np.array([half_reached(sequence[::-1].tolist()) for sequence in X[:, :, 0]])
    assert (y[:, :-1, 0] == 1 - mirrored[:, ::-1][:, 1:]).all()
    assert (y[:, -1] == 1).all()


@given(lag=st.integers(-8, 8), count=st.integers(1, 5), steps=st.integers(9, 20), seed=seeds)
def test_echo_of_the_reversed_sequence_is_the_opposite_echo_reversed(
    lag: int, count: int, steps: int, seed: int
) -> None:
    X, y = echo(count, steps, lag=lag, seed=seed)
    same_X, opposite = echo(count, steps, lag=-lag, seed=seed)
    assert (X == same_X).all()
    mirrored = np.array([echoed(lag, sequence[::-1].tolist()) for sequence in X[:, :, 0]])
    assert (mirrored[:, ::-1] == opposite[:, :, 0]).all()
    if lag > 0:
        assert (y[:, :-lag, 0] == (X[:, lag:, 0] > 0.5)).all()
        assert (y[:, -lag:] == 0).all()


@pytest.mark.parametrize("lag", [1, -3])
def test_answering_zero_is_right_as_often_as_documented(lag: int) -> None:
    _, y = echo(20_000, 10, lag=lag, seed=2)
    assert (y == 0).mean() == pytest.approx(1 / 2 + abs(lag) / 20, abs=0.005)


def test_one_step_is_a_sequence_too() -> None:
    assert half_of_total(3, 1, seed=0)[1].tolist() == [[[1]]] * 3
    X, y = cumulative_sum(50, 1, seed=0)
    assert (y == (X >= 0.25)).all()


@every_generator
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 10), "n_sequences must be at least 1, not 0"),
        ((2.5, 10), "n_sequences must be an integer, not 2.5"),
        ((5, 0), "steps must be at least 1, not 0"),
        ((5, "ten"), "steps must be an integer, not 'ten'"),
        ((5, (3, 2)), r"steps must be a pair \(shortest, longest\) with 1 <= shortest <= longest, not \(3, 2\)"),
        ((5, (0, 2)), r"with 1 <= shortest <= longest, not \(0, 2\)"),
        ((5, (1, 2, 3)), r"steps must be an integer or a pair \(shortest, longest\), not \(1, 2, 3\)"),
        ((5, (1.5, 3)), "steps must be an integer, not 1.5"),
    ],
)
def test_bad_arguments(problem: Problem, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        problem(*arguments)


@every_generator
@pytest.mark.parametrize("seed", [-1, "one", 1.5])
def test_bad_seeds(problem: Problem, seed: Any) -> None:
    with pytest.raises(ValueError, match="seed must be None, an integer from 0 or a numpy Generator, not"):
        problem(3, 4, seed=seed)


@pytest.mark.parametrize("lag", [10, -10, 25])
def test_a_lag_beyond_the_longest_sequence(lag: int) -> None:
    with pytest.raises(ValueError, match=f"smaller in size than the longest sequence, 10 steps, not {lag}"):
        echo(3, (2, 10), lag=lag)


def test_a_lag_that_is_no_integer() -> None:
    with pytest.raises(ValueError, match="lag must be an integer, not 1.5"):
        echo(3, 10, lag=1.5)  # type: ignore[call-overload]
