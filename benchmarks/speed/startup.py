"""Whole processes that predict for ten rows: ours, ONNX Runtime's, PyTorch's and CRFsuite's, in turn.

python -m benchmarks.speed.startup    prints the table; --out FILE writes the page; --peers names a Python that has
onnxruntime, torch and python-crfsuite: those that it lacks are left out; --ours one with the wheel, as users install
it (`make wheel`, then pip install 'dist/….whl[cli]' into an environment): from an editable installation modules are
imported more slowly
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import bilstm
from benchmarks.speed import machine

_ROUNDS = 7
_UNITS, _FEATURES, _CLASSES = 64, 4, 3
_WORDS = 8_000  # of a vocabulary that makes a file of 10 MB
_TRAIN = ["--sequence", "id", "--order", "time", "--label", "state", "--units", str(_UNITS), "--epochs", "1", "--quiet"]

_ONNX = """
import numpy, onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
rows = numpy.loadtxt("ten.csv", delimiter=",", skiprows=1, usecols=range(1, 5))
inputs = {name: rows[None, :, index] for index, name in enumerate("xyzw")}
print(session.run(None, inputs | {"lengths": numpy.array([10], numpy.int32)})[0])
"""
_TORCH = f"""
import csv, torch
class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM({_FEATURES}, {_UNITS}, 2, bidirectional=True, batch_first=True)
        self.last = torch.nn.Linear({2 * _UNITS}, {_CLASSES})
    def forward(self, x):
        return self.last(self.lstm(x)[0])
"""
_PROGRAMS = {
    "ONNX Runtime": ("onnxruntime", _ONNX),
    "PyTorch": (
        "torch",
        _TORCH
        + """
network = Network()
network.load_state_dict(torch.load("model.pt"))
rows = [[float(cell) for cell in row[1:5]] for row in list(csv.reader(open("ten.csv")))[1:]]
with torch.inference_mode():
    print(network(torch.tensor([rows])).argmax(-1))
""",
    ),
    "python-crfsuite": (
        "pycrfsuite",
        """
import csv, pycrfsuite
tagger = pycrfsuite.Tagger()
tagger.open("model.crfsuite")
print(tagger.tag([[f"{i}={cell}" for i, cell in enumerate(row[1:5])] for row in list(csv.reader(open("ten.csv")))[1:]]))
""",
    ),
}
_MAKES = {  # the files that the peers' programs read
    "PyTorch": _TORCH + 'torch.save(Network().state_dict(), "model.pt")',
    "python-crfsuite": """
import random, pycrfsuite
trainer = pycrfsuite.Trainer(verbose=False)
for _ in range(100):
    labels = random.choices("abc", k=20)
    trainer.append([[f"{i}={random.choice(label + 'xyz')}" for i in range(4)] for label in labels], labels)
