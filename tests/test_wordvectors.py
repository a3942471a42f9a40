"""Pretrained word vectors: which words have one, what the network begins with, and every front has them."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

import bilstm
from bilstm.cli import commands
from bilstm.data.schema import Schema
from bilstm.data.wordvectors import files_of_features, fit_vectors
from bilstm.errors import ModelFileError, UserError
from bilstm.model import TrainedModel
from bilstm.model.opening import column_options, prepare_data
from bilstm.model.training import train_prepared
from bilstm.training.checkpoints import Checkpoint
from bilstm.training.options import TrainingOptions

pytestmark = pytest.mark.fast

SMALL: dict[str, Any] = {"units": 4, "layers": 1, "epochs": 2, "seed": 3}
COLD, WARM = ("ice", "snow", "Frost", "sleet", "hail"), ("sun", "fire", "Flame", "lava", "coal")
COOL, HOT = [f"cool{i}" for i in range(20)], [f"hot{i}" for i in range(20)]  # once each


def write_vectors(path: Path, rows: dict[str, Any]) -> Path:
    path.write_text("".join(f"{word} {' '.join(map(str, row))}\n" for word, row in rows.items()), encoding="utf-8")
    return path


def temperatures(words: Collection[str]) -> dict[str, list[float]]:
    """Vectors of three dimensions, of which one says what is cold."""
    rng = np.random.default_rng(0)
    cold = [word.lower() for word in (*COLD, *COOL)]
    return {
        word: [round(float(value), 3) for value in (-1.0 if word.lower() in cold else 1.0, *rng.normal(size=2) / 8)]
        for word in words
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences of the first three words of each kind; a file of vectors has the others, too."""
    folder = tmp_path_factory.mktemp("vectors")
    rng = np.random.default_rng(1)
    rows = [
        (f"s{sentence}", word, "cold" if word in COLD else "warm")
        for sentence in range(60)
        for word in rng.choice([*COLD[:3], *WARM[:3]], 4)
    ]
    rows += [(f"s{i // 2}", word, "cold" if word in COOL else "warm") for i, word in enumerate(COOL + HOT)]
    rows.sort(key=lambda row: int(row[0][1:]))
    pd.DataFrame(rows, columns=["id", "word", "label"]).to_csv(folder / "train.csv", index=False)
    write_vectors(
        folder / "v.txt", temperatures(["ice", "Snow", "frost", "sun", "flame", *COLD[3:], *WARM[3:], *COOL, *HOT])
    )
    write_vectors(folder / "none.txt", temperatures(["pas", "un", "mot"]))
    return folder


COLUMNS: dict[str, Any] = {"sequence": "id", "label": "label", "task": "step-label"}


def run(*arguments: Any, status: int = 0) -> Result:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def trained(folder: Path, **options: Any) -> TrainedModel:
    return bilstm.train(folder / "train.csv", **COLUMNS | SMALL | {"vectors": folder / "v.txt"} | options)


def embedding_of(model: TrainedModel) -> np.ndarray:
    """The weights of the word vectors, the last of those of the first layer."""
    column = model.schema.categorical[-1]
    assert column.part == "vector"
    return next(each for each in model.network.get_weights() if each.shape == (column.size, column.dimensions))


# --- Which words ----------------------------------------------------------------------------------------------------

SPELLINGS = st.sampled_from(["the", "The", "THE", "straße", "STRASSE", "İ", "Ǆ", "cat", "Cat", "d"])


