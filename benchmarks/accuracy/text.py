"""What each part of a text tagger brings on named entities, beside python-crfsuite: makes benchmarks/accuracy/TEXT.md.

    python -m benchmarks.accuracy.text --data FOLDER [--seed N ...] [--variant NAME ...]

FOLDER has train.conll, dev.conll and test.conll, of a token and its tag in each line; the folders of other data sets,
for what a CRF brings there, are beside it. Each run is a process of its own; those that are done stand in
build/text.jsonl and are not run again. Seconds are of processor time on all threads: other processes disturb them
least. Word vectors are trained by gensim, which `make taggers` installs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import vectors
from benchmarks.accuracy.__main__ import read
from benchmarks.accuracy.datasets import DATASETS
from benchmarks.speed import machine
from benchmarks.speed.taggers.sentences import features, sentences

ROOT = Path(__file__).parents[2]
# What is left of the default; the first is the least.
VARIANTS: dict[str, dict[str, Any]] = {
    "words": {"spelling": False, "characters": "none", "output": "softmax"},
    "+ affixes and shape": {"characters": "none", "output": "softmax"},
    "+ characters (convolution)": {"characters": "conv", "output": "softmax"},
    "+ CRF: the default": {},
    "characters by LSTM": {"characters": "lstm"},
    "a tenth of words unknown": {"unknown_words": 0.1},
    "+ vectors trained on the training text": {"vectors": "trained"},
}
CRFSUITE = "python-crfsuite"
TWIN = "the default's network in PyTorch, with pytorch-crf"
# What a CRF brings where labels are no tags of spans: data set, options.
_SMALL = {"units": 64, "layers": 1}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    f"{name}, {output}": (name, {"output": output, **_SMALL})
    for name in ("hyphenation", "ecg_waves")
    for output in ("softmax", "crf")
}
_ALL = [*VARIANTS, CRFSUITE, TWIN, *OTHERS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", action="append", type=int, dest="seeds", help="1 without it")
    parser.add_argument("--variant", action="append", choices=_ALL, dest="variants")
    parser.add_argument("--runs", type=Path, default=ROOT / "build" / "text.jsonl", help="what is done")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("TEXT.md"))
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "SEED"), help="run this one only, and print its result")
    arguments = parser.parse_args()
    if arguments.one:
        variant, seed = arguments.one
        print(json.dumps(run(arguments.data, variant, int(seed))))
        return
    arguments.runs.parent.mkdir(parents=True, exist_ok=True)
    runs = read(arguments.runs)
    for variant in arguments.variants or _ALL:
        for seed in (arguments.seeds or [1])[: 1 if variant == CRFSUITE else None]:
            key = {"variant": variant, "seed": seed}
            if any(key.items() <= run.items() for run in runs):
                continue
            command = [sys.executable, "-m", "benchmarks.accuracy.text", "--data", arguments.data]
            printed = subprocess.run([*command, "--one", variant, str(seed)], cwd=ROOT, check=True, capture_output=True)
            runs.append(key | json.loads(printed.stdout) | {"machine": machine.describe()})
            with arguments.runs.open("a") as file:
                file.write(json.dumps(runs[-1]) + "\n")
            score = runs[-1].get("f1") or runs[-1]["accuracy"]
            print(f"{variant}, seed {seed}: {score:.4f} in {runs[-1]['seconds']:.0f} s", flush=True)
            arguments.out.write_text("\n".join(report(runs, arguments.data.name)) + "\n", encoding="utf-8")
    arguments.out.write_text("\n".join(report(runs, arguments.data.name)) + "\n", encoding="utf-8")


def run(data: Path, variant: str, seed: int) -> dict[str, Any]:
    """One training and its scores."""
    if variant == CRFSUITE:
        return crfsuite(data)
    if variant == TWIN:
        from benchmarks.accuracy import tagger_twin

        return tagger_twin.train(data, seed)
    if variant in OTHERS:
        return other(data.parent, *OTHERS[variant], seed)
    return ours(data, dict(VARIANTS[variant]), seed)


def ours(data: Path, options: dict[str, Any], seed: int) -> dict[str, Any]:
    """Default flags but for the options."""
    if "vectors" in options:
        options["vectors"] = vectors.train_vectors(data / "train.conll", seed)
    model, described = _train(data / "train.conll", data / "dev.conll", options, seed)
    spans = model.evaluate(data / "test.conll")["spans"]
    return {"f1": spans["f1"], "interval": spans["intervals"]["f1"], **described}


def other(data: Path, name: str, options: dict[str, Any], seed: int) -> dict[str, Any]:
    """A data set whose labels are no tags of spans."""
    train, dev, test = (DATASETS[name].tables(data, [part], data)["data"] for part in ("train", "dev", "test"))
    model, described = _train(train, dev, options | DATASETS[name].columns(train), seed)
    scores = model.evaluate(test)
    found = {"accuracy": scores["accuracy"], "macro_f1": scores["macro_f1"]}
    return found | {"interval": scores["intervals"]["accuracy"], **described}


def _train(train: Any, dev: Any, options: dict[str, Any], seed: int) -> tuple[Any, dict[str, Any]]:
    """A model of ours, and what is said of its training."""
    import bilstm

    start = time.process_time()
    model = bilstm.train(train, valid=dev, seed=seed, baseline=False, verbose=False, **options)
    seconds = time.process_time() - start
    parameters, epochs = model.network.count_params(), model.training["epochs"]
    return model, {"seconds": seconds, "parameters": parameters, "epochs": epochs}


def crfsuite(data: Path) -> dict[str, Any]:
    """The features of its tutorial on named entities: words, ends, shape, and those of the words around."""
    import pycrfsuite

    from bilstm.metrics.spans import span_report
    from bilstm.metrics.tags import number_tags

    start = time.process_time()
    trainer = pycrfsuite.Trainer(verbose=False)
    for words, tags in sentences(data / "train.conll"):
        trainer.append(features(words), tags)
    trainer.set_params({"c1": 0.1, "c2": 0.01, "max_iterations": 100, "feature.possible_transitions": True})
    path = str(ROOT / "build" / "text.crfsuite")
    trainer.train(path)
    seconds = time.process_time() - start
    tagger = pycrfsuite.Tagger()
    tagger.open(path)
    test = list(sentences(data / "test.conll"))
    predicted = [tagger.tag(features(words)) for words, _ in test]
    codes, offsets, classes = number_tags([tags for _, tags in test] + predicted)
    true, guessed = np.split(codes, 2)
    spans = span_report(true, guessed, offsets[: len(test) + 1], classes)
    return {"f1": spans["f1"], "interval": spans["intervals"]["f1"], "seconds": seconds}


def report(runs: list[dict[str, Any]], data: str) -> list[str]:
    """The tables, as lines of Markdown."""
    lines = [
        "# Named entities: what each part brings",
        "",
        f"Span F1 on the test set of `{data}`, trained on its training set with default flags but for what the row",
        "says; the validation set decides which epoch is kept. There are no pretrained vectors: those of one row are",
        f"trained on the training set's words by gensim (skip-gram, {vectors.DIMENSIONS} dimensions). The mean of the",
        "seeds with their range, or with one seed its 95 % interval over sentences. Seconds are of processor time, on",
        "two threads.",
        "",
        "| | span F1 | seeds | parameters | seconds of processor time |",
        "| --- | --- | --- | --- | --- |",
        *(row for variant in [*VARIANTS, CRFSUITE, TWIN] for row in _row(runs, variant, ["f1"])),
    ]
    if any(run["variant"] == TWIN for run in runs):
        lines += [
            "",
            "The network in PyTorch (tagger_twin.py) has PyTorch's first weights, gradients and Adam, and the CRF of",
            "pytorch-crf, which forbids no transitions; batches, learning rates, average of the weights and best epoch",
            "are shared.",
        ]
    others = [row for variant in OTHERS for row in _row(runs, variant, ["accuracy", "macro_f1"])]
    if others:
        lines += [
            "",
            "## A CRF where labels mark no spans",
            "",
            "Other data with and without a CRF, which allows all transitions here; a small network, of one layer of",
            f"{_SMALL['units']} units. Accuracy with its 95 % interval over sequences, and macro F1, of the test set.",
            "",
            "| | accuracy | macro F1 | seeds | parameters | seconds of processor time |",
            "| --- | --- | --- | --- | --- | --- |",
            *others,
        ]
    machines = {", ".join(f"{name} {value}" for name, value in run["machine"].items()) for run in runs}
    return [*lines, "", *(f"Measured on: {each}." for each in sorted(machines))]


def _row(runs: list[dict[str, Any]], variant: str, scores: list[str]) -> list[str]:
    """The row of a variant, if it has been run."""
    own = [run for run in runs if run["variant"] == variant]
    if not own:
        return []
    means = [f"{sum(run[name] for run in own) / len(own):.4f}" for name in scores]
    values = [run[scores[0]] for run in own]
    if len(own) > 1:
        means[0] += f" ({min(values):.4f} to {max(values):.4f})"
    elif "interval" in own[0]:
        means[0] += " [{:.4f}, {:.4f}]".format(*own[0]["interval"])
    size = f"{own[0]['parameters']:,}" if "parameters" in own[0] else ""
    seconds = sum(run["seconds"] for run in own) / len(own)
    return [f"| {variant} | {' | '.join(means)} | {len(own)} | {size} | {seconds:.0f} |"]


if __name__ == "__main__":
    main()
