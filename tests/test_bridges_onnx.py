"""Trained models as ONNX: raw values in, answers out, for every task; what is refused; files; the command line."""

from __future__ import annotations

import functools
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import bilstm
from bilstm import TrainedModel, layers
from bilstm.bridges.onnx import export, to_onnx
from bilstm.bridges.onnx.writing import check_onnx_path
from bilstm.cli import commands
from bilstm.errors import UserError
from bilstm.tasks import KINDS

pytestmark = pytest.mark.fast

Array = np.ndarray[Any, Any]
SMALL: dict[str, Any] = {"units": 3, "layers": 1, "epochs": 1, "batch_size": 4, "seed": 3, "baseline": False}
TARGETS = {"label": ["state"], "labels": ["loud", "high"], "quantity": ["level", "speed"]}
FEATURES = ["x", "gap", "word"]


def table(kind: str, seed: int = 0) -> pd.DataFrame:
    """Ten sequences of one to six steps: a number, one with gaps, a word, and answers of the kind."""
    random = np.random.default_rng(seed)
    parts = []
    for sequence in range(10):
        steps = 6 if sequence == 0 else int(random.integers(1, 7))
        x = 1e6 + random.normal(size=steps)
        level = x if kind.startswith("step") else np.full(steps, x.mean())
        columns = {
            "id": np.full(steps, sequence),
            "x": x,
            "gap": np.where(random.random(steps) < 0.3, np.nan, random.normal(size=steps)),
            "word": random.choice(["the", "a", "né", ""], size=steps),
            "state": np.where(level > 1e6, "up", "down"),
            "loud": (level > 1e6).astype(int),
            "high": (level > 1e6 + 0.5).astype(int),
            "level": level,
            "speed": 5 * level - 3,
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


@functools.cache
def trained(kind: str, **options: Any) -> TrainedModel:
    target = TARGETS[kind.split("-")[1]]
    frame = table(kind)[["id", *FEATURES, *target]]
    model = bilstm.train(frame, label=target, sequence="id", task=kind, validation_split=0, **SMALL | options)
    model.warn = False
    return model


def session(model: onnx.ModelProto | Path) -> onnxruntime.InferenceSession:
    given = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(given, providers=["CPUExecutionProvider"])


def feeds(frame: pd.DataFrame, names: list[str]) -> dict[str, Array]:
    """A padded array of each column, longer than the longest sequence, and the lengths."""
    groups = [group for _, group in frame.groupby("id")]
    lengths = np.array([len(group) for group in groups], np.int32)
    arrays: dict[str, Array] = {"lengths": lengths}
    for name in names:
        text = frame[name].dtype.kind not in "fi"
        arrays[name] = np.full((len(groups), lengths.max() + 3), "the" if text else 7.5, object if text else np.float64)
        for i, group in enumerate(groups):
            arrays[name][i, : lengths[i]] = group[name]
    return arrays


def answered(model: onnx.ModelProto | Path, inputs: dict[str, Array]) -> dict[str, Array]:
    """The rows of each output: of all sequences' time steps, or of the sequences."""
    run = session(model)
    outputs = dict(zip([each.name for each in run.get_outputs()], run.run(None, inputs), strict=True))
    lengths = inputs["lengths"]
    rows = {}
    for name, values in outputs.items():
        each_step = values.shape[1:2] == (max(value.shape[1] for key, value in inputs.items() if key != "lengths"),)
        if each_step:
            assert not any(values[i, length:].any() for i, length in enumerate(lengths)), name
        rows[name] = np.concatenate([values[i, :n] for i, n in enumerate(lengths)]) if each_step else values
    return rows


def check_same(model: TrainedModel, rows: dict[str, Array], frame: pd.DataFrame) -> None:
    predicted = model.outputs(model.read(frame).values)
    if model.task.what == "quantity":
        np.testing.assert_allclose(rows["quantities"], model.task.predicted(predicted), rtol=1e-6)
        return
    np.testing.assert_allclose(rows["probabilities"], predicted.values, atol=1e-5)
    if model.task.what == "label":
        np.testing.assert_array_equal(rows["label"], model.task.predicted(predicted))
        np.testing.assert_allclose(rows["probability"], predicted.confidences, atol=1e-5)
    else:
        np.testing.assert_array_equal(rows["labels"], model.task.predicted(predicted))


# --- Every task -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_raw_values_in_answers_out(kind: str) -> None:
    model, frame = trained(kind), table(kind, seed=1)
    frame.loc[frame.index[::4], "word"] = "unknown"
    check_same(model, answered(to_onnx(model), feeds(frame, FEATURES)), frame)


@pytest.mark.parametrize("kind", ["step-label", "sequence-quantity"])
def test_encoded_values_in(kind: str) -> None:
    model, frame = trained(kind), table(kind, seed=2)
    data = model.read(frame).values
    x = np.zeros((len(data), 9, data.features), np.float32)
    for i in range(len(data)):
        x[i, : data.lengths[i]] = data[i]
    inputs = {"x": x, "lengths": data.lengths.astype(np.int32)}
    check_same(model, answered(to_onnx(model, inputs="encoded"), inputs), frame)


@pytest.mark.parametrize("pooling", ["mean", "max", "attention", "last"])
@pytest.mark.parametrize("merge_mode", ["concat", "ave"])
def test_options_of_networks(pooling: str, merge_mode: str) -> None:
    model = trained("sequence-label", pooling=pooling, merge_mode=merge_mode, cell="gru", conv="4x3", layers=2)
    frame = table("sequence-label", seed=3)
    check_same(model, answered(to_onnx(model), feeds(frame, FEATURES)), frame)


def documented(name: str) -> Any:
    """A function of docs/onnx.md, as its reader would copy it."""
    page = (Path(__file__).parent.parent / "docs" / "onnx.md").read_text(encoding="utf-8")
    code = f"def {name}(" + page.split(f"\ndef {name}(")[1].split("\n\n\n")[0]
    names: dict[str, Any] = {"np": np}
    exec(code, names)
    return names[name]


@pytest.mark.parametrize("inputs", ["columns", "encoded"])
@pytest.mark.parametrize("scheme", ["IOB2", "none"])
def test_labels_of_a_crf_by_the_documented_algorithm(scheme: str, inputs: Any) -> None:
    """With a scheme some transitions are forbidden: the scores for them are minus infinity."""
    frame = table("step-label")[["id", *FEATURES]]
    words = frame["word"].isin(["the", "a"])
    inside = words & words.shift(fill_value=False) & frame["id"].duplicated()
    frame["tag"] = np.where(inside, "I-X", np.where(words, "B-X", "O"))
    options: dict[str, Any] = {"output": "crf", "scheme": scheme} | SMALL | {"epochs": 3}
    model = bilstm.train(frame, label="tag", sequence="id", task="step-label", validation_split=0, **options)
    made = to_onnx(model, inputs=inputs)
    run = session(made)
    assert [each.name for each in run.get_outputs()] == ["emissions", "transitions", "start", "end"]
    columns = feeds(frame, FEATURES)
    if inputs == "encoded":
        values = model.read(frame).values
        columns = {"x": values.to_padded(), "lengths": values.lengths.astype(np.int32)}
    emissions, *scores = run.run(None, columns)
    assert np.isinf(scores[0]).any() == (scheme == "IOB2")
    labels = json.loads(run.get_modelmeta().custom_metadata_map["bilstm.labels"])
    found = [
        [labels[code] for code in documented("viterbi")(rows[:length], *scores)]
        for rows, length in zip(emissions, columns["lengths"], strict=True)
    ]
    np.testing.assert_array_equal(np.concatenate(found), model.predict(frame))
    if scheme == "IOB2":
        assert not any(after == "I-X" and before == "O" for each in found for before, after in itertools.pairwise(each))


@pytest.mark.parametrize(
    ("labels", "type_"), [([7, 12], np.int64), ([False, True], np.bool_), (["no", "yes"], np.object_)]
)
def test_types_of_labels(labels: list[Any], type_: type) -> None:
    frame = table("step-label")
    frame["state"] = np.where(frame["state"] == "up", *labels[::-1])
    frame = frame[["id", "x", "state"]]
    model = bilstm.train(frame, label="state", sequence="id", task="step-label", validation_split=0, **SMALL)
    rows = answered(to_onnx(model), feeds(frame, ["x"]))
    assert rows["label"].dtype == type_
    check_same(model, rows, frame)


def test_texts_are_given_as_their_words() -> None:
    texts = pd.DataFrame({"text": ["a fine day", "a dull, dull film", "fine"] * 4, "good": ["yes", "no", "yes"] * 4})
    model = bilstm.train(texts, text="text", label="good", spelling=False, validation_split=0, **SMALL)
    words = np.array([["a", "fine", "day", "", ""], ["a", "dull", ",", "dull", "film"]], object)
    rows = answered(to_onnx(model), {"text": words, "lengths": np.array([3, 5], np.int32)})
    np.testing.assert_allclose(rows["probabilities"], model.predict_proba(texts[:2]), atol=1e-5)


def test_lists_of_words_have_one_input() -> None:
    words, tags = [["a", "b", "a"], ["b"], ["c", "c"]] * 4, [["x", "y", "x"], ["y"], ["y", "x"]] * 4
    model = bilstm.SequenceTagger(units=3, layers=1, epochs=1, random_state=0).fit(words, tags)
    padded = np.array([["a", "b", "a"], ["b", "", ""], ["c", "c", ""]], object)
    rows = answered(to_onnx(model.model_), {"words": padded, "lengths": np.array([3, 1, 2], np.int32)})
    np.testing.assert_array_equal(rows["label"], np.concatenate(model.predict(words[:3])))


def test_arrays_have_one_input() -> None:
    random = np.random.default_rng(0)
    x = [random.normal(size=(steps, 2)) for steps in (4, 2, 5, 3)]
    x[0][1, 1] = np.nan
    model = bilstm.SequenceTagger(units=3, layers=1, epochs=1, random_state=0).fit(x, [each[:, 0] > 0 for each in x])
    padded = np.zeros((4, 6, 2))
    for i, each in enumerate(x):
        padded[i, : len(each)] = each
    inputs = {"x": padded, "lengths": np.array([4, 2, 5, 3], np.int32)}
    np.testing.assert_allclose(
        answered(to_onnx(model.model_), inputs)["probabilities"], np.concatenate(model.predict_proba(x)), atol=1e-5
    )


def test_calibrated_probabilities() -> None:
    frame = pd.concat([table("step-label", seed).assign(id=lambda t, s=seed: t["id"] + 10 * s) for seed in range(3)])
    frame = frame[["id", "x", "state"]].reset_index(drop=True)
    options = SMALL | {"calibrate": True, "validation_split": 0.4, "epochs": 3, "learning_rate": 0.05}
    model = bilstm.train(frame, label="state", sequence="id", task="step-label", **options)
    assert model.training["calibration"]["temperature"] != 1
    check_same(model, answered(to_onnx(model), feeds(frame, ["x"])), frame)


def test_codes_are_numbers_or_text() -> None:
    frame = table("step-label")
    frame["code"] = np.random.default_rng(0).choice([3, 40, 5], size=len(frame))
    options = {"label": "state", "sequence": "id", "categorical": ["code"], "features": ["code"], "task": "step-label"}
    model = bilstm.train(frame, validation_split=0, **options, **SMALL)
    for form in ("{}", "{}.0"):
        written = frame.assign(code=frame["code"].map(form.format).astype(object))
        check_same(model, answered(to_onnx(model), feeds(written, ["code"])), frame)


# --- The graph ------------------------------------------------------------------------------------------------------


def test_metadata_tells_what_the_model_is() -> None:
    model = trained("step-label")
    props = {prop.key: prop.value for prop in to_onnx(model).metadata_props}
    assert props["bilstm.version"] == bilstm.__version__
    assert json.loads(props["bilstm.labels"]) == ["down", "up"]
    assert json.loads(props["bilstm.task"])["kind"] == "step-label"
    assert json.loads(props["bilstm.schema"]) == model.schema.to_json()
    assert props["bilstm.inputs"] == "columns"


def test_shapes_are_dynamic_and_named() -> None:
    made = to_onnx(trained("sequence-labels"))
    inputs = {each.name: [d.dim_param for d in each.type.tensor_type.shape.dim] for each in made.graph.input}
    assert inputs == {"x": ["batch", "time"], "gap": ["batch", "time"], "word": ["batch", "time"], "lengths": ["batch"]}
    outputs = {
        each.name: [d.dim_param or d.dim_value for d in each.type.tensor_type.shape.dim] for each in made.graph.output
    }
    assert outputs == {"labels": ["batch", 2], "probabilities": ["batch", 2]}


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for name in ("a.onnx", "b.onnx"):
        export(trained("step-label"), tmp_path / name)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]


