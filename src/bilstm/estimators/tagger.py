"""SequenceTagger: a label for every time step, by scikit-learn's protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.estimators.base import LabelEstimator, check_is_fitted
from bilstm.model.spans import Span


class SequenceTagger(LabelEstimator):
    __doc__ = f"""Learns to label every time step of a sequence.

    y is a list with an array or a list for each sequence, a (n, steps) array, or a `Ragged`: strings, whole numbers or
    booleans. Steps labelled None, NaN or `missing_label` are context only: neither learned nor scored.

    Where a step may have several labels at once, y has a (steps, n_labels) array for each sequence, n_labels of at
    least 2: 1 where the step has the label and 0 where not; rows of NaN or `missing_label` are unlabelled. Each label
    is learned on its own (binary cross-entropy), and the validation loss decides which epoch is the best.

    {(LabelEstimator.__base__.__doc__ or "").partition("a sequence.")[2].strip()}
        classes_: (n_classes,) the labels, sorted; of several a step, their column names or 0 to n_labels - 1.
        multilabel_: whether steps have several labels.
    """

    def predict_paths(self, X: Any, paths: int) -> list[tuple[Any, npt.NDArray[np.float64]]]:
        """The likeliest labels of each sequence as a whole, with output "crf" or "constrained": see
        `TrainedModel.predict_paths`.

        Raises:
            NotFittedError: before `fit`.
            UserError: the output is "softmax".
            ValueError: X is not like that of the fit.
        """
        check_is_fitted(self, "model_")
        return self.model_.predict_paths(self._open_known(X), paths)

    def predict_spans(self, X: Any) -> list[list[Span]]:
        """The spans that predicted tags such as B-X and I-X mark: see `TrainedModel.predict_spans`.

        Raises:
            NotFittedError: before `fit`.
            UserError: the labels mark no spans.
            ValueError: X is not like that of the fit.
        """
        check_is_fitted(self, "model_")
        return self.model_.predict_spans(self._open_known(X))

    def annotate(self, X: str | Sequence[str], *, probabilities: bool = False) -> Any:
        """The spans that tags such as B-X and I-X mark in raw texts: see `TrainedModel.annotate`.

        Raises:
            NotFittedError: before `fit`.
            ValueError: the labels are no tags, or steps are more than tokens.
        """
        check_is_fitted(self, "model_")
        return self.model_.annotate(X, probabilities=probabilities)
