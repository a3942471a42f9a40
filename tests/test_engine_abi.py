"""The engine's C interface, called as any language could: what it is given is checked, and answered in words."""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from ctypes import POINTER, byref, c_int32, c_int64, c_void_p
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm.engine import library
from bilstm.engine.library import DataStruct, DirectionStruct, LayerStruct, OptimizerStruct
from bilstm.engine.losses import LOSSES, NO_LOSS
from bilstm.engine.network import Network
from bilstm.engine.plans import PRECISIONS, OptimizerPlan, Targets, dense, dropout, embedding, recurrent
from bilstm.ragged import Ragged
from oracles.models import SANITIZED

INVALID, OUT_OF_MEMORY = 1, 2
STEPS, SEQUENCES, FEATURES, OUTPUTS = 6, 3, 2, 3
LARGEST = 2**63 - 1
ANY_NUMBER = st.sampled_from([-1, 0, 1, 2, 3, 5, 6, 7, 100, -LARGEST - 1, LARGEST, 1 << 31, 1 << 44, 1 << 61])


class Call:
    """One valid call of each kind, of which a test changes an argument."""

    def __init__(self) -> None:
        layers = [recurrent(0, (DirectionStruct(2), DirectionStruct(3, True))), dense(1, OUTPUTS, "softmax")]
        self.network = Network(layers, FEATURES)
        random = np.random.default_rng(1)
        self.network.write(random.normal(size=self.network.parameter_count).astype(np.float32))
        self.arrays: dict[str, Any] = {
            "values": random.normal(size=(STEPS, FEATURES)).astype(np.float32),
            "offsets": np.array([0, 1, 4, 6], np.int64),
            "labels": random.integers(OUTPUTS, size=STEPS).astype(np.int32),
            "weights": np.ones(STEPS, np.float32),
            "shares": np.full((STEPS, OUTPUTS), 1 / OUTPUTS, np.float32),
            "chosen": np.array([2, 0, 1], np.int64),
            "starts": np.array([0, 2, 3], np.int64),
            "leave_at": np.array([1, 2, 2], np.int64),
            "lengths": np.array([1, 3, 2], np.int64),
            "positions": np.array([0, 1, 2], np.int64),
            "bounds": np.array([0, 2, 3], np.int64),
            "order": np.zeros(3, np.int64),
            "all_bounds": np.zeros(9, np.int64),
            "all_shares": np.zeros(1, np.int64),
            "magnitude": np.zeros(1, np.float32),
            "sums": np.zeros(self.network.parameter_count),
            "states": np.zeros((SEQUENCES, self.network.state_width), np.float32),
            "output": np.zeros((STEPS, OUTPUTS), np.float32),
            "scores": np.zeros((2, 5)),
            "by_output": np.ones((STEPS, OUTPUTS), np.float32),
            "by_values": np.zeros((STEPS, FEATURES), np.float32),
            "by_states": np.zeros((SEQUENCES, self.network.state_width), np.float32),
            "numbers": np.zeros(self.network.parameter_count, np.float32),
        }
        self.address: dict[str, int | None] = {name: array.ctypes.data for name, array in self.arrays.items()}
        self.address |= {"targets": None, "network": self.network._handle.value}
        self.numbers: dict[str, Any] = {"steps": STEPS, "sequences": SEQUENCES, "count": 3, "batches": 2, "loss": 1}
        self.numbers["each"] = STEPS // SEQUENCES
        self.optimizer = OptimizerStruct(0, 0.1, 0.9, 0.999, 1e-7)
        self.prediction, self.kept = c_void_p(), c_void_p()

    def __call__(self, name: str) -> tuple[int, str]:
        at, n = self.address, self.numbers
        precision = n.get("precision", 0)
        fields = (at["values"], at["offsets"], n["steps"], n["sequences"], at["labels"], at["targets"], at["weights"])
        data, rest = byref(DataStruct(*fields)), (n["loss"], byref(self.optimizer), 7, at["scores"])
        network, states = at["network"], at["states"]
        equal = (n["sequences"], n["each"])
        arguments = {
            "train_equal": (network, at["values"], at["shares"], *equal, *rest),
            "predict_equal": (network, at["values"], *equal, precision, at["output"]),
            "prepare": (network, at["values"], *equal, precision, at["output"], byref(self.prediction)),
            "predict_prepared": (self.prediction,),
            "train": (network, data, at["chosen"], n["count"], at["starts"], n["batches"], *rest),
            "gradient": (network, data, at["chosen"], n["count"], n["loss"], 1, 7, states, states, at["scores"]),
            "forward": (network, data, 1, 7, states, states, at["output"], byref(self.kept)),
            "backward": (self.kept, at["by_output"], states, at["by_values"], at["by_states"]),
            "divide": (network, at["lengths"], n["count"], at["order"], at["all_bounds"], at["all_shares"]),
            "gradient_of_shares": (
                *(network, data, at["chosen"], at["positions"], n["count"], at["bounds"], n.get("shares", 2)),
                *(n.get("labelled", STEPS), n["loss"], 1, 7, at["scores"], at["magnitude"]),
            ),
            "sum_shares": (
                *(network, n.get("shares", 2), n.get("magnitude", 1.0), at["sums"]),
                n.get("numbers", self.network.parameter_count),
            ),
            "update": (network, byref(self.optimizer)),
            "average": (network, n.get("fraction", 0.25)),
            "predict": (network, data, n["loss"], precision, states, states, at["leave_at"], at["output"], None),
            "evaluate": (network, data, n["loss"], precision, None, None, None, None, at["scores"]),
            "read": (network, n.get("which", 0), at["numbers"], n.get("numbers", self.network.parameter_count)),
            "write": (network, n.get("which", 0), at["numbers"], n.get("numbers", self.network.parameter_count)),
        }[name]
        engine = library.library()
        if name == "prepare":
            engine.bilstm_forget(self.prediction)
        if name == "forward":
            engine.bilstm_forget_pass(self.kept)
        code = getattr(engine, f"bilstm_{'predict' if name == 'evaluate' else name}")(*arguments)
        return code, engine.bilstm_last_error().decode()


