"""What the harness asks of a library."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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

    convolves = False  # whether cases with a convolution are measured, too

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


class Predicting(Peer):
    """A library that only predicts: with one thread, with all, or with a batch on each processor at the same time."""

    divides = True  # whether it divides one prediction among threads

    @abstractmethod
    def load(self, case: Case, threads: int) -> Callable[[Any], Any]:
        """A network of its own, which turns a batch into its outputs and may be called from one thread at a time."""

    def batches(self, case: Case) -> list[Any]:
        """The data in the library's own form: (steps, sequences, inputs) unless another is its best."""
        return [np.ascontiguousarray(batch.x.swapaxes(0, 1)) for batch in case.data]

    def padded(self, case: Case, predicted: Any) -> npt.NDArray[Any]:
        """(sequences, longest, outputs) of what the network returns."""
        return np.asarray(predicted).reshape(case.longest, case.sequences, case.outputs).swapaxes(0, 1)

    def settings(self, case: Case) -> list[Setting]:
        if case.trains:
            return []
        processors = os.cpu_count() or 1
        counts = sorted({1, processors}) if self.divides else [1]
        settings = [
            Setting(f"{threads} thread{'s'[: threads - 1]}", options={"threads": threads, "at_once": 1})
            for threads in counts
        ]
        if case.sequences > 1 and processors > 1:
            options = {"threads": 1, "at_once": processors}
            settings.append(Setting(f"{processors} batches at once", granule=processors, options=options))
        return settings

    def prepare(self, case: Case, setting: Setting) -> Runner:
        assert setting.options is not None
        options = dict(setting.options)
        at_once = options.pop("at_once")
        networks = [self.load(case, **options) for _ in range(at_once)]
        batches = self.batches(case)

        def outputs() -> npt.NDArray[Any]:
            return self.padded(case, networks[0](batches[0]))

        def run(steps: int) -> float:
            for batch in batches[:steps]:
                networks[0](batch)
            return NO_LOSS

        if len(networks) == 1:
            return Runner(outputs, run)
        pool = ThreadPoolExecutor(len(networks))

        def run_some(number: int, steps: int) -> None:
            for batch in batches[number : steps : len(networks)]:
                networks[number](batch)

        def run_at_once(steps: int) -> float:
            for done in [pool.submit(run_some, number, steps) for number in range(len(networks))]:
                done.result()
            return NO_LOSS

        return Runner(outputs, run_at_once)


def gates_to(case: Case, weights: FloatArray, order: str) -> FloatArray:
    """(…, gates·units) with gates in Keras's order -> another order, such as "iofc"."""
    gates = GATES[case.cell]
    blocks = dict(zip(gates, np.split(weights, len(gates), axis=-1), strict=True))
    return np.concatenate([blocks[gate] for gate in order], axis=-1)


def directions(case: Case) -> Iterator[tuple[int, int, list[FloatArray]]]:
    """(layer, direction, [kernel, recurrent kernel, bias]) of all cells; direction 1 is backward."""
    weights = case.weights[2 if case.filters else 0 :]
    for number in range(2 * case.layers):
        yield number // 2, number % 2, weights[3 * number : 3 * number + 3]
