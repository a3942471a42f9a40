"""What the harness asks of a library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.speed.cases import GATES, Case, FloatArray


@dataclass(frozen=True)
class Setting:
    """One way in which a library can do a case.

    Attributes:
        name: in words, such as "packed, 2 threads"; unique within the library's process.
        exact: whether padding and rounding leave the results as they should be.
        granule: measured steps are a multiple of this, or fewer.
        options: what `prepare` needs to know.
    """

    name: str
    exact: bool = True
    granule: int = 1
    options: dict[str, Any] | None = None


@dataclass(frozen=True)
class Runner:
    """A network that is ready to run.

    Attributes:
        outputs: predicts the first batch with the present weights: (sequences, longest, outputs) probabilities, with
            anything after a sequence's last step.
        run: what is timed: trains on, or predicts, the first `steps` batches, and returns when all is done. Returns
            the mean loss of the training steps, each measured before its update; NaN for predictions.
    """

    outputs: Callable[[], npt.NDArray[Any]]
    run: Callable[[int], float]


class Peer(ABC):
    """A library in a process of its own, imported by the constructor."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Packages and their versions."""

    @abstractmethod
    def settings(self, case: Case) -> list[Setting]:
        """The ways that may be this library's best for the case; none where it cannot do it."""

    @abstractmethod
    def prepare(self, case: Case, setting: Setting) -> Runner:
        """Make the network with the case's weights, and bring the data into the library's own form."""


NO_LOSS = float("nan")


def gates_to(case: Case, weights: FloatArray, order: str) -> FloatArray:
    """(…, gates·units) with gates in Keras's order -> another order, such as "iofc"."""
    gates = GATES[case.cell]
    blocks = dict(zip(gates, np.split(weights, len(gates), axis=-1), strict=True))
    return np.concatenate([blocks[gate] for gate in order], axis=-1)


def directions(case: Case) -> Iterator[tuple[int, int, list[FloatArray]]]:
    """(layer, direction, [kernel, recurrent kernel, bias]) of all cells; direction 1 is backward."""
    for number in range(2 * case.layers):
        yield number // 2, number % 2, case.weights[3 * number : 3 * number + 3]
