"""Models exported to C: how large they are, how long they take to build and to start, and how fast they answer.

python -m benchmarks.speed.c_export    prints the table; --out FILE writes the page
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.speed import machine
from bilstm import __version__, utils
from bilstm.bridges import c
from bilstm.bridges.c.writing import FLAGS
from bilstm.engine import library
from bilstm.layers import LSTM, Bidirectional, Dense, Input, TimeDistributed
from bilstm.models import Sequential

# Name, features, units, outputs, and the steps of sequences, of which the longest opens the model.
_MODELS = [("the tutorial's", 1, 20, 1, (10,)), ("that of ecg_waves", 1, 64, 4, (100, 2000))]
_TIMER = """
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>
#include "it.h"
int main(int count, char** steps) {
    using Clock = std::chrono::steady_clock;
    const auto seconds = [](auto from) { return std::chrono::duration<double>(Clock::now() - from).count(); };
    const long most = std::atol(steps[count - 1]);
    const auto begun = Clock::now();
    it_model* model = it_open(most, nullptr);
    if (!model) return 1;
    std::printf("%g", seconds(begun));
    std::vector<float> inputs(most * IT_INPUTS), outputs(most * IT_OUTPUTS);
    for (int i = 1; i < count; ++i) {
        double best = 1e9;
        for (int round = 0; round < 200; ++round) {
            const auto start = Clock::now();
            it_predict(model, inputs.data(), std::atol(steps[i]), outputs.data());
            best = std::min(best, seconds(start));
        }
        std::printf(" %g", best);
    }
}
"""


def network(features: int, units: int, outputs: int) -> Sequential:
    last = Dense(outputs, "softmax" if outputs > 1 else "sigmoid")
    both = Bidirectional(LSTM(units, return_sequences=True))
    return Sequential([Input((None, features)), both, TimeDistributed(last)], seed=1)


def measure(model: Sequential, lengths: tuple[int, ...], march: str) -> list[str]:
    """The cells of a row."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        c.export(model, folder, name="it")
        (folder / "timer.cpp").write_text(_TIMER)
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        subprocess.run(["c++", *FLAGS.split(), march, "-c", "it.cpp"], cwd=folder, check=True)
        built = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        subprocess.run(["c++", *FLAGS.split(), "-s", "timer.cpp", "it.o", "-o", "timer"], cwd=folder, check=True)
        command = [str(folder / "timer"), *map(str, lengths)]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        opened, *answers = map(float, ran.stdout.split())
        sizes = [(folder / file).stat().st_size for file in ("it.cpp", "timer")]
    ours = []
    for steps in lengths:
        predict = model.predictor(steps=steps)
        best = 1e9
        for _ in range(200):
            begun = time.perf_counter()
            predict()
            best = min(best, time.perf_counter() - begun)
        ours.append(best)
    times = [
        f"{steps:,} steps: {own * 1e6:,.1f} µs ({mine * 1e6:,.1f})"
        for steps, own, mine in zip(lengths, answers, ours, strict=True)
    ]
    size = f"{sizes[0] / 1e3:,.0f} kB", f"{sizes[1] / 1e3:,.0f} kB"
    return [f"{model.count_params():,}", *size, f"{built:.0f} s", f"{opened * 1e3:.2g} ms", "; ".join(times)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    utils.set_threads(1)
    about = machine.describe()
    target = {"avx2": "-march=x86-64-v3", "avx512": "-march=x86-64-v4", "neon": "-march=armv8-a"}
    march = target[library.target()]
    version = subprocess.run(["c++", "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    lines = [
        "# Models exported to C",
        "",
        f"{about['processor']}, {about['date']}, {version}, `{FLAGS} {march}`, bilstm {__version__}. Made by "
        f"`python -m benchmarks.speed.c_export`.",
        "",
        "One thread. The program holds the model and nothing else; opening it takes the memory, computes the longest "
        "sequence once and checks its results. Building is in seconds of processor time. A prediction is the fastest "
        "of 200; in brackets, that of `Sequential.predictor` in Python.",
        "",
        "| model | weights | source | program | build | open | prediction |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, features, units, outputs, lengths in _MODELS:
        cells = measure(network(features, units, outputs), lengths, march)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if out:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
