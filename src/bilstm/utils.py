"""Seeds and threads."""

from __future__ import annotations

import random as python_random

import numpy as np

from bilstm.engine.library import set_threads, target, threads

__all__ = ["new_seed", "set_random_seed", "set_threads", "target", "threads"]

_generator = np.random.default_rng()


def set_random_seed(seed: int) -> None:
    """Make all that follows repeatable: Python's and NumPy's generators, initial weights, shuffling and dropout.

    The same seed and data give the same weights, bit for bit, whatever the number of threads.
    """
    global _generator
    python_random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (other code may draw from it)
    _generator = np.random.default_rng(seed)


def new_seed() -> int:
    """A seed for something that was given none: random, or next in line after `set_random_seed`."""
    return int(_generator.integers(2**63))
