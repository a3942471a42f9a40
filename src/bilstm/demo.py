"""`bilstm demo`: the tutorial's run, then a fair test of what the tutorial claims.

The tutorial (see `bilstm.problems`) says that a bidirectional LSTM learns "faster and even fuller" than a forward
one. Its own problem asks only about the past. Its comparison with a backward LSTM overlooks that Keras's
`LSTM(go_backwards=True, return_sequences=True)` returns its outputs in processing order, last step first, so that each
output is compared with another step's label. The test here reverses the outputs (`Reverse`), and adds two problems that
need the future and a forward LSTM with as many parameters as the bidirectional one.

It trains one sequence at a time, as the tutorial does, and scores the test set during training, which
`bilstm.compare` does not.
"""

from __future__ import annotations

import itertools
import os
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from bilstm.compare.variants import nearest_units
from bilstm.errors import UserError
from bilstm.layers import LSTM, Bidirectional, Dense, Layer, Reverse, TimeDistributed, count_parameters
from bilstm.models import Sequential
from bilstm.problems import cumulative_sum, echo, half_of_total
from bilstm.wording import aligned

MERGE_MODES = ("concat", "sum", "mul", "ave")
SEEDS = 5
T_QUANTILE = 2.776  # of Student's t distribution with SEEDS - 1 degrees of freedom, at 0.975
CHECKPOINTS = 20
TEST_SEQUENCES = 500
REPORTS = 10
GOAL = 0.9

PROBLEMS: dict[str, Callable[..., Any]] = {
    "cumulative sum": cumulative_sum,
    "half of total": half_of_total,
    "echo(1)": partial(echo, lag=1),
}
Data = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
Accuracy = npt.NDArray[np.float64]  # (…, seeds, checkpoints), between 0 and 1
TRAINING, TEST = 1, 2  # distinguish the seeds of the comparison's data


@dataclass(frozen=True)
class Contender:
    """A network of the comparison: one LSTM layer of some units in some direction, and a sigmoid at every step."""

    direction: str
    units: int
    merge_mode: str = "concat"

    @property
    def name(self) -> str:
        return f"{self.direction}, {self.units} units"

    def layers(self, steps: int) -> list[Layer]:
        """The layers, of which the first knows the shape of the input."""
        if self.direction == "forward":
            recurrent: list[Layer] = [LSTM(self.units, return_sequences=True, input_shape=(steps, 1))]
        elif self.direction == "backward":
            recurrent = [LSTM(self.units, return_sequences=True, go_backwards=True, input_shape=(steps, 1)), Reverse()]
        else:
            layer = LSTM(self.units, return_sequences=True)
            recurrent = [Bidirectional(layer, merge_mode=self.merge_mode, input_shape=(steps, 1))]
        return [*recurrent, TimeDistributed(Dense(1, activation="sigmoid"))]

    def build(self, steps: int, seed: int) -> Sequential:
        """The network, compiled, with initial weights from the seed."""
        model = Sequential(self.layers(steps), seed=seed)
        model.compile(loss="binary_crossentropy", optimizer="adam", metrics=["accuracy"])
        return model

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return count_parameters(self.layers(steps=1), 1)


@dataclass(frozen=True)
class Comparison:
    """The accuracies of every contender on every problem, from several seeds.

    Attributes:
        contenders: forward, forward with about the bidirectional network's parameters, backward, bidirectional.
        parameters: how many each of them has.
        problems: the tutorial's first, then those that need the future.
        seen: (checkpoints,) training sequences seen, from 0 to all.
        accuracy: (problems, contenders, seeds, checkpoints) on new sequences, between 0 and 1. The contenders of one
            seed are trained on the same sequences in the same order.
        baseline: (problems,) the accuracy of always predicting the majority class.
    """

    contenders: tuple[Contender, ...]
    parameters: tuple[int, ...]
    problems: tuple[str, ...]
    seen: npt.NDArray[np.int64]
    accuracy: npt.NDArray[np.float64]
    baseline: npt.NDArray[np.float64]