trainer.train("model.crfsuite")
""",
}
_OURS = "import bilstm\nprint(bilstm.load('model.safetensors').predict(%r))"


@dataclass
class Case:
    """A process: what it is called, its command, and the seconds, processor seconds and bytes of its runs."""

    name: str
    command: list[str]
    seconds: list[float]
    processor: list[float]
    memory: int = 0

    def run(self) -> None:
        started = time.perf_counter()
        process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{self.name}: exit status {process.returncode}")
        self.seconds.append(seconds)
        self.processor.append(usage.ru_utime + usage.ru_stime)
        if usage.ru_maxrss > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:  # with which a child's figure begins
            self.memory = max(self.memory, usage.ru_maxrss * 1024)

    def row(self) -> str:
        median, least = statistics.median(self.seconds), min(self.seconds)
        times = f"{1000 * median:,.0f} | {1000 * least:,.0f} | {1000 * min(self.processor):,.0f}"
        memory = f"{self.memory / 1e6:,.0f}" if self.memory else "–"
        return f"| {self.name} | {times} | {memory} |"


def prepare(python: str, peers: str) -> list[Case]:
    """Write a table, models and programs into this folder; returns what is measured.

    Args:
        python: the interpreter with bilstm.
        peers: the interpreter with the peers.
    """
    random = np.random.default_rng(1)
    for path, sequences in (("train.csv", 60), ("ten.csv", 1)):
        lines = ["id,x,y,z,w,time,state"]
        for sequence in range(sequences):
            for step in range(10):
                cells = ",".join(f"{value:.3f}" for value in random.normal(size=_FEATURES))
                lines.append(f"{sequence},{cells},{step},{'abc'[random.integers(_CLASSES)]}")
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    ours = [python, "-m", "bilstm"]
    features = ["--features", "x,y,z,w"]
    subprocess.run([*ours, "train", "train.csv", *_TRAIN, *features, "--out", "model.safetensors"], check=True)
    ten = {name: random.normal(size=10).tolist() for name in "xyzw"}
    commands = {
        "`python -c pass`": [python, "-c", "pass"],
        "`import numpy`": [python, "-c", "import numpy"],
        "`import numpy, duckdb, click`": [python, "-c", "import numpy, duckdb, click"],
        "`bilstm predict`": [*ours, "predict", "model.safetensors", "ten.csv", "--out", "out.csv", "--quiet"],
        "`bilstm.load(…).predict(…)`": [python, "-c", _OURS % ten],
    }
    for name, (module, program) in _PROGRAMS.items():
        if subprocess.run([peers, "-c", f"import {module}"], capture_output=True).returncode:
            print(f"{peers} has no {module}: left out", file=sys.stderr)
            continue
        if name == "ONNX Runtime":
            export = [sys.executable, "-m", "bilstm", "export", "model.safetensors", "--to", "model.onnx"]
            subprocess.run(export, check=True)
        else:
            subprocess.run([peers, "-c", _MAKES[name]], check=True)
        commands[name] = [peers, "-c", program]
    return [Case(name, command, [], []) for name, command in commands.items()]


def installation(python: str) -> str:
    """How the package is installed there."""
    program = "import bilstm, sys; sys.stdout.write(bilstm.__file__)"
    place = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout
    return "installed from its wheel" if "site-packages" in Path(place).parts else "an editable installation"


def loading() -> tuple[float, float]:
    """The megabytes of a model with a large vocabulary, and the least milliseconds of loading it."""
    words = [f"word{number}" for number in range(_WORDS)]
    rows = {"id": np.repeat(np.arange(len(words) // 10), 20), "word": np.array(words).repeat(2)}
    rows["state"] = np.where(np.arange(len(rows["id"])) % 2, "a", "b")
    model = bilstm.train(rows, sequence="id", label="state", epochs=1, embedding=128, units=_UNITS, verbose=False)
    model.save("large.safetensors")
    times = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        bilstm.load("large.safetensors")
        times.append(time.perf_counter() - started)
    return os.path.getsize("large.safetensors") / 1e6, 1000 * min(times)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.startup", description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--ours", default=sys.executable)
    parser.add_argument("--peers", default=sys.executable)
    arguments = parser.parse_args()
    out = arguments.out and arguments.out.absolute()
    root = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        cases = prepare(*(str(Path(root, python)) for python in (arguments.ours, arguments.peers)))
        for number in range(_ROUNDS + 1):
            for case in cases if number % 2 else reversed(cases):
                case.run()
            if not number:  # modules are compiled, files are in the system's cache
                for case in cases:
                    case.seconds.clear()
                    case.processor.clear()
        size, milliseconds = loading()
        os.chdir(root)
    about, how = machine.describe(), installation(arguments.ours)
    lines = [
        "# Start-up",
        "",
        f"{about['processor']}, {about['processors']} processors, Python {about['Python']}, {about['date']}, bilstm "
        f"{bilstm.__version__}, {how}. Made by `python -m benchmarks.speed.startup --ours PYTHON --peers PYTHON`.",
        "",
        f"Whole processes that label ten rows of {_FEATURES} numbers by a network of two bidirectional LSTMs of "
        f"{_UNITS} units, or by a CRF: {_ROUNDS} runs of each in turn. `bilstm predict` reads and writes CSV files by "
        f"DuckDB; the peers' programs read one with Python and print.",
        "",
        "| process | ms, median | ms, least | processor ms, least | resident memory, MB |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(case.row() for case in cases),
        "",
        f"`bilstm.load` of a model of {size:.1f} MB, most of it embeddings of words: {milliseconds:.1f} ms.",
    ]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if out:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
