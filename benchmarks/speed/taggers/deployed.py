"""A trained tagger in use: its file's size, how long it takes to load, and to tag one sentence.

python -m benchmarks.speed.taggers.deployed MODEL --data FOLDER
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed.taggers.environments import ROOT
from benchmarks.speed.taggers.sentences import sentences

_WORDS = 25  # of the sentence
_LOADS, _TAGGED = 15, 400


def measure(model: Path, data: Path) -> dict[str, Any]:
    """What this module prints, from a process of its own, in which nothing else has been imported."""
    command = [sys.executable, "-m", "benchmarks.speed.taggers.deployed", str(model), "--data", str(data), "--json"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    found: dict[str, Any] = json.loads(printed)
    return found


def section(found: dict[str, Any]) -> list[str]:
    """As lines of Markdown."""
    return [
        "## A trained model in use",
        "",
        f"The model that `bilstm train` makes of the whole training set, on as many threads as there are processors. "
        f"Medians of {_LOADS} loads and {_TAGGED} sentences of {_WORDS} words; without PyTorch"
        f"{', which was imported all the same' if found['torch'] else ''}.",
        "",
        "| | |",
        "| --- | ---: |",
        f"| the file | {found['bytes'] / 1e6:.1f} MB |",
        f"| `bilstm.load`, the first time | {found['first_load'] * 1e3:.0f} ms |",
        f"| `bilstm.load` | {found['load'] * 1e3:.0f} ms |",
        f"| `model.predict`, one sentence of words | {found['predict'] * 1e3:.2f} ms |",
        f"| `model.annotate`, one raw text | {found['annotate'] * 1e3:.2f} ms |",
    ]


def _measured(path: Path, data: Path) -> dict[str, Any]:
    import bilstm

    loads = _times(lambda: bilstm.load(path), _LOADS)
    model = bilstm.load(path)
    model.warn = False
    texts = [words[:_WORDS] for words, _ in sentences(data / "test.conll") if len(words) >= _WORDS]
    chosen = [texts[i % len(texts)] for i in range(_TAGGED)]
    first, *others = loads
    return {
        "bytes": path.stat().st_size,
        "first_load": first,
        "load": statistics.median(others),
        "predict": statistics.median(_times(lambda words: model.predict([words]), chosen)),
        "annotate": statistics.median(_times(lambda words: model.annotate(" ".join(words)), chosen)),
        "torch": "torch" in sys.modules,
    }


def _times(function: Callable[..., Any], calls: Any) -> list[float]:
    """Seconds of each call, without arguments so many times, or with each of the arguments."""
    arguments = [()] * calls if isinstance(calls, int) else [(each,) for each in calls]
    times = []
    for each in arguments:
        started = time.perf_counter()
        function(*each)
        times.append(time.perf_counter() - started)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.taggers.deployed", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = _measured(arguments.model, arguments.data)
    print(json.dumps(found) if arguments.json else "\n".join(section(found)))


if __name__ == "__main__":
    main()
