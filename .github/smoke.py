"""Checks an installed wheel: the engine loads, trains and predicts. Needs nothing but the wheel itself."""

from __future__ import annotations

import bilstm
from bilstm.layers import LSTM, Bidirectional, Dense, TimeDistributed
from bilstm.models import Sequential
from bilstm.problems import cumulative_sum

X, y = cumulative_sum(200, 10, seed=1)
model = Sequential(
    [Bidirectional(LSTM(8, return_sequences=True)), TimeDistributed(Dense(1, activation="sigmoid"))], seed=1
)
model.compile(loss="binary_crossentropy", optimizer="adam")
losses = model.fit(X, y, epochs=10, verbose=0).history["loss"]
assert losses[-1] < 0.9 * losses[0], losses
assert model.predict(X, verbose=0).shape == y.shape
print(f"bilstm {bilstm.__version__}: loss {losses[0]:.3f} at first, {losses[-1]:.3f} after {len(losses)} epochs")