@pytest.fixture
def call() -> Iterator[Call]:
    call = Call()
    first = call.network  # which must stay until its pass is forgotten
    call("forward")  # for a backward pass
    yield call
    assert first.parameter_count
    library.library().bilstm_forget(call.prediction)
    library.library().bilstm_forget_pass(call.kept)


EQUAL = ("train_equal", "predict_equal", "prepare")  # sequences with the same number of steps
SHARES = ("divide", "gradient_of_shares", "sum_shares")
CALLS = (
    "train",
    "gradient",
    "forward",
    *SHARES,
    "update",
    "average",
    "predict",
    "evaluate",
    "read",
    "write",
    *EQUAL,
    "predict_prepared",
)
TRAINING = ("train", "gradient", "gradient_of_shares")
DATA = (*TRAINING, "forward", "predict", "evaluate")
LEARNING = (*TRAINING, "evaluate")


def test_valid_calls_are_answered(call: Call) -> None:
    for name in CALLS:
        assert call(name)[0] == 0


# --- Pointers --------------------------------------------------------------------------------------------------------

POINTERS = {
    "network": ("no network", tuple(name for name in CALLS if name != "predict_prepared")),
    "output": ("no output", ("predict_equal", "prepare", "forward")),
    "by_output": ("no gradient of the outputs", ("backward",)),
    "values": ("no values", DATA + EQUAL),
    "offsets": ("no offsets", DATA),
    "labels": ("either labels or targets are needed", LEARNING),
    "chosen": ("no chosen sequences", TRAINING),
    "lengths": ("no lengths", ("divide",)),
    "order": ("no order", ("divide",)),
    "all_bounds": ("no bounds", ("divide",)),
    "all_shares": ("no number of shares", ("divide",)),
    "positions": ("no positions", ("gradient_of_shares",)),
    "bounds": ("no bounds of shares", ("gradient_of_shares",)),
    "magnitude": ("no magnitude", ("gradient_of_shares",)),
    "sums": ("no sums", ("sum_shares",)),
    "starts": ("no starts of batches", ("train",)),
    "scores": ("no score", (*TRAINING, "train_equal")),
    "shares": ("no targets", ("train_equal",)),
    "numbers": ("no numbers", ("read", "write")),
}


