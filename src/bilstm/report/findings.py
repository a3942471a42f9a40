"""Everything that a report shows about a model and labelled sequences, as plain data."""

from __future__ import annotations

import heapq
import itertools
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data.dataset import Dataset
from bilstm.data.features import CategoricalColumn, NumericColumn, encode_texts
from bilstm.data.schema import Schema
from bilstm.data.spelling import VECTOR, WHOLE
from bilstm.data.table import Table
from bilstm.errors import UserError
from bilstm.model.evaluation import evaluate
from bilstm.model.trained import TrainedModel
from bilstm.report.examples import WorstSequences, describe_sequences
from bilstm.report.reach import ContextReach
from bilstm.report.totals import LabelTotals, Residuals
from bilstm.tasks import QuantityTask

_BARS = 16  # of the histogram of lengths, at most
_UNKNOWN = 5  # of the values unknown to the model, those named
_AT_ONCE = 10_000  # different texts
_LONG_ENOUGH = 0.2  # seconds to measure the speed by
_ENOUGH_STEPS = 50_000  # to measure the speed by


def examine(
    model: TrainedModel,
    data: Any,
    *,
    labels: Any = None,
    group: str | None = None,
    tolerance: int | None = None,
    background: str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Find out how good a model is on labelled sequences, where it fails, and what its predictions rest on.

    Outputs are computed some sequences at a time, so memory does not grow with their number, except for scores that
    need all of them: see `ClassScores` and `LabelSetScores`.

    Args:
        data: labelled sequences in any form that `TrainedModel` takes.
        labels: a table with one row per sequence that holds the true answers, where they are not among the data.
        group: the column that tells which sequences belong together: intervals then draw whole groups.
        tolerance, background: for events, see `bilstm.model.evaluation.evaluate`.
        seed: for random choices: see `ContextReach`, `step_importance` and `Residuals`.

    Returns:
        Plain data: "scores" (see `bilstm.model.evaluation.evaluate`); "group", its name; "worst" (see
        `describe_sequences`); "data" (see `_describe_data`); "speed": "steps" predicted in a second by "threads".
        For labels also "predicted" rows by label, "confidence" and "uncalibrated" (see `LabelTotals`); for quantities
        "residuals" (see `Residuals`); for answers by time step "reach" (see `ContextReach`). Otherwise these are None.

    Raises:
        UserError: the data are not like those of training, or an option does not go with the task.
    """
    task = model.task
    if background is not None and tolerance is None:
        raise UserError(
            f"background={background!r} says which label is no event, but events are scored only with a tolerance"
        )
    table = model.open(data)
    dataset = model.read(table, labels=labels, group=group, with_truth=True)
    scores = evaluate(model, dataset, tolerance=tolerance, background=background)
    worst = WorstSequences(task, dataset)
    reach = None if task.per_sequence else ContextReach(task, dataset, seed)
    totals: LabelTotals | Residuals
    if isinstance(task, QuantityTask):
        totals = Residuals(task, [each["rmse"] for each in scores["per_quantity"].values()], seed)
    else:
        totals = LabelTotals(task, scores["temperature"] if task.plain else 1.0)
    for sequences, steps, outputs in model.output_chunks(dataset.values):
        rows = sequences if task.per_sequence else steps
        totals.add(dataset.known[rows], outputs)
        worst.add(sequences, rows, outputs)
        if reach:
            reach.add(sequences, rows, outputs)
    report = totals.report()
    if "predicted" in report:  # labels that the model has never seen are never predicted
        names = scores.get("per_class") or scores["per_label"]
        report["predicted"] = dict(itertools.zip_longest(names, report["predicted"], fillvalue=0))
    return {
        "scores": scores,
        "group": group,
        "predicted": None,
        "confidence": None,
        "uncalibrated": None,
        "residuals": None,
        **report,
        "reach": reach and reach.report(model.outputs),
        "worst": describe_sequences(model, table, dataset, worst.indices, seed=seed),
        "data": _describe_data(model, table, dataset),
        "speed": _speed(model, dataset),
    }


def _speed(model: TrainedModel, data: Dataset) -> dict[str, Any]:
    """How many steps are predicted in a second: of the first sequences, the fastest of several times."""
    from bilstm.utils import threads

    count = max(1, int(np.searchsorted(data.values.offsets, _ENOUGH_STEPS, side="right")) - 1)
    values = data.part(slice(0, min(count, len(data)))).values
    began, fastest = time.perf_counter(), np.inf
    while True:
        start = time.perf_counter()
        model.outputs(values)
        end = time.perf_counter()
        fastest = min(fastest, end - start)
        if end - began > _LONG_ENOUGH:
            return {"steps": values.total_steps / float(fastest), "threads": threads()}


def _describe_data(model: TrainedModel, table: Table, data: Dataset) -> dict[str, Any]:
    """Plain data: "lengths" of the sequences ("shortest", "median", "longest", and "bars": "from", "to", "sequences"),
    "steps", "unlabelled" rows, "groups" (their number, or None) and "features", each with its "name" and "kind"
    ("number" or "text"); numbers with "missing", "mean" and "deviation" here, and "trained_mean" and
    "trained_deviation"; texts with "different", "unknown" and "most_frequent_unknown" values, and "known" ones.
    """
    lengths = data.values.lengths
    return {
        "lengths": {
            "shortest": int(lengths.min()),
            "median": float(np.median(lengths)),
            "longest": int(lengths.max()),
            "bars": _histogram(lengths),
        },
        "steps": len(data.rows),
        "unlabelled": int((~model.task.labelled(data.known)).sum()),
        "groups": None if data.groups is None else len(np.unique(data.groups)),
        "features": [*_numbers(model.schema.numeric, table), *_texts(model.schema, table)],
    }


def _histogram(lengths: npt.NDArray[np.int64]) -> list[dict[str, int]]:
    """Sequences by length, in bars of equally many lengths."""
    low, high = int(lengths.min()), int(lengths.max())
    width = -(-(high - low + 1) // _BARS)
    counts = np.bincount((lengths - low) // width)
    return [
        {"from": low + bar * width, "to": low + (bar + 1) * width - 1, "sequences": count}
        for bar, count in enumerate(counts.tolist())
    ]


def _numbers(columns: tuple[NumericColumn, ...], table: Table) -> list[dict[str, Any]]:
    summaries = []
    for column in columns:
        numbers = table.numbers(column.name)
        count, total, square = 0, 0.0, 0.0
        for start, stop in table.blocks():
            present = numbers[start:stop][~np.isnan(numbers[start:stop])] - column.mean
            count, total = count + len(present), total + float(present.sum())
            square += float((present**2).sum())
        mean = total / max(1, count)
        summaries.append(
            {
                "name": column.name,
                "kind": "number",
                "missing": table.rows - count,
                "mean": column.mean + mean if count else None,
                "deviation": max(0.0, square / count - mean**2) ** 0.5 if count else None,
                "trained_mean": column.mean,
                "trained_deviation": column.scale,
            }
        )
    return summaries


def _texts(schema: Schema, table: Table) -> list[dict[str, Any]]:
    known: dict[str, list[CategoricalColumn]] = {}  # a text is if it is in the vocabulary or has a vector
    for column in schema.categorical:
        if column.part in (WHOLE, VECTOR):
            known.setdefault(column.name, []).append(column)
    summaries = []
    for name, columns in known.items():
        different = unknown = 0
        most: list[tuple[int, str]] = []
        pairs = iter(table.counts(name, np.ones(table.rows, np.bool_)))
        while chunk := list(itertools.islice(pairs, _AT_ONCE)):
            codes = np.asarray(encode_texts(columns, [text for text, _ in chunk]).any(axis=1))
            new = [(-count, text) for (text, count), code in zip(chunk, codes.tolist(), strict=True) if not code]
            different, unknown = different + len(chunk), unknown - sum(count for count, _ in new)
            most = heapq.nsmallest(_UNKNOWN, [*most, *new])
        summaries.append(
            {
                "name": name,
                "kind": "text",
                "different": different,
                "known": len(columns[0].vocabulary),
                "unknown": unknown,
                "most_frequent_unknown": {text: -count for count, text in most},
            }
        )
    return summaries
