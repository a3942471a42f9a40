"""Models that Keras trained or wrote, run by Keras and converted to bilstm: the same predictions, in turn.

    python -m benchmarks.speed.convert [CASE ...]    prints the table; --out FILE writes the page

It needs the peers' environment, which `make bench` sets up. About 12 minutes for all cases; --seconds makes it shorter.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.speed import machine
from benchmarks.speed.cases import CASES, Case
from benchmarks.speed.harness import ROOT, PeerError, Process, measure, python_of_peers
from benchmarks.speed.peers.files import FOLDER

TUTORIAL = Case("T", "predict", (10,), 1, 20, 1, 1, batches=100)
_CASES = {case.name: case for case in (TUTORIAL, *(CASES[name] for name in ("L1", "L2", "L3", "P1", "P2", "P3")))}
_MAKE = "--make"
_CONVERTED, _ONNX = "bilstm, converted", "ONNX Runtime, exported"
_SEQUENCES = 1000  # that the tutorial trains on, one at a time


# --- The files: in the peers' environment ----------------------------------------------------------------------------


def make(names: list[str]) -> None:
    """Write the models with Keras: the tutorial's, trained, and those of the cases, with the cases' weights."""
    import keras

    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names:
        case = _CASES[name]
        model = keras.Sequential([keras.layers.Input((None, case.inputs))])
        if case.ragged:
            model.add(keras.layers.Masking(0.0))
        for _ in range(case.layers):
            model.add(keras.layers.Bidirectional(keras.layers.LSTM(case.units, return_sequences=True)))
        model.add(keras.layers.TimeDistributed(keras.layers.Dense(case.outputs, activation=case.activation)))
        if case is TUTORIAL:
            train(keras, model)
        else:
            model.set_weights(case.weights)
        model.save(FOLDER / f"{name}.keras")


def train(keras: Any, model: Any) -> None:
    """Training by Keras, as in the tutorial: whether the sum of the numbers so far is above a limit."""
    import numpy as np

    random = np.random.default_rng(1)
    x = random.random((_SEQUENCES, TUTORIAL.longest, 1)).astype(np.float32)
    y = (x.cumsum(axis=1) >= TUTORIAL.longest / 4).astype(np.float32)
    keras.utils.set_random_seed(1)
    model.compile(loss="binary_crossentropy", optimizer="adam")
    model.fit(x, y, epochs=1, batch_size=1, verbose=0)


def convert(names: list[str]) -> None:
    """Export the converted models, for ONNX Runtime."""
    from bilstm.bridges.keras import load
    from bilstm.bridges.onnx import export

    for name in names:
        export(load(FOLDER / f"{name}.keras"), FOLDER / f"{name}.onnx", force=True)


# --- Figures ---------------------------------------------------------------------------------------------------------


def processes() -> list[Process]:
    """Ours first."""
    python = python_of_peers()
    kerases = [
        Process(f"Keras files on {name}", python, environment={"KERAS_BACKEND": backend})
        for name, backend in (("TensorFlow", "tensorflow"), ("JAX", "jax"), ("PyTorch", "torch"))
    ]
    return [Process(_CONVERTED, sys.executable), *kerases, Process(_ONNX, python)]


def row(case: Case, entries: list[dict[str, Any]]) -> str:
    """A row of the table.

    Raises:
        PeerError: ours or every Keras failed; the message says why.
    """
    for entry in entries:
        if entry["problem"]:
            print(f"{case.name}: {entry['peer']}, {entry['setting']}: {entry['problem']}", file=sys.stderr)

    def best(prefix: str) -> dict[str, Any] | None:
        found = [entry for entry in entries if entry["peer"].startswith(prefix) and entry["median"]]
        return min(found, key=lambda entry: float(entry["median"]), default=None)

    ours, theirs, runtime = best(_CONVERTED), best("Keras files"), best(_ONNX)
    if ours is None or theirs is None:
        raise PeerError(f"{case.name}: nothing was measured of {'bilstm' if ours is None else 'Keras'}")
    keras_predict = [entry for entry in entries if (entry["peer"][:5], entry["setting"]) == ("Keras", "predict")]
    usual = [entry["median"] or entry["estimate"] for entry in keras_predict if entry["estimate"]]
    cells = [
        f"**{case.name}**",
        case.shape,
        _milliseconds(min(usual)) if usual else "",
        f"{theirs['peer'].removeprefix('Keras files on ')}: {theirs['setting']}",
        _milliseconds(theirs["median"]),
        _milliseconds(runtime["median"]) if runtime else "",
        _milliseconds(ours["median"]),
        ours["setting"],
        f"{theirs['median'] / ours['median']:.1f}×",
    ]
    return f"| {' | '.join(cells)} |"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}"


def page(rows: list[str], versions: dict[str, str]) -> str:
    described = machine.describe()
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [
        "# Models of Keras's, converted",
        "",
        f"{described['processor']}, {described['processors']} processors, {described['date']}; {packages}. Made by "
        "`python -m benchmarks.speed.convert`.",
        "",
        "Keras writes a `.keras` file of a whole model: bidirectional LSTMs, each with the outputs of all time steps, "
        "and a layer at every step; in P2 and P3, whose sequences have different lengths, `Masking` comes first. "
        f"**T** is the tutorial's model, which Keras trained on {_SEQUENCES:,} sequences; the others have "
        "[the cases'](RESULTS.md) weights. Keras opens the file, and so does `bilstm.bridges.keras.load`. All predict "
        "the same batches and agree within 1e-4; each is measured in turn, in a process of its own. Medians, "
        "milliseconds a batch.",
        "",
        "The first figure is `model.predict`, which most programs call, on its fastest backend; the second Keras's "
        "fastest way of `predict`, `predict_on_batch`, `model(x)` and `tf.function`, on TensorFlow, JAX and PyTorch. "
        "ONNX Runtime runs what `bilstm export` makes of the converted model. How many times as fast: the converted "
        "model beside Keras's fastest way.",
        "",
        "| case | shape | Keras, predict | Keras's fastest way | its ms | ONNX Runtime | converted | by | "
        "times as fast |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: | --- | ---: |",
        *rows,
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.convert", description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[*_CASES, []], default=[], help="all, unless some are named")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=40.0, help="for the timed rounds of a case")
    parser.add_argument(_MAKE, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = arguments.cases or list(_CASES)
    if arguments.make:
        make(names)
        return
    settings = os.environ | {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": ""}
    command = [python_of_peers(), "-m", "benchmarks.speed.convert", *names, _MAKE]
    subprocess.run(command, cwd=ROOT, env=settings, check=True)
    convert(names)
    running, rows = processes(), list[str]()
    versions: dict[str, str] = {}
    for process in running:
        try:
            versions |= process.greeting["versions"]
        except PeerError as error:
            print(f"{process.peer}: {error}", file=sys.stderr)
    for name in names:
        rows.append(row(_CASES[name], measure(_CASES[name], running, budget=arguments.seconds)))
        print(rows[-1], flush=True)
    for process in running:
        process.close()
    if arguments.out:
        arguments.out.write_text(page(rows, versions), encoding="utf-8")


if __name__ == "__main__":
    main()
