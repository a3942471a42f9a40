"""Characters of words: sequences within sequences, in the engine, in layers and through every front."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import bilstm
from bilstm.cli import commands
from bilstm.data.characters import END, START, UNKNOWN, CharacterColumn, Spellings
from bilstm.errors import ModelFileError, UserError
from bilstm.estimators import SequenceTagger
from bilstm.layers import (
    GRU,
    LSTM,
    Bidirectional,
    ColumnEmbedding,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    GlobalMaxPooling1D,
    Layer,
    TimeDistributed,
    WordEncoder,
    to_json,
)
from bilstm.model import TrainedModel
from bilstm.model.fingerprint import fingerprint
from bilstm.modelfile import read_model, write_model
from bilstm.models import Sequential, load_model
from bilstm.ragged import Ragged
from oracles.models import bits, random_words
from oracles.numpy_engine import NumpyNetwork, random_weights

SMALL: dict[str, Any] = {"units": 4, "layers": 1, "epochs": 2, "validation_split": 0.2, "seed": 3, "baseline": False}
KINDS = ("lstm", "conv")


def sentences(count: int, seed: int = 0) -> list[tuple[list[str], list[str]]]:
    """Words of a few syllables; those that end with "ing" are verbs, however they begin."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        stems = ["".join(rng.choice(["ba", "ku", "mi", "sto"], rng.integers(1, 4))) for _ in range(rng.integers(2, 7))]
        verbs = rng.random(len(stems)) < 0.4
        words = [stem + "ing" * bool(verb) for stem, verb in zip(stems, verbs, strict=True)]
        found.append((words, ["verb" if verb else "other" for verb in verbs]))
    return found


def table(count: int = 40, seed: int = 0) -> pd.DataFrame:
    return pd.DataFrame(
        {"id": f"s{number}", "word": word, "y": label}
        for number, (words, labels) in enumerate(sentences(count, seed))
        for word, label in zip(words, labels, strict=True)
    )


def quiet(model: TrainedModel) -> TrainedModel:
    """A model that does not warn of unknown words."""
    model.warn = False
    return model


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest) -> TrainedModel:
    model = bilstm.train(table(), label="y", sequence="id", characters=request.param, **SMALL)
    return quiet(model)


# --- What is read of a text ------------------------------------------------------------------------------------------


def test_an_alphabet() -> None:
    column = CharacterColumn.fit("word", Counter({"aab": 1, "b\u0301": 2, "z": 1, "": 5}).items())
    assert column.alphabet == ("b", "a", "\u0301")  # z occurs once
    assert column.size == 6
    assert column.encode("azb") == [START, 4, UNKNOWN, 3, END]
    assert column.encode("") == [START, END]


@given(st.lists(st.text(max_size=5) | st.none(), max_size=20))
def test_each_text_is_kept_once(texts: list[str | None]) -> None:
    column = CharacterColumn.fit("word", Counter(text or "" for text in texts).items())
    spellings = Spellings(column)
    half = len(texts) // 2
    numbers = np.concatenate([spellings.add(texts[:half]), spellings.add(texts[half:])])
    words = spellings.result()
    assert len(words) == len({text or "" for text in texts})
    for number, text in zip(numbers, texts, strict=True):
        assert words[number].ravel().tolist() == column.encode(text or "")


def test_a_column_survives_its_file_and_damage_is_noticed() -> None:
    column = CharacterColumn("word", ("a", "😀", "\u0301"))
    assert CharacterColumn.from_json(json.loads(json.dumps(column.to_json()))) == column
    for damage in ({"alphabet": ["a", "a"]}, {"alphabet": ["ab"]}, {"alphabet": "ab"}, {"name": 1}):
        with pytest.raises(ModelFileError):
            CharacterColumn.from_json(column.to_json() | damage)


# --- The layer -------------------------------------------------------------------------------------------------------


def encoder(kind: str) -> WordEncoder:
    if kind == "lstm":
        return WordEncoder([Embedding(5, 3), Bidirectional(LSTM(4))])
    return WordEncoder([Embedding(5, 3), Conv1D(6, 3, padding="same"), GlobalMaxPooling1D(), Dense(2, "tanh")])


