"""Generated problems: sequences of random numbers with a label at every step.

They differ in where the answer lies: in the past (`cumulative_sum`), on both sides (`half_of_total`) or at a
chosen distance to either side (`echo`). In all three the label is a function of the sequence, so a model that sees
the whole of it can in principle reach an accuracy of 1.

`cumulative_sum` is the problem of Jason Brownlee's tutorial "How to Develop a Bidirectional LSTM For Sequence
Classification in Python with Keras" (Machine Learning Mastery, 2017).
"""

from __future__ import annotations

import operator
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from bilstm.ragged import FloatArray, Ragged

LabelArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Lengths = tuple[int, int]
Seed = int | np.random.Generator | None


@overload
def cumulative_sum(
    n_sequences: int, steps: int, *, seed: Seed = None, ragged: Literal[False] = False
) -> tuple[FloatArray, LabelArray]: ...
@overload
def cumulative_sum(
    n_sequences: int, steps: int | Lengths, *, seed: Seed = None, ragged: bool = False
) -> tuple[FloatArray, LabelArray] | tuple[Ragged, Ragged]: ...
def cumulative_sum(n_sequences: int, steps: int | Lengths, *, seed: Seed = None, ragged: bool = False) -> Any:
    """The tutorial's problem: has the running sum reached a quarter of the number of steps?

    Label 1 from the step at which x[0] + … + x[t] >= n / 4, n being the sequence's own number of steps, and 0
    before. The past decides, provided n is known: a forward model can reach an accuracy of 1 where all sequences
    have one length.

    Args:
        n_sequences: how many sequences, at least 1.
        steps: the number of steps of every sequence; or (shortest, longest), and each sequence's number of steps is
            drawn from this range, both ends included.
        seed: an integer or a numpy Generator for the same sequences again; None for new ones every time.
        ragged: True for Ragged output, which a pair of lengths gives in any case.

    Returns:
        (X, y): X is (n_sequences, steps, 1) float32, uniform on [0, 1), and y is (n_sequences, steps, 1) int64, 0
        or 1. As Ragged, both have one feature, y too as float32.

    Raises:
        ValueError: an argument is not one of the above.
    """
    numbers, lengths = _draw(n_sequences, steps, seed)
    return _deliver(numbers, quarter_reached(numbers, lengths[:, np.newaxis]), lengths, steps, ragged)


@overload
def half_of_total(
    n_sequences: int, steps: int, *, seed: Seed = None, ragged: Literal[False] = False
) -> tuple[FloatArray, LabelArray]: ...
@overload
def half_of_total(
    n_sequences: int, steps: int | Lengths, *, seed: Seed = None, ragged: bool = False
) -> tuple[FloatArray, LabelArray] | tuple[Ragged, Ragged]: ...
def half_of_total(n_sequences: int, steps: int | Lengths, *, seed: Seed = None, ragged: bool = False) -> Any:
    """Has the running sum reached half of the sequence's own total?

    Label 1 from the step at which x[0] + … + x[t] is at least half of x[0] + … + x[n - 1], so always at the last, and
    0 before. What came and what comes have to be summed and compared: the past alone decides near the two ends and
    leaves a guess in the middle.

    Arguments, results and errors are those of `cumulative_sum`.
    """
    numbers, lengths = _draw(n_sequences, steps, seed)
    return _deliver(numbers, half_reached(numbers), lengths, steps, ragged)


@overload
def echo(
    n_sequences: int, steps: int, *, lag: int = 1, seed: Seed = None, ragged: Literal[False] = False
) -> tuple[FloatArray, LabelArray]: ...
@overload
def echo(
    n_sequences: int, steps: int | Lengths, *, lag: int = 1, seed: Seed = None, ragged: bool = False
) -> tuple[FloatArray, LabelArray] | tuple[Ragged, Ragged]: ...
def echo(n_sequences: int, steps: int | Lengths, *, lag: int = 1, seed: Seed = None, ragged: bool = False) -> Any:
    """Does the number `lag` steps later (earlier, when negative) exceed one half?

    Label 1 where there is such a step and its number is greater than 0.5; otherwise 0, so the last `lag` steps
    (the first, when negative) are always 0. The model that sees the side in question can reach an accuracy of 1; one
    that sees only the other can do no better than to answer 0, which is right with probability
    1 / 2 + |lag| / (2 n) on average in a sequence of n steps, n >= |lag|.

    Args:
        lag: distance in steps, 0 included, smaller in size than the longest sequence.

    The other arguments, results and errors are those of `cumulative_sum`.
    """
    lag = _integer("lag", lag)
    longest = max(_shortest_and_longest(steps))
    if abs(lag) >= longest:
        raise ValueError(
            f"lag must be smaller in size than the longest sequence, {longest} steps, not {lag}: every label would be 0"
        )
    numbers, lengths = _draw(n_sequences, steps, seed)
    return _deliver(numbers, echoed(numbers, lag), lengths, steps, ragged)