@given(st.sets(SPELLINGS, min_size=1), st.lists(SPELLINGS, min_size=1, unique=True), st.booleans())
def test_a_word_is_looked_up_as_it_is_then_in_lower_case(
    tmp_path_factory: pytest.TempPathFactory, words: set[str], listed: list[str], everything: bool
) -> None:
    rows = {word: [float(i), -1.0] for i, word in enumerate(listed)}
    path = write_vectors(tmp_path_factory.mktemp("lookup") / "v", rows)
    found = {word: word if word in rows else word.lower() for word in words if word in rows or word.lower() in rows}
    if not found:
        with pytest.raises(UserError, match=f"v has none of the {len(words)} different words in 'w', such as"):
            fit_vectors("w", words, path, everything=everything)
        return
    column, values, notes = fit_vectors("w", words, path, everything=everything)
    assert (column.distinct, column.dimensions, notes) == (len(found), 2, ())
    assert column.vocabulary == tuple(word for word in listed if everything or word in found.values())
    assert values.shape == (column.size, 2)
    factor = -values[1, 1]
    assert np.log2(factor) == round(np.log2(factor))
    for word in words:
        expected = factor * np.float32(rows[found[word]]) if word in found else np.zeros(2)
        np.testing.assert_array_equal(values[column.indices([word])[0]], expected)
    # Words that training did not have have vectors only if all are kept.
    for word in ("the", "The", "unseen"):
        there = [each for each in (word, word.lower()) if each in column.vocabulary]
        assert column.indices([word]) == [1 + column.vocabulary.index(there[0]) if there else 0]


@pytest.mark.parametrize("scale", [1e-30, 0.01, 1.0, 300.0, 0.0])
def test_values_are_about_as_large_as_those_of_other_columns(scale: float, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(20, 5)) * scale
    path = write_vectors(tmp_path / "v", {f"w{i}": row for i, row in enumerate(rows.astype(np.float32).tolist())})
    _, values, _ = fit_vectors("w", [f"w{i}" for i in range(20)], path, everything=False)
    assert not values[0].any()
    assert 0.7 < np.sqrt(np.square(values[1:]).mean()) < 1.42 or not scale


def test_values_that_no_factor_suits(tmp_path: Path) -> None:
    """The words of training have the smallest values that there are, and another word large ones."""
    path = write_vectors(tmp_path / "v", {"a": [1e-45, 1e-45], "b": [3e38, 1.0]})
    _, values, _ = fit_vectors("w", ["a"], path, everything=True)
    assert np.isfinite(values).all()
    assert values[1, 0] > 0
    np.testing.assert_array_equal(values[2], np.float32([3e38, 1.0]))


def test_which_feature_is_meant() -> None:
    assert files_of_features("v", ["a"], []) == {"a": "v"}
    assert files_of_features("v", ["a", "b"], ["b"]) == {"b": "v"}
    assert files_of_features({"a": "v", "b": "u"}, ["a", "b"], ["b"]) == {"a": "v", "b": "u"}
    for words in ([], ["a", "b"]):
        with pytest.raises(
            UserError, match=r"which of the features 'a', 'b' has the vectors of v\? Name it, as in --ve"
        ):
            files_of_features("v", ["a", "b"], words)
    with pytest.raises(UserError, match="no feature is text, which could have the vectors of v"):
        files_of_features("v", [], [])
    with pytest.raises(
        UserError, match="vectors are for features that are text, which 'x' is not; features that are: "
    ):
        files_of_features({"x": "v"}, ["a"], [])


# --- The network ----------------------------------------------------------------------------------------------------


def test_the_network_begins_with_the_vectors(folder: Path) -> None:
    """With a learning rate of next to nothing they stay."""
    model = trained(folder, learning_rate=1e-30, baseline=False)
    column = model.schema.categorical[-1]
    assert set(column.vocabulary[:4]) == {"ice", "frost", "sun", "flame"}
    assert set(column.vocabulary[4:]) <= {*COOL, *HOT}
    written = [line.split() for line in (folder / "v.txt").read_text().splitlines()]
    weights, rows = embedding_of(model), {word: list(map(float, row)) for word, *row in written}
    np.testing.assert_array_equal(weights[1:], np.float32([rows[word] for word in column.vocabulary]) * np.float32(2))
    assert (np.abs(weights[0]) < 1e-20).all()


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("characters", ["none", "conv"])
def test_training_tunes_them_or_leaves_them(folder: Path, freeze: bool, characters: str) -> None:
    """The words' own embedding is learned in either case."""
    options = {"characters": characters, "unknown_words": 0.1}
    still, model = trained(folder, learning_rate=1e-30, **options), trained(folder, freeze_vectors=freeze, **options)
    assert (embedding_of(still)[1:] == embedding_of(model)[1:]).all() == freeze
    assert (embedding_of(model)[0] == 0).all() == freeze
    own = [each for each in model.network.get_weights() if each.shape == (7, 24)]
    assert len(own) == 1
    assert not any((own[0] == each).all() for each in still.network.get_weights() if each.shape == (7, 24))


