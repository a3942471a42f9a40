"""Several tables as one: whatever a table answers, its parts together answer, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bilstm
from bilstm.data.joined import JoinedTable
from bilstm.data.sources import open_table
from bilstm.errors import UserError

LENGTHS = (3, 1, 4, 2, 5, 3)


def long_table(sequences: range, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng([seed, sequences.start])
    ids = np.repeat([f"s{i}" for i in sequences], [LENGTHS[i % len(LENGTHS)] for i in sequences])
    x = random.normal(size=len(ids)).round(3)
    x[::5] = np.nan
    return pd.DataFrame(
        {"id": ids, "x": x, "word": random.choice(["a", "b", ""], len(ids)), "y": np.where(x > 0, 1, 0)}
    )


def parts_of(form: str, tables: list[pd.DataFrame], folder: Path) -> list[Any]:
    if form == "frame":
        return list(tables)
    paths = [folder / f"{number}.{form}" for number in range(len(tables))]
    for path, table in zip(paths, tables, strict=True):
        if form == "csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path)
    return paths


@pytest.mark.parametrize("form", ["csv", "parquet", "frame"])
def test_parts_are_the_whole(form: str, tmp_path: Path) -> None:
    tables = [long_table(range(4)), long_table(range(4, 5)), long_table(range(5, 12))]
    parts = open_table(parts_of(form, tables, tmp_path), sequence="id")
    (whole,) = parts_of(form, [pd.concat(tables, ignore_index=True)], tmp_path)
    expected = open_table(whole)
    assert isinstance(parts, JoinedTable) == (form == "frame")
    assert (parts.names, parts.rows) == (expected.names, expected.rows)
    found, known = parts.sequences("id"), expected.sequences("id")
    assert found.rows.tolist() == known.rows.tolist()
    assert found.offsets.tolist() == known.offsets.tolist()
    everywhere = np.arange(parts.rows) % 3 > 0
    for name in parts.names:
        assert parts.texts(name).tolist() == expected.texts(name).tolist()
        assert parts.texts(name, 7, 15).tolist() == expected.texts(name, 7, 15).tolist()
        assert parts.values(name, np.array([20, 3, 8])) == expected.values(name, np.array([20, 3, 8]))
        assert parts.cell(name, 9) == expected.cell(name, 9)
        assert parts.profile(name) == expected.profile(name)
        assert dict(parts.counts(name, everywhere)) == dict(expected.counts(name, everywhere))
    np.testing.assert_array_equal(parts.numbers("x"), expected.numbers("x"))


@pytest.mark.parametrize("form", ["csv", "frame"])
def test_one_model_whether_joined_or_not(form: str, tmp_path: Path) -> None:
    tables = [long_table(range(6)), long_table(range(6, 12))]
    options: dict[str, Any] = {"label": "y", "sequence": "id", "units": 3, "layers": 1, "epochs": 2, "baseline": False}
    bilstm.train(parts_of(form, tables, tmp_path), **options).save(tmp_path / "parts")
    bilstm.train(pd.concat(tables, ignore_index=True), **options).save(tmp_path / "whole")
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()


def test_where_a_row_stands(tmp_path: Path) -> None:
    paths = parts_of("csv", [long_table(range(2)), long_table(range(2, 4))], tmp_path)
    table = open_table(paths, sequence="id")
    assert table.place(4) == f"{paths[1]}, line 2"
    assert table.label == f"{paths[0]} and 1 other file"
    assert open_table([long_table(range(2)), long_table(range(2, 4))]).label == "X[0] and 1 other table"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="x"), r"has no column 'x', which .*0.csv has"),
        (lambda table: table.assign(z=1), r"1.csv has 'z', which .*0.csv has not"),
        (lambda table: table.assign(id="s1"), r"sequence 's1' is in .*0.csv and in .*1.csv"),
    ],
)
def test_parts_that_do_not_belong_together(change: Any, message: str, tmp_path: Path) -> None:
    paths = parts_of("csv", [long_table(range(2)), change(long_table(range(2, 3)))], tmp_path)
    with pytest.raises(UserError, match=message):
        open_table(paths, sequence="id").sequences("id")
