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
    lines = [
        "# Accuracy on real data",
        "",
        "Test accuracy per step of `bilstm train` with its default flags, one seed; beside it the same with",
        "`--direction forward`, and the share of the commonest label.",
        "",
        "| data | bidirectional | forward only | commonest label | seconds | seconds, forward |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in SETS:
        both, majority, seconds = measure(Path(data) / name)
        forward, _, forward_seconds = measure(Path(data) / name, "--direction", "forward")
        lines.append(
            f"| {name} | {both:.4f} | {forward:.4f} | {majority:.4f} | {seconds:.0f} | {forward_seconds:.0f} |"
        )
        print(lines[-1], flush=True)
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, {date.today()}"
    lines += ["", f"{machine}. Made by `python benchmarks/accuracy/datasets.py`.", ""]
    OUTPUT.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
