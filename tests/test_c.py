"""Models as C++ source code: what is written, and, slowly, that compilers build it and results have the same bits."""

from __future__ import annotations

import ast
import ctypes
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from bilstm import engine as bilstm_engine
from bilstm import train
from bilstm.bridges.c import export, identifier
from bilstm.bridges.c.amalgamation import engine_source
from bilstm.bridges.c.code import c_string
from bilstm.bridges.c.writing import _KINDS, FLAGS
from bilstm.cli import commands
from bilstm.data.features import standardised
from bilstm.engine import library
from bilstm.errors import UserError
from bilstm.layers import (
    CRF,
    GRU,
    LSTM,
    BatchNormalization,
    Bidirectional,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    GlobalAttentionPooling1D,
    GlobalAveragePooling1D,
    Masking,
    MaxPooling1D,
    Padding,
    Reverse,
    SimpleRNN,
    SpatialDropout1D,
    TimeDistributed,
    WordEncoder,
)
from bilstm.model import TrainedModel
from bilstm.models import Sequential
from oracles.models import bits

SHAPE: dict[str, Any] = {"input_shape": (None, 3)}
NETWORKS: dict[str, list[Any]] = {
    "tutorial": [Bidirectional(LSTM(20, return_sequences=True), **SHAPE), TimeDistributed(Dense(1, "sigmoid"))],
    "one unit": [LSTM(1, return_sequences=True, **SHAPE)],
    "deep": [
        Conv1D(8, 5, padding="same", activation="relu", **SHAPE),
        BatchNormalization(),
        SpatialDropout1D(0.3),
        Bidirectional(GRU(17, return_sequences=True), merge_mode="sum"),
        Dropout(0.5),
        Bidirectional(
            GRU(5, reset_after=False, return_sequences=True),
            backward_layer=LSTM(6, recurrent_activation="hard_sigmoid", return_sequences=True, go_backwards=True),
        ),
        GlobalAttentionPooling1D(4),
        Dense(3, "softmax"),
    ],
    "words": [
        Embedding(9, 6, input_shape=(None,)),
        SimpleRNN(7, return_sequences=True, go_backwards=True),
        Reverse(),
        MaxPooling1D(2, 2, "same"),
        SimpleRNN(5, activation="relu", return_sequences=True),
        GlobalAveragePooling1D(),
        Dense(2, "tanh", use_bias=False),
    ],
}


def bilstm(*arguments: Any, status: int = 0) -> Result:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def network(name: str) -> Sequential:
    return Sequential(NETWORKS[name], seed=1)


def sequence(name: str, steps: int) -> npt.NDArray[np.float32]:
    random = np.random.default_rng(steps)
    if name == "words":
        return random.integers(9, size=(steps, 1)).astype(np.float32)
    return random.normal(size=(steps, 3)).astype(np.float32)


def rows(sequences: int) -> list[dict[str, Any]]:
    draw, made = np.random.default_rng(0), list[dict[str, Any]]()
    for i in range(sequences):
        for t in range(int(draw.integers(2, 9))):
            x = None if draw.random() < 0.2 else round(float(draw.normal(30, 1e4)), 3)
            own = {"x": x, "z": 1e-4 * t, "word": str(draw.choice(["á\\?", 'b"', "c d", "rare" + str(i)]))}
            own |= {"code": str(draw.choice(["1", "2", "30"])), "y": str(draw.choice(["p", 'q"?', "é"]))}
            made.append({"id": f"s{i}", **own, "size": 7.5 + 3 * float(draw.normal()), "height": float(draw.normal())})
    return made


