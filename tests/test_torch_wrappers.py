"""Keras's wrappers around modules of PyTorch's, beside PyTorch itself and Keras."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence  # noqa: E402

import bilstm.torch  # noqa: E402
from bilstm.torch import Bidirectional, TimeDistributed  # noqa: E402

Tensor = Any


MODES = ("concat", "sum", "mul", "ave", None)


def merged(forward: Tensor, backward: Tensor, mode: str | None) -> Tensor:
    if mode in ("concat", None):
        return torch.cat([forward, backward], -1)
    return {"sum": forward + backward, "mul": forward * backward, "ave": (forward + backward) / 2}[mode]


def one(found: Any) -> Tensor:
    """Both outputs as one tensor, where there are two."""
    return torch.cat(found, -1) if isinstance(found, tuple) and not isinstance(found, PackedSequence) else found


def alone(wrapper: Any, steps: Tensor) -> Tensor:
    """What the wrapper should give for one sequence, by its modules alone."""
    run = [layer(x.unsqueeze(0 if wrapper.batch_first else 1)) for layer, x in both_ways(wrapper, steps)]
    forward, backward = (
        (found[0] if isinstance(found, tuple) else found).squeeze(0 if wrapper.batch_first else 1) for found in run
    )
    if wrapper.return_sequences:
        return merged(forward, backward.flip(0), wrapper.merge_mode)
    return merged(forward[-1], backward[-1], wrapper.merge_mode)


def both_ways(wrapper: Any, steps: Tensor) -> list[tuple[Any, Tensor]]:
    return [(wrapper.forward_layer, steps), (wrapper.backward_layer, steps.flip(0))]


class Decay(nn.Module):
    """A recurrent module of a user's, which only returns outputs."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.rand(features))

    def forward(self, x: Tensor) -> Tensor:
        state, outputs = torch.zeros_like(x[:, 0]), []
        for step in x.unbind(1):
            state = self.rate * state + step
            outputs.append(state)
        return torch.stack(outputs, 1)


def layer_of(kind: str, features: int, units: int, batch_first: bool) -> Any:
    if kind == "decay":
        return Decay(features)
    library, name = (bilstm.torch, kind) if kind in ("LSTM", "GRU") else (nn, kind.removeprefix("nn."))
    return getattr(library, name)(features, units, 1 + (kind == "nn.GRU"), batch_first=batch_first)


@st.composite
def examples(draw: st.DrawFn) -> dict[str, Any]:
    mode = draw(st.sampled_from(MODES))
    kinds = draw(st.lists(st.sampled_from(["LSTM", "GRU", "nn.LSTM", "nn.GRU", "nn.RNN"]), min_size=2, max_size=2))
    if draw(st.booleans()):
        kinds = [kind.removeprefix("nn.").replace("RNN", "GRU") for kind in kinds]
    units = draw(st.lists(st.integers(1, 9), min_size=2, max_size=2))
    return {
        "kinds": kinds,
        "units": units if mode in ("concat", None) else units[:1] * 2,
        "mode": mode,
        "sequences": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "form": draw(st.sampled_from(["lengths", "mask", "packed", "nested", "unbatched"])),
        "lengths": draw(st.lists(st.integers(1, 7), min_size=1, max_size=5)),
        "seed": draw(st.integers(0, 99)),
    }


def wrapper_of(example: dict[str, Any]) -> Any:
    torch.manual_seed(example["seed"])
    layers = [
        layer_of(kind, 3, units, example["batch_first"])
        for kind, units in zip(example["kinds"], example["units"], strict=True)
    ]
    return Bidirectional(layers[0], example["mode"], layers[1], example["sequences"])


