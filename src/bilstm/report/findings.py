"""All that a report tells of a tagger and a table, as plain data."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data.columns import Columns, Encoded, read_numbers
from bilstm.data.table import Table
from bilstm.ragged import FloatArray
from bilstm.report.examples import worst_sequences
from bilstm.report.reach import context_reach
from bilstm.tagging.evaluation import evaluate_tagger, widened
from bilstm.tagging.tagger import Tagger

_BARS = 16  # of the histogram of lengths, at most
_UNKNOWN = 5  # of the values unknown to the model, those named
_LONG_ENOUGH = 0.2  # seconds to measure the speed by


def examine(
    tagger: Tagger,
    table: Table,
    *,
    columns: Columns | None = None,
    encoded: Encoded | None = None,
    tolerance: int | None = None,
    background: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Find out how good a tagger is on a labelled table, where it fails, and what it looks at.

    Args:
        columns: the tagger's, where the table has other names for the sequence, the order or the label.
        encoded: what they make of the table, where it is known already.
        tolerance, background: of events, see `evaluate_tagger`.
        seed: of what is chosen by chance: see `context_reach`.

    Returns:
        Plain data: "scores" (see `evaluate_tagger`), "confidence" (see below), "reach" (see `context_reach`), "worst"
        (see `worst_sequences`), "data" (see below) and "speed": "steps" predicted in a second by so many "threads".
        "confidence": "threshold", "share" of the labelled steps whose class is given at least that probability,
        "right", how many of these are, and "otherwise", how many of the others (None where there are none).
        "data": "lengths" of the sequences ("shortest", "median", "longest", and "bars": "from", "to", "sequences"),
        "steps", "unlabelled" steps, "labels" ("name", "true" and "predicted" steps) and "features", each with its
        "name", "kind" ("number" or "text"), and of numbers "missing", "mean" and "deviation" here and "trained_mean"
        and "trained_deviation", of text "different", "unknown" and the "commonest_unknown" values.

    Raises:
        UserError: the table is not what the model expects; see `Columns.encode` and `evaluate_tagger`.
    """
    columns = columns or tagger.columns
    if encoded is None:
        encoded = columns.encode(table, need_labels=True, allow_unseen=True)
    probabilities, seconds = _timed(tagger, encoded)
    probabilities = widened(probabilities, len(columns.classes) + len(encoded.unseen))
    scores = evaluate_tagger(tagger, encoded, tolerance=tolerance, background=background, probabilities=probabilities)
    from bilstm.utils import threads

    return {
        "scores": scores,
        "confidence": _confidence(encoded.labels, probabilities),
        "reach": context_reach(tagger.predict, encoded, seed=seed),
        "worst": worst_sequences(columns, table, encoded, probabilities),
        "data": _data(columns, table, encoded, probabilities),
        "speed": {"steps": encoded.values.total_steps / seconds, "threads": threads()},
    }


def _timed(tagger: Tagger, encoded: Encoded) -> tuple[FloatArray, float]:
    """The probabilities, and the seconds it takes to predict them: of the quickest of several times, if few suffice."""
    began, fastest = time.perf_counter(), np.inf
    while True:
        start = time.perf_counter()
        probabilities = tagger.predict_proba(encoded.values)
        end = time.perf_counter()
        fastest = min(fastest, end - start)
        if end - began > _LONG_ENOUGH:
            return probabilities, float(fastest)


def _confidence(labels: npt.NDArray[np.int32], probabilities: FloatArray, threshold: float = 0.9) -> dict[str, Any]:
    scored = labels >= 0
    right = (probabilities.argmax(axis=1) == labels)[scored]
    sure = (probabilities.max(axis=1) >= threshold)[scored]
    return {
        "threshold": threshold,
        "share": float(sure.mean()),
        "right": float(right[sure].mean()) if sure.any() else None,
        "otherwise": float(right[~sure].mean()) if not sure.all() else None,
    }


def _data(columns: Columns, table: Table, encoded: Encoded, probabilities: FloatArray) -> dict[str, Any]:
    lengths, labels = encoded.values.lengths, encoded.labels
    scored, classes = labels >= 0, (*columns.classes, *encoded.unseen)
    true = np.bincount(labels[scored], minlength=len(classes))
    predicted = np.bincount(probabilities.argmax(axis=1)[scored], minlength=len(classes))
    balance = zip(classes, true.tolist(), predicted.tolist(), strict=True)
    return {
        "lengths": {
            "shortest": int(lengths.min()),
            "median": float(np.median(lengths)),
            "longest": int(lengths.max()),
            "bars": _histogram(lengths),
        },
        "steps": len(labels),
        "unlabelled": int((~scored).sum()),
        "labels": [{"name": name, "true": t, "predicted": p} for name, t, p in balance],
        "features": [*_numbers(columns, table), *_texts(columns, table)],
    }


def _histogram(lengths: npt.NDArray[np.int64]) -> list[dict[str, int]]:
    """Sequences by length, in bars of equally many lengths."""
    low, high = int(lengths.min()), int(lengths.max())
    width = -(-(high - low + 1) // _BARS)
    counts = np.bincount((lengths - low) // width)
    return [
        {"from": low + place * width, "to": low + (place + 1) * width - 1, "sequences": count}
        for place, count in enumerate(counts.tolist())
    ]


def _numbers(columns: Columns, table: Table) -> list[dict[str, Any]]:
    found = []
    for column in columns.numeric:
        numbers = read_numbers(table, column.name)
        present = numbers[~np.isnan(numbers)]
        found.append(
            {
                "name": column.name,
                "kind": "number",
                "missing": len(numbers) - len(present),
                "mean": float(present.mean()) if len(present) else None,
                "deviation": float(present.std()) if len(present) else None,
                "trained_mean": column.mean,
                "trained_deviation": column.scale,
            }
        )
    return found


def _texts(columns: Columns, table: Table) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for column in columns.categorical:
        if column.name in found:  # a further part of the same cells
            continue
        counts = Counter(text or "" for text in table.texts(column.name).tolist())
        known = column.encode(list(counts)) > 0
        unknown = {text: count for (text, count), is_known in zip(counts.items(), known, strict=True) if not is_known}
        commonest = sorted(unknown, key=lambda text: (-unknown[text], text))[:_UNKNOWN]
        found[column.name] = {
            "name": column.name,
            "kind": "text",
            "different": len(counts),
            "known": len(column.vocabulary),
            "unknown": sum(unknown.values()),
            "commonest_unknown": {text: unknown[text] for text in commonest},
        }
    return list(found.values())