# --- What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", ["columns", "encoded"])
def test_characters_are_refused_by_name(inputs: Any) -> None:
    frame = table("step-label")[["id", "word", "state"]]
    model = bilstm.train(
        frame, label="state", sequence="id", task="step-label", spelling=True, validation_split=0, **SMALL
    )
    with pytest.raises(UserError, match="it reads the characters of 'word'.* --no-spelling"):
        to_onnx(model, inputs=inputs)


@pytest.mark.parametrize("name", ["lengths", "label", "probability"])
def test_a_feature_with_a_name_of_ours_is_refused(name: str) -> None:
    model = trained("step-label").adapted(features=["x", "gap", name])
    with pytest.raises(UserError, match=f"'{name}' has the name of another input or output"):
        to_onnx(model)


def test_a_feature_may_have_the_name_of_a_node() -> None:
    renamed = trained("step-label").adapted(features=["scale", "layers.0/kernel", "Cast"])
    frame = table("step-label", seed=4).rename(columns=dict(zip(FEATURES, renamed.schema.features, strict=True)))
    check_same(renamed, answered(to_onnx(renamed), feeds(frame, renamed.schema.features)), frame)


def test_a_model_without_weights_is_refused() -> None:
    with pytest.raises(UserError, match="no weights yet"):
        to_onnx(bilstm.Sequential([layers.LSTM(3)]))