@pytest.mark.parametrize(
    ("name", "pointer", "message"),
    [(name, pointer, message) for pointer, (message, names) in POINTERS.items() for name in names],
)
def test_null_pointers(call: Call, name: str, pointer: str, message: str) -> None:
    call.address[pointer] = None
    code, said = call(name)
    assert code == INVALID
    assert said.startswith(message)


@pytest.mark.parametrize("name", ["predict", "evaluate"])
def test_nothing_to_predict_into(call: Call, name: str) -> None:
    call.address["output"] = call.address["scores"] = None
    assert call(name) == (INVALID, "nothing to predict into")


@pytest.mark.parametrize(
    ("name", "pointer"),
    [(name, pointer) for pointer, (_, names) in POINTERS.items() for name in names if pointer != "network"]
    + [(name, "states") for name in ("predict", "gradient", "forward", "backward")]
    + [
        ("predict", "output"),
        ("predict", "leave_at"),
        ("train", "weights"),
        ("backward", "by_values"),
        ("backward", "by_states"),
    ],
)
def test_misaligned_pointers(call: Call, name: str, pointer: str) -> None:
    call.address[pointer] += 1  # type: ignore[operator]
    code, said = call(name)
    assert code == INVALID
    assert said.startswith("misaligned ")


def test_null_structures() -> None:
    engine, handle, number = library.library(), c_void_p(), c_int64()
    layers = (LayerStruct * 1)(LayerStruct(kind=1, units=3))
    network = Network([dense(0, 2)], 2)  # which must stay while its handle is used
    made = network._handle
    calls: list[tuple[str, tuple[Any, ...], str]] = [
        ("create", (layers, 1, 2, None), "no place for the network"),
        ("create", (None, 1, 2, byref(handle)), "no layers"),
        ("describe", (None, byref(number), byref(number), byref(c_int32()), byref(number)), "no network"),
        ("describe", (made, byref(number), None, None, None), "nothing to describe into"),
        ("iteration", (None, byref(number), 0), "no network"),
        ("iteration", (made, None, 0), "no iteration"),
        ("update", (made, None), "no optimizer"),
        ("predict", (made, None, 0, 0, None, None, None, None, None), "no data"),
        ("predict_prepared", (None,), "no prediction"),
        ("forward", (made, None, 0, 0, None, None, None, None), "no place for the pass"),
        ("forward", (made, None, 0, 0, None, None, None, byref(handle)), "no data"),
        ("backward", (None, None, None, None, None), "no pass"),
        ("prepare", (made, None, 1, 1, 0, None, None), "no place for the prediction"),
    ]
    for name, arguments, message in calls:
        assert getattr(engine, f"bilstm_{name}")(*arguments) == INVALID
        assert engine.bilstm_last_error().decode() == message
    engine.bilstm_destroy(None)  # does nothing, like free
    engine.bilstm_forget(None)
    engine.bilstm_forget_pass(None)


def test_weights_are_read_into_an_array_that_is_given() -> None:
    network = Network([dense(0, 2)], 2)
    network.write(np.arange(6, dtype=np.float32))
    values = np.zeros(6, np.float32)
    assert network.read("weights", values) is values
    np.testing.assert_array_equal(values, np.arange(6))
    for wrong in (np.zeros(5, np.float32), np.zeros(6), np.zeros(12, np.float32)[::2], values.reshape(2, 3)):
        with pytest.raises(ValueError, match=r"contiguous float32 of shape \(6,\)"):
            network.read("weights", wrong)


def test_misaligned_arrays_are_copied_before_they_cross() -> None:
    room = np.zeros(8 * 6 + 1, np.uint8)
    values = room[1 : 1 + 4 * 6].view(np.float32)
    assert not values.flags.aligned
    values[:] = np.arange(6)
    sequences = Ragged(values.reshape(3, 2), room[1 : 1 + 8 * 2].copy().view(np.int64) * 0 + [0, 3])
    assert sequences.values.flags.aligned
    made = Network([dense(0, 2)], 2)
    made.write(values)
    np.testing.assert_array_equal(made.read(), np.arange(6))
    np.testing.assert_array_equal(made.predict(sequences)[0], np.arange(6).reshape(3, 2) @ [[0, 1], [2, 3]] + [4, 5])
    assert Targets(values=values).values.flags.aligned  # type: ignore[union-attr]


