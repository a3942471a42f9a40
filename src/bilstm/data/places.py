"""Where the rows of a table stand in the files that it was read from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from bilstm.ragged import offsets_of


class Source(Protocol):
    """The text that rows were read from."""

    def line(self, row: int) -> int:
        """The line on which a row stands, counted from 1."""
        ...


class Places:
    """Where rows stand.

    Args:
        paths: the files.
        sources: their texts, for formats that are text.
        lengths: (files,) how many rows each has.

    Attributes:
        starts: (files + 1,) the first row of each file, and the number of rows.
    """

    def __init__(self, paths: Sequence[Path], sources: Sequence[Source | None], lengths: Sequence[int]) -> None:
        self.paths, self.sources = list(paths), list(sources)
        self.starts = offsets_of(lengths)

    def file(self, row: int) -> int:
        """The index of the file that has a row."""
        return int(np.searchsorted(self.starts, row, "right")) - 1

    def place(self, row: int) -> str:
        """`train.csv, line 17`, or `train.parquet, row 16`."""
        file = self.file(row)
        own, source = row - int(self.starts[file]), self.sources[file]
        return f"{self.paths[file]}, " + (f"line {source.line(own)}" if source else f"row {own + 1}")
