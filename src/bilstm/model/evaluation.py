"""How good a trained model is on labelled sequences: every score that fits its task."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data.dataset import Dataset, Truth
from bilstm.errors import UserError
from bilstm.metrics import with_temperature
from bilstm.metrics.events import DetectionScores
from bilstm.metrics.spans import SpanScores
from bilstm.model.fingerprint import share_seen
from bilstm.model.trained import TrainedModel
from bilstm.models.lookahead import LookAhead
from bilstm.ragged import IndexArray
from bilstm.tasks import LabelTask, Outputs, QuantityTask
from bilstm.tasks.labels import check_background

_SEEN = 0.05  # of the sequences: from here on, it is no coincidence that training had them


def evaluate(
    model: TrainedModel,
    data: Dataset,
    *,
    tolerance: int | None = None,
    background: str | None = None,
    look_ahead: LookAhead = "all",
    block: int = 1,
) -> dict[str, Any]:
    """Compare a model's predictions with the true answers.

    Args:
        data: sequences with at least one label; labels that the model has never seen are classes of their own.
        tolerance: for labels of time steps: score runs of equal labels as events, whose first and last steps may each
            be off by this number of steps.
        background: the label that is no event.
        look_ahead, block: how far ahead each step's answer looks, as in a stream; see `TrainedModel.stream`.

    Returns:
        Plain data: "task"; "sequences", their number; "clusters_of", what intervals resample, "sequences" or "groups";
        and the scores of `ClassScores`, `LabelSetScores` or
        `QuantityScores`, with "per_class", "per_label" or "per_quantity" by name.
        Of labels besides: "confusion": for each true class the rows by predicted class, without zeros; "spans": the
        scores of `SpanScores` where labels are tags such as B-X, I-X and O, otherwise None; "events": the scores of
        `DetectionScores`, "per_class" by name and without the background, with "tolerance" and "background", or None
        without a tolerance; "uncalibrated": the "log_loss" and "calibration_error" of the probabilities before they
        were scaled by "temperature", or None.
        "baseline": the scores of the model's baseline over all classes, and the "gain" of the model over it, with
        "intervals"; None where there is no baseline.
        "notes": what a person should know.

    Raises:
        UserError: there is no such background, or events are asked for where steps have no labels.
    """
    if look_ahead == "all" and block != 1:
        raise UserError("block has no effect without look_ahead: leave it out")
    run = _Evaluation(model, data, tolerance, background)
    bounds: dict[str, Any] = {"look_ahead": look_ahead, "block": block}
    for sequences, steps, outputs in model.output_chunks(data.values, width=run.width, **bounds):
        others = None
        if model.baseline:
            others = model.baseline.outputs(data.part(sequences).values)
        rows = sequences if data.per_sequence else steps
        run.add(data.known[rows], outputs, others, data.row_offsets[sequences.start : sequences.stop + 1] - rows.start)
    return run.report()


def evaluate_delays(
    model: TrainedModel, data: Dataset, look_aheads: Sequence[LookAhead], *, block: int = 1, **options: Any
) -> list[dict[str, Any]]:
    """What answers with bounded look-ahead are worth: the scores for each look-ahead.

    Args:
        data, options: as for `evaluate`.
        look_aheads, block: see `TrainedModel.stream`; "all" is the whole sequence.

    Returns:
        For each look-ahead plain data: "look_ahead" and "block"; "delay", the most steps that an answer waits for, None
        for "all"; and what `evaluate` returns, without a baseline.

    Raises:
        UserError: the model cannot work with bounded look-ahead.
    """
    alone = copy.copy(model)
    alone.baseline = None
    bounds = [(look_ahead, 1 if look_ahead == "all" else block) for look_ahead in look_aheads]
    reports = []
    for look_ahead, own in bounds:
        delay = None if isinstance(look_ahead, str) else look_ahead + own - 1
        scores = evaluate(alone, data, look_ahead=look_ahead, block=own, **options)
        reports.append({"look_ahead": look_ahead, "block": own, "delay": delay, **scores})
    return reports


class _Evaluation:
    """The scores of a model, and of its baseline, on sequences that come in batches."""

    def __init__(self, model: TrainedModel, data: Dataset, tolerance: int | None, background: str | None) -> None:
        task = model.task
        self.model, self.data, self.task = model, data, task
        self.names = (*task.classes, *data.unseen) if isinstance(task, LabelTask) else task.columns
        self.width = len(self.names)
        of_steps = isinstance(task, LabelTask) and not task.per_sequence
        if tolerance is not None and not of_steps:
            raise UserError(f"events are runs of equal labels of time steps, but the task is {task.kind}")
        self.tolerance = tolerance
        self.background = check_background(self.names, background) if of_steps else None
        self.labelled = task.labelled_sequences(data.known, data.values.offsets)
        self.temperature = (model.training.get("calibration") or {}).get("temperature", 1.0)
        self.scores = self._scores()
        self.baseline = self._scores() if model.baseline else None
        raw = self.temperature != 1.0 and task.plain
        self.raw = task.scorer(self.labelled, None, tuple(data.unseen)) if raw else None
        self.confusion: dict[str, dict[str, int]] = {name: {} for name in self.names}

    def _scores(self) -> _Scores:
        return _Scores(self)

    def add(self, truth: Truth, outputs: Outputs, others: Outputs | None, offsets: IndexArray) -> None:
        task, unseen = self.task, tuple(self.data.unseen)
        self.scores.add(truth, outputs, offsets)
        if self.baseline and others is not None:
            self.baseline.add(truth, others, offsets)
        if self.raw is not None:
            several = not isinstance(task, LabelTask)
            before = with_temperature(outputs.values, 1 / self.temperature, several=several).astype(np.float32)
            task.add_scores(self.raw, truth, Outputs(before), offsets, unseen)
        if isinstance(task, LabelTask):
            known = truth >= 0
            _count_confusions(self.confusion, truth[known], outputs.labels[known], self.names)

    def report(self) -> dict[str, Any]:
        clusters = "sequences" if self.data.groups is None else "groups"
        head = {"task": self.task.kind, "sequences": len(self.data), "clusters_of": clusters}
        report: dict[str, Any] = {**head, **self.scores.report()}
        if isinstance(self.task, LabelTask):
            report["confusion"] = self.confusion
        if not isinstance(self.task, QuantityTask):
            report["temperature"] = self.temperature
            raw = self.raw and self.raw.report()
            report["uncalibrated"] = raw and {name: raw[name] for name in ("log_loss", "calibration_error")}
        report["baseline"] = None
        if self.baseline:
            baseline = _overall(self.baseline.report())
            gain = self.scores.rows.gain(self.baseline.rows)
            baseline["gain"] = gain["value"]
            if gain["interval"] is not None:
                baseline["intervals"]["gain"] = gain["interval"]
            report["baseline"] = baseline
        report["notes"] = [*self.data.notes, *self._seen()]
        return report

    def _seen(self) -> list[str]:
        share = share_seen(self.model.training.get("fingerprint") or [], self.data.values)
        if share < _SEEN:
            return []
        seen = f"{100 * share:.0f} % of the sequences"
        return [f"about {seen} were in the training data, so the scores are too good to be true"]


class _Scores:
    """Every score of outputs that come some sequences at a time."""

    def __init__(self, run: _Evaluation) -> None:
        task, groups = run.task, run.data.groups
        self._run = run
        self._unseen = tuple(run.data.unseen)
        self.rows = task.scorer(run.labelled, groups, self._unseen)
        spans = isinstance(task, LabelTask) and task.spans
        self._spans = SpanScores(run.labelled, run.names, groups=groups) if spans else None
        events = run.tolerance is not None
        self._events = DetectionScores(run.labelled, len(run.names), groups=groups) if events else None

    def add(self, truth: Truth, outputs: Outputs, offsets: IndexArray) -> None:
        run, task = self._run, self._run.task
        task.add_scores(self.rows, truth, outputs, offsets, self._unseen)
        if self._spans:
            self._spans.add_spans(truth, outputs.labels, offsets)
        if self._events and run.tolerance is not None:
            self._events.add_events(
                truth,
                outputs.labels,
                offsets,
                onset_tolerance=run.tolerance,
                offset_tolerance=run.tolerance,
                background=run.background,
            )

    def report(self) -> dict[str, Any]:
        run = self._run
        scores: dict[str, Any] = self.rows.report()
        for name in ("per_class", "per_label", "per_quantity"):
            if name in scores:
                scores[name] = dict(zip(run.names, scores[name], strict=True))
        if not isinstance(run.task, LabelTask):
            return scores
        scores["spans"] = self._spans.report() if self._spans else None
        scores["events"] = None
        if self._events:
            background = None if run.background is None else run.names[run.background]
            events = self._events.report()
            by_name = zip(run.names, events["per_class"], strict=True)
            events["per_class"] = {name: of_class for name, of_class in by_name if name != background}
            scores["events"] = {"tolerance": run.tolerance, "background": background, **events}
        return scores


def _overall(scores: dict[str, Any]) -> dict[str, Any]:
    """The figures that stand for all classes together."""
    parts = {name: scores[name] and _overall(scores[name]) for name in ("spans", "events") if name in scores}
    by_name = ("per_class", "per_label", "calibration", "errors")
    return {name: score for name, score in scores.items() if name not in by_name} | parts


def _count_confusions(
    confusion: dict[str, dict[str, int]], truth: npt.NDArray[Any], guess: npt.NDArray[Any], classes: Sequence[str]
) -> None:
    """Add to the cells that are not empty: 10,000 classes would make a hundred million."""
    cells, steps = np.unique(truth.astype(np.int64) * len(classes) + guess, return_counts=True)
    for cell, count in zip(cells.tolist(), steps.tolist(), strict=True):
        row, name = confusion[classes[cell // len(classes)]], classes[cell % len(classes)]
        row[name] = row.get(name, 0) + count