def words_model(kind: str) -> Sequential:
    layers = [encoder(kind), Bidirectional(LSTM(5, return_sequences=True)), TimeDistributed(Dense(3, "softmax"))]
    model = Sequential(layers, seed=2)
    model.build((None, 3))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def sequences_of_words(seed: int = 1, count: int = 6) -> Ragged:
    rng = np.random.default_rng(seed)
    words = random_words(rng, 7, 5)
    lengths = rng.integers(1, 9, count)
    numbers = rng.normal(size=(lengths.sum(), 2))
    return Ragged(
        np.hstack([numbers, rng.integers(7, size=(lengths.sum(), 1))]), np.append(0, np.cumsum(lengths)), words
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_has_its_bits_in_any_company_and_with_any_table_of_words(kind: str) -> None:
    model, data = words_model(kind), sequences_of_words()
    together = model.predict(data)
    assert data.words is not None
    for index in range(len(data)):
        own = data[index].copy()
        used = np.unique(own[:, -1].astype(int))[::-1]  # a table of these words only, in another order
        own[:, -1] = [used.tolist().index(int(word)) for word in own[:, -1]]
        alone = Ragged(own, [0, len(own)], data.words[used])
        assert bits(model.predict(alone)[0]) == bits(together[index])


@pytest.mark.parametrize("kind", KINDS)
def test_training_does_not_depend_on_the_table_of_words(kind: str) -> None:
    data = sequences_of_words(count=40)
    y = np.random.default_rng(0).integers(3, size=data.total_steps)
    assert data.words is not None
    order = np.random.default_rng(1).permutation(len(data.words))
    values = data.values.copy()
    values[:, -1] = np.argsort(order)[values[:, -1].astype(int)]
    other = Ragged(values, data.offsets, data.words[order])
    weights = []
    for each in (data, other):
        model = words_model(kind)
        model.fit(each, data.with_values(y), batch_size=20, epochs=2, verbose=0)
        weights.append([bits(array) for array in model.get_weights()])
    assert weights[0] == weights[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_survives_its_file(kind: str, tmp_path: Path) -> None:
    model, data = words_model(kind), sequences_of_words()
    model.save(tmp_path / "m.bilstm")
    loaded = load_model(tmp_path / "m.bilstm")
    assert bits(loaded.predict(data).values) == bits(model.predict(data).values)
    assert repr(loaded.layers[0]) == repr(model.layers[0])
    assert Sequential.from_config(model.get_config()).get_config() == model.get_config()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([Embedding(5, 3)], "must return one row for each word"),
        ([Embedding(5, 3), LSTM(3), GRU(2)], r"GRU\(.*\) needs sequences"),
        ([Embedding(5, 3), Dropout(0.5), LSTM(3)], r"Dropout\(rate=0.5\) cannot encode words"),
        ([WordEncoder([LSTM(2)]), LSTM(3)], "cannot encode words"),
        ([Bidirectional(LSTM(2), merge_mode=None)], "cannot encode words"),
        ([Embedding(5, 3, mask_zero=True), LSTM(3)], "cannot encode words"),
    ],
)
def test_layers_that_cannot_encode_words(layers: list[Layer], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WordEncoder(layers)


def test_it_comes_first() -> None:
    with pytest.raises(ValueError, match="WordEncoder must come first"):
        Sequential([Dense(3), WordEncoder([LSTM(2)])])


def test_sequences_without_fitting_words_are_refused() -> None:
    model, data = words_model("lstm"), sequences_of_words()
    assert data.words is not None
    with pytest.raises(ValueError, match="come without a table of words"):
        model.predict(Ragged(data.values, data.offsets))
    with pytest.raises(ValueError, match="whole number from 0 to 1, not"):
        model.predict(data.with_words(data.words[:2]))
    with pytest.raises(ValueError, match="word 1 has no rows"):
        model.predict(data.with_words(Ragged(data.words.values, [0, 2, 2, *data.words.offsets[3:]])))
    with pytest.raises(ValueError, match="whole numbers from 0 to 4, not 5"):
        model.predict(data.with_words(data.words.with_values(np.full(data.words.total_steps, 5))))
    with pytest.raises(ValueError, match="words have 2 feature"):
        model.predict(data.with_words(Ragged(np.zeros((7, 2)), np.arange(8))))
    with pytest.raises(ValueError, match="words are a Ragged"):
        Ragged(data.values, data.offsets, [[1], [2]])  # type: ignore[arg-type]


def test_batches_of_several_tables_of_words_are_refused() -> None:
    first, second = sequences_of_words(1), sequences_of_words(2)
    model = words_model("conv")
    batches = [(each, each.with_values(np.zeros(each.total_steps))) for each in (first, second)]
    model.train_on_batch(*batches[0])
    with pytest.raises(ValueError, match="one table of words in common"):
        model.fit(iter(batches * 2), steps_per_epoch=2, validation_data=iter(batches), validation_steps=2, verbose=0)


# --- Embeddings that are not learned, and indices that are dropped ---------------------------------------------------


@pytest.mark.parametrize("frozen", [[True, False], [False, True], [True, True]])
def test_frozen_embeddings_stay(frozen: list[bool]) -> None:
    embedding = ColumnEmbedding(1, [4, 3], [2, 5], frozen=frozen)
    model = Sequential([embedding, LSTM(4, return_sequences=True), TimeDistributed(Dense(2, "softmax"))], seed=1)
    model.build((None, 3))
    model.compile(bilstm.optimizers.Adam(0.1, weight_decay=0.1), "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(40, 5, 1)), rng.integers(3, size=(40, 5, 2))], axis=2)
    before = model.get_weights()
    model.fit(x, rng.integers(2, size=(40, 5)), epochs=2, verbose=0)
    for kept, old, new in zip(frozen, before, model.get_weights(), strict=False):
        assert np.array_equal(old, new) == kept
    assert model.network is not None
    gradients = model.network.read("gradients")
    assert (gradients[:8] == 0).all() == frozen[0]
    assert embedding.get_config()["frozen"] == frozen


def test_indices_of_whole_sequences_are_dropped_too() -> None:
    """Where an embedding follows a pooling, a sequence has one row: no more of them is dropped than there is."""
    layers = [GlobalMaxPooling1D(), ColumnEmbedding(1, [4, 3], [2, 5], unknown_rate=[0.5, 0.9]), Dense(2, "softmax")]
    described = [to_json(layer) for layer in layers]
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 30, 40)
    values = np.hstack([rng.normal(size=(lengths.sum(), 1)), np.repeat(rng.integers(1, 3, (40, 2)), lengths, axis=0)])
    data = Ragged(values, np.append(0, np.cumsum(lengths)))
    oracle = NumpyNetwork(described, 3, random_weights(described, 3, rng))
    model = Sequential(layers, seed=1)
    model.build((None, 3))
    model.set_weights(oracle.weights)
    model.compile("adam", "sparse_categorical_crossentropy")
    assert model.network is not None
    output, _, _ = model.network.forward(data, training=True, seed=5)
    np.testing.assert_allclose(output, oracle.forward(data, training=True, seed=5), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{"frozen": [True]}, {"unknown_rate": [0.1]}, {"unknown_rate": [0.1, 1.0]}])
