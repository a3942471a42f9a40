"""Training divided among workers: one answer for any number of them, to the last bit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm import utils
from bilstm.engine.network import ARRAYS, Network
from bilstm.engine.plans import OptimizerPlan, Targets, dense
from bilstm.models import Sequential
from bilstm.models.targets import make_targets
from bilstm.optimizers import SGD, Adam
from bilstm.ragged import Ragged, steps_of
from oracles.engines import own_builds, using
from oracles.models import Case, bits
from oracles.thresholds import SHARE_SEQUENCES, draw

Random = np.random.Generator

BUILDS = list(own_builds().values())
WORKERS = (1, 2, 3, 5)
STEPS = 50
SAMPLE = 12  # random networks in each run of the tests
MANY, CHUNK = 200, 20  # in `make test-slow`
MOST_SHARES = 8
OPTIMIZERS = [Adam(0.01), Adam(0.01, global_clipnorm=0.1), SGD(0.1, clipnorm=0.05), Adam(0.01, clipvalue=1e-3)]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = utils.threads()
    yield
    utils.set_threads(before)


def divide(case: Case) -> list[npt.NDArray[np.int64]]:
    network = case.model().network
    assert network is not None
    return network.divide(case.data.lengths)


def case_with_targets(seed: int) -> tuple[Case, Sequential, Targets]:
    case = draw(seed, small=True)
    model = case.model(OPTIMIZERS[seed % len(OPTIMIZERS)])
    network = model.network
    assert network is not None
    targets = make_targets(
        case.y, case.data, loss=case.loss, outputs=network.outputs, one_row_each=network.one_row_each
    )
    return case, model, targets


@dataclass
class Worker:
    """One process: a network of its own, on one of the processor's builds of the engine."""

    engine: Any
    model: Sequential

    def run(self, compute: Callable[[Network], Any]) -> Any:
        assert self.model.network is not None
        with using(self.engine):
            return compute(self.model.network)


@dataclass
class Workers:
    """A training that several workers divide among them, in another way at each step."""

    case: Case
    targets: Targets
    optimizer: OptimizerPlan
    random: Random
    members: list[Worker] = field(default_factory=list)

    def start(self, count: int) -> None:
        """With the state of the members before, if there are any."""
        before = self.members[:1]
        self.members = []
        for i in range(count):
            engine = BUILDS[i % len(BUILDS)]
            with using(engine):
                self.members.append(Worker(engine, self.case.model()))
        for name in ARRAYS[:4] if before else ():
            values = before[0].run(lambda network, name=name: network.read(name))
            for member in self.members:
                member.run(lambda network, name=name, values=values: network.write(values, name))
        for member in self.members if before else ():
            iteration = before[0].run(lambda network: network.iteration)
            member.run(lambda network, iteration=iteration: setattr(network, "iteration", iteration))

    def step(self) -> npt.NDArray[np.float64]:
        """One training step. Returns the batch's score."""
        shares = self.members[0].run(lambda network: network.divide(self.case.data.lengths))
        owners = self.random.integers(len(self.members), size=len(shares))
        scores, magnitudes = np.zeros((len(shares), 5)), []
        for i, member in enumerate(self.members):
            own = np.flatnonzero(owners == i)
            scores[own], magnitude = self._gradient(member, [shares[share] for share in own])
            magnitudes.append(magnitude)
        largest = max(magnitudes)
        sums = [member.run(lambda network: network.sum_of_shares(len(shares), largest)) for member in self.members]
        while len(sums) > 1:  # any two first
            one, other = (sums.pop(self.random.integers(len(sums))) for _ in range(2))
            sums.append(one + other)
        for member in self.members:
            member.run(lambda network: network.write(sums[0].astype(np.float32), "gradients"))
            member.run(lambda network: network.update(self.optimizer))
        return sum(scores, start=np.zeros(5))

    def _gradient(self, worker: Worker, shares: list[npt.NDArray[np.int64]]) -> tuple[Any, float]:
        """Of a worker that has no other sequences than those of its shares."""
        data, seed = self.case.data, self.case.seed
        chosen = np.concatenate([np.zeros(0, np.int64), *shares])
        rows = chosen if self.case.one_row_each else steps_of(data.offsets, chosen)
        numbers = np.split(np.arange(len(chosen)), np.cumsum([len(share) for share in shares])[:-1])
        part, targets = data[chosen], self.targets.take(rows)
        labelled = int(self.targets.labelled.sum())
        utils.set_threads(int(self.random.integers(1, 4)))
        found: tuple[Any, float] = worker.run(
            lambda network: network.gradient_of_shares(
                part, targets, numbers[: len(shares)], shares, labelled, self.case.loss, training=True, seed=seed
            )
        )
        return found

    def state(self) -> list[list[bytes]]:
        names = ("weights", "first_moments", "second_moments")
        return [[bits(member.run(lambda network, n=n: network.read(n))) for n in names] for member in self.members]


