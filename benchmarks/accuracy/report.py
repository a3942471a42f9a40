"""From runs to Markdown."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.accuracy.datasets import DATASETS
from benchmarks.accuracy.runs import FORWARD, OURS, TWIN

Run = dict[str, Any]
_NAMES = {"accuracy": "accuracy", "macro_f1": "macro F1"}


def report(runs: list[Run]) -> list[str]:
    machine = runs[-1]["machine"]
    missing = [kind for kind in (TWIN, FORWARD) if not any(run["contender"] == kind for run in runs)]
    missing += [name for name in DATASETS if not any(run["data_set"] == name for run in runs)]
    directions = [
        "## What the second direction brings",
        "",
        "One seed. The majority class's share is what a constant guess would score.",
        "",
        *directions_table(runs),
        "",
    ]
    return [
        "# Accuracy on real data, beside PyTorch",
        "",
        "Scores on the test sequences of `bilstm train` with its default flags, on the training part (of",
        "japanese_vowels and spoken_digits also on the development part): mean over the seeds ± standard deviation.",
        "Beside them the network in PyTorch (twin.py): layers, first weights, gradients and Adam are PyTorch's;",
        "inputs, validation set, batches, learning rates, average of the weights and best epoch are shared.",
        "",
        *([f"Not run for these tables: {', '.join(missing)}.", ""] if missing else []),
        *scores_table(runs),
        "",
        "## Calibration",
        "",
        "Expected calibration error (15 bins) and log loss on the test sequences, before and after the probabilities",
        "are scaled by the temperature that fits the validation set best; means over the seeds.",
        "",
        *calibration_table(runs),
        "",
        "## Time",
        "",
        "Seconds of training, and until the validation accuracy was first as high as the lower of the two's highest:",
        "means over the seeds that both were trained with on as many threads. The whole command also reads the table",
        "and writes the model.",
        "",
        *time_table(runs),
        "",
        *([] if FORWARD in missing else directions),
        "## Every run",
        "",
        *runs_table(runs),
        "",
        f"{machine['processor']}, {machine['processors']} processors, {machine['system']}, Python {machine['Python']}, "
        f"{machine['date']}. Made by `python -m benchmarks.accuracy`.",
        *remarks(runs),
    ]


def remarks(runs: list[Run]) -> list[str]:
    """What was said of runs, with the data sets that each is about."""
    about: dict[str, list[str]] = {}
    for run in runs:
        if remark := run.get("remark"):
            about.setdefault(remark, []).append(run["data_set"])
    return [line for remark, names in about.items() for line in ("", f"{', '.join(dict.fromkeys(names))}: {remark}")]


def scores_table(runs: list[Run]) -> list[str]:
    rows = []
    for name, data_set in DATASETS.items():
        for score in data_set.targets or ["accuracy"]:
            ours, twin = (_values(runs, contender, name, score) for contender in (OURS, TWIN))
            if not ours:
                continue
            target, mean = data_set.targets.get(score), statistics.mean(ours)
            row = [name, _NAMES[score], "" if target is None else f"{target:g}", _mean(ours)]
            row += ["" if target is None else "yes" if mean >= target else "no", _mean(twin)]
            rows.append([*row, f"{100 * (mean - statistics.mean(twin)):+.2f}" if twin else ""])
    header = ["data", "score", "aim", "bilstm", "reached", "PyTorch", "difference in points"]
    return _table(header, rows, left=(0, 1))


def calibration_table(runs: list[Run]) -> list[str]:
    rows = []
    for name in DATASETS:
        ours = [run for run in _runs(runs, OURS, name) if "calibration_error" in run]
        if not ours:
            continue
        before = [run["uncalibrated"] or run for run in ours]
        row = [name, f"{statistics.mean(run['temperature'] for run in ours):.2f}"]
        for score in ("calibration_error", "log_loss"):
            row += [f"{statistics.mean(run[score] for run in part):.4f}" for part in (before, ours)]
        rows.append(row)
    header = ["data", "temperature", "error before", "after", "log loss before", "after"]
    return _table(header, rows, left=(0,))


def time_table(runs: list[Run]) -> list[str]:
    rows = []
    for name in DATASETS:
        pairs = [
            (ours, twin)
            for ours in _runs(runs, OURS, name)
            for twin in _runs(runs, TWIN, name)
            if all(ours[key] == twin[key] for key in ("seed", "threads")) and "curve" in ours and "curve" in twin
        ]
        whole = _values(runs, OURS, name, "whole_command")
        if not whole:
            continue
        row = [name, f"{max(whole):.0f}"]
        if not pairs:
            row.append(_seconds(_values(runs, OURS, name, "seconds")))
        else:
            row += [_seconds([run["seconds"] for run in side]) for side in zip(*pairs, strict=True)]
            reached = [[until(run, common_score(*pair)) for run in pair] for pair in pairs]
            ours_until, twin_until = (statistics.mean(times) for times in zip(*reached, strict=True))
            row += [f"{ours_until:.0f}", f"{twin_until:.0f}", f"{twin_until / ours_until:.1f}×"]
        rows.append(row)
    header = [
        "data",
        "longest whole command",
        "bilstm",
        "PyTorch",
        "bilstm to the same score",
        "PyTorch to it",
        "ratio",
    ]
    return _table(header, rows, left=(0,))


def common_score(*pair: Run) -> float:
    """The lower of the highest validation accuracies."""
    return min(float(max(score for _, score in run["curve"])) for run in pair)


def until(run: Run, score: float) -> float:
    """The seconds after which the validation accuracy was first as high."""
    return float(next(seconds for seconds, reached in run["curve"] if reached >= score))


def directions_table(runs: list[Run]) -> list[str]:
    rows = []
    for forward in [run for name in DATASETS for run in _runs(runs, FORWARD, name)]:
        both = [run for run in _runs(runs, OURS, forward["data_set"]) if run["seed"] == forward["seed"]]
        scores = [f"{run['accuracy']:.4f}" for run in (*both[:1], forward)]
        if both:
            rows.append([forward["data_set"], *scores, f"{forward['majority']:.4f}"])
    return _table(["data", "both directions", "forward only", "majority class"], rows, left=(0,))


def runs_table(runs: list[Run]) -> list[str]:
    rows = []
    for run in [run for name in DATASETS for contender in (OURS, TWIN) for run in _runs(runs, contender, name)]:
        scores = [f"{run[score]:.4f}" if score in run else "" for score in _NAMES]
        about = [run["data_set"], run["contender"], str(run["seed"]), *scores, str(run["threads"])]
        rows.append([*about, _seconds([run["seconds"]])])
    return _table(["data", "library", "seed", *_NAMES.values(), "threads", "seconds"], rows, left=(0, 1))


def _runs(runs: list[Run], contender: str, name: str) -> list[Run]:
    found = [run for run in runs if (run["contender"], run["data_set"]) == (contender, name)]
    return sorted(found, key=lambda run: int(run["seed"]))


def _values(runs: list[Run], contender: str, name: str, value: str) -> list[float]:
    return [run[value] for run in _runs(runs, contender, name) if value in run]


def _mean(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def _seconds(values: list[float]) -> str:
    return f"{statistics.mean(values):.0f}" if values else ""


def _table(header: list[str], rows: list[list[str]], left: tuple[int, ...]) -> list[str]:
    line = ["---" if i in left else "---:" for i in range(len(header))]
    return [
        f"| {' | '.join(row)} |" for row in (header, line, *(row + [""] * (len(header) - len(row)) for row in rows))
    ]
