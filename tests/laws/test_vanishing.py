"""Numbers too small to matter become zero: subnormal ones would slow a processor down by a factor of ten."""

from __future__ import annotations

import numpy as np
import pytest

from bilstm.layers import LSTM, Bidirectional, Dense, Embedding
from bilstm.models import Sequential
from bilstm.ragged import FloatArray
from oracles.models import CELLS


def subnormal(values: FloatArray) -> int:
    return int(((values != 0) & (np.abs(values) < np.finfo(np.float32).tiny)).sum())


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_that_vanish_through_a_long_sequence(cell: str, recompute: bool) -> None:
    # Only the last step's output is scored; on the way to the first its gradient leaves float32's range.
    make = CELLS[cell]
    model = Sequential([make(4, return_sequences=True), Bidirectional(make(4)), Dense(1, "sigmoid")], seed=1)
    model.build((None, 3))
    if "Simple" in cell:  # whose initial recurrent kernels, being orthogonal, let gradients through
        model.set_weights([weights / 4 for weights in model.get_weights()])
    model.compile("adam", "binary_crossentropy", recompute=recompute)
    x = np.random.default_rng(0).normal(size=(2, 3000, 3))
    x[:, :1500] = 0  # an early step that mattered would be a gradient of its own
    model.train_on_batch(x, np.ones((2, 1)))
    assert model.network is not None
    for name in ("gradients", "first_moments", "second_moments"):
        values = model.network.read(name)
        assert np.abs(values).max() > 0
        assert subnormal(values) == 0


def test_moments_of_a_word_that_does_not_return() -> None:
    model = Sequential([Embedding(3, 4), LSTM(4, return_sequences=True), Dense(1, "sigmoid")], seed=1)
    model.compile("adam", "binary_crossentropy")
    model.train_on_batch(np.full((1, 5, 1), 2), np.ones((1, 5)))
    for _ in range(1200):  # 0.9 ** 1200 is far below float32's smallest number
        model.train_on_batch(np.ones((1, 5, 1)), np.ones((1, 5)))
    assert model.network is not None
    first = model.network.read("first_moments")[:12].reshape(3, 4)
    assert not first[2].any()
    assert first[1].any()
    assert subnormal(model.network.read("first_moments")) == 0