def test_other_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="must be one of 'columns', 'encoded', not 'raw'"):
        to_onnx(trained("step-label"), inputs="raw")  # type: ignore[arg-type]


# --- Files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", onnx.helper.make_model(onnx.GraphProto()).SerializeToString()])
def test_other_files_are_not_replaced(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    for write in (check_onnx_path, functools.partial(export, trained("step-label"))):
        with pytest.raises(UserError, match="is not an ONNX model of bilstm's"):
            write(path)
    assert path.read_bytes() == content
    export(trained("step-label"), path, force=True)
    export(trained("sequence-label"), path)  # ours may be replaced
    assert onnx.load(path).graph.output[0].type.tensor_type.shape.dim[-1].dim_param == "batch"


def run(*arguments: Any, status: int = 0) -> Result:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def test_the_command_line(tmp_path: Path) -> None:
    model, path = tmp_path / "model.safetensors", tmp_path / "model.onnx"
    trained("step-label").save(model)
    printed = run("export", model, "--to", path).output
    assert printed.splitlines() == [
        f"wrote {path}",
        "  in  x: double (batch, time)",
        "  in  gap: double (batch, time)",
        "  in  word: string (batch, time)",
        "  in  lengths: int32 (batch)",
        "  out label: string (batch, time)",
        "  out probability: float (batch, time)",
        "  out probabilities: float (batch, time, 2)",
    ]
    frame = table("step-label", seed=5)
    check_same(trained("step-label"), answered(path, feeds(frame, FEATURES)), frame)
    assert run("export", model, "--to", path, "--inputs", "encoded", "--quiet").output == ""
    assert [each.name for each in session(path).get_inputs()] == ["x", "lengths"]


def test_the_command_line_takes_networks(tmp_path: Path) -> None:
    network = bilstm.Sequential([layers.Embedding(4, 2), layers.GRU(3)])
    network.save(tmp_path / "network.safetensors")
    printed = run("export", tmp_path / "network.safetensors", "--to", tmp_path / "n.onnx").output
    assert "in  x: int64 (batch, time, 1)" in printed
    assert "out y: float (batch, 3)" in printed


def test_the_command_line_refuses(tmp_path: Path) -> None:
    model, path = tmp_path / "model.safetensors", tmp_path / "model.onnx"
    trained("step-label").save(model)
    assert "ends with .onnx" in run("export", model, "--to", tmp_path / "model.pb", status=2).output
    path.write_text("notes")
    assert "is not an ONNX model of bilstm's" in run("export", model, "--to", path, status=2).output
    assert path.read_text() == "notes"
    run("export", model, "--to", path, "--force")
    assert "there is no model file" in run("export", tmp_path / "none", "--to", path, status=2).output


def test_the_package_is_imported_when_it_is_used() -> None:
    program = (
        "import sys, bilstm, bilstm.cli, bilstm.bridges.onnx\n"
        "bilstm.Sequential([bilstm.layers.LSTM(2, input_shape=(None, 1))])\n"
        "assert 'onnx' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match="pip install 'bilstm\\[onnx\\]'"):
        to_onnx(trained("step-label"))
