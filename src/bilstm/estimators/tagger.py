"""SequenceTagger: a label for every step, by scikit-learn's protocol."""

from __future__ import annotations

from typing import Any

import numpy as np

from bilstm.estimators.base import ClassWeight, LabelEstimator, check_is_fitted
from bilstm.inputs.labels import Indicators, Labels, read_step_labels
from bilstm.inputs.steps import Steps


class SequenceTagger(LabelEstimator):
    """Learns to label every step of a sequence.

    X is a list of (steps, features) arrays of any lengths, a (n, steps, features) array, a `Ragged`, or a list of
    lists of strings, one a step; (steps,) arrays and a (n, steps) array have one feature. NaN is a missing number:
    filled with the mean, and said to the network where training had any.

    y is a list with an array or a list for each sequence, a (n, steps) array, or a `Ragged`: strings, whole numbers
    or booleans. Steps labelled None, NaN or `missing_label` are context only: neither learnt nor scored.

    Where a step may have several labels at once, y has a (steps, n_labels) array for each sequence, n_labels of at
    least 2: 1 where the step has the label and 0 where not; rows of NaN or `missing_label` are unlabelled. Each label
    is learnt by itself (binary cross-entropy), and the loss on the sequences held out decides what is best.

    X may also be a table, a data frame of pandas, Polars or PyArrow with a row for each step, whose column `sequence`
    tells the sequences apart. Its other columns are the features: numbers and booleans, and strings and categories,
    which are embedded; at prediction, those that training did not have are warned of. Then y and groups have an entry
    for each row, or are the names of columns, which then are no features; what is predicted has one for each row too.

    Args:
        units: of each LSTM, in each direction.
        layers: number of recurrent layers; None chooses: 3 where X is of strings only, else 2.
        merge_mode: how the directions' outputs are merged: "concat", "sum", "mul" or "ave".
        direction: "both", or only "forward" or "backward"; "none" puts a dense layer in each recurrent one's place:
            what remains without context.
        dropout: share of numbers dropped after each recurrent layer and after the embedding.
        variational_dropout: whether a sequence loses the same numbers at all of its steps, rather than others at each.
        embedding: numbers in a string's embedding; None chooses by the number of different ones. Strings that occur
            once in training count as unknown, as new ones do later.
        epochs: passes over the training sequences; None chooses by their number of steps.
        batch_size: sequences (or pieces of long ones) in a training step; None chooses by their length.
        learning_rate: the highest reached; it rises at first and falls to zero at the end.
        weight_decay: the share of each weight, times the learning rate, that a training step takes away (AdamW).
        class_weight: class -> weight of its steps' losses, 1 where it is not named; "balanced": inverse to its
            number of steps. The weighted loss of the sequences held out then decides what is best, else accuracy. Not
            for several labels a step.
        patience: epochs without a better score on the sequences held out after which training stops.
        validation_split: the share of sequences, or of groups, held out; None: a tenth, but 1,000 sequences at most.
        standardize: whether features are scaled to mean 0 and standard deviation 1, those of the training part.
        spelling: whether the first and last letters and the shape of strings count besides the whole, so that unknown
            ones differ; None: where they look like words.
        missing_label: what stands for "unlabelled" in y besides None and NaN, such as -1.
        sequence: of a table, the column whose value all rows of one sequence share.
        order: of a table, the column by which a sequence's rows are sorted: numbers, dates or times. None: they stand
            together, in order.
        random_state: an integer gives the same model for the same data, bit for bit; see scikit-learn's glossary.
        verbose: print a line for each epoch.

    Attributes:
        classes_: (n_classes,) the labels, sorted; of several a step, 0 to n_labels - 1.
        multilabel_: whether steps have several labels.
        n_features_in_: features of a step; 1 for strings.
        feature_names_in_: of a table, the columns that are features; other columns are not looked at in prediction.
        model_: the network, a `Sequential` with the weights of the best epoch.
        encoder_: how X becomes the network's input.
        training_: how `fit` went, plain data: "epochs", "best_epoch", "stopped", "history", "held_out_sequences" …
    """

    def __init__(
        self,
        *,
        units: int = 128,
        layers: int | None = None,
        merge_mode: str = "concat",
        direction: str = "both",
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
        missing_label: Any = None,
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
        self.class_weight = class_weight
        self.patience = patience
        self.validation_split = validation_split
        self.standardize = standardize
        self.spelling = spelling
        self.missing_label = missing_label
        self.sequence = sequence
        self.order = order
        self.random_state = random_state
        self.verbose = verbose

    def predict_proba(self, X: Any) -> Any:
        """The probability of each class at each step, float32; of several labels, that the step has it.

        Returns:
            (n, steps, n_classes) for X of one array; (rows, n_classes) for a table; otherwise a list of
            (steps, n_classes) arrays, or an array of objects for an array of objects, which `cross_val_predict` can
            join.

        Raises:
            NotFittedError: before `fit`.
            ValueError: X is not like that of the fit.
        """
        steps = self._read_fitted(X)
        return self._divided(self._outputs(steps), steps, X)

    def predict(self, X: Any) -> Any:
        """The likeliest label of each step, in the form of `predict_proba` without the last dimension; of several
        labels, which are likelier than not: 1 and 0, in the form of `predict_proba`.
        """
        steps = self._read_fitted(X)
        found = self._outputs(steps)
        labels = (found > 0.5).astype(np.int64) if self.multilabel_ else self.classes_[found.argmax(axis=1)]
        return self._divided(labels, steps, X)

    def score(self, X: Any, y: Any) -> float:
        """The share of labelled steps whose label is predicted; of several labels, all of them.

        Raises:
            ValueError: no step is labelled, or see `predict`.
        """
        check_is_fitted(self)
        steps, labels, _ = self._read(X, y, known=True)
        self._check_kind(labels)
        if not labels.labelled.any():
            raise ValueError("no step of y is labelled, so there is nothing to score")
        found = self._outputs(steps)
        if isinstance(labels, Indicators):
            right = ((found > 0.5) == labels.known_values(self.classes_)).all(axis=1)
        else:
            right = found.argmax(axis=1) == labels.codes(self.classes_)
        return float(right[labels.labelled].mean())

    def _labels_of(self, y: Any, steps: Steps) -> Labels | Indicators:
        return read_step_labels(y, steps.offsets, self.missing_label)
