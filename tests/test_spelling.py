"""The spelling of words: what is looked up of them, when, and that words never met before are labelled by it."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import bilstm
from bilstm.cli import commands
from bilstm.data.features import CategoricalColumn
from bilstm.data.reading import read_table
from bilstm.data.schema import Schema
from bilstm.data.spelling import PARTS, are_words, has_letters, shape
from bilstm.data.table import Table
from bilstm.errors import ModelFileError, UserError
from bilstm.model.columns import ColumnOptions
from bilstm.model.datasets import read_dataset
from bilstm.model.prepare import prepare


@pytest.mark.parametrize(
    ("text", "found"),
    [
        *[("", ""), ("the", "a"), ("USA", "A"), ("McDonald", "AaAa"), ("B-52s", "A-0a"), ("3.50", "0.0")],
        *[("...", "."), ("\n\n", "\n"), ("Ünde", "Aa"), ("水", "a"), ("٣x", "0a")],
    ],
)
def test_shapes(text: str, found: str) -> None:
    assert shape(text) == found


@given(st.text("aßZ0٣水.- \n", max_size=30))
def test_a_shape_is_its_own_shape_and_no_longer_than_the_text(text: str) -> None:
    assert shape(shape(text)) == shape(text)
    assert len(shape(text)) <= len(text)


@given(st.text("aßZ0é.", max_size=30), st.text("aßZ0é.", min_size=3, max_size=3))
def test_the_ends_of_a_text_are_those_of_its_ends(middle: str, end: str) -> None:
    for part in ("first 2", "first 3", "last 2", "last 3"):
        assert PARTS[part](end + middle + end) == PARTS[part](end)
    assert PARTS["last 2"](end) == end[-2:].lower()
    assert PARTS["first 2"](end) == end[:2].lower()
    assert PARTS["whole"](middle) == middle


def fitted(texts: list[Any], spelling: bool | None) -> list[CategoricalColumn]:
    return CategoricalColumn.fit("word", Counter(text or "" for text in texts).items(), spelling)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([f"stem{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(150)], True),
        ([f"stem{chr(97 + i)}" for i in range(26)], False),  # too few
        ([f"{i}.{i}" for i in range(150)], False),
        ([chr(0x4E00 + i) for i in range(150)], False),  # letters
        ([], False),
    ],
)
def test_what_looks_like_words(texts: list[str], words: bool) -> None:
    assert are_words(Counter(map(has_letters, texts))) == words
    assert len(fitted(texts, None)) == (len(PARTS) if words else 1)
    for spelling in (True, False):
        parts = [column.part for column in fitted(texts, spelling)]
        assert parts == (list(PARTS) if spelling else ["whole"])


@given(
    st.lists(st.sampled_from(["Talks", "talks", "walks", "ox", "", None, "7"]), max_size=20), st.sampled_from([*PARTS])
)
def test_parts_seen_once_are_unknown(texts: list[str | None], part: str) -> None:
    parts = [PARTS[part](text or "") for text in texts]
    column = next(column for column in fitted(texts, True) if column.part == part)
    assert set(column.vocabulary) == {found for found in parts if parts.count(found) > 1}
    assert column.distinct == len(set(parts))
    for found, index in zip(parts, column.encode(texts), strict=True):
        assert found == column.vocabulary[index - 1] if index else parts.count(found) == 1


# --- Tables ----------------------------------------------------------------------------------------------------------

TEXTS = ["Walks", "talks", "Talked", "walked", "ox", "ox", "B52"]


def write(path: Path, sequences: list[list[tuple[str, str]]]) -> Table:
    path.write_text("\n".join("".join(f"{word}\t{label}\n" for word, label in rows) for rows in sequences))
    return read_table(path)


@pytest.fixture
def schema(tmp_path: Path) -> Schema:
    table = write(tmp_path / "few.conll", [[(text, "pq"[i % 2]) for i, text in enumerate(TEXTS)]] * 2)
    return prepare(table, ColumnOptions(spelling=True), validation_split=0.0).schema


def test_a_table_of_words(schema: Schema, tmp_path: Path) -> None:
    assert schema.features == schema.spelled == ["token"]
    assert schema.vocabularies == [column.size for column in schema.categorical] == [7, 5, 5, 5, 5, 4]
    assert schema.describe() == [("token", "words, 6 different values; its 15 different characters are read, too")]
    table = write(tmp_path / "new.conll", [[("walks", "p"), ("xyz", "q")]])
    new = schema.encode(table, table.sequences(schema.sequence))
    known = [[column.vocabulary[i - 1] if i else None for i in row] for column, row in zip(
        schema.categorical, new.values.values.T.astype(int)[:-1], strict=True
    )]  # fmt: skip
    assert known == [[None, None], ["wa", None], ["wal", None], ["ks", None], ["lks", None], ["a", "a"]]
    assert new.values.values[:, -1].tolist() == [0, 1]  # which text each is, in `words`
    assert new.notes == ("token: 2 values of 2 (100.0 %) unknown to the model",)


def test_a_description_survives_json(schema: Schema) -> None:
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


def test_models_from_before_there_was_spelling(schema: Schema) -> None:
    data = schema.to_json()
    del data["categorical"][1:], data["categorical"][0]["part"]
    assert Schema.from_json(data).categorical == schema.categorical[:1]


@pytest.mark.parametrize("change", ["unknown", "empty", "twice", "without the whole"])
def test_hostile_parts(change: str, schema: Schema) -> None:
    data = copy.deepcopy(schema.to_json())
    parts = data["categorical"]
    if change == "without the whole":
        del parts[0]
    else:
        parts[1]["part"] = {"unknown": "first 4", "empty": "", "twice": "last 3"}[change]
    with pytest.raises(ModelFileError, match="the model is damaged: its (categorical )?columns have no valid '"):
        Schema.from_json(data)


def test_spelling_without_texts(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("id,x,label\n" + "".join(f"{i // 2},{i},{'pq'[i % 2]}\n" for i in range(8)))
    with pytest.raises(
        UserError, match=r"spelling=True, but .*table.csv has no feature that is text, whose spelling could count"
    ):
        prepare(read_table(tmp_path / "table.csv"), ColumnOptions("id", ("label",), spelling=True))


# --- Learning --------------------------------------------------------------------------------------------------------


def endings(count: int, seed: int) -> list[list[tuple[str, str]]]:
    """Sequences of words, hardly any twice, labelled by their ends."""
    random = np.random.default_rng(seed)
    ends: dict[str, str] = {"ing": "verb", "tion": "noun", "ous": "adjective"}
    sequences = []
    for _ in range(count):
        chosen = random.choice([*ends], int(random.integers(2, 9)))
        sequences.append([("".join(map(chr, random.integers(97, 123, 6))) + end, ends[end]) for end in chosen])
    return sequences


@pytest.mark.parametrize("spelling", [None, True, False])
def test_new_words_are_labelled_by_their_ends(spelling: bool | None, tmp_path: Path) -> None:
    write(tmp_path / "train.conll", endings(100, 1))
    options: dict[str, Any] = {"units": 8, "layers": 1, "epochs": 15, "batch_size": 8, "learning_rate": 0.03}
    model = bilstm.train(tmp_path / "train.conll", spelling=spelling, dropout=0.1, baseline=False, **options)
    model.save(tmp_path / "model")
    model = bilstm.load(tmp_path / "model")
    test = read_dataset(model.schema, model.task, write(tmp_path / "test.conll", endings(50, 2)))
    accuracy = (model.outputs(test.values).labels == test.known).mean()
    assert accuracy < 0.6 if spelling is False else accuracy > 0.95


@pytest.mark.parametrize(("flag", "parts"), [("--spelling", len(PARTS)), ("--no-spelling", 1), (None, 1)])
def test_the_command_line(flag: str | None, parts: int, tmp_path: Path) -> None:
    write(tmp_path / "few.conll", [[(text, "pq"[i % 2]) for i, text in enumerate(TEXTS)]] * 4)
    command = ["train", str(tmp_path / "few.conll"), "--out", str(tmp_path / "out"), "--epochs", "1", "--units", "2"]
    result = CliRunner().invoke(commands, [*command, *([flag] if flag else [])])
    assert result.exit_code == 0, result.output
    assert ("token  words, 6 different values" in result.output) == (parts > 1)
    found = bilstm.load(tmp_path / "out").schema
    assert len(found.categorical) == parts