# --- Sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "names"),
    [("steps", DATA), ("sequences", DATA), ("count", (*TRAINING, "divide")), ("batches", ("train",))],
)
@pytest.mark.parametrize("number", [-1, -LARGEST - 1, LARGEST, 1 << 61, (1 << 44) + 1])
def test_impossible_sizes(call: Call, size: str, names: tuple[str, ...], number: int) -> None:
    call.numbers[size] = number
    for name in names:
        code, message = call(name)
        assert code == INVALID
        assert message.startswith("impossible number of ")
        assert message.endswith(f": {number}")


@pytest.mark.parametrize("name", ["read", "write", "sum_shares"])
@pytest.mark.parametrize("number", [-1, 0, 1, LARGEST])
def test_another_number_of_weights(call: Call, name: str, number: int) -> None:
    call.numbers["numbers"] = number
    assert call(name) == (INVALID, "another number of weights than the network has")


@pytest.mark.parametrize("name", ["read", "write"])
@pytest.mark.parametrize("which", [-1, 5, -(2**31), 2**31 - 1])
def test_an_unknown_array(call: Call, name: str, which: int) -> None:
    call.numbers["which"] = which
    assert call(name) == (INVALID, "unknown array")


@pytest.mark.parametrize("loss", [NO_LOSS, 1 + max(loss.number for loss in LOSSES.values()), 2**31 - 1])
@pytest.mark.parametrize("name", LEARNING)
def test_an_unknown_loss(call: Call, name: str, loss: int) -> None:
    call.numbers["loss"] = loss
    assert call(name) == (INVALID, "unknown loss")


@pytest.mark.parametrize("precision", [-1, 2, 2**31 - 1])
@pytest.mark.parametrize("name", ["predict", "evaluate", "predict_equal", "prepare"])
def test_an_unknown_precision(call: Call, name: str, precision: int) -> None:
    call.numbers["precision"] = precision
    assert call(name) == (INVALID, "unknown precision")


