"""The estimators on tables: what they learn and predict of a table's rows is what they would of the same arrays."""

# ruff: noqa: E501 - one case a row
from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from bilstm.data.reading import read_table
from bilstm.data.readingoptions import ReadingOptions
from bilstm.data.sources import open_table
from bilstm.data.targets import with_targets
from bilstm.model.columns import ColumnOptions
from bilstm.model.prepare import prepare
from oracles.models import bits, weight_bits
from test_estimators import beginnings, classifier, divisions, echoes, tagger
from test_regressor import regressor

LIBRARIES: dict[str, Callable[[Any], Any]] = {"pandas": pd.DataFrame, "Polars": pl.DataFrame, "PyArrow": pa.table}
EACH = pytest.mark.parametrize("make", LIBRARIES.values(), ids=LIBRARIES)
WHICH = pytest.mark.parametrize("which", [tagger, classifier], ids=["tagger", "class"])


def columns_of(which: Any, count: int = 40) -> tuple[dict[str, Any], list[Any], Any]:
    """A table's columns, shuffled, and the same sequences as arrays with their labels."""
    X, y = echoes(count) if which is tagger else beginnings(count)
    lengths = [len(sequence) for sequence in X]
    columns = {
        "patient": np.repeat([f"p{i % 8}" for i in range(count)], lengths),
        "id": np.repeat([f"s{i}" for i in range(count)], lengths),
        "x": np.concatenate(X)[:, 0].astype(np.float64),
        "t": np.concatenate([np.arange(length) for length in lengths]),
        "label": np.concatenate(y) if which is tagger else np.repeat(y, lengths),
    }
    # Sequences begin in their old order, and their rows are scattered after that.
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    others = np.random.default_rng(5).permutation(np.setdiff1d(np.arange(sum(lengths)), first))
    rows = np.concatenate([first, others])
    return {name: column[rows] for name, column in columns.items()}, X, y


def by_row(columns: dict[str, Any], found: Any) -> list[Any]:
    """What was found for arrays, in the order of the table's rows: an array a sequence, or a row."""
    places = zip(columns["id"], columns["t"], strict=True)
    parts = [np.asarray(part) for part in found]
    return [parts[int(name[1:])][time] if parts[0].ndim else parts[int(name[1:])] for name, time in places]


# --- The same model, the same answers --------------------------------------------------------------------------------


@WHICH
@EACH
def test_a_table_is_the_sequences_in_it(make: Any, which: Any) -> None:
    columns, X, y = columns_of(which)
    expected = which().fit(X, y)
    table = make(columns)
    fitted = which(sequence="id", order="t").fit(table, y="label", groups="patient")
    by_groups = which().fit(X, y, groups=[f"p{i % 8}" for i in range(len(X))])
    assert weight_bits(fitted.model_.network) == weight_bits(by_groups.model_.network)
    without = make({name: column for name, column in columns.items() if name not in ("patient", "label")})
    fitted = which(sequence="id", order="t").fit(without, columns["label"])
    assert weight_bits(fitted.model_.network) == weight_bits(expected.model_.network)
    assert fitted.feature_names_in_.tolist() == ["x"]
    assert fitted.n_features_in_ == 1
    assert fitted.classes_.tolist() == ["high", "low"]
    assert fitted.score(table, y="label") == fitted.score(without, columns["label"]) == expected.score(X, y)
    assert fitted.predict(table).tolist() == by_row(columns, expected.predict(X))
    if which is tagger:
        assert bits(fitted.predict_proba(table)) == bits(np.array(by_row(columns, expected.predict_proba(X))))
    else:
        found = fitted.predict_proba(table)
        assert bits(found) == bits(np.stack([expected.predict_proba(X)[int(name[1:])] for name in columns["id"]]))


