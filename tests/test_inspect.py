"""What `bilstm inspect` tells of model files of every kind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bilstm.cli import commands
from bilstm.inspection import describe_network, inspect_file, inspection
from bilstm.layers import GRU, LSTM, Bidirectional, Conv1D, Dense, GlobalMaxPooling1D, SimpleRNN, TimeDistributed
from bilstm.model import TrainedModel
from bilstm.modelfile import read_model, write_model
from bilstm.models import Sequential

pytestmark = pytest.mark.fast

ROWS = [f"s{i // 5},{i % 5},{'' if i == 7 else i % 7},w{i % 3},{'pq'[i % 2]}\n" for i in range(60)]
SMALL = ["--units", "3", "--layers", "1", "--epochs", "2", "--quiet"]
COLUMNS = ["--sequence", "id", "--order", "t", "--label", "y"]


def bilstm(*arguments: Any) -> str:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a trained model, `model`, and one without a baseline, of CoNLL columns, `words`."""
    folder = tmp_path_factory.mktemp("inspect")
    (folder / "train.csv").write_text("id,t,x,word,y\n" + "".join(ROWS))
    (folder / "train.conll").write_text("a p\nb q\n\nb p\na q\n\n" * 6)
    bilstm("train", folder / "train.csv", *COLUMNS, *SMALL, "--out", folder / "model")
    bilstm("train", folder / "train.conll", *SMALL, "--no-baseline", "--out", folder / "words")
    return folder


def test_a_trained_model(folder: Path) -> None:
    facts = json.loads(bilstm("inspect", folder / "model", "--json"))
    assert facts == inspect_file(folder / "model")
    model, (_, header) = TrainedModel.load(folder / "model"), read_model(folder / "model")
    assert (facts["kind"], facts["task"], facts["targets"]) == ("model", "step-label", ["y"])
    assert facts["file"] == str(folder / "model")
    assert facts["bytes"] == (folder / "model").stat().st_size
    assert facts["versions"] == header["versions"]
    assert facts["classes"] == ["p", "q"]
    columns = facts["columns"]
    assert {name: columns[name] for name in ("sequence", "order", "conll_columns")} == {
        **{"sequence": "id", "order": "t"},
        "conll_columns": None,
    }
    x, word = columns["features"]
    number = model.schema.numeric[0]
    assert x == {"name": "x", "kind": "number", "mean": number.mean, "deviation": number.scale, "missing": 1}
    assert word == {"name": "word", "kind": "text", "known": 3, "different": 3}
    assert facts["training"] == {
        name: value for name, value in model.training.items() if name not in ("fingerprint", "examples")
    }
    assert facts["examples"] == len(model.examples) == 1
    assert facts["network"]["parameters"] == model.network.count_params()
    assert model.baseline is not None
    assert facts["baseline"]["network"]["parameters"] == model.baseline.network.count_params()
    assert facts["baseline"]["training"]["options"]["direction"] == "none"


def test_in_words(folder: Path) -> None:
    said = bilstm("inspect", folder / "model").splitlines()
    facts, training = inspect_file(folder / "model"), TrainedModel.load(folder / "model").training
    size = f"{-(-facts['bytes'] // 1000)} kB"
    assert said[0].startswith(f"{folder / 'model'}: predicts a label for each time step; {size}, written by bilstm ")
    assert said[1:5] == [
        "reads a table with a row per time step: sequences in 'id', ordered by 't'; features:",
        f"  x     number, in training of mean {facts['columns']['features'][0]['mean']:.4g}, standard deviation "
        f"{facts['columns']['features'][0]['deviation']:.4g}, 1 missing",
        "  word  text, 3 values in the vocabulary, of 3 in training",
        "predicts 2 classes of 'y': 'p', 'q'",
    ]
    assert said[5] == f"network: 3 inputs, {facts['network']['parameters']:,} parameters"
    layers = [line.split("  ")[1].strip() for line in said[7:12]]
    assert layers == [
        "embedding of 4 values by 24 dimensions",
        "dropout of 30 %, in training only",
        "LSTM in both directions, 3 units each, joined by concat",
        "dropout of 30 %, in training only",
        "dense, 2 outputs, softmax",
    ]
    assert said[12] == f"trained on 11 sequences, {training['steps']} steps; validated on 1 more"
    kept = f"epoch {training['best_epoch']} of 2 was kept, with a loss of "
    assert said[13].startswith(kept)
    assert said[13].endswith("; all epochs done")
    assert "units 3, layers 1, merge_mode concat, direction both, cell lstm" in said[14]
    assert said[15] == "examples: 1 sequence of the validation set, values and labels"
    assert said[16].startswith("baseline: the network without recurrence, ")


