"""Tokens per second of taggers of words, in training and in prediction: makes benchmarks/speed/TAGGERS.md.

    python -m benchmarks.speed.taggers --data FOLDER [--model FILE] [--out PAGE]

FOLDER has train.conll, dev.conll and test.conll, of a word and its tag in each line. FILE is a model that `bilstm
train` made of them with default flags; its size and how long it takes to load and to tag one sentence are measured
too. `make taggers` installs the peers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.speed import machine
from benchmarks.speed.harness import OUTPUT_TOLERANCE, PeerError, Process
from benchmarks.speed.taggers import deployed, encoded
from benchmarks.speed.taggers.base import BATCH, TASKS
from benchmarks.speed.taggers.environments import FOLDER, python_of

PEERS = {  # and the environment of each, "" for this one
    "bilstm": "",
    "bilstm, from numbers": "",
    "PyTorch": "pytorch",
    "Flair": "flair",
    "python-crfsuite": "crfsuite",
    "spaCy's NER": "spacy",
    "spaCy's tagger": "spacy",
}
_TRIED = 100  # sentences, to find a peer's best setting
_QUICK = 0.5  # seconds: what takes less is tried on all sentences, since starting counts
_PAUSE = 0.05  # seconds before each turn, so that the threads of the one before go to sleep


@dataclass
class Contender:
    """A peer in its process.

    Attributes:
        settings: the best of each task.
        speeds: tokens per second in each round, by task.
        problem: why it is not in the table.
    """

    name: str
    process: Process
    settings: dict[str, str] = field(default_factory=dict)
    speeds: dict[str, list[float]] = field(default_factory=lambda: {task: [] for task in TASKS})
    problem: str = ""

    def seconds(self, task: str, setting: str, count: int) -> tuple[float, float]:
        """Of one pass, and its tokens per second."""
        answer = self.process.ask("time", task=task, setting=setting, count=count)
        return answer["seconds"], answer["tokens"] / answer["seconds"]

    def prepare(self, data: Path, counts: dict[str, int]) -> None:
        """Read the data and find the best settings."""
        names = self.process.ask("load", data=str(data), encoded=str(FOLDER / "data"))
        for task in TASKS:
            tried: dict[str, float] = {}
            for setting in names[task]:
                seconds, tried[setting] = self.seconds(task, setting, min(_TRIED, counts[task]))
                if seconds < _QUICK and len(names[task]) > 1:
                    tried[setting] = self.seconds(task, setting, counts[task])[1]
            self.settings[task] = max(tried, key=lambda setting: tried[setting])

    def turn(self, counts: dict[str, int]) -> None:
        for task in TASKS:
            time.sleep(_PAUSE)
            self.speeds[task].append(self.seconds(task, self.settings[task], counts[task])[1])


def main() -> None:
    arguments = _arguments()
    counts = {"train": arguments.train, "predict": arguments.predict}
    started = time.perf_counter()
    difference = encoded.write(arguments.data, FOLDER / "data")
    if difference > OUTPUT_TOLERANCE:
        raise SystemExit(f"the network in PyTorch is another: scores differ by {difference:.2g}")
    contenders = []
    versions: dict[str, str] = {}
    for name in arguments.peers or PEERS:
        python = python_of(PEERS[name]) if PEERS[name] else sys.executable
        contenders.append(Contender(name, Process(name, python, worker="benchmarks.speed.taggers.worker")))
        try:
            versions |= contenders[-1].process.greeting["versions"]
            contenders[-1].prepare(arguments.data, counts)
            _say(f"{name}: {contenders[-1].settings}")
        except PeerError as error:
            contenders[-1].problem = str(error)
            _say(f"{name}: {error}")
    rounds = 0
    before = time.perf_counter()
    while rounds < arguments.rounds:
        for contender in _turned([each for each in contenders if not each.problem], rounds):
            try:
                contender.turn(counts)
            except PeerError as error:
                contender.problem = str(error)
        rounds += 1
        spent = time.perf_counter() - before
        if spent + spent / rounds > arguments.seconds and rounds >= 2:
            break
    for contender in contenders:
        contender.process.close()
    lines = page(contenders, versions, counts, rounds, arguments.data.name, difference)
    if arguments.model:
        lines += ["", *deployed.section(deployed.measure(arguments.model, arguments.data))]
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    _say(f"{time.perf_counter() - started:.0f} seconds")


def page(
    contenders: list[Contender],
    versions: dict[str, str],
    counts: dict[str, int],
    rounds: int,
    data: str,
    difference: float,
) -> list[str]:
    """The table, as lines of Markdown."""
    described = machine.describe()
    lines = [
        "# Taggers of words",
        "",
        f"{described['processor']}, {described['processors']} processors, {described['date']}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ". Made by `python -m benchmarks.speed.taggers`.",
        "",
        f"Tokens per second on `{data}`: of one pass of training over its first {counts['train']:,} sentences, with",
        f"the vocabulary of all, and of the prediction of the first {counts['predict']:,} sentences of the test set.",
        f"Medians of {rounds} rounds in turn, with the fastest in brackets; each in a process of its own, with the",
        f"number of threads and of sentences at once that are its fastest. Training steps take {BATCH} sentences,",
        "spaCy's 1,000 words.",
        "",
        "- bilstm: default flags: embeddings of words, their ends and shapes, characters by a convolution, three",
        "  bidirectional LSTMs of 128 units, a CRF. From words to tags; and, as PyTorch's, from numbers to numbers.",
        "- PyTorch: the same network with packed sequences and pytorch-crf (packed.py), from numbers to numbers. With",
        f"  our weights, its scores of labels differ from ours by {difference:.0e} at most.",
        "- Flair: its `SequenceTagger`, with LSTMs and embeddings of words as large, its own characters; no affixes.",
        "- python-crfsuite: the features of its tutorial. A pass is an iteration, of which it makes 100, and ours 20.",
        "- spaCy: blank English, each pipe with its default network, which is a convolution.",
        "",
        "| tagger | training | ours is | prediction | ours is | settings |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    ours = {each.name: each for each in contenders if each.name.startswith("bilstm") and not each.problem}
    for contender in contenders:
        if contender.problem:
            lines.append(f"| {contender.name} | {contender.problem} | | | | |")
            continue
        own = ours.get("bilstm, from numbers" if contender.name == "PyTorch" else "bilstm")
        cells = []
        for task in TASKS:
            speeds = contender.speeds[task]
            cells.append(f"{statistics.median(speeds):,.0f} ({max(speeds):,.0f})")
            ratio = own and statistics.median(own.speeds[task]) / statistics.median(speeds)
            cells.append(f"{ratio:.1f}×" if ratio and contender.name not in ours else "")
        settings = "; ".join(dict.fromkeys(contender.settings[task] for task in TASKS))
        lines.append(f"| {contender.name} | {' | '.join(cells)} | {settings} |")
    return lines


def _turned(contenders: list[Contender], number: int) -> list[Contender]:
    """Another order in each round, so that nobody always runs after the same one."""
    first = number % max(1, len(contenders))
    return contenders[first:] + contenders[:first]


def _say(line: Any) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.taggers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="a trained model, for its size and how fast it answers")
    parser.add_argument("--out", type=Path, help="where the page is written")
    parser.add_argument("--peer", action="append", choices=PEERS, dest="peers", help="all without it")
    parser.add_argument("--train", type=int, default=500, help="sentences in a pass of training")
    parser.add_argument("--predict", type=int, default=1000, help="sentences to predict")
    parser.add_argument("--rounds", type=int, default=5, help="at most")
    parser.add_argument("--seconds", type=float, default=300.0, help="for the rounds")
    return parser.parse_args()


if __name__ == "__main__":
    main()