@pytest.mark.parametrize(("number", "message"), [(-1, "a negative"), ((1 << 53) + 1, r"an iteration above 2\^53")])
def test_impossible_iterations(call: Call, number: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call.network.iteration = number
    assert call.network.iteration == 0


def test_the_last_iteration(call: Call) -> None:
    call.network.iteration = (1 << 53) - 1
    assert call("train") == (INVALID, "an iteration above 2^53")  # two batches
    assert call("forward")[0] == 0
    assert call("update")[0] == 0
    assert call("update") == (INVALID, "an iteration above 2^53")
    assert call("backward") == (INVALID, "the weights have changed since the forward pass")
    assert call.network.iteration == 1 << 53


# --- Offsets, batches, and the rows behind them ----------------------------------------------------------------------


@given(st.lists(ANY_NUMBER | st.integers(0, STEPS), min_size=SEQUENCES + 1, max_size=SEQUENCES + 1))
@settings(max_examples=200)
def test_any_offsets(offsets: list[int]) -> None:
    call = Call()
    call.arrays["offsets"][:] = offsets
    call.address["leave_at"] = None
    possible = offsets[0] == 0 and offsets[-1] == STEPS and all(a < b for a, b in itertools.pairwise(offsets))
    for name in DATA:
        code, message = call(name)
        assert code == (0 if possible else INVALID)
        assert possible or "offsets" in message or "has no steps" in message
    assert possible or not call.arrays["output"].any()


@given(
    st.lists(ANY_NUMBER | st.integers(0, SEQUENCES - 1), max_size=5),
    st.lists(ANY_NUMBER | st.integers(0, 5), min_size=1, max_size=4),
)
@settings(max_examples=200)
def test_any_batches(chosen: list[int], starts: list[int]) -> None:
    call = Call()
    call.arrays |= {"chosen": np.array(chosen, np.int64), "starts": np.array(starts, np.int64)}
    call.arrays["scores"] = np.zeros((len(starts), 5))
    call.address |= {name: call.arrays[name].ctypes.data for name in ("chosen", "starts", "scores")}
    call.numbers |= {"count": len(chosen), "batches": len(starts) - 1}
    ordered = starts[0] >= 0 and starts[-1] <= len(chosen) and starts == sorted(starts)
    named = chosen[starts[0] : starts[-1]] if ordered and len(starts) > 1 else []
    possible = (ordered or len(starts) == 1) and all(0 <= i < SEQUENCES for i in named)
    before = call.network.read().tobytes()
    code, message = call("train")
    assert code == (0 if possible else INVALID), message
    assert possible or call.network.read().tobytes() == before
    code, message = call("gradient")
    assert code == (0 if all(0 <= i < SEQUENCES for i in chosen) else INVALID), message


@given(
    st.lists(ANY_NUMBER | st.integers(0, SEQUENCES), min_size=9, max_size=9),
    st.lists(ANY_NUMBER, min_size=SEQUENCES, max_size=SEQUENCES),
    ANY_NUMBER | st.integers(0, 8),
    ANY_NUMBER | st.integers(0, 2 * STEPS),
)
@settings(max_examples=200)
def test_any_shares(bounds: list[int], positions: list[int], shares: int, labelled: int) -> None:
    call = Call()
    call.arrays |= {"bounds": np.array(bounds, np.int64), "positions": np.array(positions, np.int64)}
    call.arrays["scores"] = np.zeros((8, 5))
    call.address |= {name: call.arrays[name].ctypes.data for name in ("bounds", "positions", "scores")}
    call.numbers |= {"shares": shares, "labelled": labelled}
    possible = 0 <= shares <= 8 and bounds[0] == 0 and bounds[max(0, min(8, shares))] == SEQUENCES
    possible = possible and all(a < b for a, b in itertools.pairwise(bounds[: shares + 1]))
    possible = possible and min(positions) >= 0 and labelled >= STEPS
    code, message = call("gradient_of_shares")
    assert code == (0 if possible else INVALID), message


@pytest.mark.parametrize("step", [-1, 0, 4, LARGEST])
def test_steps_that_a_sequence_has_not(call: Call, step: int) -> None:
    call.arrays["leave_at"][1] = step
    assert call("predict") == (INVALID, "states must be left after 1 to all steps of a sequence")
    call.address["states"] = None
    assert call("predict") == (INVALID, "no states to leave")


@pytest.mark.parametrize("magnitude", [-1.0, float("nan"), float("inf")])
def test_impossible_magnitudes(call: Call, magnitude: float) -> None:
    call.numbers["magnitude"] = magnitude
    assert call("sum_shares") == (INVALID, "a magnitude must be a finite number from 0")


@pytest.mark.parametrize("shares", [-1, 9, LARGEST])
def test_impossible_numbers_of_shares(call: Call, shares: int) -> None:
    call.numbers["shares"] = shares
    for name in ("gradient_of_shares", "sum_shares"):
        assert call(name) == (INVALID, "a batch has at most 8 shares")


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_impossible_weights(call: Call, weight: float) -> None:
    call.arrays["weights"][4] = weight
    for name in LEARNING:
        code, message = call(name)
        assert code == INVALID
        assert message.endswith("of row 4 is not a finite number from 0")


@pytest.mark.parametrize("index", [-1, 5, 4.5, float("nan"), float("inf"), -float("inf"), 3e38])
@pytest.mark.parametrize("name", DATA)
def test_indexes_an_embedding_has_not(call: Call, name: str, index: float) -> None:
    call.network = Network([embedding(0, 1, (5,), (4,)), dense(1, OUTPUTS, "softmax")], FEATURES)
    call.address["network"] = call.network._handle.value
    call.arrays["values"][:, 1] = [0, 4, 2, 3, 1, 4]
    assert call(name)[0] == 0
    before = call.network.read().tobytes()
    call.arrays["values"][5, 1] = index
    code, message = call(name)
    assert code == INVALID
    not_finite = "a value of sequence 2 is not finite, in its step 1"
    of_all = name in ("predict", "evaluate") or np.isfinite(index)
    assert message.startswith("an embedding's input must be whole numbers from 0 to 4, not " if of_all else not_finite)
    assert call.network.read().tobytes() == before


def test_a_failed_call_leaves_the_last_whole_step(call: Call) -> None:
    """The first batch is learnt, the second has a label that there is not."""
    other = Call()
    other.numbers["batches"] = 1
    assert other("train")[0] == 0
    call.arrays["labels"][1] = OUTPUTS  # of sequence 1, the second batch
    assert call("train")[0] == INVALID
    for which in ("weights", "first_moments", "second_moments"):
        assert call.network.read(which).tobytes() == other.network.read(which).tobytes()
    assert call.network.iteration == 1


# --- Optimizers ------------------------------------------------------------------------------------------------------

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("kind", [-1, 2]),
        ("learning_rate", [-1.0, NAN, INFINITY, 1e39]),
        ("beta_1", [-0.1, 1.0, NAN, 1 - 1e-9]),  # the last is 1 in float32
        ("beta_2", [-0.1, 1.0, INFINITY]),
        ("epsilon", [0.0, -1e-7, NAN, INFINITY, 1e-60]),  # the last is 0
        ("clipnorm", [-1.0, NAN, INFINITY]),
        ("global_clipnorm", [-1.0, NAN]),
        ("clipvalue", [-1.0, NAN]),
        ("weight_decay", [-1e-3, NAN, INFINITY, 1e39]),
    ],
)
@pytest.mark.parametrize("name", ["train", "update"])
def test_impossible_optimizers(call: Call, name: str, field: str, values: list[Any]) -> None:
    before = call.network.read().tobytes()
    for value in values:
        call.optimizer = OptimizerStruct(0, 0.1, 0.9, 0.999, 1e-7)
        setattr(call.optimizer, field, value)
        assert call(name)[0] == INVALID
    assert call.network.read().tobytes() == before