def check(seed: int) -> None:
    """Any division among any number of workers, with a restart half-way with another number of them."""
    case, alone, targets = case_with_targets(seed)
    optimizer: Any = alone.optimizer
    losses = [alone.train_on_batch(case.data, case.y) for _ in range(STEPS)]
    network = alone.network
    assert network is not None
    expected = [bits(network.read(name)) for name in ("weights", "first_moments", "second_moments")]
    for count in WORKERS:
        random = np.random.default_rng([seed, count])
        workers = Workers(case, targets, optimizer.plan(), random)
        for step in range(STEPS):
            if step in (0, STEPS // 2):
                workers.start(count if step == 0 else int(random.choice(WORKERS)))
            score = workers.step()
            assert list(alone.logs_of(score).values()) == losses[step]
        assert all(state == expected for state in workers.state())


@pytest.mark.parametrize("seed", range(SAMPLE))
def test_any_number_of_workers_learns_the_same(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(SAMPLE, SAMPLE + MANY, CHUNK))
def test_any_number_of_workers_learns_the_same_from_many_networks(first: int) -> None:
    for seed in range(first, first + CHUNK):
        check(seed)


def test_the_sample_has_batches_of_few_and_of_many_shares() -> None:
    shares = {len(divide(draw(seed, small=True))) for seed in range(SAMPLE)}
    assert {1, 2, MOST_SHARES} <= shares
    assert len(shares) >= 4


@pytest.mark.fast
@given(st.lists(st.integers(1, 1000), max_size=300))
@settings(max_examples=200)
def test_shares_are_of_about_as_many_sequences_and_steps(lengths: list[int]) -> None:
    shares = Network([dense(0, 1)], 1).divide(np.array(lengths, np.int64))
    assert sorted(np.concatenate(shares).tolist()) == list(range(len(lengths)))
    assert len(shares) == min(MOST_SHARES, max(1, len(lengths) // SHARE_SEQUENCES))
    if len(shares) == 1:
        assert shares[0].tolist() == list(range(len(lengths)))
        return
    counts = [len(share) for share in shares]
    steps = [sum(lengths[position] for position in share) for share in shares]
    assert max(counts) - min(counts) <= 1
    assert max(steps) - min(steps) <= max(lengths)


@pytest.mark.parametrize("seed", range(SAMPLE))
def test_the_sum_is_as_exact_as_float32_can_be(seed: int) -> None:
    """Its error against the true sum of the shares' gradients: half a unit in its last place, and what lies 2^-48 below
    the largest number.
    """
    case, model, targets = case_with_targets(seed)
    network = model.network
    assert network is not None
    shares = network.divide(case.data.lengths)
    each = []
    for share in shares:
        network.gradient_of_shares(case.data, targets, [share], [share], int(targets.labelled.sum()), case.loss)
        each.append(network.sum_of_shares(1, 0.0))
    true = np.array([math.fsum(numbers) for numbers in zip(*each, strict=True)])
    network.gradient(case.data, targets, case.loss)
    found, largest = network.read("gradients"), np.abs(each).max()
    assert (np.abs(found - true) <= np.spacing(np.abs(true).astype(np.float32)) / 2 + largest * 2.0**-48).all()


@pytest.mark.parametrize("seed", range(SAMPLE))
def test_no_order_of_additions_changes_the_sum(seed: int) -> None:
    case, model, targets = case_with_targets(seed)
    network = model.network
    assert network is not None
    shares = network.divide(case.data.lengths)

    def gradient(share: npt.NDArray[np.int64]) -> float:
        labelled = int(targets.labelled.sum())
        return network.gradient_of_shares(case.data, targets, [share], [share], labelled, case.loss)[1]

    largest, terms = max(map(gradient, shares)), []
    for share in shares:
        gradient(share)
        terms.append(network.sum_of_shares(len(shares), largest))
    orders = [np.random.default_rng([seed, i]).permutation(len(shares)) for i in range(10)]
    sums = {bits(sum((terms[i] for i in order), start=np.zeros(network.parameter_count))) for order in orders}
    assert len(sums) == 1
    network.gradient(case.data, targets, case.loss)
    assert bits(network.read("gradients")) == bits(np.frombuffer(sums.pop()).astype(np.float32))


@pytest.mark.parametrize("count", [1, 40, 100])
def test_gradients_that_are_not_finite_stay_so(count: int) -> None:
    """They are not rounded away, and the others are as they would be without them."""
    network = Network([dense(0, 2)], 2)
    values = np.tile(np.array([3e38, 1e-3], np.float32), (count, 1))
    data = Ragged(values, np.arange(count + 1))
    network.write(np.full(network.parameter_count, 100.0, np.float32))
    network.gradient(data, Targets(values=np.zeros((count, 2), np.float32)), "mean_squared_error")
    gradients = network.read("gradients")
    assert np.isinf(gradients[:2]).all()


def test_positions_and_sequences_are_as_many() -> None:
    case, model, targets = case_with_targets(0)
    assert model.network is not None
    with pytest.raises(ValueError, match="2 sequences have 1 positions"):
        model.network.gradient_of_shares(case.data, targets, [np.arange(2)], [np.arange(1)], len(case.data), case.loss)


def test_a_batch_with_fewer_labelled_rows_than_its_shares() -> None:
    case, model, targets = case_with_targets(0)
    assert model.network is not None
    everything = np.arange(len(case.data))
    with pytest.raises(ValueError, match="fewer labelled rows than some of its shares"):
        model.network.gradient_of_shares(case.data, targets, [everything], [everything], 0, case.loss)


def test_magnitudes_so_far_apart_that_float64_would_round() -> None:
    """Of a sum like 1e20 + 1 - 1e20 an order of additions decides, unless its terms are multiples of one quantum."""
    network, count = Network([dense(0, 1)], 1), 3 * SHARE_SEQUENCES
    data, values = Ragged(np.zeros((count, 1)), np.arange(count + 1)), np.zeros((count, 1), np.float32)
    shares = network.divide(data.lengths)
    values[shares[0]], values[shares[1]], values[shares[2]] = 1e20, -1e20, 1
    targets, terms, magnitudes = Targets(values=values), [], []
    for _ in range(2):  # the first time for the largest magnitude
        terms = []
        for share in shares:
            magnitudes.append(
                network.gradient_of_shares(data, targets, [share], [share], count, "mean_squared_error")[1]
            )
            terms.append(network.sum_of_shares(len(shares), max(magnitudes)))
    sums = {bits(terms[i] + terms[j] + terms[k]) for i, j, k in itertools.permutations(range(3))}
    assert len(sums) == 1
    network.gradient(data, targets, "mean_squared_error")
    assert bits(network.read("gradients")) == bits(np.frombuffer(sums.pop()).astype(np.float32))
    assert not network.sum_of_shares(3, 0.0).any()  # no shares are waiting to be added any more