def test_embedding_options_that_fit_no_vocabulary(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"for each vocabulary|below 1"):
        ColumnEmbedding(0, [4, 3], [2, 5], **options)


# --- Through every front ---------------------------------------------------------------------------------------------


def test_unseen_words_are_labelled_by_their_characters() -> None:
    better = bilstm.train(
        table(300), label="y", sequence="id", characters="conv", **SMALL | {"epochs": 12, "spelling": False}
    )
    quiet(better)
    word = pd.DataFrame({"id": "new", "word": ["zufing", "zufi", "kumiming", "kumi"]})
    assert better.predict(word).tolist() == ["verb", "other", "verb", "other"]


@pytest.mark.parametrize("text", ["a", "", "😀", "e\u0301\u0327", "שלום", "\u200d\ufeff", "ba" * 10_000])
def test_any_text_is_labelled_alike_alone_and_among_others(model: TrainedModel, text: str) -> None:
    data = pd.concat([table(3, seed=9), pd.DataFrame({"id": "new", "word": [text, "baing"], "y": None})])
    alone = model.predict_proba(data[data["id"] == "new"])
    assert bits(model.predict_proba(data)[-2:]) == bits(alone)


def test_models_survive_their_files(model: TrainedModel, tmp_path: Path) -> None:
    model.save(tmp_path / "m.bilstm")
    loaded = quiet(bilstm.load(tmp_path / "m.bilstm"))
    data = table(5, seed=4)
    assert loaded.schema == model.schema
    assert bits(loaded.predict_proba(data)) == bits(model.predict_proba(data))
    tensors, header = read_model(tmp_path / "m.bilstm")
    for damage in (None, {"name": "id", "alphabet": []}, {"name": "word", "alphabet": ["a"]}):
        damaged = copy.deepcopy(header)
        damaged["schema"]["characters"] = damage
        write_model(tmp_path / "damaged.bilstm", tensors, damaged)
        with pytest.raises(ModelFileError):
            bilstm.load(tmp_path / "damaged.bilstm")


