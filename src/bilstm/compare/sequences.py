"""The comparison for sequences and labels in Python, as the estimators take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bilstm.compare.comparison import DEFAULTS, SEEDS, TEST_SPLIT, compare_encoded, held_out_share, of_one_size, part
from bilstm.compare.variants import DIRECTIONS, grid
from bilstm.data.columns import Columns, Encoded
from bilstm.inputs.frames import Frame, is_frame
from bilstm.inputs.labels import Labels, read_step_labels
from bilstm.inputs.steps import StepEncoder, Steps, read_steps
from bilstm.metrics.labels import labelled_sequences
from bilstm.splitting import hold_out
from bilstm.training.loop import Progress
from bilstm.training.options import TrainingOptions


def compare(
    X: Any,
    y: Any,
    *,
    X_test: Any = None,
    y_test: Any = None,
    groups: Any = None,
    sequence: str | None = None,
    order: str | None = None,
    vary: Mapping[str, Sequence[Any]] | None = None,
    seeds: int = SEEDS,
    same_size: bool = False,
    test_split: float = TEST_SPLIT,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train in several variants, and say what differs.

    Args:
        X, y: n sequences, and a label for each of their steps, in any form that `SequenceTagger.fit` takes.
        X_test, y_test: those to score by. Where they are left out, a part of X is held out for that.
        groups: (n,) which sequences of X belong together, such as one patient's: they are never parted.
        sequence, order: of tables, as `SequenceTagger` takes them.
        vary: the values of each of `TrainingOptions` that varies; all combinations are trained, and compared with that
            of all first values. None: direction, "forward", "backward" and "both".
        seeds: how many times each variant is trained; `seed`, 1 unless said, is the first, and they count on.
        same_size: whether smaller variants get more units, so that all have about as many parameters.
        test_split: the share of X that is held out to score by, besides `validation_split`, by which the best epoch of
            a training is found.
        progress: see `compare_encoded`.
        options: of `TrainingOptions`; units=64, layers=2, validation_split=0.1 and no early stopping unless said.

    Returns:
        See `compare_encoded`.

    Raises:
        TypeError: there is no such option.
        ValueError: an argument is impossible, or there are too few sequences.
        ComparisonInterrupted: see `compare_encoded`.
    """
    if (X_test is None) != (y_test is None):
        raise ValueError("X_test and y_test are given together, or neither is")
    given = {name: value for name, value in options.items() if (name, value) != ("validation_split", None)}
    base = TrainingOptions(**DEFAULTS | given)
    variants = grid(DIRECTIONS if vary is None else vary, base)
    share = held_out_share(base.validation_split, test_split if X_test is None else None)
    steps, labels, groups = _read(X, y, groups, sequence, order)
    classes = labels.classes()
    codes = labels.codes(classes)
    labelled = labelled_sequences(codes, steps.offsets)
    training, held_out = hold_out(labelled, share, seed=base.seed, groups=groups)
    encoder = StepEncoder.fit(steps.take(training))
    names = tuple(str(int(name) if isinstance(name, float) else name) for name in classes.tolist())
    columns = Columns(sequence or "sequence", order, "label", names, encoder.numeric, encoder.categorical)
    encoded = Encoded(encoder.encode(steps), codes, np.arange(len(codes)))
    validation = encoded.take(held_out)
    if X_test is None:
        together = None if groups is None else np.asarray(groups)[held_out]
        validation, test = part(validation, test_split / share, seed=base.seed, groups=together)
    else:
        others, labels, _ = _read(X_test, y_test, None, sequence, order, [*steps.columns])
        codes = labels.known_codes(classes)
        test = Encoded(encoder.encode(others), codes, np.arange(len(codes)))
    if same_size:
        variants = of_one_size(variants, columns)
    return compare_encoded(columns, encoded.take(training), validation, test, variants, seeds=seeds, progress=progress)


def _read(
    X: Any, y: Any, groups: Any, sequence: str | None, order: str | None, names: list[str] | None = None
) -> tuple[Steps, Labels, Any]:
    """Steps, their labels, and the group of each sequence; the names are of the columns that X must have."""
    if not is_frame(X):
        steps = read_steps(X)
        if names is not None and [*steps.columns] != names:
            raise ValueError(f"X_test has {len(steps.columns)} features, but X has {len(names)}")
        return steps, _one_label_each(y, steps), groups
    frame = Frame(X, sequence, order)
    steps = frame.steps(frame.features(y=y, groups=groups) if names is None else names)
    labels = _one_label_each(frame.by_step(y, "y"), steps)
    return steps, labels, None if groups is None else frame.by_sequence(groups, "groups")


def _one_label_each(y: Any, steps: Steps) -> Labels:
    labels = read_step_labels(y, steps.offsets)
    if not isinstance(labels, Labels):
        raise ValueError("y has several labels for each step: compare by one of them")
    return labels