def test_there_must_be_vectors_to_leave(folder: Path) -> None:
    with pytest.raises(UserError, match="freeze_vectors has no effect: there are no word vectors, which vectors names"):
        trained(folder, vectors=None, freeze_vectors=True)
    tagger = bilstm.SequenceTagger(units=2, layers=1, epochs=1, sequence="id", freeze_vectors=True, random_state=0)
    with pytest.raises(ValueError, match="freeze_vectors has no effect"):
        tagger.fit(folder / "train.csv", "label")
    tagger.set_params(vectors=folder / "v.txt").fit(folder / "train.csv", "label").save(folder / "frozen")
    loaded = bilstm.SequenceTagger.load(folder / "frozen")  # it does not know the file
    assert (loaded.freeze_vectors, loaded.vectors) == (False, None)


@pytest.mark.parametrize("everything", [False, True])
def test_words_that_training_had_not(folder: Path, tmp_path: Path, everything: bool) -> None:
    """Only the vectors tell cold from warm, if they are all kept; and then these words are not unknown."""
    model = trained(folder, all_vectors=everything, epochs=30, spelling=False)
    unseen = [*COLD[3:], *WARM[3:]]
    frame = pd.DataFrame({"id": list("abcdefgh"), "word": [*unseen, *map(str.upper, unseen)]})
    if everything:
        assert model.predict(frame).tolist() == ["cold", "cold", "warm", "warm"] * 2
        assert model.read(frame).notes == ()
    else:
        with pytest.warns(UserWarning, match=r"word: 8 values of 8 \(100.0 %\) unknown to the model"):
            model.predict(frame)
    model.save(tmp_path / "m")
    loaded = bilstm.load(tmp_path / "m")
    loaded.warn = False
    np.testing.assert_array_equal(loaded.predict_proba(frame), model.predict_proba(frame))


def test_the_file_grows_by_the_vectors_kept(folder: Path, tmp_path: Path) -> None:
    """Two words are kept of ten thousand."""
    rows = {f"other{i}": [0.5] * 50 for i in range(10_000)} | {"ice": [0.25] * 50, "sun": [0.75] * 50}
    path = write_vectors(tmp_path / "large.txt", rows)
    sizes = []
    for name, options in (("without", {"vectors": None}), ("with", {"vectors": path})):
        trained(folder, baseline=False, **options).save(tmp_path / name)
        sizes.append((tmp_path / name).stat().st_size)
    # Three rows of 50 values, and the weights of 50 more inputs of 4 units with 4 gates in each direction.
    assert 4 * (3 * 50 + 50 * 32) <= sizes[1] - sizes[0] < 4 * (3 * 50 + 50 * 32) + 500