@pytest.mark.filterwarnings("ignore:column")
def test_the_command_line_and_estimators_read_characters(tmp_path: Path) -> None:
    frame = table()
    frame.to_csv(tmp_path / "t.csv", index=False)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items() if name != "baseline"]
    predicted = {}
    for kind in ("none", *KINDS):
        path = tmp_path / f"{kind}.bilstm"
        arguments = ["train", tmp_path / "t.csv", "--label=y", "--sequence=id", "--no-baseline", *flags]
        arguments += [f"--characters={kind}", "--unknown-words=0.1", "--out", path]
        result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        predicted[kind] = quiet(bilstm.load(path)).predict_proba(frame)
        direct = bilstm.train(frame, label="y", sequence="id", characters=kind, unknown_words=0.1, **SMALL)
        assert bits(quiet(direct).predict_proba(frame)) == bits(predicted[kind])
    assert not np.array_equal(predicted["none"], predicted["lstm"])
    assert not np.array_equal(predicted["lstm"], predicted["conv"])
    X, y = zip(*sentences(40), strict=True)
    options = {name: value for name, value in SMALL.items() if name != "seed"}
    taggers = [SequenceTagger(**options, characters=kind, random_state=3).fit(X, y) for kind in ("none", *KINDS)]
    outputs = [np.concatenate(tagger.predict_proba(X)) for tagger in taggers]
    assert not np.array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[1], outputs[2])


@pytest.mark.parametrize("look_ahead", [2, "all"])
def test_a_stream_reads_the_characters_of_words_as_they_come(model: TrainedModel, look_ahead: Any) -> None:
    words, _ = sentences(1, seed=8)[0]
    stream = model.stream(look_ahead=look_ahead)
    whole = [stream.push(words), stream.finish()]
    pieces = [*(stream.push([word]) for word in words), stream.finish()]
    for parts in (whole, pieces):
        rows = np.concatenate([part.probabilities for part in parts if part.probabilities is not None])
        expected = model.stream(look_ahead=look_ahead).outputs_of(model.read([words]).values).values
        assert bits(rows) == bits(expected)
        if look_ahead == "all":
            assert bits(rows) == bits(model.predict_proba([words])[0])


def test_a_stream_of_a_network_alone_cannot_read_words() -> None:
    with pytest.raises(ValueError, match="reads a table of words"):
        words_model("conv").stream(look_ahead=2)


def test_words_have_their_characters_read_unless_told_otherwise() -> None:
    frame = table(300)  # of 100 different words at least
    made = {kind: bilstm.train(frame, label="y", sequence="id", characters=kind, **SMALL) for kind in (None, "none")}
    layers = {kind: type(model.network.layers[0]) for kind, model in made.items()}
    assert layers == {None: WordEncoder, "none": ColumnEmbedding}
    letters = frame.assign(word=frame["word"].str[:1])
    assert bilstm.train(letters, label="y", sequence="id", **SMALL).schema.characters is None
    assert bilstm.train(letters, label="y", sequence="id", characters="conv", **SMALL).schema.characters is not None


def test_characters_and_unknown_words_need_text() -> None:
    frame = table().assign(word=lambda frame: frame["word"].str.len())
    with pytest.raises(UserError, match="no feature that is text, whose characters could be read"):
        bilstm.train(frame, label="y", sequence="id", characters="lstm", **SMALL)
    with pytest.raises(UserError, match="unknown_words has no effect"):
        bilstm.train(frame, label="y", sequence="id", unknown_words=0.1, **SMALL)


def test_characters_vary_in_a_comparison() -> None:
    frame = table(60)
    options = {**SMALL, "vary": {"characters": ["none", "lstm", "conv"]}, "seeds": 1}
    del options["baseline"], options["seed"]
    report = bilstm.compare(frame, label="y", sequence="id", **options)
    names = ["no characters", "characters by lstm", "characters by conv"]
    assert [variant["name"] for variant in report["variants"]] == names
    sizes = [variant["parameters"] for variant in report["variants"]]
    assert sizes[0] < min(sizes[1:])


def test_a_fingerprint_does_not_depend_on_the_other_words(model: TrainedModel) -> None:
    data = model.read(table(20))
    alone = model.read(table(20)[lambda frame: frame["id"] == "s7"])
    assert set(fingerprint(alone.values)) < set(fingerprint(data.values))
