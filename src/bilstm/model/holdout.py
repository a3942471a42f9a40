"""What is set aside for validation and for testing: whole sequences, or blocks of time of a few long recordings."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bilstm.data.dataset import Truth
from bilstm.data.table import window_advice
from bilstm.errors import UserError, counted
from bilstm.ragged import IndexArray
from bilstm.splitting import Division, default_share, divide, divide_time
from bilstm.tasks import LabelTask, Task


def set_aside(
    task: Task,
    truth: Truth,
    offsets: IndexArray,
    shares: tuple[float | None, float],
    *,
    groups: IndexArray | None = None,
    group: str | None = None,
    window: int | None = None,
    valid: bool = False,
    seed: int,
) -> tuple[Division, list[str]]:
    """Divide labelled sequences into training, validation and test set.

    With windows, blocks of time are set aside if a share comes to less than one sequence, and sequences have no groups.

    Args:
        truth: the true answers of each step, or of each sequence.
        offsets: (n_sequences + 1,) where the steps of each sequence begin and end.
        shares: for the validation set (None: the default) and for the test set.
        groups: (n_sequences,) which sequences stay together.
        group: the name of the groups' column.
        window: the steps of the longest windows that are trained on; at least as many are left out between two sets.
        valid: whether there is a validation set already.

    Returns:
        The division, and what a person should know about it, one sentence each.

    Raises:
        UserError: windows have no effect, or the recordings are too short for blocks of time.
    """
    if window is not None:
        _check_window(task, offsets, window)
    labelled = task.labelled_sequences(truth, offsets)
    asked, test = (0.0, shares[1]) if valid else shares
    one_label_each = task.per_sequence and groups is None
    validation = default_share(asked, len(labelled), one_label_each)
    smallest = min((share for share in (validation, test) if share), default=1.0)
    if window is not None and groups is None and round(smallest * int(labelled.sum()), 9) < 1:
        steps = task.labelled(truth)
        validation = default_share(asked, max(1, int(offsets[-1]) // window))
        division = divide_time(steps, offsets, (validation, test), window, seed=seed)
        _check_blocks(division, steps, (validation, test), window)
        return division, []
    classes = truth if one_label_each and isinstance(task, LabelTask) else None
    division = divide(labelled, offsets, (validation, test), seed=seed, groups=groups, classes=classes)
    notes = []
    if validation + test and division.counts[0] == len(labelled):
        only = f"all labels are of one {group}" if group is not None else ONE_SEQUENCE
        advice = "" if group is not None or task.per_sequence or window else advice_for(offsets)
        notes.append(f"{only}, so there is no validation set, and training does not stop early{advice}")
    return division, notes


ONE_SEQUENCE = "only one sequence has labels"


def check_groups(shares: tuple[float | None, float], valid: bool) -> None:
    """Refuse groups where nothing is set aside; for the arguments see `set_aside`."""
    if not shares[1] and (valid or shares[0] == 0):
        other = "a validation table" if valid else "validation_split=0"
        raise UserError(
            f"groups stay together in the validation set, and with {other} none is set aside: leave them out"
        )


def advice_for(offsets: IndexArray) -> str:
    """How blocks of time can be set aside, as the end of a sentence; "" where the sequences are too short."""
    advice = window_advice(int(np.diff(offsets).max()))
    return "" if "STEPS" in advice else f"; {advice}"


def _check_window(task: Task, offsets: IndexArray, window: int) -> None:
    if task.per_sequence:
        raise UserError(
            f"--window (window={window}) trains on windows of sequences whose steps have answers of their own, but the "
            f"task is {task.kind}: leave it out, or say what is meant with --task step-{task.what}"
        )
    longest = int(np.diff(offsets).max())
    if window > longest:
        raise UserError(
            f"--window (window={window}) is longer than the longest sequence, which has {counted(longest, 'step')}: "
            f"choose a shorter window"
        )


def _check_blocks(
    division: Division, labelled: npt.NDArray[np.bool_], shares: tuple[float, float], window: int
) -> None:
    """Refuse sets without a label; a part of a recording that is shorter than a window is in no set."""
    enough = True
    for part, share in zip(division.parts, (1.0, *shares), strict=True):
        ranges = list(zip(division.starts[part].tolist(), division.stops[part].tolist(), strict=True))
        enough &= not share or any(labelled[start:stop].any() for start, stop in ranges)
    if not enough:
        names = [name for name, share in zip(("training", "validation", "test"), (1.0, *shares), strict=True) if share]
        raise UserError(
            f"{counted(len(labelled), 'step')} are too few for a {' and a '.join(names)} set with labels, windows of "
            f"{counted(window, 'step')}, and gaps of as many between the sets: choose a shorter window, set less "
            f"aside, or give other sequences to validate on with --valid (valid=…)"
        )
