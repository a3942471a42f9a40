"""What the command line prints about data and models: what was found, not what was done."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bilstm.data.filetable import FileTable
from bilstm.data.manyfiles import FILE
from bilstm.errors import counted, listed, shown
from bilstm.ragged import Extent
from bilstm.tasks import LabelTask, QuantityTask, Task
from bilstm.tasks.labels import majority

if TYPE_CHECKING:
    from bilstm.data.dataset import Dataset
    from bilstm.data.table import Table
    from bilstm.model.folders import Progress
    from bilstm.model.prepare import Prepared
    from bilstm.model.trained import TrainedModel
    from bilstm.training.options import TrainingOptions

MOST_LINES = 60  # of features or classes
_TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "mean F1",
    "micro_f1": "micro F1",
    "subset_accuracy": "all labels right",
    "hamming_loss": "wrong labels",
    "macro_average_precision": "average precision",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "R²",
}
_LEADING = {"label": ("accuracy", "macro_f1"), "labels": ("macro_f1", "subset_accuracy"), "quantity": ("rmse", "r2")}


def before_training(prepared: Prepared, options: TrainingOptions, *others: TrainingOptions) -> list[str]:
    """What was found in the table, what is set aside of it, and which windows are trained on.

    Args:
        options: of the training; `others` are those of the trainings that it is compared with.
    """
    from bilstm.model.tagging import choose_output

    table, schema = prepared.table, prepared.schema
    outputs = [choose_output(prepared, each) for each in (options, *others)]
    lines = [f"{table.label}: {size_of(table)}", *guesses(table), *_features(schema.describe()), _task(prepared)]
    lines += _aims(prepared)
    lines += dict.fromkeys(output.description for output in outputs if output.description)
    notes = dict.fromkeys([*prepared.notes, *(output.note for output in outputs if output.note)])
    return [*lines, *sets(prepared, options), *(f"note: {note}" for note in notes)]


def _aims(prepared: Prepared) -> list[str]:
    """What training aims at where that is not one label."""
    if prepared.targets is None:
        return []
    task = prepared.task
    known = prepared.targets[~np.isnan(prepared.targets).any(axis=1)]
    answers = counted(int(((known > 0).sum(axis=1) > 1).sum()), "time step" if task.unit == "step" else task.unit)
    if isinstance(task, LabelTask) and task.separator is not None:
        return [f"targets: several possible labels for {answers} of the training set, of which one is right"]
    return [f"targets: probabilities for {answers} of the training set, rather than one label"]


def sets(prepared: Prepared, options: TrainingOptions) -> list[str]:
    """The extent of the training and the validation set, the windows that are trained on, and the gaps."""
    task, offsets = prepared.task, prepared.training.values.offsets
    lines = [f"training set: {_labelled(task, prepared.training)}"]
    if options.window is not None:
        from bilstm.training.windows import find_windows

        starts, stops = find_windows(offsets, options.window, options.stride)
        every = f"one every {counted(options.stride or options.window, 'step')}"
        lines.append(f"trained on: {extent_text(Extent().add(stops - starts), 'window')}; {every}")
    if prepared.validation:
        lines.append(f"validation set: {_labelled(task, prepared.validation)}")
        lines += [f"note on the validation set: {note}" for note in prepared.validation.notes]
    elif task.per_sequence:
        lines.append("no validation set: all epochs are run, and the last one is kept")
    if prepared.training.blocks:
        share = percent(prepared.gap_steps / max(1, prepared.table.rows))
        lines.append(f"gaps between the sets: {counted(prepared.gap_steps, 'step')}, {share} of all")
    return lines


def guesses(table: Table) -> list[str]:
    """What was guessed about files, as the options that would state it."""
    return [f"read with {reading.typed} (guessed)" for _, reading in table.guesses()]


def size_of(table: Table) -> str:
    """`6 rows, 18 steps` where each row is a sequence, otherwise `18 rows`."""
    if isinstance(table, FileTable) and table.lists:
        return f"{counted(table.input_count, 'row')}, {counted(table.rows, 'step')}"
    by_file = f"; each file is a sequence, named in column {FILE!r}" if table.own_sequence == FILE else ""
    return counted(table.rows, "row") + by_file


def _task(prepared: Prepared) -> str:
    """What is predicted, and what guessing would reach."""
    task, truth = prepared.task, prepared.training.known
    unit = "time step" if task.unit == "step" else "sequence"
    columns = listed(task.columns)
    if isinstance(task, LabelTask):
        name, share = majority(task, truth)
        return (
            f"task: a label for each {unit}, {len(task.classes)} classes in {columns}; the majority class, "
            f"{shown(name)}, is {percent(share)} of the labelled {task.unit}s"
        )
    if isinstance(task, QuantityTask):
        fitted = zip(task.columns, task.mean, task.scale, strict=True)
        ranges = ", ".join(f"{name} {mean:.4g} ± {scale:.4g}" for name, mean, scale in fitted)
        return f"task: quantities for each {unit}: {ranges} (mean ± standard deviation)"
    known = truth[task.labelled(truth)]
    shares = (f"{name} {percent(share)}" for name, share in zip(task.columns, known.mean(axis=0).tolist(), strict=True))
    return f"task: several labels for each {unit}: {', '.join(shares)}"


def _labelled(task: Task, data: Dataset) -> str:
    """The extent of a set, and how many of its sequences have a label if not all have one."""
    labelled = int(task.labelled_sequences(data.known, data.values.offsets).sum())
    return extent_of(data) + ("" if labelled == len(data) else f"; {counted(labelled, _what(data))} with a label")


def extent_of(data: Dataset) -> str:
    """`240 sequences of 379 to 1,795 steps, 225,835 in all`."""
    return extent_text(Extent().add(data.values.lengths), _what(data))


def _what(data: Dataset) -> str:
    return "block" if data.blocks else "sequence"


def after_training(model: TrainedModel, seconds: float, path: str) -> list[str]:
    """How training the model went, how long it took, and where the model is."""
    training, baseline = model.training, model.baseline
    return [
        f"{counted(training['epochs'], 'epoch')} in {seconds:,.1f} seconds; {training['stopped']}",
        f"{kept(training)}, with {reached(training)}",
        *_scaled(training),
        *([f"without recurrence, each step alone: {reached(baseline.training)}"] if baseline else []),
        *kept_examples(training),
        f"{path}: {math.ceil(os.path.getsize(path) / 1000):,} kB",
    ]


def kept_examples(training: dict[str, Any]) -> list[str]:
    """How many examples a model holds, if it does."""
    if not (count := len(training.get("examples", []))):
        return []
    sequences = counted(count, "sequence")
    return [f"{sequences} of the validation set are in the file as examples, values and labels (--no-examples: none)"]


def _scaled(training: dict[str, Any]) -> list[str]:
    """How the probabilities are scaled, if they are."""
    if not (calibration := training.get("calibration")):
        return []
    errors = f"{calibration['calibration_error_before']:.4f} to {calibration['calibration_error']:.4f}"
    return [
        f"probabilities are scaled by a temperature of {calibration['temperature']:.3g}: calibration error on the "
        f"validation set from {errors}"
    ]


def when_stopped(training: dict[str, Any], path: str) -> str:
    """How a training went that the user stopped, in one line."""
    holds = f"{path} holds epoch {training['best_epoch']}, with {reached(training)}"
    return "; ".join([training["stopped"], holds, "it has no baseline", *_scaled(training)])


def kept(training: dict[str, Any]) -> str:
    """Which epoch's weights were kept."""
    if training["validation_sequences"]:
        return f"the best was epoch {training['best_epoch']}"
    return "no validation set: the last epoch was kept"