def test_gradient_descent_takes_no_betas(call: Call) -> None:
    call.optimizer = OptimizerStruct(1, 0.1, NAN, 7, -1)
    assert call("train")[0] == 0


def test_settings_that_float32_cannot_hold() -> None:
    made = Network([dense(0, 2)], 2)
    with pytest.raises(ValueError, match="Adam's epsilon must be above 0, in float32 too"):
        made.update(OptimizerPlan(epsilon=1e-60))


# --- Plans -----------------------------------------------------------------------------------------------------------

SIZES = st.sampled_from([0, 1, 2, 3, 17, 40]) | ANY_NUMBER
FLAGS = st.sampled_from([-1, 0, 1, 2, 3, 4, 5, 2**31 - 1, -(2**31)])


@st.composite
def layer_structs(draw: st.DrawFn) -> tuple[LayerStruct, list[int], list[int]]:
    vocabularies = draw(st.lists(SIZES, min_size=4, max_size=4))
    dimensions = draw(st.lists(SIZES, min_size=4, max_size=4))
    plausible, cells = st.sampled_from([0, 1]), st.sampled_from(range(5)) | FLAGS
    gates = st.sampled_from(range(3)) | FLAGS
    struct = LayerStruct(
        kind=draw(st.sampled_from(range(7)) | FLAGS),
        index=draw(FLAGS),
        directions=draw(st.sampled_from([1, 2]) | FLAGS),
        ways=(DirectionStruct * 2)(
            *(
                DirectionStruct(draw(SIZES), draw(FLAGS), draw(FLAGS), draw(cells), draw(gates), draw(plausible))
                for _ in range(2)
            )
        ),
        merge=draw(plausible | FLAGS),
        return_sequences=draw(plausible),
        units=draw(SIZES),
        activation=draw(plausible | FLAGS),
        rate=draw(st.sampled_from([0.0, 0.5, 1.0, -1.0, NAN, INFINITY])),
        numeric=draw(SIZES),
        tables=draw(st.sampled_from([-LARGEST - 1, -1, 0, 1, 2, 3, 4])),
        pool=draw(plausible | FLAGS),
        without_bias=draw(plausible),
    )
    if draw(st.booleans()):
        struct.vocabularies = ctypes.cast((c_int64 * 4)(*vocabularies), POINTER(c_int64))
    if draw(st.booleans()):
        struct.dimensions = ctypes.cast((c_int64 * 4)(*dimensions), POINTER(c_int64))
    return struct, vocabularies, dimensions


