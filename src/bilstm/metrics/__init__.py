"""How good predictions are: of steps, of events and spans made of steps, and of whole sequences."""

from bilstm.metrics.events import Events, event_report, find_events, match_events
from bilstm.metrics.gains import accuracy_gain
from bilstm.metrics.sequences import roc_auc, top_k_accuracy
from bilstm.metrics.spans import find_spans, is_bio, span_report
from bilstm.metrics.steps import (
    calibration_curve,
    calibration_error,
    classification_report,
    confusion_matrix,
    log_loss,
    step_intervals,
    step_report,
)

__all__ = [
    "Events",
    "accuracy_gain",
    "calibration_curve",
    "calibration_error",
    "classification_report",
    "confusion_matrix",
    "event_report",
    "find_events",
    "find_spans",
    "is_bio",
    "log_loss",
    "match_events",
    "roc_auc",
    "span_report",
    "step_intervals",
    "step_report",
    "top_k_accuracy",
]
