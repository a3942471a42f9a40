"""What commands import: a command that needs little starts fast only if it leaves the rest alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bilstm

pytestmark = pytest.mark.fast

# Those that take long, or memory, and what belongs to other commands.
HEAVY = (
    "duckdb",
    "matplotlib",
    "jinja2",
    "tqdm",
    "sklearn",
    "pandas",
    "torch",
    "joblib",
    "numpy.ma",
    "multiprocessing",
)
ROOMS = ("training", "report", "plots", "compare", "estimators", "bridges", "serving", "demo", "torch")
TRAINING = (
    "bilstm.model.training",
    "bilstm.model.opening",
    "bilstm.model.prepare",
    "bilstm.model.tagging",
    "bilstm.metrics.calibration",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("startup")
    rows = [f"{sequence},{step},{step % 3 - 1},{'ab'[step % 2]}" for sequence in range(12) for step in range(4)]
    (folder / "train.csv").write_text("\n".join(["id,time,x,state", *rows, ""]), encoding="utf-8")
    columns = {"sequence": "id", "order": "time", "label": "state"}
    model = bilstm.train(folder / "train.csv", units=4, layers=1, epochs=1, verbose=False, **columns)
    model.save(folder / "model.safetensors")
    return folder


def imported(folder: Path, program: str) -> set[str]:
    """The modules that a program has imported when it ends."""
    ending = "import atexit, sys; atexit.register(lambda: print('\\n'.join(sys.modules), file=open('modules', 'w')))\n"
    subprocess.run(
        [sys.executable, "-c", ending + program], cwd=folder, capture_output=True, text=True, check=True, timeout=120
    )
    return set((folder / "modules").read_text(encoding="utf-8").split())


def run(command: str) -> str:
    return f"import sys; sys.argv[1:] = {command.split()!r}\nfrom bilstm.__main__ import main\nmain()"


def rooms(modules: set[str]) -> set[str]:
    return {name.split(".")[1] for name in modules if name.startswith("bilstm.")}


def test_the_package_alone(folder: Path) -> None:
    modules = imported(folder, "import bilstm")
    assert not modules & {"numpy", "ctypes", "click", *HEAVY}
    assert rooms(modules) == {"_version"}


@pytest.mark.parametrize("command", ["--version", "--help", "predict --help"])
def test_what_reads_no_model(folder: Path, command: str) -> None:
    modules = imported(folder, run(command))
    assert not modules & {"numpy", "safetensors", *HEAVY}
    assert rooms(modules) <= {
        "__main__",
        "_version",
        "arguments",
        "cli",
        "console",
        "errors",
        "files",
        "progress",
        "signals",
    }
    others = {name for name in modules if name.startswith("bilstm.cli.")}
    if command != "--help":
        assert others <= {"bilstm.cli.configuration", "bilstm.cli.inputs", "bilstm.cli.options", "bilstm.cli.predict"}


def test_predictions_of_a_table(folder: Path) -> None:
    modules = imported(folder, run("predict model.safetensors train.csv --out out.csv --quiet"))
    assert "duckdb" in modules
    assert not modules & {*HEAVY[1:], *TRAINING}
    assert not rooms(modules) & set(ROOMS)


def test_predictions_in_python(folder: Path) -> None:
    program = "import bilstm; bilstm.load('model.safetensors').predict({'time': [0, 1], 'x': [0.0, 1.0]})"
    modules = imported(folder, program)
    assert not modules & {"click", *HEAVY, *TRAINING}
    assert not rooms(modules) & {"cli", *ROOMS}


def test_training(folder: Path) -> None:
    flags = "--sequence id --order time --label state --units 4 --layers 1 --epochs 1 --quiet --out other.safetensors"
    modules = imported(folder, run(f"train train.csv {flags}"))
    assert not modules & (set(HEAVY[1:]) - {"numpy.ma"})
    assert not rooms(modules) & set(ROOMS[1:])
