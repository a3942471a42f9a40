"""What trainings in Python show: a bar on a terminal, a line for each epoch, or nothing."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import bilstm
from bilstm import SequenceClassifier, SequenceRegressor, SequenceTagger

DATA = [{"x": [0.1 * i, 1.0, -1.0], "y": ["a", "b", "a"]} for i in range(6)]
ARRAYS = [row["x"] for row in DATA]
SMALL: dict[str, Any] = {"units": 2, "layers": 1, "epochs": 2, "validation_split": 0.5, "baseline": True}
NUMBER = r"\d+\.\d{4}"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def train(**options: Any) -> None:
    bilstm.train(DATA, label="y", task="step-label", **SMALL | options)


def tag(**options: Any) -> None:
    SequenceTagger(**SMALL, **options).fit(ARRAYS, [row["y"] for row in DATA])


def classify(**options: Any) -> None:
    SequenceClassifier(**SMALL, **options).fit(ARRAYS, ["a", "b"] * 3)


def regress(**options: Any) -> None:
    SequenceRegressor(**SMALL, **options).fit(ARRAYS, ARRAYS)


@pytest.mark.parametrize("training", [train, tag, classify, regress])
@pytest.mark.parametrize("verbose", [{}, {"verbose": None}, {"verbose": True}, {"verbose": False}], ids=str)
@pytest.mark.parametrize("terminal", [True, False])
def test_verbose(
    training: Callable[..., None],
    verbose: dict[str, bool | None],
    terminal: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", error)
    training(**verbose)
    shown = terminal and verbose.get("verbose") is None
    for bar in ("\repoch ", "\rwithout recurrence: epoch "):
        assert (bar in error.getvalue()) == shown
    assert shown or not error.getvalue()
    printed = capsys.readouterr().out
    if verbose.get("verbose"):
        scores = rf"loss {NUMBER}, val_loss {NUMBER}" + ("" if training is regress else f", val_accuracy {NUMBER}")
        lines = [rf"{what}Epoch {i}/2: {scores}\n" for what in ("", "without recurrence: ") for i in (1, 2)]
        assert re.fullmatch("".join(lines), printed)
    else:
        assert printed == ""


@pytest.mark.parametrize("verbose", [None, True, False])
def test_progress_is_called_whatever_is_shown(verbose: bool | None) -> None:
    epochs: list[int] = []
    train(verbose=verbose, progress=lambda event: epochs.append(event["epoch"]), baseline=False)
    assert sorted(set(epochs)) == [1, 2]


@pytest.mark.parametrize("training", [train, tag])
def test_another_verbosity_is_refused(training: Callable[..., None]) -> None:
    with pytest.raises(ValueError, match="verbose must be one of None, True, False, not 'yes'"):
        training(verbose="yes")


@pytest.mark.parametrize("missing", ["click", "tqdm"])
def test_training_needs_neither_click_nor_tqdm(missing: str) -> None:
    """A bar is shown without click, and none without tqdm."""
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "sys.stderr.isatty = lambda: True\n"
        "import bilstm\n"
        f"bilstm.train({DATA!r}, label='y', task='step-label', **{SMALL!r})\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ("of 2 |" in ran.stderr) == (missing == "click")
    assert ran.stdout == ""


@pytest.mark.parametrize(
    ("name", "similar"), [("unit", " Did you mean 'units'?"), ("sequnce", " Did you mean 'sequence'?"), ("quux", "")]
)
def test_a_misspelt_argument(name: str, similar: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"train() has no argument {name!r}.{similar}") + "$"):
        train(**{name: 3})