@WHICH
@EACH
def test_new_tables_may_have_other_columns_and_another_order(make: Any, which: Any) -> None:
    columns, _, _ = columns_of(which)
    fitted = which(sequence="id", order="t").fit(make({n: columns[n] for n in ("id", "t", "x", "label")}), "label")
    again = make({"more": np.arange(len(columns["x"])), **{name: columns[name] for name in ("label", "x", "t", "id")}})
    assert fitted.predict(again).tolist() == fitted.predict(make(columns)).tolist()


@WHICH
def test_partial_fit(which: Any) -> None:
    columns, X, y = columns_of(which)
    table = pd.DataFrame(columns).drop(columns="patient")
    fitted = which(sequence="id", order="t").partial_fit(table, y="label", classes=["low", "high"])
    expected = which().partial_fit(X, y, classes=["low", "high"])
    assert weight_bits(fitted.model_.network) == weight_bits(expected.model_.network)
    assert weight_bits(fitted.partial_fit(table, columns["label"]).model_.network) == weight_bits(
        expected.partial_fit(X, y).model_.network
    )
    with pytest.raises(ValueError, match="X has no column 'x'"):
        fitted.partial_fit(table.rename(columns={"x": "z"}), y="label")


def test_groups_of_a_table_are_never_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, _, _ = columns_of(tagger)
    table = pd.DataFrame(columns)
    sides = divisions(monkeypatch)
    for groups in ("patient", table["patient"], columns["patient"]):
        data = table if isinstance(groups, str) else table.drop(columns="patient")
        fitted = tagger(sequence="id", order="t", validation_split=0.25).fit(data, "label", groups=groups)
        assert fitted.feature_names_in_.tolist() == ["x"]
    names = table["patient"][:40]  # the first row of each sequence
    for training, held_out in sides:
        assert not set(names[training]) & set(names[held_out])
        assert len(set(names[held_out])) == 2


# --- Columns ---------------------------------------------------------------------------------------------------------


def mixed(count: int = 12) -> dict[str, Any]:
    """Numbers with holes, words and booleans; the label is whether the last word was "yes"."""
    random = np.random.default_rng(2)
    words = [random.choice(["yes", "no", "er", "um"], 5) for _ in range(count)]
    numbers = random.normal(size=5 * count)
    return {
        "id": np.repeat(np.arange(count), 5),
        "x": [None if i % 7 == 3 else float(x) for i, x in enumerate(numbers)],
        "word": np.concatenate(words).tolist(),
        "flag": (numbers > 0).tolist(),
        "label": np.concatenate([np.append("other", np.where(said[:-1] == "yes", "after", "other")) for said in words]),
    }


@EACH
def test_columns_are_what_they_are_in_a_file(make: Any, tmp_path: Path) -> None:
    columns = mixed()
    pd.DataFrame(columns).to_csv(tmp_path / "table.csv", index=False)
    prepared = prepare(read_table(tmp_path / "table.csv"), ColumnOptions("id", ("label",)), validation_split=0)
    fitted = tagger(sequence="id", validation_split=0).fit(make(columns), y="label")
    for found, expected in zip(fitted.model_.schema.numeric, prepared.schema.numeric, strict=True):
        assert (found.name, found.missing) == (expected.name, expected.missing)
        assert (found.mean, found.scale) == pytest.approx((expected.mean, expected.scale))
    assert fitted.model_.schema.categorical == prepared.schema.categorical
    assert fitted.feature_names_in_.tolist() == ["x", "flag", "word"]  # numbers first
    assert fitted.model_.network.input_features == prepared.training.values.features


@EACH
def test_words_in_a_table_are_learnt(make: Any) -> None:
    train, test = mixed(60), mixed(90)
    parameters: dict[str, Any] = {"units": 8, "epochs": 25, "learning_rate": 0.05, "dropout": 0.0, "embedding": 4}
    fitted = tagger(sequence="id", **parameters).fit(make(train), y="label")
    assert fitted.score(make(test), y="label") > 0.95


