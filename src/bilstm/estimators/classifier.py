"""SequenceClassifier: a label for every sequence, by scikit-learn's protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_choice
from bilstm.estimators.base import ClassifierMixin, ClassWeight, LabelEstimator, check_is_fitted, column_or_1d
from bilstm.inputs.labels import Labels, read_labels
from bilstm.inputs.steps import Steps
from bilstm.layers import GlobalAttentionPooling1D, GlobalAveragePooling1D, GlobalMaxPooling1D, Layer
from bilstm.ragged import FloatArray
from bilstm.training.network import recurrent
from bilstm.training.options import TrainingOptions

_FEWEST_TO_DIVIDE = 500  # sequences with a label each: a tenth are 50
POOLS: dict[str, Callable[[TrainingOptions], list[Layer]]] = {
    "last": lambda options: recurrent(options, sequences=False),
    "mean": lambda options: [*recurrent(options), GlobalAveragePooling1D()],
    "max": lambda options: [*recurrent(options), GlobalMaxPooling1D()],
    "attention": lambda options: [*recurrent(options), GlobalAttentionPooling1D(options.units)],
}


class SequenceClassifier(ClassifierMixin, LabelEstimator):
    """Learns a label for every sequence.

    X is as for `SequenceTagger`. y is (n,): strings, whole numbers or booleans, none of them missing. Where X is a
    table, y and what is predicted have an entry for each row, which is the same in all rows of a sequence.

    Args:
        pooling: how a sequence's steps become one row: "last": what each direction has computed when it has read the
            whole sequence; "mean" or "max" of the last layer's outputs at its steps; "attention": a mean of them whose
            weights are learnt, see `GlobalAttentionPooling1D`.
        validation_split: the share of sequences, or of groups, held out; without groups, of every class in proportion.
            None: a tenth, but 1,000 at most; of fewer than 500 none, which would be too few labels to tell one epoch
            from another; all epochs are run then.

    The other arguments, and the attributes, are those of `SequenceTagger`.
    """

    _one_row_each = True

    def __init__(
        self,
        *,
        units: int = 128,
        layers: int = 2,
        merge_mode: str = "concat",
        direction: str = "both",
        pooling: str = "mean",
        dropout: float = 0.3,
        variational_dropout: bool = False,
        embedding: int | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float = 0.004,
        weight_decay: float = 0.0,
        class_weight: ClassWeight = None,
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
        self.pooling = pooling
        self.dropout = dropout
        self.variational_dropout = variational_dropout
        self.embedding = embedding
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.class_weight = class_weight
        self.patience = patience
        self.validation_split = validation_split
        self.standardize = standardize
        self.spelling = spelling
        self.sequence = sequence
        self.order = order
        self.random_state = random_state
        self.verbose = verbose

    def predict_proba(self, X: Any) -> FloatArray:
        """(n, n_classes) float32: the probability of each class for each sequence; of a table, for each row.

        Raises:
            NotFittedError: before `fit`.
            ValueError: X is not like that of the fit.
        """
        steps = self._read_fitted(X)
        found = self._outputs(steps)
        return found if steps.rows is None else steps.in_rows(np.repeat(found, np.diff(steps.offsets), axis=0))

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """(n,) the likeliest label of each sequence; of a table, for each row."""
        codes = self.predict_proba(X).argmax(axis=1)
        labels: npt.NDArray[Any] = self.classes_[codes]
        return labels

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of sequences whose label is predicted.

        Args:
            sample_weight: (n,) how much each sequence counts.

        Raises:
            ValueError: see `predict`.
        """
        check_is_fitted(self)
        steps, labels, _ = self._read(X, y, known=True)
        assert isinstance(labels, Labels)
        right = self._outputs(steps).argmax(axis=1) == labels.codes(self.classes_)
        return float(np.average(right, weights=sample_weight))

    def _share(self, sequences: int | None) -> float:
        few = sequences is not None and sequences < _FEWEST_TO_DIVIDE
        return 0.0 if few and self.validation_split is None else super()._share(sequences)

    def _options(self, seed: int, sequences: int | None = None) -> TrainingOptions:
        check_choice("SequenceClassifier", "pooling", self.pooling, POOLS)
        if self.pooling == "last" and self.direction == "none":
            raise ValueError(
                "SequenceClassifier: with direction 'none' no step knows the others: pool by mean, max or attention"
            )
        return super()._options(seed, sequences)

    def _labels_of(self, y: Any, steps: Steps) -> Labels:
        if not isinstance(y, (list, tuple)):
            y = np.asarray(y)
            y = column_or_1d(y, warn=True) if y.ndim == 2 else y
        return read_labels(y, len(steps))

    def _last_layers(self, options: TrainingOptions) -> list[Layer]:
        return POOLS[self.pooling](options)
