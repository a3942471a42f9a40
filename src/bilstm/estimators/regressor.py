"""SequenceRegressor: quantities for the steps of sequences, by scikit-learn's protocol."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from bilstm.engine.plans import Targets
from bilstm.estimators.base import Head, RegressorMixin, SequenceEstimator, check_is_fitted
from bilstm.inputs.quantities import Quantities, read_quantities
from bilstm.inputs.steps import Steps
from bilstm.ragged import IndexArray


class SequenceRegressor(RegressorMixin, SequenceEstimator):
    """Learns a quantity for every step of a sequence, or several.

    X is as for `SequenceTagger`. y is a list with a (steps,) array of numbers for each sequence, or a (steps, outputs)
    array of several quantities, a (n, steps) or (n, steps, outputs) array, or a `Ragged`. Steps of None or NaN are
    context only: neither learnt nor scored. What is learnt is scaled to mean 0 and standard deviation 1 in the training
    part, by mean squared error, which on the sequences held out also decides what is best.

    The arguments are those of `SequenceTagger`.

    Attributes:
        mean_: (outputs,) of the quantities in the training part.
        scale_: (outputs,) their standard deviations there.

    The other attributes, but for the classes, are those of `SequenceTagger`, too.
    """

    def __init__(
        self,
        *,
        units: int = 128,
        layers: int = 2,
        merge_mode: str = "concat",
        direction: str = "both",
        dropout: float = 0.3,
        variational_dropout: bool = False,
        embedding: int | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 0.004,
        weight_decay: float = 0.0,
        patience: int = 10,
        validation_split: float | None = None,
        standardize: bool = True,
        spelling: bool | None = None,
        sequence: str | None = None,
        order: str | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.units = units
        self.layers = layers
        self.merge_mode = merge_mode
        self.direction = direction
        self.dropout = dropout
        self.variational_dropout = variational_dropout
        self.embedding = embedding
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.patience = patience
        self.validation_split = validation_split
        self.standardize = standardize
        self.spelling = spelling
        self.sequence = sequence
        self.order = order
        self.random_state = random_state
        self.verbose = verbose

    def partial_fit(self, X: Any, y: Any) -> Self:
        """Train on these sequences once, from the weights reached; nothing is held out, nor is patience needed.

        The learning rate is `learning_rate` throughout, a batch has `batch_size` sequences or 32. Means, scales and
        vocabulary are those of the first call, or of `fit`.

        Raises:
            ValueError: as for `fit`, or steps have another number of quantities than before.
            DivergedError: the loss is not finite.
        """
        known = hasattr(self, "model_")
        steps, quantities, _ = self._read(X, y, known=known)
        self._options(0)  # which checks the parameters
        if known:
            targets = self._known(quantities).targets(self.mean_, self.scale_)
        else:
            targets = self._learn(quantities, np.arange(len(quantities.labelled)))
            self._start(steps, self._options(self._new_seed()))
        return self._train_once(steps, targets)

    def predict(self, X: Any) -> Any:
        """The quantities of each step, float64.

        Returns:
            (n, steps, outputs) for X of one array; (rows, outputs) for a table; otherwise a list of (steps, outputs)
            arrays, or an array of objects for an array of objects. Without the last dimension where y had none.

        Raises:
            NotFittedError: before `fit`.
            ValueError: X is not like that of the fit.
        """
        steps = self._read_fitted(X)
        found = self._outputs(steps) * self.scale_ + self.mean_
        return self._divided(found[:, 0] if self._flat else found, steps, X)

    def score(self, X: Any, y: Any) -> float:
        """R² over all steps whose quantities are known, the mean of it where there are several quantities: 1 at best, 0
        for guessing their means.

        Raises:
            ValueError: no step has a value, or see `predict`.
        """
        from sklearn.metrics import r2_score

        check_is_fitted(self)
        steps, quantities, _ = self._read(X, y, known=True)
        known = self._known(quantities).labelled
        if not known.any():
            raise ValueError("no step of y has a value, so there is nothing to score")
        found = self._outputs(steps) * self.scale_ + self.mean_
        return float(r2_score(quantities.values[known], found[known]))

    def _labels_of(self, y: Any, steps: Steps) -> Quantities:
        return read_quantities(y, steps.offsets)

    def _learn(self, labels: Quantities, counted: IndexArray) -> Targets:
        self.mean_, self.scale_ = labels.scale(counted)
        self._flat = labels.flat
        return labels.targets(self.mean_, self.scale_)

    def _known(self, quantities: Quantities) -> Quantities:
        """Quantities like those of the fit."""
        if quantities.values.shape[1] != len(self.mean_):
            counts = quantities.values.shape[1], len(self.mean_)
            raise ValueError("y has {} quantities a step, but SequenceRegressor was fitted to {}".format(*counts))
        return quantities

    def _head(self) -> Head:
        return Head(len(self.mean_), "linear", "mean_squared_error")