@given(st.lists(layer_structs(), max_size=4), st.sampled_from([1, 2, 3, 4]) | SIZES)
@settings(max_examples=400)
def test_any_plan(drawn: list[tuple[LayerStruct, list[int], list[int]]], features: int) -> None:
    """Made and usable, or refused with a reason."""
    engine, handle = library.library(), c_void_p()
    layers = (LayerStruct * max(1, len(drawn)))(*(struct for struct, _, _ in drawn))
    code = engine.bilstm_create(layers, len(drawn), features, byref(handle))
    if code:
        assert code in (INVALID, OUT_OF_MEMORY)
        assert engine.bilstm_last_error()
        assert not handle.value
        return
    parameters, outputs, one_row_each, state_width = c_int64(), c_int64(), c_int32(), c_int64()
    assert not engine.bilstm_describe(
        handle, byref(parameters), byref(outputs), byref(one_row_each), byref(state_width)
    )
    values, offsets = np.zeros((3, features), np.float32), np.array([0, 1, 3], np.int64)
    output = np.full((2 if one_row_each.value else 3, outputs.value), np.nan, np.float32)
    data = DataStruct(values.ctypes.data, offsets.ctypes.data, 3, 2)
    assert not engine.bilstm_predict(handle, byref(data), 0, 0, None, None, None, output.ctypes.data, None)
    assert not np.isnan(output).any()
    engine.bilstm_destroy(handle)


@pytest.mark.parametrize("count", [-1, 0, 1001, 2**31 - 1])
def test_impossible_numbers_of_layers(count: int) -> None:
    handle = c_void_p()
    layers = (LayerStruct * 1)(LayerStruct(kind=1, units=3))
    engine = library.library()
    assert engine.bilstm_create(layers, count, 2, byref(handle)) == INVALID
    assert engine.bilstm_last_error() == b"a network has 1 to 1000 layers"


def test_a_layer_too_wide_for_the_next() -> None:
    wide = embedding(0, 0, (1, 1, 1), (1 << 20, 1 << 20, 1))
    with pytest.raises(ValueError, match="a layer's output must be at most 2097152 wide, not 2097153"):
        Network([wide, dropout(1, 0.5)], 3)


# --- Memory ----------------------------------------------------------------------------------------------------------


def test_sizes_that_overflow_are_refused_before_any_memory_is_asked_for() -> None:
    """Each of these would need terabytes or more; a plan of them is turned down at once."""
    huge = 1 << 20
    for layers in (
        [recurrent(0, (DirectionStruct(huge),))],
        [recurrent(0, (DirectionStruct(huge), DirectionStruct(huge)))],
        [dense(0, huge), dense(1, huge)],
        [embedding(0, 0, (1 << 24,), (huge,))],
    ):
        with pytest.raises(MemoryError, match="not enough memory"):
            Network(layers, 1)


PROGRAM = """
import resource
import numpy as np
from bilstm import Sequential, layers, utils

def model():
    bidirectional = layers.Bidirectional(layers.LSTM(48, return_sequences=True), input_shape=(None, 8))
    made = Sequential([bidirectional, layers.Dense(3, "softmax")], seed=1)
    made.compile("adam", "sparse_categorical_crossentropy")
    return made

def allow(more):
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = resource.RLIM_INFINITY if more is None else pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

utils.set_threads(3)
x, y = np.ones((64, 500, 8), np.float32), np.zeros((64, 500), np.int32)
expected = model()
expected.train_on_batch(x[:, :20], y[:, :20])  # starts the threads
expected = model()
expected.train_on_batch(x, y)
weights, outputs = expected.get_weights(), model().predict(x)
for name, arguments in (("train_on_batch", (x, y)), ("predict", (x,))):
    failed = 0
    for megabytes in range(0, 120, 6):
        one = model()
        allow(megabytes << 20)
        try:
            found = getattr(one, name)(*arguments)
        except MemoryError:
            failed += 1
            allow(None)
            found = getattr(one, name)(*arguments)  # goes on where there is enough
        allow(None)
        if name == "predict":
            assert found.tobytes() == outputs.tobytes()
        else:
            assert all(a.tobytes() == b.tobytes() for a, b in zip(one.get_weights(), weights))
    print(name, failed)
"""


