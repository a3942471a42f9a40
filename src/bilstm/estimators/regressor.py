"""SequenceRegressor: quantities for time steps or sequences, by scikit-learn's protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from bilstm.data.readingoptions import ReadingOptions
from bilstm.data.wordvectors import VectorFiles
from bilstm.estimators.base import RegressorMixin, SequenceEstimator
from bilstm.model.trained import TrainedModel
from bilstm.tasks import QuantityTask


class SequenceRegressor(RegressorMixin, SequenceEstimator):
    __doc__ = f"""Learns a quantity for every time step of a sequence, or for every sequence, or several.

    y is a list with a (steps,) array of numbers for each sequence, or a (steps, outputs) array of several quantities, a
    (n, steps) or (n, steps, outputs) array, or a `Ragged`; with `per_sequence`, (n,) or (n, outputs). Rows of None or
    NaN are context only: neither learned nor scored. Quantities are scaled to mean 0 and standard deviation 1 in the
    training part and learned by mean squared error, which on the validation set also decides which epoch is the best.

    {(SequenceEstimator.__doc__ or "").partition("a sequence.")[2].strip()}
        mean_: (outputs,) of the quantities in the training part.
        scale_: (outputs,) their standard deviations there.

    The argument `per_sequence` says whether there is one answer for each sequence.
    """

    _what = "quantity"

    def __init__(
        self,
        *,
        per_sequence: bool = False,
        units: int = 128,
        layers: int | None = None,
        merge_mode: str = "concat",
        direction: str = "both",
        cell: str = "lstm",
        pooling: str | None = None,
        conv: str | None = None,
        characters: str | None = None,
        unknown_words: float = 0.0,
        freeze_vectors: bool = False,
        dropout: float = 0.3,
        variational_dropout: bool = False,
        embedding: int | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 0.004,
        weight_decay: float = 0.0,
        patience: int = 10,
        time_limit: float | None = None,
        validation_split: float | None = None,
        standardize: bool = True,
        spelling: bool | None = None,
        vectors: VectorFiles | None = None,
        all_vectors: bool = False,
        missing_label: Any = None,
        sequence: str | None = None,
        order: str | None = None,
        reading: ReadingOptions | Mapping[str, Any] | None = None,
        baseline: bool = False,
        workers: int = 1,
        examples: bool = False,
        random_state: Any = None,
        verbose: bool | None = None,
    ) -> None:
        super().__init__(**{name: value for name, value in locals().items() if name in _SHARED})
        self.per_sequence = per_sequence
        # Of labels only:
        del self.class_weight, self.calibrate, self.output, self.scheme, self.soft_targets, self.label_separator

    @property
    def _unit(self) -> str:  # type: ignore[override]
        return "sequence" if self.per_sequence else "step"

    def partial_fit(self, X: Any, y: Any) -> Self:
        """Train on these sequences once, from the weights reached, without validation or patience.

        The learning rate is `learning_rate` throughout, a batch has `batch_size` sequences or 32. Means, scales and
        vocabulary are those of the first call, or of `fit`.

        Raises:
            ValueError: as for `fit`, or steps have another number of quantities than before.
            DivergedError: the loss is not finite.
        """
        return self._train_once(X, y)

    def score(self, X: Any, y: Any) -> float:
        """R² over all rows whose quantities are known, the mean of it where there are several quantities: 1 at best, 0
        for guessing their means.

        Raises:
            NotFittedError: before `fit`.
            ValueError: no row has a value, or X is not like that of the fit.
        """
        from sklearn.metrics import r2_score

        data = self._labelled(X, y)
        task = self.model_.task
        known = task.labelled(data.known)
        return float(r2_score(data.known[known], task.predicted(self.model_.outputs(data.values))[known]))

    def predict(self, X: Any) -> Any:
        """The quantities, float64, in the form of X; several have a last dimension.

        Raises:
            NotFittedError: before `fit`.
            ValueError: X is not like that of the fit.
        """
        return super().predict(X)

    @property
    def _task(self) -> QuantityTask:
        assert isinstance(self.model_.task, QuantityTask)
        return self.model_.task

    @property
    def mean_(self) -> np.ndarray:
        """(outputs,) the means of the quantities in the training part."""
        return np.array(self._task.mean)

    @property
    def scale_(self) -> np.ndarray:
        """(outputs,) the standard deviations of the quantities in the training part."""
        return np.array(self._task.scale)

    @classmethod
    def _loaded_parameters(cls, model: TrainedModel) -> dict[str, Any]:
        return super()._loaded_parameters(model) | {"per_sequence": model.task.per_sequence}


_SHARED = frozenset(SequenceEstimator._get_param_names())