def reached(training: dict[str, Any]) -> str:
    """The scores of the epoch that was kept."""
    history, best = training["history"], training["best_epoch"] - 1
    scores = f"a loss of {history['loss'][best]:.4f}"
    if "val_loss" in history:
        accuracy = f"an accuracy of {history['val_accuracy'][best]:.4f} and " if "val_accuracy" in history else ""
        scores += f", and on the validation set {accuracy}a loss of {history['val_loss'][best]:.4f}"
    return scores


def evaluation(path: str, report: dict[str, Any]) -> list[str]:
    """What `evaluate` found."""
    keys = [key for key in _TITLES if key in report]
    width = max(len(_TITLES[key]) for key in keys)
    sequences = counted(report["sequences"], "sequence")
    labelled = report.get("labelled_sequences")
    rows = counted(report["steps"], "labelled step") if labelled is None else f"{labelled:,} of them labelled"
    lines = [f"{path}: {sequences}, {rows}"]
    lines += [f"{_TITLES[key]:{width}}  {_figure(report, key)}" for key in keys]
    lines += _further(report)
    lines.append(_guessing(report))
    if baseline := report["baseline"]:
        leading = _LEADING[report["task"].partition("-")[2]]
        figures = ", ".join(f"{_TITLES[key]} {_figure(baseline, key)}" for key in leading)
        lines.append(f"without recurrence, each step alone: {figures}")
        adds = "by how much context lowers" if report["task"].endswith("quantity") else "what context adds to"
        lines.append(f"{adds} the {_TITLES[leading[0]]}: {_figure(baseline, 'gain')}")
    if report["intervals"]:
        from bilstm.metrics.intervals import RESAMPLES

        lines.append(f"in brackets: 95 % intervals, from resampling whole {report['clusters_of']} {RESAMPLES:,} times")
    if report.get("caution"):
        lines.append(f"caution: {report['caution']}")
    lines += _by_name(report)
    if report.get("spans"):
        lines.append(f"spans: {_detected(report['spans'])}")
        lines += [f"without recurrence: {_detected(baseline['spans'])}"] if baseline else []
        lines += _by_class(report["spans"]["per_class"], "type", "spans")
        lines.append(_span_errors(report["spans"]["errors"]))
    if report.get("events"):
        within = counted(report["events"]["tolerance"], "step")
        lines.append(f"events, first and last step off by {within} at most: {_detected(report['events'])}")
        lines += [f"without recurrence: {_detected(baseline['events'])}"] if baseline else []
        lines += _by_class(report["events"]["per_class"], "event", "events")
    return lines + [f"note: {note}" for note in report["notes"]]