def test_standardised_by_the_training_part_only(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, _, _ = columns_of(classifier)
    table = pd.DataFrame(columns).drop(columns="patient")
    sides = divisions(monkeypatch)
    fitted = classifier(sequence="id", order="t", validation_split=0.4).fit(table, y="label")
    ((training, _),) = sides
    values = table["x"][table["id"].isin([f"s{i}" for i in training])]
    assert fitted.model_.schema.numeric[0].mean == pytest.approx(values.mean())
    assert fitted.model_.schema.numeric[0].scale == pytest.approx(values.std(ddof=0))


def test_unknown_values_are_counted_and_reported() -> None:
    columns = mixed()
    fitted = tagger(sequence="id").fit(pd.DataFrame(columns), y="label")
    fitted.predict(pd.DataFrame(columns))  # and nothing is said
    new = pd.DataFrame(columns | {"word": ["never", *columns["word"][1:-1], "heard"]})
    message = "^column word: 2 values of 60 \\(3.3 %\\) unknown to the model$"
    for use in ("predict", "predict_proba"):
        copied = copy.deepcopy(fitted)
        with pytest.warns(UserWarning, match=message):
            getattr(copied, use)(new)
        copied.predict(new)  # each kind of warning comes once


def test_what_was_found_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    tagger(sequence="id", validation_split=0, verbose=True).fit(pd.DataFrame(mixed()), y="label")
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"x: number, mean \S+, standard deviation \S+; 9 missing, imputed with the mean and flagged", lines[0]
    )
    assert re.fullmatch(r"flag: number, mean 0\.\d+, standard deviation 0\.\d+", lines[1])
    assert lines[2] == "word: text, 4 different values"
    assert lines[3].startswith("Epoch 1/2: ")


def test_a_fit_to_arrays_forgets_the_names() -> None:
    columns, X, y = columns_of(classifier)
    fitted = classifier(sequence="id", order="t").fit(pd.DataFrame(columns), "label", groups="patient")
    fitted.set_params(sequence=None, order=None).fit(X, y)
    assert not hasattr(fitted, "feature_names_in_")
    assert fitted.predict(X).shape == (40,)


# --- In scikit-learn's tools -----------------------------------------------------------------------------------------


@WHICH
@EACH
def test_cross_validation(make: Any, which: Any) -> None:
    columns, _, _ = columns_of(which)
    groups = columns["id"]
    table, y = make({name: columns[name] for name in ("id", "t", "x")}), make(columns)["label"]
    estimator = which(sequence="id", order="t")
    keywords: dict[str, Any] = {"groups": groups, "cv": GroupKFold(2)}
    scores = cross_val_score(estimator, table, y, error_score="raise", **keywords)
    assert ((scores > 0) & (scores <= 1)).all()
    by_classes = cross_val_score(estimator, table, y, scoring="f1_macro", error_score="raise", **keywords)
    assert ((by_classes >= 0) & (by_classes <= 1)).all()
    found = cross_val_predict(estimator, table, y, **keywords)
    assert found.shape == (len(columns["x"]),)
    labels = {name: set(found[columns["id"] == name]) for name in set(columns["id"])}
    assert which is tagger or all(len(of_one) == 1 for of_one in labels.values())
    proba = cross_val_predict(estimator, table, y, method="predict_proba", **keywords)
    assert (estimator.fit(table, y).classes_[proba.argmax(axis=1)] == found).all()


@WHICH
@EACH
def test_a_grid_search_and_a_pipeline(make: Any, which: Any) -> None:
    columns, _, _ = columns_of(which)
    table = make({name: columns[name] for name in ("id", "t", "x")})
    estimator = make_pipeline(FunctionTransformer(), which(sequence="id"))
    grid = {type(which()).__name__.lower() + "__order": ["t", "x"]}
    search = GridSearchCV(estimator, grid, cv=GroupKFold(2), error_score="raise")
    search.fit(table, columns["label"], groups=columns["id"])
    assert next(iter(search.best_params_.values())) in ("t", "x")
    assert search.predict(table).shape == (len(columns["x"]),)
    assert search.best_estimator_[-1].feature_names_in_.tolist() in (["x"], ["t"])