def run_demo(
    steps: int = 10,
    units: int = 20,
    sequences: int = 1000,
    merge_mode: str = "concat",
    seed: int | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Comparison:
    """Print the tutorial's run and the comparison, and draw the comparison's learning curves.

    Args:
        steps: the number of steps of every sequence, at least 2.
        units: LSTM units in each direction.
        sequences: how many sequences every network is trained on, one at a time.
        merge_mode: how the bidirectional network joins its directions: "concat", "sum", "mul" or "ave".
        seed: an integer from 0; the same seed gives the same figures. Default: 1.
        out: a file name ending in .png, .svg or .pdf for the picture, or a folder, in which it is called
            learning_curves.png. Default: `bilstm_demo.png` in the current folder.

    Raises:
        UserError: an argument is not one of the above, or the picture cannot be written.
    """
    from bilstm import plots

    seed = 1 if seed is None else seed
    check(steps, units, sequences, merge_mode, seed)
    path = plots.picture_path("bilstm_demo.png" if out is None else out, "learning_curves")
    bidirectional = Contender("bidirectional", units, merge_mode)

    run_tutorial(bidirectional, steps, sequences, seed)

    started = time.perf_counter()
    contenders = (
        Contender("forward", units),
        Contender("forward", forward_units(bidirectional.parameters)),
        Contender("backward", units),
        bidirectional,
    )
    comparison = compare(contenders, steps, sequences, seed)
    print()
    print(table(comparison))
    print()
    print(textwrap.fill(verdict(comparison), 110))
    panels = [
        plots.Panel(*panel) for panel in zip(comparison.problems, comparison.accuracy, comparison.baseline, strict=True)
    ]
    names = [contender.name for contender in comparison.contenders]
    title = f"Learning {steps} steps, one sequence at a time: mean of {SEEDS} seeds, band of one standard deviation"
    plots.save(plots.learning_curves(panels, names, comparison.seen, title), path)
    trained = comparison.accuracy[..., 0].size
    print(f"\n{trained} networks trained in {time.perf_counter() - started:.1f} s. Learning curves: {path}")
    return comparison


def forward_units(parameters: int) -> int:
    """The units that give a forward network the number of parameters nearest to this one."""
    return nearest_units(lambda units: Contender("forward", units).parameters, parameters)


def run_tutorial(contender: Contender, steps: int, sequences: int, seed: int) -> None:
    """Train one network on the tutorial's problem, one sequence at a time, and print how that goes."""
    generator = np.random.default_rng(seed)
    model = contender.build(steps, seed)
    how = f", {contender.merge_mode}" if contender.direction == "bidirectional" else ""
    print(f"The tutorial's run: {contender.name}{how}, {contender.parameters:,} parameters, learns from")
    print(f"{sequences:,} sequences of {steps} numbers whether their sum so far has reached {steps / 4:g}.\n")

    seconds = 0.0
    marks = np.unique(np.linspace(0, sequences, REPORTS + 1).astype(np.int64))
    with tqdm(total=sequences, unit=" sequences", leave=False, disable=None) as bar:
        for start, stop in itertools.pairwise(marks):
            X, y = cumulative_sum(int(stop - start), steps, seed=generator)
            before = time.perf_counter()
            history = model.fit(X, y, epochs=1, batch_size=1, shuffle=False, verbose=0).history
            seconds += time.perf_counter() - before
            bar.update(stop - start)
            with bar.external_write_mode():
                loss, accuracy = history["loss"][0], history["accuracy"][0]
                print(f"after {stop:>{len(str(sequences)) + 1},} sequences   loss {loss:.4f}   accuracy {accuracy:.4f}")

    X, y = cumulative_sum(1, steps, seed=generator)
    print(f"\nA new sequence\n{_side_by_side(X, y, model.predict_classes(X, verbose=0))}")
    accuracy = accuracy_of(model, cumulative_sum(1000, steps, seed=generator))
    print(f"\nAccuracy on 1,000 new sequences: {accuracy:.4f}. Training took {seconds:.3f} s.")


def compare(contenders: tuple[Contender, ...], steps: int, sequences: int, seed: int) -> Comparison:
    """Train every contender on every problem, from `SEEDS` seeds counted from `seed`."""
    seen = np.unique(np.linspace(0, sequences, CHECKPOINTS + 1).astype(np.int64))
    accuracy = np.empty((len(PROBLEMS), len(contenders), SEEDS, len(seen)))
    baseline = np.empty(len(PROBLEMS))
    with tqdm(total=accuracy[..., 0].size, unit=" networks", leave=False, disable=None) as bar:
        for problem, generate in enumerate(PROBLEMS.values()):
            test = generate(TEST_SEQUENCES, steps, seed=np.random.default_rng((seed, problem, TEST)))
            baseline[problem] = max(test[1].mean(), 1 - test[1].mean())
            for run in range(SEEDS):
                data = generate(sequences, steps, seed=np.random.default_rng((seed + run, problem, TRAINING)))
                for index, contender in enumerate(contenders):
                    model = contender.build(steps, seed + run)
                    accuracy[problem, index, run] = _learning_curve(model, data, test, seen)
                    bar.update()
    parameters = tuple(contender.parameters for contender in contenders)
    return Comparison(contenders, parameters, tuple(PROBLEMS), seen, accuracy, baseline)


def table(comparison: Comparison) -> str:
    """The accuracies after all training sequences, as text: a row a network, a column a problem."""
    final = 100 * comparison.accuracy[..., -1]
    header = ["", "parameters", *comparison.problems]
    rows = [["majority class", "–", *(f"{100 * share:.1f}      " for share in comparison.baseline)]]
    for index, (contender, parameters) in enumerate(zip(comparison.contenders, comparison.parameters, strict=True)):
        cells = [f"{values.mean():.1f} ± {values.std(ddof=1):3.1f}" for values in final[:, index]]
        rows.append([contender.name, f"{parameters:,}", *cells])
    title = (
        f"The same {comparison.seen[-1]:,} sequences for every network: accuracy on new ones in %, "
        f"mean of {SEEDS} seeds ± standard deviation"
    )
    return "\n".join([title, "", *(line.rstrip() for line in aligned([header, *rows]))])


def verdict(comparison: Comparison) -> str:
    """One sentence on what the figures say about the claim that a bidirectional LSTM learns faster and more fully.

    More fully: the accuracy at the end is higher. Faster: the mean accuracy over the whole learning curve is. Both
    count when the difference exceeds the half-width of its 95 % confidence interval (Student's t, paired by seed).
    """
    forward, as_large, _, both = np.moveaxis(comparison.accuracy, 1, 0)
    reached = partial(_reached, comparison.seen)
    needing_the_future = range(1, len(comparison.problems))
    names = " and ".join(comparison.problems[problem] for problem in needing_the_future)
    gains = " and ".join(str(Difference.between(both[problem], forward[problem])) for problem in needing_the_future)
    return (
        f"On the tutorial's own problem bidirectional learns {_how(both[0], forward[0])} than forward "
        f"({Difference.between(both[0], forward[0])} points at the end; {GOAL:.0%} {reached(both[0])}, "
        f"forward {reached(forward[0])}), and {_how(both[0], as_large[0])} than forward with as many parameters "
        f"({Difference.between(both[0], as_large[0])} points; {reached(as_large[0])}); "
        f"on {names}, which need the future, it differs from forward by {gains} points (±: 95 % confidence)."
    )


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences and the half-width of its 95 % confidence interval, in percentage points."""

    mean: float
    margin: float

    @classmethod
    def between(cls, first: Accuracy, second: Accuracy, *, over_the_curve: bool = False) -> Difference:
        """Of two models' (seeds, checkpoints): at the last checkpoint, or of the means over all of them."""
        differences = 100 * (first - second)
        paired = differences.mean(axis=1) if over_the_curve else differences[:, -1]
        return cls(float(paired.mean()), float(T_QUANTILE * paired.std(ddof=1) / len(paired) ** 0.5))

    @property
    def clear(self) -> bool:
        return abs(self.mean) > self.margin

    def word(self, more: str, less: str) -> str:
        if not self.clear:
            return f"not clearly {more}"
        return more if self.mean > 0 else less

    def __str__(self) -> str:
        return f"{self.mean:+.1f} ± {self.margin:.1f}"


def _how(first: Accuracy, second: Accuracy) -> str:
    speed = Difference.between(first, second, over_the_curve=True)
    end = Difference.between(first, second)
    if not (speed.clear or end.clear):
        return "neither clearly faster nor clearly more fully"
    return f"{speed.word('faster', 'slower')} and {end.word('more fully', 'less fully')}"


def _reached(seen: npt.NDArray[np.int64], accuracy: Accuracy) -> str:
    """After how many sequences the mean of (seeds, checkpoints) has first reached the goal, in words."""
    reached = np.flatnonzero(accuracy.mean(axis=0) >= GOAL)
    return f"after {seen[reached[0]]:,} sequences" if len(reached) else "never"


def _learning_curve(model: Sequential, data: Data, test: Data, seen: npt.NDArray[np.int64]) -> list[float]:
    """The model's accuracy on the test data before training and after each number of sequences seen."""
    X, y = data
    curve = [accuracy_of(model, test)]
    for start, stop in itertools.pairwise(seen):
        model.fit(X[start:stop], y[start:stop], epochs=1, batch_size=1, shuffle=False, verbose=0)
        curve.append(accuracy_of(model, test))
    return curve


def accuracy_of(model: Sequential, data: Data) -> float:
    scores = model.evaluate(*data, verbose=0, return_dict=True)
    assert isinstance(scores, dict)
    return scores["accuracy"]


def _side_by_side(X: npt.NDArray[Any], expected: npt.NDArray[Any], predicted: npt.NDArray[Any]) -> str:
    """A sequence, its running sum and its labels in columns, ten steps to a block."""
    numbers = X[0, :, 0].astype(float)
    rows = {
        "Number": [f"{number:.2f}" for number in numbers],
        "Sum": [f"{total:.2f}" for total in np.cumsum(numbers)],
        "Expected": [str(label) for label in expected[0, :, 0]],
        "Predicted": [str(label) for label in predicted[0, :, 0]],
    }
    width = max(len(cell) for cell in rows["Sum"])
    blocks = []
    for start in range(0, len(numbers), 10):
        lines = [
            f"  {name:<9}  " + "  ".join(cell.rjust(width) for cell in cells[start : start + 10])
            for name, cells in rows.items()
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def check(steps: int, units: int, sequences: int, merge_mode: str, seed: int) -> None:
    """Refuse arguments that are none of those of `run_demo`.

    Raises:
        UserError: one is not.
    """
    limits = {"steps": (steps, 2), "units": (units, 1), "sequences": (sequences, 1), "seed": (seed, 0)}
    for name, (value, least) in limits.items():
        if value < least:
            raise UserError(f"{name} must be at least {least}, not {value}")
    if merge_mode not in MERGE_MODES:
        raise UserError(f"the merge mode must be one of {', '.join(MERGE_MODES)}, not {merge_mode!r}")
