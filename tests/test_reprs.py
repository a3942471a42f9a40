"""What is shown of models, layers, optimizers and callbacks: one line that says how each was made."""

from __future__ import annotations

import re
from typing import Any

import pytest

import bilstm
from bilstm import callbacks, layers, optimizers
from bilstm.layers import LSTM, Bidirectional, Dense, Input
from bilstm.models import Model, Sequential
from bilstm.optimizers.schedules import CosineDecay, ExponentialDecay, PiecewiseConstantDecay
from oracles.models import above_half, compiled, tagger


@pytest.mark.parametrize(
    "line",
    [
        "LSTM(units=20, return_sequences=True)",
        "LSTM(units=2, go_backwards=True, unit_forget_bias=False, name='reader')",
        "GRU(units=2, reset_after=False)",
        "SimpleRNN(units=2, activation='relu', return_sequences=True)",
        "Bidirectional(layer=LSTM(units=3), merge_mode='sum')",
        "Bidirectional(layer=LSTM(units=3), backward_layer=LSTM(units=2, go_backwards=True))",
        "TimeDistributed(layer=Dense(units=1, activation='sigmoid'))",
        "Embedding(input_dim=5, output_dim=2, mask_zero=True)",
        "ColumnEmbedding(numeric=1, vocabularies=(3,), dimensions=(2,))",
        "Masking()",
        "Masking(mask_value=-1.0)",
        "Padding(steps=9, side='pre')",
        "Dropout(rate=0.5)",
        "Input(shape=(None, 3))",
        "Reverse()",
        "Conv1D(filters=4, kernel_size=5, padding='same', dilation_rate=2, activation='relu')",
        "BatchNormalization()",
        "BatchNormalization(momentum=0.5, center=False, gamma_initializer='zeros')",
        "GlobalMaxPooling1D()",
        "MaxPooling1D(strides=2)",
        "AveragePooling1D(pool_size=3, strides=2, padding='same')",
        "GlobalAttentionPooling1D(units=4)",
        "Adam(learning_rate=0.001)",
        "Adam(learning_rate=0.1, weight_decay=0.5, beta_1=0.5, clipnorm=1.0)",
        "AdamW(learning_rate=0.001)",
        "SGD(learning_rate=ExponentialDecay(initial_learning_rate=0.1, decay_steps=3, decay_rate=0.5, staircase=True))",
        "CosineDecay(initial_learning_rate=0.1, decay_steps=9, alpha=0.1)",
        "PiecewiseConstantDecay(boundaries=[1], values=[0.1, 0.2])",
        "EarlyStopping(monitor='loss', patience=3)",
        "ModelCheckpoint(filepath='x', save_best_only=True)",
        "ReduceLROnPlateau(factor=0.5, cooldown=2)",
        "CSVLogger(filename='x', append=True)",
        "TerminateOnSunday()",
    ],
)
def test_what_is_shown_makes_the_same(line: str) -> None:
    class TerminateOnSunday(callbacks.Callback):
        pass

    names: dict[str, Any] = {**vars(layers), **vars(callbacks), **vars(optimizers)}
    names |= {schedule.__name__: schedule for schedule in (CosineDecay, ExponentialDecay, PiecewiseConstantDecay)}
    assert repr(eval(line, names | {"TerminateOnSunday": TerminateOnSunday})) == line


@pytest.mark.parametrize("validation_split", [0.0, 0.5])
def test_a_trained_model_in_a_notebook(validation_split: float) -> None:
    data = [{"x": [0.1 * i, 1.0, -1.0], "y": ["a", "b", "<b>"]} for i in range(6)]
    options: dict[str, Any] = {"units": 2, "layers": 1, "epochs": 3, "validation_split": validation_split}
    model = bilstm.train(data, label="y", task="step-label", **options)
    cells = dict(re.findall("<tr><th>(.*?)</th><td>(.*?)</td></tr>", model._repr_html_()))
    assert cells["predicts"] == "step-label: y"
    assert cells["layers"].startswith("Bidirectional(LSTM), ")
    assert cells["layers"].endswith("Dense)")
    history, kept = model.training["history"], model.training["best_epoch"] - 1
    scores = [f"loss {history['loss'][kept]:.4f}"]
    if validation_split:
        scores.append(f"validation loss {history['val_loss'][kept]:.4f}")
        scores.append(f"validation accuracy {history['val_accuracy'][kept]:.4f}")
    assert cells["scores"] == ", ".join(scores)


def test_a_model_without_a_record_in_a_notebook() -> None:
    tagger = bilstm.SequenceTagger(units=2, layers=1)
    tagger.partial_fit([[0.5, 1.0], [1.5]], [["a", "b"], ["a"]], classes=["a", "b"])
    table = tagger.model_._repr_html_()
    assert re.findall("<th>(.*?)</th>", table) == ["predicts", "features", "layers", "parameters"]


def test_callbacks_of_functions() -> None:
    assert repr(callbacks.LambdaCallback(on_train_begin=print, on_train_end=print)) == (
        "LambdaCallback(on_train_begin, on_train_end)"
    )
    assert repr(callbacks.LearningRateScheduler(abs)) == f"LearningRateScheduler(schedule={abs!r})"


def test_models_and_histories() -> None:
    assert repr(Sequential()) == "Sequential(0 layers, not built)"
    assert repr(Sequential([LSTM(2)])) == "Sequential(1 layer, not built)"
    assert repr(tagger(20)) == "Sequential(2 layers, 3,721 parameters)"
    inputs = Input((None, 2))
    symbol = Bidirectional(LSTM(3))(inputs)
    assert repr(Model(inputs, symbol)) == "Model(1 layer, 144 parameters)"
    assert repr(symbol) == "Symbol(output of Bidirectional(layer=LSTM(units=3)), layer 1 after the Input)"
    assert repr(callbacks.History()) == "History(epochs=0)"
    history = compiled().fit(*above_half(4), epochs=3, verbose=0)
    first, last = history.history["loss"][0], history.history["loss"][-1]
    assert repr(history) == f"History(epochs=3, loss {first:.4g} -> {last:.4g})"


def test_a_table_for_notebooks() -> None:
    assert Sequential([LSTM(2)])._repr_html_() is None
    model = Sequential([Input((None, 2)), Bidirectional(LSTM(3)), Dense(1)])
    table = model._repr_html_()
    assert table is not None
    lines: list[str] = []
    model.summary(lines.append)
    for cell in ("Bidirectional(LSTM)", "(None, 6)", "144", "Param #", "Sequential(2 layers, 151 parameters)"):
        assert cell in table
    assert table.count("<tr>") == 3
    assert len(lines) == 7
