"""A linear-chain CRF by enumeration: every sequence of labels, its score and its probability, in float64."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def log_sum(values: Array) -> float:
    """log(exp(values[0]) + …), minus infinity for none."""
    most = values.max(initial=-np.inf)
    return float(most + np.log(np.exp(values - most).sum())) if np.isfinite(most) else float(most)


@dataclass
class Chain:
    """The weights of a CRF; forbidden transitions have a score of minus infinity.

    Attributes:
        transitions: (labels, labels), from, to.
        start, end: (labels,).
    """

    transitions: Array
    start: Array
    end: Array

    @classmethod
    def of(cls, weights: list[Any], forbidden: npt.NDArray[np.bool_] | None = None) -> Chain:
        transitions, start, end = (np.array(weight, np.float64) for weight in weights)
        if forbidden is not None:
            transitions[forbidden[:-2]] = start[:, forbidden[-2]] = end[:, forbidden[-1]] = -np.inf
        return cls(transitions, start[0], end[0])

    def score(self, emissions: Array, labels: tuple[int, ...]) -> float:
        total = self.start[labels[0]] + self.end[labels[-1]]
        total += sum(self.transitions[pair] for pair in itertools.pairwise(labels))
        return float(total + sum(emissions[step, label] for step, label in enumerate(labels)))

    def paths(self, emissions: Array, allowed: Array | None = None) -> tuple[list[tuple[int, ...]], Array]:
        """All sequences of labels that are possible, and their scores."""
        steps, labels = emissions.shape
        may_be = np.ones((steps, labels), bool) if allowed is None else np.asarray(allowed, bool)
        every = list(itertools.product(*(np.flatnonzero(row).tolist() for row in may_be)))
        scores = np.array([self.score(emissions, path) for path in every])
        possible = scores > -np.inf
        return [path for path, is_possible in zip(every, possible, strict=True) if is_possible], scores[possible]

    def best(self, emissions: Array, count: int) -> list[tuple[tuple[int, ...], float]]:
        """The best sequences and the logarithms of their probabilities; of equal ones first the lowest last labels."""
        paths, scores = self.paths(emissions)
        order = sorted(range(len(paths)), key=lambda i: (-scores[i], paths[i][::-1]))
        return [(paths[i], scores[i] - log_sum(scores)) for i in order[:count]]

    def expected(self, emissions: Array, allowed: Array | None = None) -> tuple[float, Array, Array]:
        """The logarithm of the sum over all sequences of labels, (steps, labels) each label's probability at each step,
        and (labels, labels) the expected number of each transition.
        """
        paths, scores = self.paths(emissions, allowed)
        total = log_sum(scores)
        marginals, pairs = np.zeros(emissions.shape), np.zeros((emissions.shape[1],) * 2)
        for path, probability in zip(paths, np.exp(scores - total), strict=True):
            marginals[np.arange(len(path)), path] += probability
            for pair in itertools.pairwise(path):
                pairs[pair] += probability
        return total, marginals, pairs
