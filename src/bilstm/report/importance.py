"""On which time steps the prediction for a whole sequence rests, measured by replacing windows of steps.

Each window of the sequence is replaced several times by stretches of other sequences. Its importance is how much less
the network then believes in its prediction: the median over the replacements, since one that happens to bring in
evidence of its own would distort the mean. Windows have several sizes, each a fixed share of the sequence's length, and
overlap by half. A replaced window still looks like data to the network; zeros would not, and the network's reaction to
them would be measured instead.

After occlusion: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014), section 4.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.ragged import FloatArray, Ragged
from bilstm.report.reach import Predict, steps_of_others
from bilstm.tasks import LabelTask, QuantityTask, Task

SHARES = (16, 8, 4)  # windows are a sixteenth, an eighth and a quarter of a sequence
REPLACEMENTS = 8
FEWEST_REPLACEMENTS = 4
MOST_STEPS = 200_000  # to predict for one sequence
_NEARLY_ALL = 0.9  # of the largest drop: a smaller window with so much is the most important one
_ERRORS = 2.0  # standard errors above 0, from which on a drop is not by chance
_MEDIAN_ERROR = 1.2533 * 1.4826  # times the median absolute deviation / sqrt(n): a median's standard error

Scores = npt.NDArray[np.float64]


def step_importance(
    task: Task, predict: Predict, values: Ragged, sequence: int, seed: int = 0
) -> dict[str, Any] | None:
    """Find the steps on which the prediction for a sequence rests.

    Args:
        task: a task with one answer per sequence.
        predict: the outputs of the network for any sequences.
        values: encoded sequences.
        sequence: the index of the one to explain.
        seed: chooses the replacements.

    Returns:
        Plain data: "windows", the sizes in steps; "replacements" of each window; "steps": for each time step the drop,
        averaged over the windows of a size that contain it, then over the sizes; "window": the most important one, the
        smallest whose drop is at least nine tenths of the largest drop: "start" and "stop" (from 0), "drop", its
        "error" (the standard error of the median), and "without", the median (outputs,) with it replaced; None
        where no drop exceeds two standard errors. The drop is that of the log-probability of the predicted label, of
        all predicted answers where there are several labels, or the mean absolute change of the quantities in
        standard deviations. None for a sequence of one step, or one so long that this would take too long.
    """
    own = values[sequence]
    sizes = sorted({max(1, len(own) // share) for share in SHARES})
    while sizes and len(_windows(len(own), sizes)) * len(own) * FEWEST_REPLACEMENTS > MOST_STEPS:
        sizes = sizes[1:]
    if len(own) < 2 or not sizes:
        return None
    windows = _windows(len(own), sizes)
    repeats = min(REPLACEMENTS, MOST_STEPS // (len(windows) * len(own)))
    rng = np.random.default_rng([seed, 3, sequence])
    intact = predict(values[[sequence]]).values
    outputs = np.stack([predict(_replaced(values, sequence, windows, rng)).values for _ in range(repeats)])
    drops = belief(task, intact, intact)[0] - np.stack([belief(task, intact, rows) for rows in outputs])
    medians = np.median(drops, axis=0)
    errors = _MEDIAN_ERROR * np.median(np.abs(drops - medians), axis=0) / np.sqrt(repeats)
    best = _most_important(windows, medians, errors)
    return {
        "windows": sizes,
        "replacements": repeats,
        "steps": _profile(len(own), windows, medians).round(5).tolist(),
        "window": None
        if best is None
        else {
            "start": windows[best][0],
            "stop": windows[best][1],
            "drop": float(medians[best]),
            "error": float(errors[best]),
            "without": np.median(outputs[:, best].astype(np.float64), axis=0).tolist(),
        },
    }


def belief(task: Task, intact: FloatArray, outputs: FloatArray) -> Scores:
    """(rows,) how much outputs support the prediction that follows from the (1, outputs) of the intact sequence."""
    if isinstance(task, QuantityTask):
        return np.asarray(-np.abs(outputs - intact).mean(axis=1, dtype=np.float64))
    rows = outputs.astype(np.float64).clip(1e-7, 1 - 1e-7)
    if isinstance(task, LabelTask):
        return np.asarray(np.log(rows[:, int(intact[0].argmax())]))
    return np.asarray(np.log(np.where(intact > 0.5, rows, 1 - rows)).sum(axis=1))


def _windows(length: int, sizes: list[int]) -> list[tuple[int, int]]:
    """(start, stop) of windows, each half a window after the one before it, the last at the sequence's end."""
    return [
        (start, start + size)
        for size in sizes
        for start in sorted({*range(0, length - size + 1, max(1, size // 2)), length - size})
    ]


def _replaced(values: Ragged, sequence: int, windows: list[tuple[int, int]], rng: np.random.Generator) -> Ragged:
    """The sequence once for each window, with that window replaced."""
    own = values[sequence]
    altered = np.repeat(own[np.newaxis], len(windows), axis=0)
    for copy, (start, stop) in zip(altered, windows, strict=True):
        copy[start:stop] = steps_of_others(values, sequence, stop - start, rng, "any")
    return Ragged.from_padded(altered).with_words(values.words)


def _profile(length: int, windows: list[tuple[int, int]], drops: Scores) -> Scores:
    sizes = sorted({stop - start for start, stop in windows})
    sums, counts = np.zeros((len(sizes), length)), np.zeros((len(sizes), length))
    for (start, stop), drop in zip(windows, drops, strict=True):
        sums[sizes.index(stop - start), start:stop] += drop
        counts[sizes.index(stop - start), start:stop] += 1
    return np.asarray((sums / counts).mean(axis=0))


def _most_important(windows: list[tuple[int, int]], drops: Scores, errors: Scores) -> int | None:
    clear = np.flatnonzero((drops > 0) & (drops > _ERRORS * errors))
    if not len(clear):
        return None
    enough = clear[drops[clear] >= _NEARLY_ALL * drops[clear].max()]
    return int(min(enough, key=lambda window: (windows[window][1] - windows[window][0], -drops[window])))
