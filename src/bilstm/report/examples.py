"""The sequences that a tagger labels worst, with all that is needed to draw them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data.columns import Columns, Encoded
from bilstm.data.table import Table
from bilstm.metrics.labels import sequence_of_steps
from bilstm.ragged import FloatArray, IndexArray

HOW_MANY = 6
MOST_STEPS = 2_000  # of a sequence that are drawn
MOST_WORDS = 120  # of one that is shown as text
MOST_NUMBERS = 4  # numeric features that are drawn
_DAMPING = 10  # steps: of a very short sequence, a single mistake is not the worst


def worst_sequences(
    columns: Columns, table: Table, encoded: Encoded, probabilities: FloatArray, *, count: int = HOW_MANY
) -> list[dict[str, Any]]:
    """The sequences with the largest share of wrong steps, worst first; none without a wrong step.

    They are ordered by wrong steps / (labelled steps + 10), then by the mean of -log(probability of the true class).

    Args:
        encoded: labelled sequences of the table.
        probabilities: (total_steps, n_classes) of their steps, labels that the tagger has never seen included.
        count: how many at most.

    Returns:
        For each, plain data: "name" (see `_name`), "place" in the file, "steps", "labelled" and
        "wrong" steps, and of the stretch that is shown, the one with the most wrong steps where the sequence is too
        long for all: "start" and "stop" (from 0), and by step "truth" (a class, or None), "predicted", "confidence",
        "numbers" (by feature; None where missing) and "texts" (by feature).
    """
    labels, offsets = encoded.labels, encoded.values.offsets
    predicted = probabilities.argmax(axis=1)
    scored = labels >= 0
    wrong = scored & (predicted != labels)
    sequences = sequence_of_steps(offsets)
    given = probabilities[np.arange(len(labels)), np.maximum(labels, 0)].clip(1e-7)

    def by_sequence(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.bincount(sequences, values, minlength=len(offsets) - 1).astype(np.float64)

    labelled, mistakes = by_sequence(scored), by_sequence(wrong)
    badness = mistakes / (labelled + _DAMPING)
    loss = by_sequence(np.where(scored, -np.log(given), 0)) / np.maximum(labelled, 1)
    chosen = [i for i in np.lexsort((-loss, -badness))[:count].tolist() if mistakes[i]]
    text, classes = bool(columns.categorical), (*columns.classes, *encoded.unseen)
    numbers = {column.name: table.numbers(column.name) for column in columns.numeric[:MOST_NUMBERS]}
    texts = {column.name: table.texts(column.name) for column in columns.categorical[:1]}
    found = []
    for sequence in chosen:
        steps = np.arange(offsets[sequence], offsets[sequence + 1])
        shown = _stretch(wrong[steps], MOST_WORDS if text else MOST_STEPS)
        rows: IndexArray = encoded.rows[steps[shown]]
        truth = labels[steps[shown]].tolist()
        found.append(
            {
                "name": _name(columns, table, int(encoded.rows[steps[0]])),
                "place": table.place(int(encoded.rows[steps].min())).removeprefix(f"{table.path}, "),
                "steps": len(steps),
                "labelled": int(labelled[sequence]),
                "wrong": int(mistakes[sequence]),
                "start": shown.start,
                "stop": shown.stop,
                "truth": [None if label < 0 else classes[label] for label in truth],
                "predicted": [classes[label] for label in predicted[steps[shown]].tolist()],
                "confidence": probabilities[steps[shown]].max(axis=1).astype(np.float64).round(4).tolist(),
                "numbers": {name: _plain(cells[rows]) for name, cells in numbers.items()},
                "texts": {
                    name: ["" if cell is None else cell for cell in cells[rows]] for name, cells in texts.items()
                },
            }
        )
    return found


def _name(columns: Columns, table: Table, row: int) -> str:
    """The cell that the rows of a sequence share or, where each row of the file is a sequence, its number from 1."""
    if columns.sequence in table.names:
        return str(table.texts(columns.sequence, row, row + 1)[0])
    return str(table.block("list_row + 1", row, row + 1)[0])


def _stretch(wrong: npt.NDArray[np.bool_], most: int) -> slice:
    """All steps or, of too many, those `most` together with the most wrong ones."""
    if len(wrong) <= most:
        return slice(0, len(wrong))
    sums = np.append(0, np.cumsum(wrong))
    start = int((sums[most:] - sums[:-most]).argmax())
    return slice(start, start + most)


def _plain(numbers: npt.NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(number) else number for number in numbers.tolist()]
