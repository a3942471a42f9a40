"""One encoder: the same data give the same model, to the last byte of its file, wherever they are kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bilstm
from bilstm import SequenceClassifier, SequenceRegressor, SequenceTagger
from bilstm.data.memory import MemoryTable
from bilstm.data.sources import open_for, open_table
from bilstm.data.texts import TextColumn
from bilstm.errors import UserError
from bilstm.ragged import Ragged
from bilstm.tasks import LabelTask
from oracles.models import bits

QUICK: dict[str, Any] = {"units": 3, "layers": 1, "epochs": 1}
Columns = dict[str, list[Any]]


def to_csv(columns: Columns, path: Path) -> Path:
    path = path.with_suffix(".csv")
    pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()}).to_csv(path, index=False)
    return path


def to_parquet(columns: Columns, path: Path) -> Path:
    pa.parquet.write_table(pa.table(columns), path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def to_ndjson(columns: Columns, path: Path) -> Path:
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    path.with_suffix(".ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.with_suffix(".ndjson")


FILES: dict[str, Callable[[Columns, Path], Any]] = {"CSV": to_csv, "Parquet": to_parquet, "NDJSON": to_ndjson}
MEMORY: dict[str, Callable[[Columns, Path], Any]] = {
    "pandas": lambda columns, _: pd.DataFrame(columns),
    "pandas with Arrow": lambda columns, _: pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype),
    "Polars": lambda columns, _: pl.DataFrame(columns),
    "PyArrow": lambda columns, _: pa.table(columns),
    "PyCapsule": lambda columns, _: Capsule(columns),
    "dictionary": lambda columns, _: columns,
    "dictionary of arrays": lambda columns, _: {n: np.array(c, object) for n, c in columns.items()},
}
EACH = pytest.mark.parametrize("form", [*FILES, *MEMORY])


class Capsule:
    """What any library offers that knows Arrow."""

    def __init__(self, columns: Columns) -> None:
        self.table = pa.table(columns)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.table.__arrow_c_stream__(requested_schema)


def made(form: str, columns: Columns, folder: Path) -> Any:
    return (FILES | MEMORY)[form](columns, folder / "table")


def saved(model: Any, folder: Path) -> bytes:
    model.save(folder / "model")
    return (folder / "model").read_bytes()


def long_table(count: int = 30, *, seed: int = 0) -> Columns:
    """Numbers of which some are missing, words, codes and booleans, with a label for each row, one for each sequence,
    two that may hold at once, and a quantity."""
    random = np.random.default_rng(seed)
    columns: Columns = {name: [] for name in ("id", "t", "who", "x", "n", "word", "flag", "y", "of", "a", "b", "q")}
    for sequence in range(count):
        for step in range(int(random.integers(2, 6))):
            x = float(random.normal())
            cells = (sequence, step, f"p{sequence % 6}", None if x > 1.5 else x, int(random.integers(4)))
            words = (str(random.choice(["the", "a", "NA", "é"])), bool(random.integers(2)), "up" if x > 0 else "down")
            targets = (["p", "q"][sequence % 2], int(x > 0), int(x < 0.5), 10 * x)
            for name, cell in zip(columns, cells + words + targets, strict=True):
                columns[name].append(cell)
    return columns


# What is predicted: the label, and which columns are features.
FEATURES = ["x", "n", "word", "flag"]
TASKS: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "step-label": ("y", {}, SequenceTagger()),
    "sequence-label": ("of", {}, SequenceClassifier()),
    "step-labels": (["a", "b"], {}, SequenceTagger()),
    "step-quantity": ("q", {"task": "step-quantity"}, SequenceRegressor()),
}


# --- The same model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TASKS)
def test_every_source_gives_the_same_model(kind: str, tmp_path: Path) -> None:
    label, options, estimator = TASKS[kind]
    names = ["id", "t", "who", *FEATURES, *([label] if isinstance(label, str) else label)]
    columns = {name: cells for name, cells in long_table().items() if name in names}
    found = {}
    for form in (*FILES, *MEMORY):
        data = made(form, columns, tmp_path)
        given: dict[str, Any] = {"label": label, "sequence": "id", "order": "t", "group": "who", "seed": 1}
        model = bilstm.train(data, **given, **options, **QUICK)
        assert (model.task.kind, model.schema.features) == (kind, ["x", "n", "flag", "word"])
        found[form] = saved(model, tmp_path)
        fitted = type(estimator)(sequence="id", order="t", random_state=1, baseline=True, examples=True, **QUICK)
        found[f"{form}, estimator"] = saved(fitted.fit(data, label, groups="who"), tmp_path)
    assert [form for form, file in found.items() if file != found["CSV"]] == []


@EACH
def test_every_source_gives_the_same_predictions_and_scores(form: str, tmp_path: Path) -> None:
    columns = {name: cells for name, cells in long_table().items() if name in ("id", "t", *FEATURES, "y", "who")}
    model = bilstm.train(columns, label="y", sequence="id", order="t", drop=["who"], seed=1, **QUICK)
    shuffled = np.random.default_rng(5).permutation(len(columns["id"]))
    others = {name: [cells[row] for row in shuffled] for name, cells in reversed(columns.items())}
    assert bits(model.predict_proba(made(form, others, tmp_path))) == bits(model.predict_proba(columns)[shuffled])
    report = model.evaluate(made(form, columns, tmp_path), group="who")
    assert report == model.evaluate(columns, group="who")


@pytest.mark.parametrize("per_sequence", [False, True])
def test_rows_that_are_sequences_give_the_same_model(per_sequence: bool, tmp_path: Path) -> None:
    columns, rows = long_table(), list[dict[str, Any]]()
    for place, sequence in enumerate(columns["id"]):
        if sequence == len(rows):
            rows.append({name: [] for name in (*FEATURES, "y")} | {"of": columns["of"][place]})
        for name in (*FEATURES, "y"):
            rows[-1][name].append(columns[name][place])
    for row in rows:
        del row["y" if per_sequence else "of"]
    label = "of" if per_sequence else "y"
    by_column = {name: [row[name] for row in rows] for name in rows[0]}
    expected = None
    for form in ("list", "Parquet", "NDJSON", "pandas", "Polars", "PyArrow", "PyCapsule"):
        data = rows if form == "list" else made(form, by_column, tmp_path)
        model = bilstm.train(data, label=label, seed=1, **QUICK)
        assert model.task.per_sequence == per_sequence
        file = saved(model, tmp_path)
        fitted = (SequenceClassifier if per_sequence else SequenceTagger)(
            random_state=1, baseline=True, examples=True, **QUICK
        )
        assert saved(fitted.fit(data, label), tmp_path) == file
        expected = expected or file
        assert file == expected
    # All but the names of the columns is that of the long table, too.
    long = {name: cells for name, cells in columns.items() if name in ("id", *FEATURES, label)}
    model = bilstm.train(long, label=label, sequence="id", seed=1, **QUICK)
    assert [bits(w) for w in model.network.get_weights()] == [bits(w) for w in fitted.model_.network.get_weights()]


@EACH
@pytest.mark.parametrize("tokens", ["words", "characters"])
def test_texts(form: str, tokens: str, tmp_path: Path) -> None:
    texts = [f"{'good' if i % 2 else 'bad'}, {'very ' * (i % 3)}so. {i % 4}" for i in range(30)]
    columns: Columns = {"text": texts, "of": ["yes" if i % 2 else "no" for i in range(30)]}
    given: dict[str, Any] = {"label": "of", "text": "text", "tokens": tokens, "seed": 1, **QUICK}
    expected, model = bilstm.train(columns, **given), bilstm.train(made(form, columns, tmp_path), **given)
    assert model.task.kind == "sequence-label"
    assert saved(model, tmp_path) == saved(expected, tmp_path)
    probabilities = bits(expected.predict_proba(made(form, columns, tmp_path)))
    assert bits(model.predict_proba(texts)) == probabilities
    assert bits(model.predict_proba([{"text": text} for text in texts])) == probabilities
    split = TextColumn("text", tokens).split  # type: ignore[arg-type]
    assert bits(model.predict_proba([{"n": 1, "text": split(text)} for text in texts])) == probabilities
    assert bits(model.predict_proba([split(text) for text in texts])) == probabilities


@EACH
def test_labels_in_a_table_of_their_own(form: str, tmp_path: Path) -> None:
    columns = long_table()
    steps = {name: columns[name] for name in ("id", *FEATURES)}
    first = {sequence: columns["of"][columns["id"].index(sequence)] for sequence in reversed(range(28))}
    labels: Columns = {"id": [*first, 99], "of": [*first.values(), "p"]}
    given: dict[str, Any] = {"sequence": "id", "seed": 1, **QUICK}
    expected = bilstm.train(pd.DataFrame(steps), labels=pd.DataFrame(labels), **given)
    (tmp_path / "labels").mkdir()
    data, of = made(form, steps, tmp_path), made(form, labels, tmp_path / "labels")
    assert saved(bilstm.train(data, labels=of, **given), tmp_path) == saved(expected, tmp_path)
    inside = {name: columns[name] for name in ("id", *FEATURES, "of")}
    inside["of"] = [None if i > 27 else label for i, label in zip(inside["id"], inside["of"], strict=True)]
    assert saved(bilstm.train(inside, label="of", **given), tmp_path) == saved(expected, tmp_path)
    report = expected.evaluate(data, labels=of)
    assert report["sequences"] == 30
    assert report == expected.evaluate(inside)


def test_arrays_are_the_tables_in_which_features_have_no_names(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    X = [random.normal(size=(steps, 2)).astype(np.float32) for steps in random.integers(2, 6, 30)]
    y = [(x[:, 0] > 0).astype(int) for x in X]
    expected = SequenceTagger(random_state=1, **QUICK).fit(X, y)
    ragged = Ragged.from_sequences(X)
    columns = {"id": np.repeat(np.arange(30), ragged.lengths), "a": ragged.values[:, 0], "b": ragged.values[:, 1]}
    model = bilstm.train(columns | {"label": np.concatenate(y)}, label="label", sequence="id", seed=1, **QUICK)
    assert bits(np.concatenate(model.predict_proba(X))) == bits(np.concatenate(expected.predict_proba(X)))
    dictionaries = [{"a": x[:, 0], "b": x[:, 1].tolist()} for x in X]
    assert bits(np.concatenate(model.predict_proba(dictionaries))) == bits(model.predict_proba(columns))
    named = expected.model_.adapted(sequence="id", features=["a", "b"])
    assert bits(named.predict_proba(columns)) == bits(model.predict_proba(columns))


# --- What labels and cells mean --------------------------------------------------------------------------------------

LABELS: dict[str, tuple[list[Any], tuple[str, ...]]] = {
    "whole numbers": ([10, 9, -1, None], ("-1", "9", "10")),
    "fractions that are none": ([1.0, 0.0, None], ("0", "1")),
    "booleans": ([True, False, None], ("false", "true")),
    "missing in words": (["a", "NA", "b", "NaN", "null", "<NA>", "N/A", ""], ("a", "b")),
    "labels that look missing": (["none", "na", "O"], ("O", "na", "none")),
    "blanks around": ([" a", "a ", "b", "\tb", " NA "], ("a", "b")),
    "capitals": (["B", "a", "A"], ("A", "B", "a")),
}


@EACH
@pytest.mark.parametrize(("labels", "classes"), LABELS.values(), ids=LABELS)
def test_labels_mean_the_same_everywhere(
    form: str, labels: list[Any], classes: tuple[str, ...], tmp_path: Path
) -> None:
    count = 4 * len(labels)
    columns: Columns = {"id": [i // 4 for i in range(count)], "x": [float(i) for i in range(count)], "y": labels * 4}
    given: dict[str, Any] = {"label": "y", "sequence": "id", "task": "step-label", "seed": 1, **QUICK}
    model = bilstm.train(made(form, columns, tmp_path), **given)
    assert model.task.classes == classes  # type: ignore[attr-defined]
    truth = model.read(made(form, columns, tmp_path), with_truth=True).known
    texts = [str(label).strip().lower() if isinstance(label, bool) else str(label).strip() for label in labels]
    known = [-1 if text not in (*classes, *(f"{c}.0" for c in classes)) else None for text in texts]
    assert [None if code >= 0 else -1 for code in truth[: len(labels)]] == known
    assert saved(model, tmp_path) == saved(bilstm.train(columns, **given), tmp_path)


@settings(max_examples=20)
@given(st.lists(st.sampled_from(["1", "1.0", "2", "02", "x", " 1", "NA", "none", ""]), min_size=1, max_size=8))
def test_a_label_means_the_same_alone_and_in_company(
    tmp_path_factory: pytest.TempPathFactory, labels: list[str]
) -> None:
    task = LabelTask(("label",), False, ("1", "2"), "integer")

    def codes(cells: list[str]) -> list[int]:
        folder = tmp_path_factory.mktemp("labels")
        (folder / "t.csv").write_text("label,id\n" + "".join(f'"{cell}",1\n' for cell in cells))
        memory: Columns = {"label": cells, "id": [1] * len(cells)}
        found = []
        for source in (folder / "t.csv", memory) if len(cells) > 1 else (memory,):
            truth, _ = task.read(open_table(source, sequence="id"), most_unseen=1.0)
            found.append([min(code, 2) for code in truth.tolist()])
        assert found[0] == found[-1]
        return found[0]

    assert codes(labels) == [code for label in labels for code in codes([label])]


# --- Forms -----------------------------------------------------------------------------------------------------------


def test_lists_of_a_long_table_stay_cells() -> None:
    frame = pl.DataFrame({"id": [1, 1, 2], "x": [1.0, 2.0, 3.0], "vector": [[1], [2], [3]], "y": ["a", "b", "a"]})
    assert open_table(frame, sequence="id").kinds["vector"] == "nested"
    assert open_table(frame).lists == ["vector"]
    assert open_table(frame, steps=["vector"], sequence="id").lists == ["vector"]
    model = bilstm.train(frame, label="y", sequence="id", drop=["vector"], seed=1, **QUICK)
    assert model.schema.features == ["x"]


def test_lists_of_other_lengths_do_not_run_alongside(tmp_path: Path) -> None:
    columns: Columns = {"x": [[1.0, 2.0], [3.0]], "y": [["a", "b"], ["a"]], "tags": [["q"], ["q", "r"]], "n": [1, 2]}
    for form in ("Parquet", "NDJSON", "pandas", "Polars"):
        data = made(form, columns, tmp_path)
        table = open_table(data, steps=["x", "y"])
        assert (table.rows, table.lists, table.kinds["tags"]) == (3, ["x", "y"], "nested")
        assert table.numbers("n").tolist() == [1, 1, 2]
        with pytest.raises(UserError, match="the lists of one row are one sequence"):
            open_table(data)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ({"id": [1, 2], "x": [1]}, {"sequence": "id"}, "the columns of X have different lengths: {'id': 2, 'x': 1}"),
        ({"id": "ab", "x": [1, 2]}, {"sequence": "id"}, "column 'id' of X is 'ab': a column is a list or an array of"),
        (
            {"id": 5, "x": [1, 2]},
            {"sequence": "id"},
            "column 'id' of X is '5': a column is a list or an array of cells",
        ),
        ({"x": [1, 2], "w": ["a"]}, {}, "sequence 0 of X: 'w' has 1 steps, but 'x' has 2"),
        ({"x": 1}, {}, "sequence 0 of X has no list of steps"),
        ({}, {}, "sequence 0 of X has no list of steps"),
        ({}, {"text": TextColumn("x")}, "X has no rows"),
        ({1: [1]}, {}, "X has a column named 1: the names of columns must be strings"),
        (
            {"id": np.array([[1]]), "x": [1]},
            {"sequence": "id"},
            "column 'id' of X has shape (1, 1): a column has",
        ),
        (
            {"id": np.array(5), "x": [1]},
            {"sequence": "id"},
            "column 'id' of X has shape (): a column has one",
        ),
        ([{"x": [1]}, {"x": []}], {}, "sequence 1 of X has no steps"),
        (
            {"text": ["a", " "]},
            {"text": TextColumn("text")},
            "row 1 of X: the text in column 'text' has no words: give it some",
        ),
        ({"text": ["a"]}, {"text": TextColumn("txt")}, "X has no column 'txt' (the text). Did you mean 'text'?"),
        ([{"text": "a"}, {"text": ""}], {"text": TextColumn("text")}, "row 1 of X: the text in column 'text' has no"),
        ([{"text": "a"}, {"n": 1}], {"text": TextColumn("text")}, "row 1 of X: the text in column 'text' has no words"),
        ([{"txt": "a"}], {"text": TextColumn("text")}, "X has no column 'text' (the text). Did you mean 'txt'?"),
        ("nothing.csv", {}, "there is no file nothing.csv"),
        (pd.DataFrame({"x": [[1], []]}), {}, "row 1 of X: the list in column 'x' has no steps"),
    ],
)
def test_what_cannot_be_read(data: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        open_table(data, **options)


def test_one_dictionary_is_one_sequence() -> None:
    table = open_table({"x": [1.0, None, 3.0], "who": "p"})
    assert isinstance(table, MemoryTable)
    assert table.lists == ["x"]
    assert table.sequences(None).offsets.tolist() == [0, 3]
    assert table.texts("who").tolist() == ["p", "p", "p"]
    assert table.place(1) == "sequence 0 of X, step 1"


def test_sequences_that_are_not_in_order_are_sorted() -> None:
    columns = long_table()
    model = bilstm.train(columns, label="y", sequence="id", order="t", features=["x"], seed=1, **QUICK)
    steps = {"t": [2, 0, 1], "x": [0.3, 0.1, 0.2]}
    (found,), (expected,) = model.predict_proba(steps), model.predict_proba([[0.1, 0.2, 0.3]])
    assert bits(found) == bits(expected[[2, 0, 1]])
    with pytest.raises(
        UserError, match="sequence 0 of X, step 1: the sequence has t '0' a second time, after sequence"
    ):
        model.predict({"t": [0, 0], "x": [0.1, 0.2]})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([[[1.0, 2.0, 3.0]]], "X has 3 features, but the model is expecting 2 features as input: 'n', 'word'"),
        ([["a", "b"]], "X has 1 features, but the model is expecting 2 features as input: 'n', 'word'"),
        (pd.DataFrame({"id": [1], "n": [1]}), "X has no column 'word' (a feature of the model)."),
        (pd.DataFrame({"n": [1], "word": ["a"]}), "X has no column 'id' (the sequence of each row)."),
        ({"n": [1, 2]}, "X has no column 'word' (a feature of the model)."),
    ],
)
def test_data_unlike_those_of_training(data: Any, message: str) -> None:
    columns = long_table()
    model = bilstm.train(columns, label="y", sequence="id", features=["n", "word"], seed=1, **QUICK)
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        model.predict(data)


def test_a_request_asks_for_no_column_twice() -> None:
    columns = long_table()
    model = bilstm.train(columns, label="y", sequence="id", features=["x"], seed=1, **QUICK)
    assert open_for(model.schema, [np.zeros((2, 1))]).names == ["x"]


# --- Whatever is passed ----------------------------------------------------------------------------------------------

ODD: list[Any] = [
    *[None, 5, 3.5, "x", "nothing.csv", "/tmp", b"x", object(), [], {}, [[]], [None], [[None]], [1], [[1, 2], [3]]],
    *[[["a"], ["b"]], [{"x": 1}], [{"x": [1]}, {"y": [2]}], {"x": [1]}, {"x": [[1]]}, {1: [1]}, {1}, range(3)],
    *[np.zeros(0), np.zeros((0, 3)), np.zeros((3, 0)), np.zeros((2, 3, 0)), np.zeros((2, 2, 2, 2)), np.array(["a"])],
    *[np.array([None, None]), np.array([[1, "a"]], object), [np.array([1 + 2j])], iter([1]), Ragged([1.0], [0, 1])],
    *[
        pd.DataFrame(),
        pd.DataFrame([[1, 2]]),
        pd.DataFrame({"id": [1, 1, 2]}),
        pl.LazyFrame({"a": [1]}),
        pl.Series([1]),
    ],
    *[pd.DataFrame({"id": [1, 1, 2], "x": [{}, [], "a"], "label": ["a", "b", "a"]}), pd.Series([1, 2])],
    *[pl.DataFrame({"id": [1, 1, 2], "x": [[1], [2], [3]], "label": ["a", "b", "a"]})],
    *[pl.DataFrame({"x": [[1], None], "label": [["a"], ["b"]]}), {"id": [None, 1], "x": [1, 2], "label": [1, 2]}],
    *[{"id": [1, 1], "x": [1, 2], "label": [1, [2]]}, {"id": [1, 1], "x": [1, 10**400], "label": [1, 2]}],
    *[{"id": [1, 1], "x": ["a", 2], "label": [1, 2]}, {"id": [1, 1], "x": [1, 2], "label": [10**30, 2]}],
    *[{"id": [[1], [2]], "x": [1, 2], "label": [1, 2]}, {"id": [1, 1], "x": np.zeros((2, 2)), "label": [1, 2]}],
]
STEPS = {"id": [1, 1, 2], "x": [1.0, 2.0, 3.0]}
TINY: dict[str, Any] = {"units": 2, "layers": 1, "epochs": 1}
USES: dict[str, Callable[[Any], Any]] = {
    "train": lambda x: bilstm.train(x, label="label", sequence="id", **TINY),
    "train on rows that are sequences": lambda x: bilstm.train(x, label="label", **TINY),
    "train on texts": lambda x: bilstm.train(x, label="label", text="x", **TINY),
    "labels": lambda x: bilstm.train(STEPS, labels=x, sequence="id", **TINY),
    "valid": lambda x: bilstm.train(STEPS | {"label": [1, 2, 1]}, valid=x, label="label", sequence="id", **TINY),
    "X": lambda x: SequenceTagger(**TINY).fit(x, [[1, 2], [1, 1]]),
    "X of a table": lambda x: SequenceClassifier(sequence="id", **TINY).fit(x, "label"),
    "y": lambda x: SequenceClassifier(**TINY).fit([[1.0, 2.0], [3.0, 4.0]], x),
    "y of steps": lambda x: SequenceTagger(sequence="id", **TINY).fit(pd.DataFrame(STEPS), x),
    "y of quantities": lambda x: SequenceRegressor(**TINY).fit([[1.0, 2.0], [3.0, 4.0]], x),
    "groups": lambda x: SequenceTagger(**TINY).fit([[1.0, 2.0], [3.0, 4.0]], [[1, 2], [1, 2]], groups=x),
}


@pytest.fixture(scope="module")
def fitted() -> Any:
    return SequenceTagger(**TINY).fit(np.arange(12.0).reshape(4, 3), np.array([[0, 1, 1]] * 4))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("use", [*USES, "predict", "evaluate", "score"])
def test_whatever_is_passed_serves_or_is_refused_in_one_line(use: str, fitted: Any) -> None:
    of_model = {
        "predict": fitted.predict,
        "evaluate": fitted.model_.evaluate,
        "score": lambda x: fitted.score(x, [[1]]),
    }
    messages = []
    for odd in ODD:
        try:
            (USES | of_model)[use](odd)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > len(ODD) / 2
    assert [message for message in messages if "\n" in message] == []
