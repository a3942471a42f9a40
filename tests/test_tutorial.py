"""The tutorial's program runs as it was typed for Keras, and prints what it printed there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "examples" / "tutorial.py"
NUMBER = r"\d+\.\d{4}(?:e-\d\d)?"  # Keras writes what is below a thousandth with an exponent
LOG_LINE = re.compile(rf"\d+s - loss: ({NUMBER}) - acc: ([01]\.\d{{4}}|0\.0000e\+00)")
ANSWER = re.compile(r"Expected: \[([01])\] Predicted \[([01])\]")


@pytest.fixture(scope="module")
def printed() -> list[str]:
    finished = subprocess.run([sys.executable, "-W", "error", PROGRAM], capture_output=True, text=True, timeout=120)
    assert finished.stderr == ""
    assert finished.returncode == 0
    return finished.stdout.splitlines()


def test_every_fit_prints_the_two_lines_of_its_time(printed: list[str]) -> None:
    log = printed[:-10]
    assert log[::2] == ["Epoch 1/1"] * 1000
    assert len(log) == 2000
    for line in log[1::2]:
        assert LOG_LINE.fullmatch(line), line


def test_the_loss_falls_and_the_accuracy_rises(printed: list[str]) -> None:
    found = [LOG_LINE.fullmatch(line) for line in printed[1:-10:2]]
    losses, accuracies = zip(*(map(float, match.groups()) for match in found if match), strict=True)
    assert sum(losses[:20]) / 20 > 0.4
    assert sum(losses[-200:]) / 200 < 0.25
    assert sum(accuracies[-200:]) / 200 > 0.88
    assert all(accuracy * 10 == pytest.approx(round(accuracy * 10)) for accuracy in accuracies)  # ten steps each


def test_the_last_lines_are_expected_and_predicted(printed: list[str]) -> None:
    answers = [ANSWER.fullmatch(line) for line in printed[-10:]]
    assert all(answers), printed[-10:]
    assert sum(match[1] == match[2] for match in answers if match) >= 6  # right at nine or ten steps as a rule


def test_only_the_imports_tell_it_from_a_program_for_keras() -> None:
    program = PROGRAM.read_text(encoding="utf-8")
    code = [line for line in program.splitlines() if not line.startswith("#")]
    naming = [line for line in code if "bilstm" in line]
    assert len(naming) == 2
    assert all(re.match(r"from bilstm\.(models|layers) import ", line) for line in naming)

    tree = ast.parse("\n".join(code).replace("bilstm", "keras"))
    imports = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imports == {"random", "numpy", "keras.models", "keras.layers"}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))


def test_keras_has_every_name_that_it_imports() -> None:
    """The program for Keras has everything but `predict_classes`, which Keras dropped in 2021."""
    keras = pytest.importorskip("keras")
    program = PROGRAM.read_text(encoding="utf-8").replace("from bilstm.", "from keras.")
    for module, names in re.findall(r"from keras\.(\w+) import (.*)", program):
        for name in names.split(", "):
            assert hasattr(getattr(keras, module), name)
