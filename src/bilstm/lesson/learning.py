"""Three networks that learn the same problem from the same sequences."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.demo import PROBLEMS, TEST, TEST_SEQUENCES, TRAINING, Contender, accuracy_of
from bilstm.problems import echoed, half_reached, quarter_reached
from bilstm.ragged import FloatArray

DIRECTIONS = ("forward", "backward", "bidirectional")
LABELS: dict[str, Callable[[FloatArray], npt.NDArray[np.bool_]]] = {
    "cumulative sum": quarter_reached,
    "half of total": half_reached,
    "echo(1)": partial(echoed, lag=1),
}


@dataclasses.dataclass(frozen=True)
class Scores:
    """How far learning has come.

    Attributes:
        seen: how many sequences each network has learned from.
        loss: of each network, the mean of the sequences that it has learned from last; None before the first.
        accuracy: of each network, on new sequences.
    """

    seen: int
    loss: list[float] | None
    accuracy: list[float]


class Lesson:
    """A forward, a backward and a bidirectional LSTM on a problem: those of `bilstm demo`, with the first of its seeds.

    Args:
        problem: one of `LABELS`.
        steps, units, sequences, merge_mode, seed: see `run_demo`.

    Attributes:
        contenders: the networks, as `DIRECTIONS` has them.
        majority: the accuracy of always giving the majority class.
        example: (steps,) float32, the numbers of a new sequence.
        done: how many sequences have been learned from.
        total: how many there are.
    """

    def __init__(self, problem: str, steps: int, units: int, sequences: int, merge_mode: str, seed: int) -> None:
        index = list(PROBLEMS).index(problem)
        generate, self._labels = PROBLEMS[problem], LABELS[problem]
        self._data = generate(sequences, steps, seed=np.random.default_rng((seed, index, TRAINING)))
        self._test = generate(TEST_SEQUENCES, steps, seed=np.random.default_rng((seed, index, TEST)))
        self.contenders = [Contender(direction, units, merge_mode) for direction in DIRECTIONS]
        self._networks = [contender.build(steps, seed) for contender in self.contenders]
        share = self._test[1].mean()
        self.majority = float(max(share, 1 - share))
        self.example: FloatArray = self._test[0][0, :, 0]
        self.done, self.total = 0, sequences

    def learn(self, sequences: int) -> Scores:
        """Learn from the next sequences, one after the other, or from what is left of them."""
        chosen = slice(self.done, min(self.total, self.done + sequences))
        if chosen.start == chosen.stop:
            return self.scores()
        X, y = (each[chosen] for each in self._data)
        options: dict[str, Any] = {"epochs": 1, "batch_size": 1, "shuffle": False, "verbose": 0}
        losses = [network.fit(X, y, **options).history["loss"][0] for network in self._networks]
        self.done = chosen.stop
        return self.scores(losses)

    def scores(self, losses: list[float] | None = None) -> Scores:
        return Scores(self.done, losses, [accuracy_of(network, self._test) for network in self._networks])

    def truth(self, numbers: FloatArray) -> list[int]:
        """The true label of each step of a sequence."""
        return [int(label) for label in self._labels(numbers)]

    def answers(self, numbers: FloatArray) -> list[list[float]]:
        """For each network, at each step of a sequence the probability of label 1."""
        rows = numbers[np.newaxis, :, np.newaxis]
        return [network.predict(rows, verbose=0)[0, :, 0].astype(float).tolist() for network in self._networks]