def delays(path: str, reports: Sequence[dict[str, Any]]) -> list[str]:
    """What `evaluate_delays` found: a row for each look-ahead."""
    first = reports[0]
    keys = _LEADING[first["task"].partition("-")[2]]
    parts = [(name, title) for name, title in (("spans", "F1 of spans"), ("events", "F1 of events")) if first.get(name)]
    rows = [["look-ahead", "delay", *(_TITLES[key] for key in keys), *(title for _, title in parts)]]
    for report in reports:
        delay = "the whole sequence" if report["delay"] is None else counted(report["delay"], "step")
        delay = delay if report["block"] == 1 else f"{report['look_ahead']:,} to {delay}"
        figures = [_figure(report, key) for key in keys] + [_figure(report[name], "f1") for name, _ in parts]
        rows.append([str(report["look_ahead"]), delay, *figures])
    lines = [f"{path}: {counted(first['sequences'], 'sequence')}, {counted(first['steps'], 'labelled step')}"]
    lines += aligned(rows)
    if first["intervals"]:
        from bilstm.metrics.intervals import RESAMPLES

        lines.append(f"in brackets: 95 % intervals, from resampling whole {first['clusters_of']} {RESAMPLES:,} times")
    return lines + [f"note: {note}" for note in first["notes"]]


def _further(report: dict[str, Any]) -> list[str]:
    """Scores of sequences, and the probabilities before they were scaled."""
    lines = []
    if report.get("top_k"):
        figures = ", ".join(f"{k} {value:.4f}" for k, value in report["top_k"].items())
        lines.append(f"true class among the k likeliest: {figures}")
    if (areas := report.get("roc_auc")) and areas["macro"] is not None:
        lines.append(f"mean area under the ROC curves: {areas['macro']:.4f}")
    if raw := report.get("uncalibrated"):
        lines.append(
            f"before scaling by a temperature of {report['temperature']:.3g}: log loss {raw['log_loss']:.4f}, "
            f"calibration error {raw['calibration_error']:.4f}"
        )
    return lines


def _guessing(report: dict[str, Any]) -> str:
    if guess := report.get("mean_guess"):
        figures = ", ".join(f"{_TITLES[key]} {guess[key]:.4f}" for key in ("mae", "rmse", "r2"))
        return f"always guessing the training mean: {figures}"
    if "per_label" in report:
        return f"always guessing the most frequent answer for each label: all labels right {report['majority']:.4f}"
    return f"always guessing the majority class: accuracy {report['majority']:.4f}"


def _by_name(report: dict[str, Any]) -> list[str]:
    """A table of the classes, labels or quantities."""
    rows = "steps" if "steps" in report else "sequences"
    if "per_class" in report:
        return _by_class(report["per_class"], "class", rows)
    if "per_label" in report:
        return _by_class(report["per_label"], "label", rows, {"average_precision": "average precision"})
    quantities = report["per_quantity"]
    if len(quantities) < 2:
        return []
    lines: list[Sequence[str]] = [("quantity", "mae", "rmse", "R²", "bias")]
    for name, scores in quantities.items():
        lines.append((shown(name)[1:-1], *(f"{scores[key]:.4g}" for key in ("mae", "rmse", "r2", "bias"))))
    return aligned(lines)


