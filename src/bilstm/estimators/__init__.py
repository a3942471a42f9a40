"""Estimators by scikit-learn's protocol."""

from bilstm.estimators.classifier import SequenceClassifier
from bilstm.estimators.regressor import SequenceRegressor
from bilstm.estimators.tagger import SequenceTagger

__all__ = ["SequenceClassifier", "SequenceRegressor", "SequenceTagger"]
