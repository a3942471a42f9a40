"""A chain of layers predicts: for arrays, lists and ragged sequences, in pieces, and told of on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bilstm.arguments import check_choice, check_count, refuse_unsupported
from bilstm.callbacks import Callback, Callbacks
from bilstm.engine.plans import PRECISIONS
from bilstm.layers import Bidirectional
from bilstm.models.calls import steps_to_predict
from bilstm.models.chain import Chain
from bilstm.models.fitting import UNWATCHED, Watch
from bilstm.models.predictor import Predictor
from bilstm.ragged import FloatArray, Ragged, as_ragged

if TYPE_CHECKING:
    from bilstm.models import Sequential

# Of Keras 2's predict, evaluate and fit: how arrays were fetched, which here need no fetching.
QUEUES = {"max_queue_size": 10, "workers": 1, "use_multiprocessing": False}


class PredictingChain(Chain):
    """What `Sequential` is without training: layers with weights, and their predictions."""

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = 0,
        callbacks: Sequence[Callback] | Callback | None = None,
        *,
        precision: str = "float32",
        **keywords: Any,
    ) -> Any:
        """Outputs for every step in the form of x: (n, steps, outputs) for an array, a list for a list, a Ragged for a
        Ragged; (n, outputs) where the model returns one row for a sequence.

        After Bidirectional(merge_mode=None) a list of two such results, forward's and backward's. The arguments are
        those of `evaluate`.
        """
        if keywords:
            refuse_unsupported("predict", keywords, {"steps": None} | QUEUES)
        check_choice("predict", "precision", precision, PRECISIONS)
        plain = not verbose and batch_size is None and callbacks is None
        if plain and is_small(x) and self.network is not None and not self.splits:
            return self.network.predict_equal(x, precision)
        data = as_ragged(x)
        watch = self._watch("predict", len(data), batch_size, verbose, callbacks)
        rows = self.predict_rows(data, watch, precision)
        if self.splits:
            last = self.layers[-1]
            assert isinstance(last, Bidirectional)
            halves = np.split(rows, [last.forward.units], axis=1)
            return [self._like(x, data, half) for half in halves]
        return self._like(x, data, rows)

    predict_on_batch = predict
    predict_proba = predict

    def predictor(self, *, sequences: int = 1, steps: int, precision: str = "float32") -> Predictor:
        """For predictions one after the other on arrays of one shape, where even microseconds of `predict` count.

        Args:
            sequences, steps: of the arrays.
            precision: of the weights, as for `evaluate`.

        Raises:
            ValueError: the model is not built, after Bidirectional(merge_mode=None), which has two outputs, or another
                precision.
        """
        if self.network is None:
            raise ValueError("predictor: the model is not built: give its first layer an input_shape, or call build")
        if self.splits:
            raise ValueError("predictor: Bidirectional(merge_mode=None) has two outputs: use predict")
        check_count("predictor", "sequences", sequences)
        check_count("predictor", "steps", steps)
        check_choice("predictor", "precision", precision, PRECISIONS)
        return Predictor(self.network, sequences, steps, precision)

    def predict_classes(
        self, x: Any, batch_size: int | None = None, verbose: int | str = 0, *, precision: str = "float32"
    ) -> Any:
        """Class numbers in the form of `predict`: 0 or 1 of shape (…, 1) for a single output, by threshold one half;
        the largest output's number, without the last dimension, for several. The arguments are those of `evaluate`.
        """
        check_choice("predict_classes", "precision", precision, PRECISIONS)
        if self.splits:
            raise ValueError("predict_classes: Bidirectional(merge_mode=None) has two outputs, which are no classes")
        data = as_ragged(x)
        rows = self.predict_rows(data, self._watch("predict_classes", len(data), batch_size, verbose), precision)
        classes = (rows > 0.5).astype(np.int32) if rows.shape[1] == 1 else rows.argmax(axis=1).astype(np.int32)
        return self._like(x, data, classes)

    def predict_rows(self, data: Ragged, watch: Watch = UNWATCHED, precision: str = "float32") -> FloatArray:
        """(total_steps or n_sequences, outputs) float32: the rows of all sequences one after the other."""
        network = self._network_for(data)
        if watch is UNWATCHED and data.total_steps <= steps_to_predict(self.weights_per_step):
            return network.predict(data, precision=precision)[0]
        bounds = np.arange(len(data) + 1) if network.one_row_each else data.offsets
        rows = np.empty((bounds[-1], network.outputs), np.float32)

        def fill(piece: slice) -> dict[str, Any]:
            outputs = rows[bounds[piece.start] : bounds[piece.stop]]
            outputs[:] = network.predict(data[piece], precision=precision)[0]
            return {"outputs": outputs}

        watch.over("predict", data.lengths, self.weights_per_step, fill)
        return rows

    def _watch(
        self,
        owner: str,
        sequences: int,
        batch_size: int | None,
        verbose: int | str,
        callbacks: Sequence[Callback] | Callback | None = None,
    ) -> Watch:
        if batch_size is None and callbacks is None and verbose == 0:
            return UNWATCHED  # the usual case, at once: a short prediction takes microseconds
        size, verbosity = batch_size_of(owner, batch_size), verbosity_of(owner, verbose)
        told = Callbacks.of(
            owner, callbacks, cast("Sequential", self), verbose=verbosity, epochs=1, steps=-(-sequences // size)
        )
        return Watch(told, size, verbosity)

    def _like(self, x: Any, data: Ragged, rows: Any) -> Any:
        assert self.network is not None
        if self.network.one_row_each:
            return rows
        if isinstance(x, Ragged):
            return x.with_values(rows)
        if isinstance(x, (list, tuple)) or np.ndim(x) == 1:
            return np.split(rows, data.offsets[1:-1]) if len(data) else []
        return rows.reshape(len(data), np.shape(x)[1], *rows.shape[1:])


def is_small(x: Any, one_row_each: bool = False) -> bool:
    """Whether x is in the engine's own form already, and so small that microseconds around its call count."""
    return (
        type(x) is np.ndarray
        and x.ndim == (2 if one_row_each else 3)
        and 0 < x.size <= 1 << 14
        and x.dtype == np.float32
        and x.flags.c_contiguous
    )


def batch_size_of(owner: str, batch_size: int | None, name: str = "batch_size") -> int:
    """A batch size that was given, checked, or else Keras's."""
    return 32 if batch_size is None else check_count(owner, name, batch_size)


def verbosity_of(owner: str, verbose: int | str) -> int:
    """0, 1 or 2 of what Keras takes."""
    if isinstance(verbose, bool) or verbose == "auto":
        return int(verbose is not False)
    return int(check_choice(owner, "verbose", verbose, (0, 1, 2)))