def test_of_conll_columns_and_without_a_baseline(folder: Path) -> None:
    said = bilstm("inspect", folder / "words")
    assert (
        "\nreads CoNLL-style columns, 2 in training, with the features:\n  token  text, 2 values in the vocabulary"
        in said
    )
    assert said.endswith("\nbaseline: none\n")
    assert json.loads(bilstm("inspect", folder / "words", "--json"))["baseline"] is None


def test_a_sequential_model(tmp_path: Path) -> None:
    layers = [LSTM(3, return_sequences=True, go_backwards=True, input_shape=(None, 2)), GlobalMaxPooling1D(), Dense(1)]
    Sequential(layers).save(tmp_path / "m")
    assert inspect_file(tmp_path / "m")["network"] == {
        "inputs": 2,
        "parameters": 4 * 3 * (2 + 3 + 1) + 4,
        "layers": [
            {"what": "LSTM backward, 3 units", "outputs": 3, "parameters": 72},
            {"what": "maximum of all steps", "outputs": 3, "parameters": 0},
            {"what": "dense, 1 output, linear", "outputs": 1, "parameters": 4},
        ],
    }
    said = bilstm("inspect", tmp_path / "m")
    assert said.startswith(f"{tmp_path / 'm'}: a Sequential network; ")
    assert "\nnetwork: 2 inputs, 76 parameters\n" in said


def test_a_trained_model_with_convolutions(folder: Path) -> None:
    flags = ("--conv", "4x3+2x2", "--out", folder / "convolved")
    bilstm("train", folder / "train.csv", *COLUMNS, *SMALL, *flags)
    training = inspect_file(folder / "convolved")["training"]
    assert training["options"]["conv"] == "4x3+2x2"
    said = bilstm("inspect", folder / "convolved")
    assert re.search(r"\n *convolution of 3 steps, 4 filters, relu +4 ", said)
    assert re.search(r"\n *convolution of 2 steps, 2 filters, relu +2 ", said)
    assert re.search(r"\n *options: .*\bconv 4x3\+2x2\b", said)


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        (Conv1D(4, 5, padding="same", activation="relu"), "convolution of 5 steps, 4 filters, relu"),
        (Conv1D(1, 1, padding="same"), "convolution of 1 step, 1 filter, linear"),
        (
            Conv1D(4, 3, padding="causal", dilation_rate=2),
            "causal convolution of 3 steps, 2 apart, 4 filters, linear",
        ),
    ],
)
def test_convolutions(layer: Conv1D, what: str) -> None:
    model = Sequential([layer, Dense(1)])
    model.build((None, None, 2))
    described = describe_network(model)["layers"][0]
    parameters = (2 * layer.kernel_size + 1) * layer.filters
    assert described == {"what": what, "outputs": layer.filters, "parameters": parameters}


@pytest.mark.parametrize("merge_mode", ["sum", None])
def test_merge_modes(merge_mode: str | None) -> None:
    model = Sequential([Bidirectional(LSTM(3, return_sequences=True), merge_mode, input_shape=(None, 1))])
    joined = "joined by sum" if merge_mode else "not joined"
    assert describe_network(model)["layers"][0]["what"] == f"LSTM in both directions, 3 units each, {joined}"
    forward = Sequential([LSTM(4, input_shape=(None, 1)), TimeDistributed(Dense(2, "tanh"))][:1])
    assert describe_network(forward)["layers"][0]["what"] == "LSTM forward, 4 units"
    simple = Sequential([SimpleRNN(4, go_backwards=True, input_shape=(None, 1))])
    assert describe_network(simple)["layers"][0]["what"] == "SimpleRNN backward, 4 units"
    mixed = Bidirectional(LSTM(3), merge_mode, backward_layer=GRU(3, go_backwards=True), input_shape=(None, 1))
    said = describe_network(Sequential([mixed]))["layers"][0]["what"]
    assert said == f"LSTM forward, 3 units, and GRU backward, 3 units, {joined}"
    assert describe_network(Sequential())["parameters"] == 0


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (
            {"logs": [{"loss": 0.5}, {"loss": 0.25}], "best": {"epoch": 1, "score": [0, 0]}, "seconds": 3.0},
            ["2 epochs done; the best so far is epoch 2", "the last epoch's scores: loss 0.2500"],
        ),
        ({"logs": [], "best": None}, ["0 epochs done"]),
        ({"logs": "many", "best": 7}, ["0 epochs done"]),
        ({"logs": [3, {"loss": None}], "best": {"epoch": "x"}}, ["1 epoch done"]),
    ],
)
def test_an_unfinished_training(tmp_path: Path, header: dict[str, Any], said: list[str]) -> None:
    write_model(tmp_path / "c", {}, {"kind": "checkpoint", **header})
    lines = inspection(inspect_file(tmp_path / "c"))
    assert lines[0].startswith(f"{tmp_path / 'c'}: an unfinished training; 1 kB")
    assert lines[1:] == [*said, "the same bilstm train command with --resume continues"]
