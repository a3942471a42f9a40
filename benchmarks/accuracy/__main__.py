"""Default flags on real data beside the same networks in PyTorch: makes benchmarks/accuracy/RESULTS.md.

    python -m benchmarks.accuracy [--data FOLDER] [--set NAME ...] [--seed N ...] [--contender NAME ...]

FOLDER, or BILSTM_DATA, has a folder for each of the data sets in datasets.py. Each run is a process of its own; those
that are done stand in build/accuracy.jsonl and are not run again, so a measurement that was broken off goes on. Remove
that file after a change that makes other models. What is not run now and was before is in the tables all the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.accuracy.datasets import DATASETS
from benchmarks.accuracy.report import report
from benchmarks.accuracy.runs import CONTENDERS, FORWARD
from benchmarks.speed import machine
from bilstm import utils

ROOT = Path(__file__).parents[2]
SEEDS = (1, 2, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("BILSTM_DATA"))
    parser.add_argument("--set", action="append", choices=list(DATASETS), dest="sets")
    parser.add_argument("--seed", action="append", type=int, dest="seeds", help="1, 2 and 3 without it")
    parser.add_argument("--contender", action="append", choices=CONTENDERS, dest="contenders")
    parser.add_argument("--runs", type=Path, default=ROOT / "build" / "accuracy.jsonl", help="what is done")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("RESULTS.md"))
    parser.add_argument(
        "--option", action="append", default=[], help="NAME=VALUE of TrainingOptions, for a quick trial"
    )
    parser.add_argument("--remark", default="", help="what should be known of the runs made now")
    arguments = parser.parse_args()
    if not arguments.data:
        print("benchmarks.accuracy: name the folder of the data sets with --data or BILSTM_DATA; nothing measured")
        return
    arguments.runs.parent.mkdir(parents=True, exist_ok=True)
    runs = read(arguments.runs)
    for contender, name, seed in wanted(arguments):
        key = {"contender": contender, "data_set": name, "seed": seed, "options": sorted(arguments.option)}
        if any(key.items() <= run.items() for run in runs):
            continue
        command = ["benchmarks.accuracy.runs", contender, name, str(seed), str(arguments.data), *arguments.option]
        printed = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        runs.append(key | json.loads(printed) | {"machine": machine.describe(), "threads": utils.threads()})
        runs[-1]["remark"] = arguments.remark
        with arguments.runs.open("a") as file:
            file.write(json.dumps(runs[-1]) + "\n")
        print(
            f"{name}, {contender}, seed {seed}: {runs[-1]['accuracy']:.4f} in {runs[-1]['seconds']:.0f} s", flush=True
        )
    chosen = [run for run in runs if run["options"] == sorted(arguments.option)]
    arguments.out.write_text("\n".join(report(chosen)) + "\n", encoding="utf-8")


def wanted(arguments: argparse.Namespace) -> list[tuple[str, str, int]]:
    """Contender, data set and seed of each run; one seed is enough for what the second direction brings."""
    seeds = arguments.seeds or SEEDS
    return [
        (contender, name, seed)
        for contender in arguments.contenders or CONTENDERS
        for name in arguments.sets or DATASETS
        for seed in (seeds[:1] if contender == FORWARD else seeds)
    ]


def read(path: Path) -> list[dict[str, Any]]:
    """The runs that are done; a line that was not written to its end is none."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


if __name__ == "__main__":
    main()