# --- Fronts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("everything", [False, True])
def test_every_front_trains_the_same_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, everything: bool
) -> None:
    monkeypatch.chdir(folder)
    model = trained(Path(), vectors="v.txt", all_vectors=everything)
    model.save(tmp_path / "python")
    expected = (tmp_path / "python").read_bytes()
    trained(Path(), vectors={"word": Path("v.txt")}, all_vectors=everything).save(tmp_path / "named")
    assert (tmp_path / "named").read_bytes() == expected
    options = [word for name, value in (COLUMNS | SMALL).items() for word in (f"--{name}", value)]
    options += ["--quiet", "--out", tmp_path / "typed"] + ["--all-vectors"] * everything
    for vectors in ("v.txt", "word=v.txt"):
        run("train", "train.csv", *options, "--vectors", vectors)
        assert (tmp_path / "typed").read_bytes() == expected
    (tmp_path / "o.toml").write_text(f'vectors = "v.txt"\nall-vectors = {str(everything).lower()}\n')
    run("train", "train.csv", *options, "--config", tmp_path / "o.toml")
    assert (tmp_path / "typed").read_bytes() == expected
    tagger = bilstm.SequenceTagger(
        units=4,
        layers=1,
        epochs=2,
        sequence="id",
        vectors="v.txt",
        all_vectors=everything,
        baseline=True,
        examples=True,
        random_state=3,
    )
    tagger.fit("train.csv", "label").save(tmp_path / "estimator")
    assert (tmp_path / "estimator").read_bytes() == expected
    feature = json.loads(run("inspect", tmp_path / "typed", "--json").stdout)["columns"]["features"][0]
    vectors = len(model.schema.categorical[-1].vocabulary)
    assert (feature["vectors"], feature["dimensions"], vectors == 49) == (vectors, 3, everything)
    printed = run("inspect", tmp_path / "typed").stdout
    assert f" in training; {vectors} word vectors of 3 dimensions\n" in printed


def test_what_training_prints(folder: Path) -> None:
    path = write_vectors(folder / "twice.txt", {"sun": [1, 2], "ice": [3, 4]})
    path.write_text(path.read_text() + "sun 5 6\n")
    options = [
        "--sequence",
        "id",
        "--label",
        "label",
        "--epochs",
        1,
        "--units",
        2,
        "--no-baseline",
        "--out",
        folder / "m",
    ]
    printed = run("train", folder / "train.csv", *options, "--vectors", path).stdout
    assert ", treated as unknown; 2 word vectors of 2 dimensions, for 2 of them\n" in printed
    assert "\nnote: " + str(path) + ": 1 row left out whose word occurs before; the first is line 3, 'sun'\n" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--all-vectors"], "all_vectors has no effect: there is no file of word vectors, which --vectors"),
        (["--vectors", "nowhere.txt"], "there is no file nowhere.txt"),
        (
            ["--vectors", "id=v.txt"],
            "vectors are for features that are text, which 'id' is not; features that are: 'word'",
        ),
        (["--vectors", "none.txt"], "none.txt has none of the 46 different words in 'word', such as 'Flame', "),
        (["--vectors", "v.txt", "--vectors", "v.txt"], "v.txt is one of several files of vectors: say whose it is, as"),
        (
            ["--vectors", "word=v.txt", "--vectors", "word=v.txt"],
            "the feature 'word' has two files of vectors: leave one",
        ),
        (
            ["--vectors", "train.csv"],
            "train.csv is no file of word vectors: its first line is neither a number of words",
        ),
    ],
)
def test_mistakes_are_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str) -> None:
    monkeypatch.chdir(folder)
    result = run("train", "train.csv", "--sequence", "id", "--label", "label", "--out", "x", *options, status=2)
    assert result.stderr.startswith(f"bilstm: {message}")
    assert result.stderr.count("\n") == 1
    assert not (folder / "x").exists()


def test_streams_and_reports(folder: Path, tmp_path: Path) -> None:
    """They read words as files are read."""
    model = tmp_path / "model"
    trained(folder, all_vectors=True).save(model)
    words = [["ice", "hail", "SUN"], ["unheard-of"]]
    lines = "".join(json.dumps({"word": each}) + "\n" for each in words)
    streamed = CliRunner().invoke(commands, ["predict", str(model), "-", "--out", "-"], input=lines)
    assert streamed.exit_code == 0, streamed.output
    found = [json.loads(line) for line in streamed.stdout.splitlines()]
    frame = pd.DataFrame({"id": ["a", "a", "a", "b"], "word": [*words[0], *words[1]], "label": "cold"})
    with pytest.warns(UserWarning, match=r"word: 1 value of 4 \(25.0 %\) unknown to the model"):
        expected = bilstm.load(model).predict(frame).tolist()
    assert [label for each in found for label in each["predicted"]] == expected
    frame.to_csv(tmp_path / "new.csv", index=False)
    printed = run("evaluate", model, tmp_path / "new.csv", "--report", tmp_path / "page.html").stdout
    assert "\nnote: word: 1 value of 4 (25.0 %) unknown to the model\n" in printed
    page = (tmp_path / "page.html").read_text()
    assert "unheard-of" in page


