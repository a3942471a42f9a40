"""The old name of `bilstm.metrics.classes`, until its callers are rewritten."""

from bilstm.metrics.classes import ClassScores as StepScores

__all__ = ["StepScores"]
