"""The data sets: where their files are, what they hold, and the scores that are aimed at."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bilstm.data.prepare import Roles
from bilstm.data.reading import read_table


@dataclass(frozen=True)
class DataSet:
    """A folder with the files `train` and `test`, .conll or .parquet with the columns `seq`, `t`, features, `label`.

    Attributes:
        targets: the least mean over seeds, by score.
        classified: whether whole sequences have labels, in train_labels.csv and so on (`seq`, `label`); the sequences
            of `dev` are trained on too then.
    """

    name: str
    targets: dict[str, float]
    classified: bool = False

    def file(self, data: Path, part: str) -> str:
        """The path of a part's table."""
        found = [path for ending in (".conll", ".parquet") if (path := data / self.name / (part + ending)).exists()]
        if not found:
            raise FileNotFoundError(f"there is no {part}.conll or {part}.parquet in {data / self.name}")
        return str(found[0])

    def roles(self, path: str) -> Roles:
        return Roles() if path.endswith(".conll") else Roles(sequence="seq", label="label", order="t")


DATASETS = {
    data_set.name: data_set
    for data_set in (
        DataSet("hyphenation", {"accuracy": 0.96}),
        DataSet("ecg_waves", {"accuracy": 0.93, "macro_f1": 0.925}),
        DataSet("speech_frames", {"accuracy": 0.855}),
        DataSet("flight_queries_pos", {"accuracy": 0.988}),
        DataSet("japanese_vowels", {"accuracy": 0.98}, classified=True),
        DataSet("biomedical_ner", {}),
    )
}


def labelled_sequences(data_set: DataSet, data: Path, *parts: str) -> tuple[list[Any], list[str]]:
    """(steps, features) arrays and their labels, of several parts joined."""
    X, y = [], []
    for part in parts:
        folder = data / data_set.name
        with open(folder / f"{part}_labels.csv", newline="") as file:
            labels = {row["seq"]: row["label"] for row in csv.DictReader(file)}
        table = read_table(str(folder / f"{part}.parquet"))
        names = ", ".join(f"c{i}" for i, name in enumerate(table.names) if name not in ("seq", "t"))
        sequence, order = table.column("seq"), table.column("t")
        for key, label in labels.items():
            rows = table.query(f"SELECT {names} FROM cells WHERE {sequence} = {int(key)} ORDER BY {order}")
            X.append([list(row) for row in rows])
            y.append(label)
    return X, y
