"""Scores of predictions: of time steps and whole sequences, and of the events and spans that steps make up."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bilstm.metrics.calibration import (
        calibration_curve,
        calibration_error,
        find_temperature,
        log_loss,
        with_temperature,
    )
    from bilstm.metrics.classes import (
        ClassScores,
        classification_report,
        confusion_matrix,
        step_intervals,
        step_report,
    )
    from bilstm.metrics.conversion import convert_tags
    from bilstm.metrics.events import DetectionScores, Events, event_report, find_events, match_events
    from bilstm.metrics.intervals import interval_caution
    from bilstm.metrics.label_sets import LabelSetScores
    from bilstm.metrics.quantities import QuantityScores
    from bilstm.metrics.rankings import average_precision, roc_auc, top_k_accuracy
    from bilstm.metrics.schemes import detect_scheme, forbidden_transitions
    from bilstm.metrics.spans import SpanScores, find_spans, is_bio, span_report

_NAMES = {
    "calibration": ("calibration_curve", "calibration_error", "find_temperature", "log_loss", "with_temperature"),
    "classes": ("ClassScores", "classification_report", "confusion_matrix", "step_intervals", "step_report"),
    "conversion": ("convert_tags",),
    "events": ("DetectionScores", "Events", "event_report", "find_events", "match_events"),
    "intervals": ("interval_caution",),
    "label_sets": ("LabelSetScores",),
    "quantities": ("QuantityScores",),
    "rankings": ("average_precision", "roc_auc", "top_k_accuracy"),
    "schemes": ("detect_scheme", "forbidden_transitions"),
    "spans": ("SpanScores", "find_spans", "is_bio", "span_report"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "ClassScores",
    "DetectionScores",
    "Events",
    "LabelSetScores",
    "QuantityScores",
    "SpanScores",
    "average_precision",
    "calibration_curve",
    "calibration_error",
    "classification_report",
    "confusion_matrix",
    "convert_tags",
    "detect_scheme",
    "event_report",
    "find_events",
    "find_spans",
    "find_temperature",
    "forbidden_transitions",
    "interval_caution",
    "is_bio",
    "log_loss",
    "match_events",
    "roc_auc",
    "span_report",
    "step_intervals",
    "step_report",
    "top_k_accuracy",
    "with_temperature",
]


def __getattr__(name: str) -> Any:
    """Modules are imported when a name of theirs is first used: prediction needs few of them."""
    if name not in _MODULES:
        raise AttributeError(f"module 'bilstm.metrics' has no attribute {name!r}")
    return getattr(import_module(f"bilstm.metrics.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
