"""The tutorial's training in bilstm and in Keras side by side: accuracy on new sequences, and time.

    python benchmarks/accuracy/tutorial_against_keras.py [--seeds 10] [--out benchmarks/accuracy/TUTORIAL.md]

Each seed draws 1,000 training and 1,000 test sequences. Both libraries build the tutorial's model with their own
first weights and learn from the same sequences in the same order, one `fit` call a sequence. Takes about two minutes
with the PyTorch backend of Keras, which is the fastest for single sequences; KERAS_BACKEND chooses another.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras

import bilstm.layers
import bilstm.models
import bilstm.utils
from bilstm.problems import cumulative_sum

STEPS, UNITS, SEQUENCES = 10, 20, 1000
LIBRARIES = {"bilstm": bilstm, "Keras": keras}


def tutorial_run(library: ModuleType, seed: int) -> tuple[float, float]:
    """Train the tutorial's model; its accuracy on new sequences, and the seconds that all calls of fit took."""
    generator = np.random.default_rng(seed)
    X, y = cumulative_sum(SEQUENCES, STEPS, seed=generator)
    X_test, y_test = cumulative_sum(SEQUENCES, STEPS, seed=generator)
    library.utils.set_random_seed(seed)
    model = build(library)

    started = time.perf_counter()
    for index in range(SEQUENCES):
        model.fit(X[index : index + 1], y[index : index + 1], epochs=1, batch_size=1, verbose=0)
    seconds = time.perf_counter() - started
    return float(((model.predict(X_test, verbose=0) > 0.5) == y_test).mean()), seconds


def build(library: ModuleType) -> Any:
    layers = library.layers
    model = library.models.Sequential()
    model.add(layers.Input((STEPS, 1)))
    model.add(layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True)))
    model.add(layers.TimeDistributed(layers.Dense(1, activation="sigmoid")))
    model.compile(loss="binary_crossentropy", optimizer="adam", metrics=["acc"])
    return model


def report(accuracy: np.ndarray, seconds: np.ndarray) -> str:
    """Markdown of (seeds, libraries) accuracies and seconds."""
    difference = 100 * (accuracy[:, 0] - accuracy[:, 1])
    error = difference.std(ddof=1) / len(difference) ** 0.5
    lines = [
        "# The tutorial's training, beside Keras",
        "",
        f"`Bidirectional(LSTM({UNITS}, return_sequences=True))` and a sigmoid at every step, Adam, {SEQUENCES:,} calls "
        f"of `fit` with one new sequence of {STEPS} steps each; accuracy on {SEQUENCES:,} further sequences. Both "
        "libraries see the same sequences; each draws its own first weights.",
        "",
        "| seed | accuracy, bilstm | accuracy, Keras | difference in points | seconds, bilstm | seconds, Keras |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for seed, (both, points, times) in enumerate(zip(accuracy, difference, seconds, strict=True)):
        lines.append(f"| {seed} | {both[0]:.4f} | {both[1]:.4f} | {points:+.2f} | {times[0]:.3f} | {times[1]:.1f} |")
    mean, spread, median = accuracy.mean(axis=0), accuracy.std(axis=0, ddof=1), np.median(seconds, axis=0)
    lines += [
        f"| mean | {mean[0]:.4f} | {mean[1]:.4f} | {difference.mean():+.2f} | | |",
        f"| standard deviation | {spread[0]:.4f} | {spread[1]:.4f} | {difference.std(ddof=1):.2f} | | |",
        f"| median | | | | {median[0]:.3f} | {median[1]:.1f} |",
        "",
        f"Mean difference {difference.mean():+.2f} percentage points, standard error {error:.2f}. The calls of `fit` "
        f"took Keras {median[1] / median[0]:,.0f} times as long (median).",
        "",
        f"{machine()}. {versions()}.",
        "",
        "Made by `python benchmarks/accuracy/tutorial_against_keras.py`.",
    ]
    return "\n".join(lines) + "\n"


def machine() -> str:
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        processor = next(line.split(":")[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {platform.system()}, {time.strftime('%Y-%m-%d')}"


def versions() -> str:
    backend = keras.backend.backend()
    packages = ("bilstm", "keras", backend, "numpy")
    found = ", ".join(f"{package} {version(package)}" for package in packages)
    return f"Python {platform.python_version()}, {found}; Keras on {backend}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="how many, from 0; at least 2")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("TUTORIAL.md"))
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error("--seeds must be at least 2")

    results = np.empty((arguments.seeds, len(LIBRARIES), 2))
    for seed in range(arguments.seeds):
        for column, (name, library) in enumerate(LIBRARIES.items()):
            accuracy, seconds = results[seed, column] = tutorial_run(library, seed)
            print(f"seed {seed}  {name:<6}  accuracy {accuracy:.4f}  {seconds:7.3f} s", flush=True)
    text = report(results[..., 0], results[..., 1])
    arguments.out.write_text(text, encoding="utf-8")
    print(f"\n{text}")


if __name__ == "__main__":
    main()