def call(wrapper: Any, form: str, own: list[Tensor], random: Any) -> list[Tensor]:
    """The output of each sequence, from one call with all of them, padding between and after the steps."""
    if form == "unbatched":
        return [one(wrapper(own[0]))]
    if form == "packed":
        found = wrapper(pack_sequence(own, enforce_sorted=False))
    elif form == "nested":
        found = wrapper(torch.nested.as_nested_tensor(own, layout=torch.jagged))
    if form in ("packed", "nested"):
        if not wrapper.return_sequences:
            return list(one(found))
        unbound = [unpack_sequence(each) if form == "packed" else each.unbind() for each in as_tuple(found)]
        return [torch.cat(each, -1) for each in zip(*unbound, strict=True)]
    steps = max(map(len, own)) + 1
    kept = np.zeros((len(own), steps), bool)
    for row, sequence in zip(kept, own, strict=True):
        at = range(len(sequence)) if form == "lengths" else random.choice(steps, len(sequence), replace=False)
        row[list(at)] = True
    x = torch.full((len(own), steps, 3), torch.nan)
    x[torch.from_numpy(kept)] = torch.cat(own)
    mask = torch.from_numpy(kept)
    if not wrapper.batch_first:
        x, mask = x.transpose(0, 1), mask.T
    named = {"lengths": [len(each) for each in own]} if form == "lengths" else {"mask": mask}
    found = one(wrapper(x, **named))
    if not wrapper.return_sequences:
        return list(found)
    found = found if wrapper.batch_first else found.transpose(0, 1)
    assert not found[torch.from_numpy(~kept)].any()
    return [output[torch.from_numpy(row)] for output, row in zip(found, kept, strict=True)]


def as_tuple(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) and not isinstance(found, PackedSequence) else (found,)


@given(examples())
@settings(max_examples=100)
def test_each_direction_reads_real_steps_alone(example: dict[str, Any]) -> None:
    wrapper = wrapper_of(example)
    lengths = example["lengths"][:1] if example["form"] == "unbatched" else example["lengths"]
    own = [torch.randn(length, 3, requires_grad=True) for length in lengths]
    found = call(wrapper, example["form"], own, np.random.default_rng(example["seed"]))
    expected = [alone(wrapper, steps) for steps in own]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    weights = [torch.randn_like(each) for each in expected]
    leaves = [*own, *wrapper.parameters()]
    gradients = [
        torch.autograd.grad(sum((a * w).sum() for a, w in zip(each, weights, strict=True)), leaves)
        for each in (found, expected)
    ]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    own_ones = all(kind in ("LSTM", "GRU") for kind in example["kinds"])
    assert (wrapper._engine is not None) == own_ones


@pytest.mark.parametrize("kinds", [("LSTM", "GRU"), ("nn.GRU", "nn.LSTM")])
@pytest.mark.parametrize(("mode", "sequences"), [("concat", True), ("mul", True), ("ave", False)])
def test_second_derivatives(kinds: tuple[str, str], mode: str, sequences: bool) -> None:
    wrapper = wrapper_of(
        {"kinds": kinds, "units": (4, 4), "mode": mode, "sequences": sequences, "batch_first": True, "seed": 1}
    )
    own = [torch.randn(length, 3, requires_grad=True) for length in (4, 2)]
    found = []
    for outputs in (call(wrapper, "packed", own, None), [alone(wrapper, steps) for steps in own]):
        first = torch.autograd.grad(sum(each.square().sum() for each in outputs), own, create_graph=True)
        penalty = sum(gradient.square().sum() for gradient in first)
        found.append(torch.autograd.grad(penalty, [*own, *wrapper.parameters()]))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_both_directions_in_one_call_are_the_bidirectional_layer() -> None:
    whole = bilstm.torch.LSTM(3, 5, bidirectional=True)
    wrapper = Bidirectional(bilstm.torch.LSTM(3, 5))
    for name, weight in whole.state_dict().items():
        way = wrapper.backward_layer if name.endswith("_reverse") else wrapper.forward_layer
        way.load_state_dict({name.removesuffix("_reverse"): weight}, strict=False)
    x = torch.randn(9, 4, 3)
    assert torch.equal(wrapper(x), whole(x)[0])