def quarter_reached(numbers: FloatArray, steps: npt.ArrayLike | None = None) -> BoolArray:
    """The labels of `cumulative_sum`.

    Args:
        numbers: (…, longest), 0 after a sequence's last step.
        steps: the numbers of steps, with a last dimension of 1; None: all have the longest.
    """
    lengths = numbers.shape[-1] if steps is None else np.asarray(steps)
    return np.asarray(_running_sums(numbers) >= lengths / 4)


def half_reached(numbers: FloatArray) -> BoolArray:
    """The labels of `half_of_total` for (…, longest) numbers, 0 after a sequence's last step."""
    sums = _running_sums(numbers)
    return np.asarray(2 * sums >= sums[..., -1:])


def echoed(numbers: FloatArray, lag: int = 1) -> BoolArray:
    """The labels of `echo` for (…, longest) numbers, 0 after a sequence's last step."""
    exceeds = np.asarray(numbers > 0.5)
    labels = np.zeros_like(exceeds)
    if lag >= 0:
        labels[..., : exceeds.shape[-1] - lag] = exceeds[..., lag:]
    else:
        labels[..., -lag:] = exceeds[..., :lag]
    return labels


def _draw(n_sequences: int, steps: int | Lengths, seed: Seed) -> tuple[FloatArray, LabelArray]:
    """(n_sequences, longest) numbers, 0 after each sequence's last step, and (n_sequences,) lengths."""
    n_sequences = _integer("n_sequences", n_sequences)
    if n_sequences < 1:
        raise ValueError(f"n_sequences must be at least 1, not {n_sequences}")
    shortest, longest = _shortest_and_longest(steps)
    try:
        generator = np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise ValueError(f"seed must be None, an integer from 0 or a numpy Generator, not {seed!r}") from None
    lengths = np.full(n_sequences, longest, np.int64)
    if shortest < longest:
        lengths = generator.integers(shortest, longest, n_sequences, endpoint=True)
    numbers = generator.random((n_sequences, longest), np.float32)
    numbers[np.arange(longest) >= lengths[:, np.newaxis]] = 0  # leaves every sum and every echo as it is
    return numbers, lengths


def _running_sums(numbers: FloatArray) -> npt.NDArray[np.float64]:
    # In float64, where the sum of a few thousand float32 numbers is exact or nearly so.
    return np.cumsum(numbers, axis=-1, dtype=np.float64)


def _deliver(
    numbers: FloatArray, labels: npt.NDArray[np.bool_], lengths: LabelArray, steps: int | Lengths, ragged: bool
) -> tuple[FloatArray, LabelArray] | tuple[Ragged, Ragged]:
    if ragged or isinstance(steps, (tuple, list)):
        return Ragged.from_padded(numbers, lengths), Ragged.from_padded(labels, lengths)
    return numbers[:, :, np.newaxis], labels[:, :, np.newaxis].astype(np.int64)


def _shortest_and_longest(steps: int | Lengths) -> Lengths:
    if not isinstance(steps, (tuple, list)):
        length = _integer("steps", steps)
        if length < 1:
            raise ValueError(f"steps must be at least 1, not {length}")
        return length, length
    if len(steps) != 2:
        raise ValueError(f"steps must be an integer or a pair (shortest, longest), not {steps!r}")
    shortest, longest = _integer("steps", steps[0]), _integer("steps", steps[1])
    if not 1 <= shortest <= longest:
        raise ValueError(
            f"steps must be a pair (shortest, longest) with 1 <= shortest <= longest, not {(shortest, longest)}"
        )
    return shortest, longest


def _integer(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be an integer, not {value!r}") from None
