"""Default flags on real tables, through the command line: writes docs/accuracy.md.

    BILSTM_DATA=FOLDER python benchmarks/accuracy/datasets.py

FOLDER has a folder for each data set, with `train` and `test` in it as .conll, or as .parquet with the columns `seq`,
`t`, the features and `label`.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

SETS = ("hyphenation", "ecg_waves", "speech_frames", "flight_queries_pos", "biomedical_ner")
OUTPUT = Path(__file__).parents[2] / "docs" / "accuracy.md"


def bilstm(*arguments: str) -> str:
    command = [sys.executable, "-m", "bilstm", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(folder: Path, *flags: str) -> tuple[float, float, float]:
    """Train with these flags; returns accuracy and majority rate on the test sequences, and the seconds it took."""
    conll = (folder / "train.conll").exists()
    ending = ".conll" if conll else ".parquet"
    columns = () if conll else ("--sequence", "seq", "--order", "t", "--label", "label")
    with tempfile.TemporaryDirectory() as temporary:
        model = str(Path(temporary) / "model.safetensors")
        started = time.perf_counter()
        bilstm("train", str(folder / f"train{ending}"), *columns, "--out", model, "--quiet", *flags)
        seconds = time.perf_counter() - started
        report = json.loads(bilstm("evaluate", model, str(folder / f"test{ending}"), "--json"))
    return report["accuracy"], report["majority"], seconds


def main() -> None:
    data = os.environ.get("BILSTM_DATA")
    if not data:
        print("datasets.py: set BILSTM_DATA to the folder of the data sets; nothing measured")
        return
    # Those with a time beside them first: run them on a machine that does nothing else.
    both = {}
    for name in SETS:
        both[name] = measure(Path(data) / name)
        print(f"{name}: {both[name][0]:.4f} in {both[name][2]:.0f} s", flush=True)
    lines = [
        "# Accuracy on real data",
        "",
        "Test accuracy per step of `bilstm train` with its default flags, one seed; beside it the same with",
        "`--direction forward`, and the share of the commonest label.",
        "",
        "| data | bidirectional | forward only | commonest label | seconds to train |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, (accuracy, majority, seconds) in both.items():
        forward, _, _ = measure(Path(data) / name, "--direction", "forward")
        lines.append(f"| {name} | {accuracy:.4f} | {forward:.4f} | {majority:.4f} | {seconds:.0f} |")
        print(lines[-1], flush=True)
    lines += ["", f"{machine()}. Made by `python benchmarks/accuracy/datasets.py`.", ""]
    OUTPUT.write_text("\n".join(lines), encoding="utf-8")


def machine() -> str:
    """The processor's name where the system tells it, the number of cores, the date."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    return (
        f"{name}, {os.cpu_count()} cores, {platform.system()}, bilstm {bilstm('--version').split()[-1]}, {date.today()}"
    )


if __name__ == "__main__":
    main()