def test_a_users_own_module() -> None:
    wrapper = Bidirectional(Decay(3), "sum", batch_first=True)
    assert torch.equal(wrapper.forward_layer.rate, wrapper.backward_layer.rate)  # it says not how to draw new ones
    own = [torch.randn(length, 3) for length in (2, 5)]
    for a, b in zip(call(wrapper, "packed", own, None), [alone(wrapper, each) for each in own], strict=True):
        torch.testing.assert_close(a, b)


def test_the_backward_layer_has_weights_of_its_own() -> None:
    wrapper = Bidirectional(nn.LSTM(3, 5))
    assert type(wrapper.backward_layer) is nn.LSTM
    assert not torch.equal(wrapper.forward_layer.weight_hh_l0, wrapper.backward_layer.weight_hh_l0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_run_on_pytorch(dtype: Any) -> None:
    wrapper = Bidirectional(bilstm.torch.GRU(3, 5)).to(dtype)
    found = wrapper(torch.randn(4, 2, 3, dtype=dtype), lengths=torch.tensor([4, 1]))
    assert (found.dtype, wrapper._engine) == (dtype, None)


@pytest.mark.parametrize("how", ["hooks", "parametrizations", "subclass"])
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_layers_that_are_more_than_layers_are_called(how: str) -> None:
    class Doubled(bilstm.torch.LSTM):
        def forward(self, input: Any, hx: Any = None) -> Any:
            output, states = super().forward(input, hx)
            return 2 * output, states

    layer, x = (Doubled if how == "subclass" else bilstm.torch.LSTM)(3, 5), torch.randn(4, 2, 3)
    wrapper = Bidirectional(layer, backward_layer=bilstm.torch.LSTM(3, 5))
    if how != "subclass":
        norms = nn.utils.weight_norm if how == "hooks" else nn.utils.parametrizations.weight_norm
        norms(layer, "weight_hh_l0")
        with torch.no_grad():
            (layer.weight_hh_l0_g if how == "hooks" else layer.parametrizations.weight_hh_l0.original0).mul_(3)
    torch.testing.assert_close(wrapper(x)[..., :5], layer(x)[0])


def test_autocast_is_left_alone() -> None:
    wrapper, x = Bidirectional(bilstm.torch.GRU(3, 5)), torch.randn(4, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = wrapper(x, lengths=[4, 2])
        assert found.dtype == nn.GRU(3, 5)(x)[0].dtype
    assert wrapper._engine is None
    torch.testing.assert_close(found.float(), wrapper(x, lengths=[4, 2]), rtol=0, atol=0.05)


def test_values_that_are_not_finite_stay_in_their_sequence() -> None:
    wrapper, x = Bidirectional(bilstm.torch.LSTM(3, 5)), torch.randn(4, 2, 3)
    x[1, 0, 0] = torch.nan
    assert wrapper(x).isfinite().all(2).all(0).tolist() == [False, True]


def test_gradients_in_float64_are_checked() -> None:
    wrapper = Bidirectional(bilstm.torch.LSTM(2, 3), "mul").double()
    x = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given_: wrapper(given_, lengths=[4, 2]), x)
    assert torch.autograd.gradgradcheck(lambda given_: wrapper(given_, lengths=[4, 2]), x)


def test_copies_pickles_and_compiles() -> None:
    wrapper, x = Bidirectional(bilstm.torch.LSTM(3, 5), "sum"), torch.randn(4, 2, 3)
    expected = wrapper(x, lengths=[4, 2])
    for other in (copy.deepcopy(wrapper), pickle.loads(pickle.dumps(wrapper)), torch.compile(wrapper, backend="eager")):
        assert torch.equal(other(x, lengths=[4, 2]), expected)
    other = copy.deepcopy(wrapper)
    other.merge_mode = "mul"  # whoever changes it afterwards is heard, too
    assert not torch.equal(other(x), wrapper(x))


REFUSED: list[tuple[Any, str]] = [
    (lambda: Bidirectional(3), "layer must be a torch.nn.Module, not 3"),
    (lambda: Bidirectional(nn.LSTM(2, 2, bidirectional=True)), "layer must read in one direction"),
    (lambda: Bidirectional(nn.LSTM(2, 2), "max"), "merge_mode"),
    (lambda: Bidirectional(nn.LSTM(2, 2), "sum", nn.LSTM(2, 3)), "as many units"),
    (lambda: Bidirectional(nn.LSTM(2, 2), backward_layer=nn.LSTM(2, 2, batch_first=True)), "must agree on the order"),
    (lambda: Bidirectional(Decay(2)), "a Decay has no batch_first: give it to Bidirectional"),
    (lambda: Bidirectional(nn.LSTM(2, 2))(torch.zeros(4, 3, 2), lengths=[1, 2]), "3 sequences need as many"),
    (lambda: Bidirectional(nn.LSTM(2, 2))(torch.zeros(4, 3, 2), lengths=[1.0, 2, 3]), "whole numbers as lengths"),
    (lambda: Bidirectional(nn.LSTM(2, 2))(torch.zeros(4, 3, 2), lengths=[1, 5, 2]), "lengths must be from 1 to 4"),
    (lambda: Bidirectional(nn.LSTM(2, 2))(torch.zeros(4, 3, 2), lengths=[1, 0, 2]), "sequence 1 has no real steps"),
    (lambda: Bidirectional(nn.LSTM(2, 2))(torch.zeros(4, 3, 2), mask=torch.ones(3, 4)), "must have shape \\(4, 3\\)"),
    (lambda: Bidirectional(nn.LSTM(2, 2))(torch.zeros(4, 3, 2), [1], torch.ones(4, 3)), "lengths or a mask, not both"),
    (lambda: Bidirectional(nn.LSTM(2, 2))(torch.zeros(4, 3, 2, 2)), "a batch has shape \\(steps, sequences, features"),
    (lambda: Bidirectional(nn.LSTM(2, 2))([1.0]), "a Tensor or a PackedSequence is needed, not list"),
    (lambda: Bidirectional(nn.LSTM(2, 2))(pack_sequence([torch.zeros(1, 2)]), [1]), "has its own lengths"),
    (lambda: Bidirectional(nn.Linear(2, 2), batch_first=True, backward_layer=nn.Flatten())(torch.zeros(1, 3, 2)), "Fl"),
    (lambda: TimeDistributed(len), "a torch.nn.Module is needed"),
    (lambda: TimeDistributed(nn.Linear(2, 2))(torch.zeros(3, 2)), "three dimensions or more, not \\(3, 2\\)"),
]


@pytest.mark.fast
@pytest.mark.parametrize(("do", "message"), REFUSED)
def test_what_is_refused(do: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        do()


# --- TimeDistributed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
def test_steps_meet_only_where_they_are_real(batch_first: bool) -> None:
    norm = nn.BatchNorm1d(3, affine=False)
    x = torch.randn(4, 2, 3)
    real = torch.cat([x[:, 0], x[:1, 1]])
    expected = (real - real.mean(0)) / (real.var(0, unbiased=False) + norm.eps).sqrt()
    given_ = x.transpose(0, 1) if batch_first else x
    found = TimeDistributed(norm, batch_first)(given_, lengths=[4, 1])
    found = found.transpose(0, 1) if batch_first else found
    torch.testing.assert_close(torch.cat([found[:, 0], found[:1, 1]]), expected)
    assert not found[1:, 1].any()
    packed = TimeDistributed(norm)(pack_sequence([x[:, 0], x[:1, 1]]))
    torch.testing.assert_close(torch.cat(unpack_sequence(packed)), expected)


def test_steps_of_several_dimensions() -> None:
    module = TimeDistributed(nn.Conv2d(1, 2, 3))
    x = torch.randn(5, 2, 1, 6, 4)
    found = module(x, mask=torch.tensor([[1, 1]] * 3 + [[0, 1]] * 2))
    assert found.shape == (5, 2, 2, 4, 2)
    torch.testing.assert_close(found[:, 1], module.module(x[:, 1]))
    assert not found[3:, 0].any()
