"""What each part of a text tagger brings on named entities, beside python-crfsuite: makes benchmarks/accuracy/TEXT.md.

    python -m benchmarks.accuracy.text --data FOLDER [--seed N ...] [--variant NAME ...]

FOLDER has train.conll, dev.conll and test.conll, of a token and its tag in each line. Each run is a process of its own;
those that are done stand in build/text.jsonl and are not run again. Seconds are of processor time on all threads: other
processes disturb them least.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.accuracy.__main__ import read
from benchmarks.speed import machine

ROOT = Path(__file__).parents[2]
# What is left of the default; the first is the least.
VARIANTS: dict[str, dict[str, Any]] = {
    "words": {"spelling": False, "characters": "none", "output": "softmax"},
    "+ affixes and shape": {"characters": "none", "output": "softmax"},
    "+ characters (convolution)": {"characters": "conv", "output": "softmax"},
    "+ CRF: the default": {},
    "characters by LSTM": {"characters": "lstm"},
    "a tenth of words unknown": {"unknown_words": 0.1},
}
CRFSUITE = "python-crfsuite"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", action="append", type=int, dest="seeds", help="1 without it")
    parser.add_argument("--variant", action="append", choices=[*VARIANTS, CRFSUITE], dest="variants")
    parser.add_argument("--runs", type=Path, default=ROOT / "build" / "text.jsonl", help="what is done")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("TEXT.md"))
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "SEED"), help="run this one only, and print its result")
    arguments = parser.parse_args()
    if arguments.one:
        variant, seed = arguments.one
        result = crfsuite(arguments.data) if variant == CRFSUITE else ours(arguments.data, variant, int(seed))
        print(json.dumps(result))
        return
    arguments.runs.parent.mkdir(parents=True, exist_ok=True)
    runs = read(arguments.runs)
    for variant in arguments.variants or [*VARIANTS, CRFSUITE]:
        for seed in (arguments.seeds or [1])[: 1 if variant == CRFSUITE else None]:
            key = {"variant": variant, "seed": seed}
            if any(key.items() <= run.items() for run in runs):
                continue
            command = [sys.executable, "-m", "benchmarks.accuracy.text", "--data", arguments.data]
            printed = subprocess.run([*command, "--one", variant, str(seed)], cwd=ROOT, check=True, capture_output=True)
            runs.append(key | json.loads(printed.stdout) | {"machine": machine.describe()})
            with arguments.runs.open("a") as file:
                file.write(json.dumps(runs[-1]) + "\n")
            print(f"{variant}, seed {seed}: {runs[-1]['f1']:.4f} in {runs[-1]['seconds']:.0f} s", flush=True)
            arguments.out.write_text("\n".join(report(runs, arguments.data.name)) + "\n", encoding="utf-8")
    arguments.out.write_text("\n".join(report(runs, arguments.data.name)) + "\n", encoding="utf-8")


def ours(data: Path, variant: str, seed: int) -> dict[str, Any]:
    """Default flags but for the variant's."""
    import bilstm

    start = time.process_time()
    model = bilstm.train(
        data / "train.conll", valid=data / "dev.conll", seed=seed, baseline=False, verbose=False, **VARIANTS[variant]
    )
    seconds = time.process_time() - start
    spans = model.evaluate(data / "test.conll")["spans"]
    return {
        "f1": spans["f1"],
        "interval": spans["intervals"]["f1"],
        "seconds": seconds,
        "parameters": model.network.count_params(),
        "epochs": model.training["epochs"],
    }


def crfsuite(data: Path) -> dict[str, Any]:
    """The features of its tutorial on named entities: words, ends, shape, and those of the words around."""
    import pycrfsuite

    from bilstm.metrics.tags import f1_score

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
    return {"f1": f1_score([tags for _, tags in test], predicted), "seconds": seconds}


def sentences(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """The words and the tags of each sentence of a file."""
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        rows = [line.split("\t") for line in block.splitlines() if line.strip()]
        if rows:
            yield [row[0] for row in rows], [row[-1] for row in rows]


def features(words: list[str]) -> list[list[str]]:
    """For each word of a sentence."""
    return [
        ["bias", *of_word("", words[i]), "digit" if words[i].isdigit() else "", *around(words, i)]
        for i in range(len(words))
    ]


def of_word(name: str, word: str) -> list[str]:
    flags = f"{name}title={word.istitle()}", f"{name}upper={word.isupper()}"
    return [f"{name}lower={word.lower()}", *flags, *(f"{name}end={word[-n:]}" for n in (2, 3) if not name)]


def around(words: list[str], i: int) -> list[str]:
    before = of_word("-1:", words[i - 1]) if i else ["BOS"]
    return before + (of_word("+1:", words[i + 1]) if i + 1 < len(words) else ["EOS"])


def report(runs: list[dict[str, Any]], data: str) -> list[str]:
    """The table, as lines of Markdown."""
    lines = [
        "# Named entities: what each part brings",
        "",
        f"Span F1 on the test set of `{data}`, trained on its training set with default flags but for what the row",
        "says; the validation set decides which epoch is kept. No pretrained vectors. The mean of the seeds with their",
        "range, or with one seed its 95 % interval over sentences. Seconds are of processor time, on two threads.",
        "",
        "| | span F1 | seeds | parameters | seconds of processor time |",
        "| --- | --- | --- | --- | --- |",
    ]
    for variant in [*VARIANTS, CRFSUITE]:
        own = [run for run in runs if run["variant"] == variant]
        if not own:
            continue
        scores = [run["f1"] for run in own]
        spread = ""
        if len(own) > 1:
            spread = f" ({min(scores):.4f} to {max(scores):.4f})"
        elif "interval" in own[0]:
            spread = " [{:.4f}, {:.4f}]".format(*own[0]["interval"])
        size = f"{own[0]['parameters']:,}" if "parameters" in own[0] else ""
        seconds = sum(run["seconds"] for run in own) / len(own)
        lines.append(f"| {variant} | {sum(scores) / len(own):.4f}{spread} | {len(own)} | {size} | {seconds:.0f} |")
    machines = {", ".join(f"{name} {value}" for name, value in run["machine"].items()) for run in runs}
    return [*lines, "", *(f"Measured on: {each}." for each in sorted(machines))]


if __name__ == "__main__":
    main()
