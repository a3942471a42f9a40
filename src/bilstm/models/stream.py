"""Predictions for sequences that have not ended: each piece continues where the one before ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bilstm.models.fitting import check_finite
from bilstm.ragged import FloatArray, IndexArray, as_ragged

if TYPE_CHECKING:
    from bilstm.models.sequential import Sequential


class Stream:
    """Sequences that arrive piece by piece, and the states that they have reached: `Sequential.stream` makes it.

    However the steps are divided into pieces, the outputs have the same bits as a single `predict` of the whole
    sequences, with the model's current weights. It is for one thread at a time.

    Attributes:
        states: (sequences, state_width) float32: for each recurrent layer in turn its h and, of an LSTM, then its c,
            after the last steps so far. At first, and for a new sequence, zeros. It may be written into, saved and
            restored.
    """

    def __init__(self, model: Sequential, sequences: int, state_width: int, precision: str) -> None:
        self._model, self._precision = model, precision
        self.states: FloatArray = np.zeros((sequences, state_width), np.float32)

    def __repr__(self) -> str:
        return f"Stream({len(self.states)} sequences of {self._model!r})"

    def predict(self, x: Any, which: Sequence[int] | IndexArray | None = None) -> Any:
        """Outputs for the next steps of the sequences.

        Args:
            x: the steps, in any form that `Sequential.predict` takes: (sequences, steps, features), a list of arrays
                (steps, features), a `Ragged`.
            which: the sequences that have these steps, each once; None: all.

        Returns:
            The outputs in the form of `Sequential.predict`: for each step; or for each sequence where the model returns
            one row for a sequence, after the steps so far.

        Raises:
            ValueError: x has another number of sequences, one without steps or of other features, or a value that is
                not finite, which would stay in the states forever; `which` names a sequence twice or one that there
                is not; or `states` has been given another shape. The states are then those of before.
        """
        chosen, data = self._chosen(which), as_ragged(x)
        if len(data) != len(chosen):
            raise ValueError(f"stream: {len(chosen)} sequences are open, but x has {len(data)}")
        check_finite(data)
        network = self._model._network_for(data)
        rows, states = network.predict(data, self.states[chosen], return_states=True, precision=self._precision)
        self.states[chosen] = states
        return self._model._like(x, data, rows)

    def reset(self, which: Sequence[int] | IndexArray | None = None) -> None:
        """Begin new sequences in the place of these; None: of all.

        Raises:
            ValueError: `which` names a sequence twice or one that there is not.
        """
        self.states[self._chosen(which)] = 0

    def _chosen(self, which: Sequence[int] | IndexArray | None) -> IndexArray:
        if which is None:
            return np.arange(len(self.states))
        chosen = np.asarray(which)
        if chosen.ndim != 1 or (len(chosen) and chosen.dtype.kind not in "iu") or len(np.unique(chosen)) < len(chosen):
            raise ValueError(f"stream: which must be different whole numbers, not {which!r}")
        if len(chosen) and not (0 <= chosen.min() and chosen.max() < len(self.states)):
            raise ValueError(f"stream: which must be from 0 to {len(self.states) - 1}, not {which!r}")
        return chosen.astype(np.int64)
