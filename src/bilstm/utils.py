"""Seeds, threads, padding, and batches by their index."""

from __future__ import annotations

import random as python_random
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_choice, check_count
from bilstm.engine.library import set_threads, target, threads

__all__ = [
    "PyDataset",
    "Sequence",
    "new_seed",
    "pad_sequences",
    "set_random_seed",
    "set_threads",
    "target",
    "threads",
]

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


class Sequence:
    """Batches by their index, for `Sequential.fit`: a subclass defines `__len__` and `__getitem__`. Keras's name."""

    def __len__(self) -> int:
        """The number of batches of an epoch."""
        raise NotImplementedError(f"{type(self).__name__} must define __len__, the number of batches")

    def __getitem__(self, index: int) -> Any:
        """Batch number `index`, from 0: (x, y) or (x, y, sample_weight)."""
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__, which returns a batch")

    def on_epoch_end(self) -> None:
        """Called after each epoch."""


PyDataset = Sequence  # Keras 3's name


def pad_sequences(
    sequences: Iterable[Any],
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: float = 0.0,
) -> npt.NDArray[Any]:
    """Make an array of sequences of different lengths, as Keras's function of this name does.

    bilstm needs no padding: a list of arrays is read as it is. A padded array needs `Masking`, or `Embedding` with
    mask_zero, where padding is not to be read as data.

    Args:
        sequences: lists or arrays of shape (steps,) or (steps, …).
        maxlen: steps of the array; the longest sequence's if left out.
        dtype: of the array.
        padding: "pre" or "post": where `value` is put in shorter sequences.
        truncating: "pre" or "post": where longer sequences lose steps.
        value: what fills the shorter sequences.

    Returns:
        (n, maxlen, …) of `dtype`.

    Raises:
        ValueError: other options, sequences that are none, or that differ in the shape of their steps.
    """
    check_choice("pad_sequences", "padding", padding, ("pre", "post"))
    check_choice("pad_sequences", "truncating", truncating, ("pre", "post"))
    arrays = [np.asarray(sequence) for sequence in sequences]
    shape: tuple[int, ...] = next((array.shape[1:] for array in arrays if array.size), ())
    for index, array in enumerate(arrays):
        if array.ndim == 0 or (array.size and array.shape[1:] != shape):
            raise ValueError(f"pad_sequences: sequence {index} has steps of shape {array.shape[1:]}, not {shape}")
    longest = max(map(len, arrays), default=0)
    steps = longest if maxlen is None else check_count("pad_sequences", "maxlen", maxlen, 0)
    padded = np.full((len(arrays), steps, *shape), value, dtype)
    for row, array in zip(padded, arrays, strict=True):
        kept = array[max(0, len(array) - steps) :] if truncating == "pre" else array[:steps]
        if len(kept):
            row[slice(steps - len(kept), None) if padding == "pre" else slice(len(kept))] = kept
    return padded