@pytest.mark.skipif(
    SANITIZED is not None or sys.platform != "linux", reason="limits memory, which needs Linux and no sanitizer"
)
def test_whenever_memory_runs_out_it_is_said_and_all_goes_on() -> None:
    """In the caller's thread or another of the engine's, at the first allocation or a later one."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # large buffers go back to the system at once
    command = [sys.executable, "-c", PROGRAM]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (finished.returncode, finished.stderr) == (0, "")
    for line in finished.stdout.splitlines():
        assert 0 < int(line.split()[1]) < 20, line  # both were met with


# --- Sequences with the same number of steps --------------------------------------------------------------------------


@given(sequences=ANY_NUMBER, steps=ANY_NUMBER, name=st.sampled_from(EQUAL))
@settings(deadline=None)
def test_impossible_numbers_of_equal_sequences(sequences: int, steps: int, name: str) -> None:
    call = Call()
    possible = sequences >= 0 and steps >= 1 and sequences * steps <= STEPS
    impossible = sequences < 0 or steps < 1 or sequences * steps > 1 << 44
    if not possible and not impossible:
        return  # that the arrays are shorter, only the caller can know
    call.numbers |= {"sequences": sequences, "each": steps}
    assert call(name)[0] in ((0,) if possible else (INVALID, OUT_OF_MEMORY))


@pytest.mark.parametrize(
    ("array", "number", "message"),
    [
        ("values", np.nan, "a value of sequence 1 is not finite, in its step 1"),
        ("values", -np.inf, "a value of sequence 1 is not finite, in its step 1"),
        ("shares", 1.5, "targets must be from 0 to 1"),
        ("shares", -0.5, "targets must be from 0 to 1"),
        ("shares", np.inf, "targets must be from 0 to 1"),
    ],
)
def test_numbers_that_equal_sequences_cannot_be_trained_on(call: Call, array: str, number: float, message: str) -> None:
    before = call.network.read()
    call.arrays[array][3, 1] = number
    assert call("train_equal") == (INVALID, message)
    assert np.array_equal(call.network.read(), before)
    call.arrays[array][3, 1] = np.nan if array == "shares" else 0  # unlabelled
    assert call("train_equal")[0] == 0
    assert not np.array_equal(call.network.read(), before)


# --- Averages of weights ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [-0.01, 1.01, float("nan"), float("inf")])
def test_an_impossible_fraction(call: Call, fraction: float) -> None:
    call.numbers["fraction"] = fraction
    assert call("average") == (INVALID, "a fraction of the way must be from 0 to 1")


def test_averages_follow_the_weights(call: Call) -> None:
    network = call.network
    expected = network.read()
    assert network.read("averages").tobytes() == expected.tobytes()  # there is no other weight yet
    for fraction in (0.0, 0.3, 0.001, 1.0):
        assert call("train")[0] == 0
        weights = network.read()
        network.average(fraction)
        expected = expected + (weights - expected) * np.float32(fraction)
        assert network.read("averages").tobytes() == expected.tobytes()
        assert network.read().tobytes() == weights.tobytes()
    network.write(expected * 2, "averages")
    assert network.read("averages").tobytes() == (expected * 2).tobytes()


@pytest.mark.parametrize("name", [*TRAINING, "forward"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_values_that_no_network_learns_from(call: Call, name: str, number: float) -> None:
    """An infinite value saturates gates: the loss would be finite, and the gradients NaN."""
    before = call.network.read()
    call.arrays["values"][2, 1] = number
    assert call(name) == (INVALID, "a value of sequence 1 is not finite, in its step 1")
    np.testing.assert_array_equal(call.network.read(), before)


@pytest.mark.parametrize("precision", [0, 1])
def test_all_that_are_not_numbers_are_the_same_one(precision: int) -> None:
    """Processors differ in which of several they pass on."""
    network = Network([recurrent(0, (DirectionStruct(2), DirectionStruct(3, True))), dense(1, OUTPUTS)], FEATURES)
    values = np.zeros((STEPS, FEATURES), np.float32)
    values.view(np.uint32)[3] = [0x7FC12345, 0xFFC54321]
    found, states = network.predict(
        Ragged(values, np.array([0, STEPS])), return_states=True, precision=PRECISIONS[precision]
    )
    assert states is not None
    for numbers in (found, network.predict_equal(values[None])[0], states):
        assert set(numbers[np.isnan(numbers)].view(np.uint32).tolist()) == {0x7FC00000}
