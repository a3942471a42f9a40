"""Learning rates that change from training step to training step, by Keras's names and formulas.

A schedule is given to an optimizer as its `learning_rate`. Steps are counted from 0 and continue from one `fit` to the
next.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from bilstm.arguments import call_of, check_count, check_number

__all__ = ["CosineDecay", "ExponentialDecay", "LearningRateSchedule", "PiecewiseConstantDecay"]


class LearningRateSchedule(ABC):
    """Base class: `schedule(step)` is the learning rate of a training step. A subclass defines `__call__`."""

    name: str | None = None

    @abstractmethod
    def __call__(self, step: int) -> float:
        """The learning rate of training step `step`, counted from 0."""

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same schedule, as plain data."""
        return dict(vars(self))

    def __repr__(self) -> str:
        return call_of(self)


class ExponentialDecay(LearningRateSchedule):
    """initial_learning_rate · decay_rate ^ (step / decay_steps).

    Args:
        initial_learning_rate: the rate of step 0.
        decay_steps: after how many steps the rate has fallen to `decay_rate` times what it was.
        decay_rate: a positive number.
        staircase: whether step / decay_steps is rounded down, so that the rate falls every `decay_steps` steps at once.
        name: not used.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str | None = None,
    ) -> None:
        self.initial_learning_rate = check_number("ExponentialDecay", "initial_learning_rate", initial_learning_rate)
        self.decay_steps = check_count("ExponentialDecay", "decay_steps", decay_steps)
        self.decay_rate = check_number("ExponentialDecay", "decay_rate", decay_rate)
        if self.decay_rate <= 0:
            raise ValueError(f"ExponentialDecay: decay_rate must be positive, not {decay_rate!r}")
        self.staircase = bool(staircase)

    def __call__(self, step: int) -> float:
        periods = step // self.decay_steps if self.staircase else step / self.decay_steps
        return float(self.initial_learning_rate * self.decay_rate**periods)


class CosineDecay(LearningRateSchedule):
    """Half a cosine from the highest rate to `alpha` times it; Loshchilov & Hutter, "SGDR: stochastic gradient descent
    with warm restarts", 2017. With `warmup_target` a linear rise to it comes first.

    Args:
        initial_learning_rate: the rate of step 0, and the highest if there is no `warmup_target`.
        decay_steps: steps of the decay; later steps have the lowest rate.
        alpha: the lowest rate as a share of the highest.
        name: not used.
        warmup_target: the highest rate.
        warmup_steps: steps of the rise.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str | None = None,
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        self.initial_learning_rate = check_number("CosineDecay", "initial_learning_rate", initial_learning_rate)
        self.decay_steps = check_count("CosineDecay", "decay_steps", decay_steps)
        self.alpha = check_number("CosineDecay", "alpha", alpha)
        self.warmup_target = None
        if warmup_target is not None:
            self.warmup_target = check_number("CosineDecay", "warmup_target", warmup_target)
        self.warmup_steps = check_count("CosineDecay", "warmup_steps", warmup_steps, 0)

    def __call__(self, step: int) -> float:
        highest = self.initial_learning_rate
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return highest + (self.warmup_target - highest) * step / self.warmup_steps
            highest, step = self.warmup_target, step - self.warmup_steps
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / self.decay_steps)))
        return highest * ((1.0 - self.alpha) * cosine + self.alpha)


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[0] up to and including step boundaries[0], then values[1] up to boundaries[1], and so on.

    Args:
        boundaries: increasing numbers of steps.
        values: learning rates, one more than boundaries.
        name: not used.
    """

    def __init__(self, boundaries: Sequence[int], values: Sequence[float], name: str | None = None) -> None:
        owner = type(self).__name__
        self.boundaries = [check_count(owner, "boundaries", boundary, 0) for boundary in boundaries]
        self.values = [check_number(owner, "values", value) for value in values]
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"{owner}: {len(self.boundaries)} boundaries need {len(self.boundaries) + 1} values, not "
                f"{len(self.values)}"
            )
        if sorted(set(self.boundaries)) != self.boundaries:
            raise ValueError(f"{owner}: boundaries must increase, not {self.boundaries}")

    def __call__(self, step: int) -> float:
        return self.values[sum(step > boundary for boundary in self.boundaries)]


SCHEDULES = {cls.__name__: cls for cls in (ExponentialDecay, CosineDecay, PiecewiseConstantDecay)}