def test_a_comparison_has_them(folder: Path) -> None:
    options = {"vary": {"units": [2, 3]}, "seeds": 1, "epochs": 1, "layers": 1}
    plain = bilstm.compare(folder / "train.csv", **COLUMNS, **options)
    with_vectors = bilstm.compare(
        folder / "train.csv", **COLUMNS, **options, vectors=folder / "v.txt", all_vectors=True
    )
    sizes = [[variant["parameters"] for variant in report["variants"]] for report in (plain, with_vectors)]
    # 50 rows of 3 dimensions, and the weights of 3 more inputs of 2 or 3 units with 4 gates in each direction.
    varied = options | {"vary": {"freeze_vectors": [False, True]}, "units": 2}
    report = bilstm.compare(folder / "train.csv", **COLUMNS, **varied, vectors=folder / "v.txt")
    assert [variant["name"] for variant in report["variants"]] == ["vectors tuned", "vectors frozen"]
    assert sizes[1] == [sizes[0][0] + 150 + 3 * 16, sizes[0][1] + 150 + 3 * 24]


def test_lists_of_words(folder: Path) -> None:
    words, labels = [["ice", "sun"], ["Sun", "x"]] * 10, [["cold", "warm"]] * 20
    tagger = bilstm.SequenceTagger(units=2, layers=1, epochs=1, vectors=folder / "v.txt", random_state=0)
    column = tagger.fit(words, labels).model_.schema.categorical[-1]
    assert (column.part, column.vocabulary, column.distinct) == ("vector", ("ice", "sun"), 3)
    tagger.partial_fit(words, labels)
    first = bilstm.SequenceTagger(units=2, layers=1, vectors=folder / "v.txt", random_state=0)
    assert first.partial_fit(words, labels, classes=["cold", "warm"]).model_.schema == tagger.model_.schema
    with pytest.raises(ValueError, match="all_vectors must be one of True, False, not 'yes'"):
        bilstm.SequenceTagger(all_vectors="yes").fit(words, labels)


def test_a_checkpoint_is_of_the_same_vectors(folder: Path, tmp_path: Path) -> None:
    """Of other values for the same words."""
    other = write_vectors(tmp_path / "v.txt", temperatures(["ice", "frost", "sun"]) | {"flame": [1, 1, 1]})
    for path, expected in ((folder / "v.txt", None), (other, "the word vectors differ")):
        columns = column_options(label="label", sequence="id", vectors=path)
        options = TrainingOptions(units=2, layers=1, epochs=1)
        prepared = prepare_data(folder / "train.csv", columns, options)
        checkpoint = Checkpoint(tmp_path / "checkpoint", resume=True)
        if expected is None:
            train_prepared(prepared, options, checkpoint=checkpoint)
        else:
            with pytest.raises(UserError, match=expected):
                train_prepared(prepared, options, checkpoint=checkpoint)


# --- Files ----------------------------------------------------------------------------------------------------------


def test_a_hostile_description(folder: Path) -> None:
    data = trained(folder).schema.to_json()
    assert Schema.from_json(copy.deepcopy(data)).to_json() == data
    for name, value in (
        ("dimensions", 0),
        ("dimensions", -1),
        ("dimensions", "3"),
        ("dimensions", None),
        ("part", "x"),
    ):
        changed = copy.deepcopy(data)
        changed["categorical"][-1][name] = value
        with pytest.raises(ModelFileError, match=f"have no valid '{name}'"):
            Schema.from_json(changed)


def test_onnx(folder: Path) -> None:
    pytest.importorskip("onnx")
    from bilstm.bridges.onnx import to_onnx

    model = trained(folder, baseline=False, spelling=False)
    with pytest.raises(
        UserError, match="cannot write the encoding of 'word' as ONNX: word vectors are looked up in lower"
    ):
        to_onnx(model)