def _figure(report: dict[str, Any], key: str) -> str:
    """`0.9347 [0.9271, 0.9412]`, or without the interval where there is none."""
    ends = (report["intervals"] or {}).get(key)
    return f"{report[key]:.4f}" + (f" [{ends[0]:.4f}, {ends[1]:.4f}]" if ends else "")


def _detected(report: dict[str, Any]) -> str:
    return f"F1 {_figure(report, 'f1')}, precision {report['precision']:.4f}, recall {report['recall']:.4f}"


def _span_errors(errors: dict[str, dict[str, dict[str, int]]]) -> str:
    """What is wrong with how many spans."""
    from bilstm.metrics.spanerrors import OUTCOMES, OUTCOMES_OF_PREDICTED

    true, predicted = (
        {name: sum(counts[name] for counts in errors[side].values()) for name in names}
        for side, names in (("true", OUTCOMES), ("predicted", OUTCOMES_OF_PREDICTED))
    )
    return (
        f"of {counted(sum(true.values()), 'true span')}, {true['boundary']:,} predicted with another boundary, "
        f"{true['type']:,} with another type, {true['both']:,} with both, {true['missed']:,} missed; of "
        f"{sum(predicted.values()):,} predicted, {predicted['invented']:,} invented"
    )


def _by_class(
    scores: dict[str, dict[str, Any]], heading: str, counted_things: str, more: dict[str, str] | None = None
) -> list[str]:
    """A table of precision, recall, F1 and number, of the most frequent classes where there are many."""
    columns = {"precision": "precision", "recall": "recall", "f1": "F1"} | (more or {})
    named = set(sorted(scores, key=lambda name: -scores[name]["support"])[:MOST_LINES])
    rows: list[Sequence[str]] = [(heading, *columns.values(), counted_things)]
    for name in (name for name in scores if name in named):
        figures = (_score(scores[name][figure]) for figure in columns)
        rows.append((shown(name)[1:-1] or "any", *figures, f"{scores[name]['support']:,}"))
    rest = [f"  … and {counted(len(scores) - len(named), f'rarer {heading}')}"] if len(scores) > len(named) else []
    return [*aligned(rows), *rest]


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def prediction(path: str, extent: Extent, notes: Sequence[str]) -> list[str]:
    """What was predicted, and what a person should know about it."""
    return [f"{path}: {extent_text(extent)}", *(f"note: {note}" for note in notes)]


def folder_prediction(path: str, progress: Progress) -> list[str]:
    """What was predicted for several files, and what a person should know about it."""
    files = f"{path}: {counted(progress.written, 'file')}"
    if progress.written:
        files += f", {extent_text(progress.extent)}"
    if progress.skipped:
        files += f"; {counted(progress.skipped, 'file')} {'was' if progress.skipped == 1 else 'were'} finished before"
    return [files, *(f"note: {note}" for note in progress.observations.notes)]


def folder_verification(path: str, compared: int, count: int) -> list[str]:
    """What was predicted again, and is as it was."""
    return [f"{path}: {counted(compared, 'file')} of {count:,} predicted again: the same, byte for byte"]


def percent(share: float) -> str:
    """`12.5 %`."""
    return f"{100 * share:.1f} %"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Indented columns, the first to the left and the others, figures, to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(["", row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _features(described: Sequence[tuple[str, str]]) -> list[str]:
    names = [shown(name)[1:-1] for name, _ in described[:MOST_LINES]]
    width = max(map(len, names))
    lines = [f"{counted(len(described), 'feature')}:"]
    lines += [f"  {name:{width}}  {text}" for name, (_, text) in zip(names, described, strict=False)]
    if len(described) > MOST_LINES:
        lines.append(f"  … and {len(described) - MOST_LINES} more")
    return lines


def extent_text(extent: Extent, what: str = "sequence") -> str:
    """`240 sequences of 379 to 1,795 steps, 225,835 in all`."""
    span = f"{extent.shortest:,} to {extent.longest:,} steps"
    if extent.shortest == extent.longest:
        span = counted(extent.longest, "step")
    return f"{counted(extent.sequences, what)} of {span}, {extent.steps:,} in all"