def test_clones() -> None:
    columns, _, _ = columns_of(tagger)
    fitted = tagger(sequence="id", order="t").fit(pd.DataFrame(columns), "label", groups="patient")
    cloned = clone(fitted)
    assert (cloned.sequence, cloned.order) == ("id", "t")
    assert not hasattr(cloned, "feature_names_in_")


# --- How files are read ----------------------------------------------------------------------------------------------


READING: dict[str, Any] = {"delimiter": ";", "decimal": ",", "missing": ["?"]}
ESTIMATORS = {
    "tagger": tagger,
    "class": classifier,
    "regressor": regressor,
    "regressor of sequences": lambda **parameters: regressor(per_sequence=True, **parameters),
}


@pytest.mark.parametrize("make", ESTIMATORS.values(), ids=ESTIMATORS)
@pytest.mark.parametrize("form", [dict, lambda options: ReadingOptions(**options)], ids=["dict", "options"])
def test_files_are_read_as_the_parameters_say(make: Any, form: Any, tmp_path: Path) -> None:
    table = pd.DataFrame(columns_of(classifier if make is classifier else tagger)[0]).drop(columns="patient")
    if make not in (tagger, classifier):
        table["label"] = table.groupby("id")["x"].transform("sum")
    table.loc[0, "x"] = None
    odd, plain = tmp_path / "odd.csv", tmp_path / "plain.csv"
    table.to_csv(odd, index=False, sep=";", decimal=",", na_rep="?")
    table.to_csv(plain, index=False)
    fitted = make(sequence="id", order="t", reading=form(READING)).fit(odd, "label", validation_data=(odd, "label"))
    expected = make(sequence="id", order="t").fit(plain, "label", validation_data=(plain, "label"))
    assert weight_bits(fitted.model_.network) == weight_bits(expected.model_.network)
    assert fitted.predict(odd).tolist() == expected.predict(plain).tolist()
    assert fitted.score(odd, "label") == expected.score(plain, "label")
    assert fitted.model_.schema.reading == ReadingOptions(**READING)
    assert clone(fitted).reading == form(READING)
    fitted.save(tmp_path / "model")
    loaded = type(fitted).load(tmp_path / "model")
    assert loaded.reading == ReadingOptions(**READING)
    assert loaded.predict(odd).tolist() == expected.predict(plain).tolist()
    expected.save(tmp_path / "other")
    assert type(fitted).load(tmp_path / "other").reading is None
    other = make(sequence="id", order="t", reading={"delimiter": ","}).fit(plain, "label")
    assert other.predict(plain).tolist() == make(sequence="id", order="t").fit(plain, "label").predict(plain).tolist()


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        ({"delimiter": ";"}, "has no column 'label' (y)"),
        ({"separator": ";"}, "there is no reading option 'separator'"),
        (";", "reading is a dictionary of options or a ReadingOptions, not ';'"),
    ],
)
def test_wrong_reading_options(tmp_path: Path, reading: Any, message: str) -> None:
    pd.DataFrame(columns_of(tagger)[0]).to_csv(tmp_path / "table.csv", index=False)
    with pytest.raises(ValueError, match=re.escape(message)):
        tagger(sequence="id", order="t", reading=reading).fit(tmp_path / "table.csv", "label")


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda t, X, y: tagger().fit(t, "label"), "which rows of X belong together? If a row is a time step, name the column"),
        (lambda t, X, y: tagger(sequence="id").fit(t, "label"), "row 40 of X: sequence 's"),
        (lambda t, X, y: tagger(sequence="id").fit(X, y), "sequence='id' names a column of a table, but X has no such column"),
        (lambda t, X, y: tagger(order="t").fit(X, y), "order='t' names a column of a table, but X has no such column"),
        (lambda t, X, y: tagger().fit(X, y).predict(t), "the model was fitted on arrays, whose 1 features have no names"),
        (lambda t, X, y: fit(t).predict(t.drop(columns="x")), "X has no column 'x' (a feature of the model). Its columns:"),
        (lambda t, X, y: fit(t).predict(t.drop(columns="id")), "X has no column 'id' (the sequence of each row). Its columns:"),
        (lambda t, X, y: fit(t).fit(t, None), "SequenceTagger requires y to be passed, but the target y is None"),
        (lambda t, X, y: fit(t).fit(t, "lable"), "X has no column 'lable' (y). Did you mean 'label'?"),
        (lambda t, X, y: fit(t).fit(t, t["label"]), "y is called 'label', as is a column of X, which would be a feature: drop that from X, or pass y='label'"),
        (lambda t, X, y: fit(t).fit(t, y[0]), "Found input variables with inconsistent numbers of samples: X has "),
        (lambda t, X, y: fit(t).fit(t.assign(g=t["x"]), "label", groups="g"), "row "),
        (lambda t, X, y: classifier(sequence="id", order="t").fit(t, "label"), "the label in column 'label' changes within"),
        (lambda t, X, y: classifier(sequence="id", order="t").fit(t.assign(label=None), "label"), "X has no label in column 'label'"),
        (lambda t, X, y: tagger(sequence="id", reading={"decimal": ","}).fit(t, "label"), "--decimal (decimal) says how text files are read, and has no effect on X"),
        (lambda t, X, y: tagger(reading={"delimiter": ","}).fit(X, y), "--delimiter (delimiter) says how text files are read, and has no effect on X"),
        (lambda t, X, y: tagger(sequence="id", reading={"one_day": True}).fit(t, "label"), "--one-day (one_day) says how the order column is read, and has no effect without one"),
        (lambda t, X, y: fit(t.assign(day=pd.Timestamp("2026-01-01"))), "column 'day' of X holds dates or times, which are no features as they are; use it as the order (--order day)"),
    ],
)  # fmt: skip
def test_tables_and_estimators_that_do_not_fit(use: Any, message: str) -> None:
    columns, X, y = columns_of(tagger)
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        use(pd.DataFrame(columns).drop(columns="patient"), X, y)