COLUMNS: dict[str, Any] = {
    "sequence": "id",
    "features": ["x", "word", "z", "code"],
    "categorical": ["code"],
    "spelling": False,
    "units": 4,
    "layers": 1,
    "epochs": 1,
    "baseline": False,
    "seed": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With models of labels and of quantities, and some that cannot be written."""
    folder = tmp_path_factory.mktemp("c")
    table = folder / "train.ndjson"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows(40)))
    train(table, label="y", task="step-label", **COLUMNS).save(folder / "Labels 1.model")
    train(table, label=["size", "height"], task="step-quantity", **COLUMNS).save(folder / "double.model")
    train(table, label="y", output="crf", **COLUMNS).save(folder / "crf.model")
    train(table, label="y", **COLUMNS | {"spelling": True}).save(folder / "spelled.model")
    network("tutorial").save(folder / "tutorial.safetensors")
    return folder


# --- What is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_everything_is_in_one_source(name: str, tmp_path: Path) -> None:
    files = export(network(name), tmp_path / "it", name=name.replace(" ", "-"))
    stem = identifier(name.replace(" ", "-"))
    assert [file.name for file in files] == [f"{stem}.h", f"{stem}.cpp", "example.cpp"]
    header, source, example = (file.read_text(encoding="utf-8") for file in files)
    assert re.findall('#include "(.+)"', source) == re.findall('#include "(.+)"', example) == [f"{stem}.h"]
    for text in (header, source, example):
        assert not re.search(r"@\w+@", text)
        assert text.count("{") == text.count("}")
        assert "Written by bilstm" in text[:400]
    weights = re.search(r"kWeights\[\] = \{(.*?)\};", source, re.DOTALL)
    assert weights is not None
    found = np.array([int(each) for each in re.findall(r"\d+", weights[1])], np.uint32).view(np.float32)
    assert found.tolist() == np.concatenate([w.ravel() for w in network(name).get_weights()]).tolist()


def test_what_is_not_called_has_no_body() -> None:
    _, text = engine_source(["make_gru", "Crf::forward"])
    for name in ("make_gru(const DirectionPlan& plan)", "void Crf::forward(", "void Recurrent::backward("):
        assert re.search(re.escape(name) + r'[^{;]*\{ throw Invalid\("this was not exported"\); \}', text), name
    assert "std::make_unique<CellDirection<Lstm<Gates_in_lstm>>>(plan)" in text
    assert "mode.rounded ?" not in text
    assert "kWorthThreads = INT64_MAX;" in text
    assert "Bfloat16>(" not in re.sub("reinterpret_cast<.*>", "", text)


def test_every_layer_of_the_engine_is_known() -> None:
    """So that the ones that a model does not have lose their bodies."""
    header = (Path(bilstm_engine.__path__[-1]) / "native" / "api.h").read_text(encoding="utf-8")
    kinds = re.search(r"enum \{\s*BILSTM_RECURRENT = 0,(.*?)\};", header, re.DOTALL)
    assert kinds is not None
    assert sorted(_KINDS) == [0, *map(int, re.findall(r"BILSTM_\w+ = (\d+)", kinds[1]))]
    _, text = engine_source([f"{name}::forward" for name in _KINDS.values()])
    for name in _KINDS.values():
        assert re.search(rf"void {name}::forward\([^{{;]*\{{ throw Invalid", text), name


@given(st.text(max_size=20))
def test_names_are_those_that_c_allows(name: str) -> None:
    assert re.fullmatch("[a-z_][a-z0-9_]*", identifier(name))
    assert identifier(identifier(name)) == identifier(name)


def test_names_that_are_taken() -> None:
    named = {"Bilstm": "model_bilstm", "example": "model_example", "2x": "model_2x", "": "model", "Time 1": "time_1"}
    assert {name: identifier(name) for name in named} == named


@given(st.text(max_size=20))
def test_texts_survive(text: str) -> None:
    written = c_string(text) if not any("\ud800" <= c <= "\udfff" for c in text) else '""'
    assert written.isascii()
    assert "?" not in written
    if written != '""':
        assert ast.literal_eval("b" + written).decode() == text


def test_folders_and_options_of_the_command(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = bilstm("export", folder / "Labels 1.model", "--to", "c").stdout.splitlines()
    made = Path("labels_1_c")
    assert sorted(os.listdir(made)) == ["example.cpp", "labels_1.cpp", "labels_1.h"]
    assert said[:3] == [f"wrote {made / name}" for name in ("labels_1.h", "labels_1.cpp", "example.cpp")]
    assert said[3] == f"how to build it: see {made / 'labels_1.h'}"
    header = (made / "labels_1.h").read_text()
    assert "const double* numbers, const char* const* words, int64_t steps, float* outputs" in header
    bilstm("export", folder / "Labels 1.model", "--to", "c", "--quiet", "--inputs", "encoded", "--out", made)
    assert "const float* inputs, int64_t steps, float* outputs" in (made / "labels_1.h").read_text()
    bilstm("export", folder / "double.model", "--to", "c", "--out", "new")
    assert "int64_t steps, double* outputs" in Path("new/double.h").read_text()


def test_only_our_files_are_replaced(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["export", folder / "tutorial.safetensors", "--to", "c", "--out", out]
    bilstm(*command)
    (out / "example.cpp").write_text("int main() {}\n")
    result = bilstm(*command, status=2)
    assert "example.cpp exists and is not a file of an export by bilstm: give another name, or" in result.stderr
    assert (out / "example.cpp").read_text() == "int main() {}\n"
    bilstm(*command, "--force")
    assert "Written by bilstm" in (out / "example.cpp").read_text()
    (tmp_path / "file").write_text("x")
    result = bilstm(*command[:-1], tmp_path / "file", status=2)
    assert result.stderr.endswith("file: it is a file; give another name\n")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("crf.model", ["--to", "c"], "as C: it predicts the labels of a sequence together"),
        ("spelled.model", ["--to", "c"], "as C: the spelling of words counts; train with --no-spelling"),
        ("tutorial.safetensors", ["--to", "x.onnx", "--out", "x"], "--out names the folder of source code"),
        ("tutorial.safetensors", ["--to", "x.txt"], "or say --to c for source code"),
    ],
)
def test_what_is_refused(folder: Path, tmp_path: Path, name: str, options: list[str], message: str) -> None:
    out = ["--out", tmp_path / "out"] if options == ["--to", "c"] else []
    result = bilstm("export", folder / name, *options, *out, status=2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_networks_that_are_refused(tmp_path: Path) -> None:
    masked = Sequential([Masking(input_shape=(None, 2)), LSTM(2)])
    split = Sequential([Bidirectional(LSTM(2, return_sequences=True), merge_mode=None, input_shape=(None, 2))])
    crf = Sequential([LSTM(2, return_sequences=True, input_shape=(None, 2)), CRF(2)])
    unbuilt = Sequential([LSTM(2)])
    padded = Sequential([Padding(9, input_shape=(None, 2)), LSTM(2)])
    spelt = Sequential([WordEncoder([Embedding(5, 2), LSTM(2)], input_shape=(None, 2)), LSTM(2)])
    refused = {
        "leave masked steps out": masked,
        "two outputs": split,
        "labels of a sequence": crf,
        "no weights": unbuilt,
        "layers that extend sequences": padded,
        "layers that read characters": spelt,
    }
    for message, model in refused.items():
        with pytest.raises(UserError, match=message):
            export(model, tmp_path / "out")
    with pytest.raises(ValueError, match="inputs must be one of"):
        export(network("tutorial"), tmp_path / "out", inputs="raw")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_without_the_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import bilstm.engine

    monkeypatch.setattr(bilstm.engine, "__path__", [str(tmp_path)])
    with pytest.raises(UserError, match="the engine's sources are not installed"):
        export(network("tutorial"), tmp_path / "out")


def test_the_page_says_how_to_build() -> None:
    page = (Path(__file__).parents[1] / "docs" / "c.md").read_text(encoding="utf-8")
    assert f"c++ {FLAGS} -march=x86-64-v3 -pthread" in " ".join(page.replace("\\\n", " ").split())


# --- Built ------------------------------------------------------------------------------------------------------------

COMPILERS = [name for name in ("g++", "clang++") if shutil.which(name)]
TARGETS = {
    "avx2": ["-march=x86-64-v3"],
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    "neon": [],
}
TARGET = TARGETS[library.target()]


def build(compiler: str, *arguments: Any) -> None:
    ran = subprocess.run([compiler, *FLAGS.split(), "-pthread", *map(str, arguments)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr


class Built:
    """A model as a shared library."""

    def __init__(self, folder: Path, name: str, compiler: str, options: list[str], most: int = 40) -> None:
        build(compiler, *options, "-shared", "-fPIC", folder / f"{name}.cpp", "-o", folder / f"{name}.so")
        self._library, self.name = ctypes.CDLL(str(folder / f"{name}.so")), name
        self._call("open").restype = self._call("close").argtypes = None
        self._call("open").restype = ctypes.c_void_p
        problem = ctypes.c_char_p()
        self._model = ctypes.c_void_p(self._call("open")(ctypes.c_int64(most), ctypes.byref(problem)))
        assert self._model.value, problem.value

    def _call(self, what: str) -> Any:
        return getattr(self._library, f"{self.name}_{what}")

    def predict(self, *inputs: Any, steps: int, shape: tuple[int, ...], kind: Any = np.float32) -> npt.NDArray[Any]:
        outputs = np.zeros(shape, kind)
        pointers = [each.ctypes.data_as(ctypes.c_void_p) if hasattr(each, "ctypes") else each for each in inputs]
        code = self._call("predict")(
            self._model, *pointers, ctypes.c_int64(steps), outputs.ctypes.data_as(ctypes.c_void_p)
        )
        assert code in (0, 1)
        return outputs if code == 0 else np.zeros(0)

    def close(self) -> None:
        self._call("close")(self._model)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_the_same_bits(name: str, compiler: str, tmp_path: Path) -> None:
    model = network(name)
    export(model, tmp_path, name="it")
    for options in (TARGET, [*TARGET, "-O3"]) if name == "tutorial" else (TARGET,):
        built = Built(tmp_path, "it", compiler, options)
        for steps in (1, 2, 3, 7, 40, 11, 5):
            own = sequence(name, steps)
            expected = model.predict([own])[0]
            assert bits(built.predict(own, steps=steps, shape=expected.shape)) == bits(expected)
        assert not built.predict(sequence(name, 41), steps=41, shape=(41, 9)).size
        assert not built.predict(sequence(name, 1), steps=0, shape=(41, 9)).size
        if name != "words":
            assert not built.predict(np.full((1, 3), np.nan, np.float32), steps=1, shape=(41, 9)).size
        built.close()
        (tmp_path / "it.so").unlink()


def pointers(texts: list[str | None]) -> Any:
    return (ctypes.c_char_p * len(texts))(*(text if text is None else text.encode() for text in texts))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Labels 1", "double"])
def test_raw_numbers_and_words_give_the_same_bits(name: str, folder: Path, tmp_path: Path) -> None:
    model = TrainedModel.load(folder / f"{name}.model")
    model.warn = False
    export(model, tmp_path, name="it")
    built = Built(tmp_path, "it", COMPILERS[0], TARGET)
    x = [None, 0.1, -1e300, 1.7e308, 5e-324, -0.0, 30, 1e5]
    words = ["á\\?", 'b"', None, "c d", "unknown", "", "c", "c d "]
    codes = ["1", "1.0", "30.00", "2.", "3", None, "-2.0", ""]
    z = [1e-4 * i for i in range(8)]
    columns = {"x": x, "word": words, "z": z, "code": codes}
    numeric = [column.name for column in model.schema.numeric]
    assert numeric == ["x", "z"]
    far = standardised(np.array([1.7e308]), model.schema.numeric[0].mean, model.schema.numeric[0].scale)
    assert np.isfinite(far).all()
    for kept in ([0, 1, 4, 5, 6, 7], [3], [2]):
        own: dict[str, list[Any]] = {key: [values[i] for i in kept] for key, values in columns.items()}
        numbers = np.array([[np.nan if own[n][i] is None else own[n][i] for n in numeric] for i in range(len(kept))])
        texts = pointers([own[n][i] for i in range(len(kept)) for n in ("word", "code")])
        kind = np.float64 if name == "double" else np.float32
        shape = (len(kept), 2 if name == "double" else 3)
        found = built.predict(numbers, texts, steps=len(kept), shape=shape, kind=kind)
        try:
            expected = model.predict([own])[0] if name == "double" else model.predict_proba([own])[0]
        except UserError:  # too far from the mean for float32
            assert not found.size
            continue
        assert bits(found) == bits(np.asarray(expected, kind))
    assert not built.predict(np.full((1, 2), np.inf), pointers(["a", "1"]), steps=1, shape=(9, 9)).size
    built.close()


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", [False, True])
def test_the_example_reads_csv_line_by_line(folder: Path, tmp_path: Path, sanitize: bool) -> None:
    model = TrainedModel.load(folder / "Labels 1.model")
    model.warn = False
    files = export(model, tmp_path, name="it")
    options = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"] if sanitize else []
    build(COMPILERS[0], *TARGET, *options, files[1], files[2], "-o", tmp_path / "example")
    sequences = [[row for row in rows(6) if row["id"] == f"s{i}"] for i in range(6)]
    lines, expected = ["code,other,x,word,z"], ""
    for own in sequences:
        for row in own:
            x = "" if row["x"] is None else row["x"]
            lines.append(f"{row['code']},1,{x},{row['word']},{row['z']}")
        lines.append("")
        steps = {name: [row[name] for row in own] for name in ("x", "word", "z", "code")}
        probabilities = model.predict_proba([steps])[0]
        for row in probabilities:
            expected += f"{model.task.classes[row.argmax()]},{row.max():.6f}\n"  # type: ignore[attr-defined]
        expected += "\n"
    ran = subprocess.run([tmp_path / "example"], input="\r\n".join(lines), capture_output=True, text=True, timeout=300)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == expected
    for content, message in (
        ("x,word\n1,a\n", "the header has no column z"),
        (f"{lines[0]}\n1\n", "a line has 1 cells"),
    ):
        ran = subprocess.run([tmp_path / "example"], input=content, capture_output=True, text=True, timeout=300)
        assert ran.returncode in (1, 2)
        assert message in ran.stderr


USER = """
#include "it.h"
#include <stdio.h>
int main(void) {
    const char* problem = 0;
    it_model* model = it_open(12, &problem);
    float inputs[12 * IT_INPUTS] = {0}, outputs[12 * IT_OUTPUTS];
    if (!model) return 1;
    for (int steps = 1; steps <= 12; ++steps)
        if (it_predict(model, inputs, steps, outputs)) return 2;
    if (it_open(0, &problem)) return 3;
    printf("%s %s\\n", problem, it_output_names[0]);
    it_close(model);
    return 0;
}
"""
COUNTING = """
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <new>
#include "it.h"
static long taken = 0;
void* operator new(std::size_t size) { ++taken; return std::malloc(size); }
void* operator new(std::size_t size, std::align_val_t alignment) {
    const size_t step = static_cast<size_t>(alignment);
    ++taken;
    return std::aligned_alloc(step, (size + step - 1) / step * step);
}
void* operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
    return operator new(size, alignment);
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
int main() {
    it_model* model = it_open(5000, nullptr);
    if (!model) return 1;
    static float inputs[5000 * IT_INPUTS], outputs[5000 * IT_OUTPUTS];
    const long before = taken;
    for (int round = 0; round < 100; ++round)
        for (int steps : {5000, 1, 17, 400, 3, 4999})
            if (it_predict(model, inputs, round % 7 ? steps % 50 + 1 : steps, outputs)) return 2;
    std::printf("%ld\\n", taken - before);
    it_close(model);
}
"""


@pytest.mark.slow
def test_c_programs_use_it_and_nothing_is_allocated_after_the_start(tmp_path: Path) -> None:
    export(network("tutorial"), tmp_path, name="it")
    (tmp_path / "user.c").write_text(USER)
    (tmp_path / "counting.cpp").write_text(COUNTING)
    build(COMPILERS[0], *TARGET, "-c", tmp_path / "it.cpp", "-o", tmp_path / "it.o")
    compiler = shutil.which("gcc") or shutil.which("cc")
    strict = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    subprocess.run([str(compiler), *strict, "-c", tmp_path / "user.c", "-o", tmp_path / "user.o"], check=True)
    build(COMPILERS[0], tmp_path / "user.o", tmp_path / "it.o", "-o", tmp_path / "user")
    ran = subprocess.run([tmp_path / "user"], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, "the number of steps must be from 1 to 2^40 0\n")
    build(COMPILERS[0], *TARGET, tmp_path / "counting.cpp", tmp_path / "it.o", "-o", tmp_path / "counting")
    ran = subprocess.run([tmp_path / "counting"], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, "0\n")
    if TARGET:
        command = [COMPILERS[0], *FLAGS.split(), "-march=x86-64", "-fsyntax-only", str(tmp_path / "it.cpp")]
        ran = subprocess.run(command, capture_output=True, text=True)
        assert "exact results need fused multiply-add" in ran.stderr
