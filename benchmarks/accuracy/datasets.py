"""The data sets: where their files are, what they hold, and the scores that are aimed at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class DataSet:
    """A folder with the files `train` and `test`, .conll or .parquet with the columns `seq`, `t`, features, `label`.

    Attributes:
        targets: the least mean over seeds, by score.
        classified: whether whole sequences have labels, in train_labels.csv and so on (`seq`, `label`); then training
            takes the sequences of `dev`, too.
    """

    name: str
    targets: dict[str, float]
    classified: bool = False

    def tables(self, data: Path, parts: Sequence[str], folder: Path) -> dict[str, str]:
        """The files of some parts joined: the "data" and, of whole sequences, their "labels".

        Args:
            folder: where joined files are written.
        """
        if not self.classified:
            (part,) = parts
            found = [path for end in (".conll", ".parquet") if (path := data / self.name / (part + end)).exists()]
            if not found:
                raise FileNotFoundError(f"there is no {part}.conll or {part}.parquet in {data / self.name}")
            return {"data": str(found[0])}
        import duckdb

        sources = {"data": ("{}.parquet", "read_parquet"), "labels": ("{}_labels.csv", "read_csv")}
        files = {}
        for kind, (pattern, reader) in sources.items():
            paths = [str(data / self.name / pattern.format(part)) for part in parts]
            files[kind] = str(folder / pattern.format("_".join(parts)))
            duckdb.sql(f"COPY (SELECT * FROM {reader}({paths})) TO '{files[kind]}'")
        return files

    def columns(self, path: str) -> dict[str, Any]:
        """The roles of the columns of a table."""
        return {} if path.endswith(".conll") else {"sequence": "seq", "label": "label", "order": "t"}

    @property
    def training_parts(self) -> tuple[str, ...]:
        """The parts that are trained on."""
        return ("train", "dev") if self.classified else ("train",)


DATASETS = {
    data_set.name: data_set
    for data_set in (
        DataSet("hyphenation", {"accuracy": 0.96}),
        DataSet("ecg_waves", {"accuracy": 0.93, "macro_f1": 0.925}),
        DataSet("speech_frames", {"accuracy": 0.855}),
        DataSet("flight_queries_pos", {"accuracy": 0.988}),
        DataSet("japanese_vowels", {"accuracy": 0.978}, classified=True),
        DataSet("spoken_digits", {"accuracy": 0.985}, classified=True),
        DataSet("biomedical_ner", {}),
    )
}