def fit(table: Any) -> Any:
    return tagger(sequence="id", order="t").fit(table, "label")


def test_narwhals_is_imported_for_tables_only(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, X, y = columns_of(tagger)
    monkeypatch.setitem(sys.modules, "narwhals.stable.v2", None)
    tagger().fit(X, y).predict(X)
    with pytest.raises(ImportError, match=r"reading data frames needs narwhals: pip install 'bilstm\[sklearn\]'"):
        fit(pd.DataFrame(columns))


@pytest.mark.parametrize("form", ["label", ["label"], ("label",)])
def test_y_names_a_column_of_a_file_or_a_frame(tmp_path: Path, form: Any) -> None:
    frame = pd.DataFrame(columns_of(tagger)[0])
    frame.to_csv(tmp_path / "table.csv", index=False)
    named = tagger(sequence="id", order="t")
    for table in (frame, str(tmp_path / "table.csv")):
        assert copy.copy(named).fit(table, form).model_.task.columns == ("label",)
    with pytest.raises(ValueError, match="has no column 'labels'"):
        copy.copy(named).fit(str(tmp_path / "table.csv"), ["labels"])


@pytest.mark.parametrize("per_sequence", [False, True])
def test_a_list_of_one_string_is_the_label_of_arrays_of_one_step(per_sequence: bool) -> None:
    y = ["high"] if per_sequence else [["high"]]
    table, names = with_targets(open_table([np.zeros((1, 1))]), y, per_sequence=per_sequence)
    assert names == ("label",)
    assert table.cell("label", 0) == "high"
