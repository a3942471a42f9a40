"""Drop-in replacements for PyTorch's recurrent layers, beside PyTorch's own."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence  # noqa: E402

import bilstm.torch  # noqa: E402
from bilstm import utils  # noqa: E402
from bilstm.torch.recurrent import OnEngine  # noqa: E402

Tensor = Any


KINDS = ("LSTM", "GRU")


def pair(kind: str, *sizes: int, seed: int = 0, **options: Any) -> tuple[Any, Any]:
    """PyTorch's layer and ours, with the same weights."""
    torch.manual_seed(seed)
    theirs = getattr(torch.nn, kind)(*sizes, **options)
    ours = getattr(bilstm.torch, kind)(*sizes, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def tensors_of(found: Any) -> list[Tensor]:
    """All of an output and its states."""
    if isinstance(found, PackedSequence):
        return [found.data]
    if isinstance(found, tuple):
        return [tensor for part in found for tensor in tensors_of(part)]
    return [found]


def bits(found: Any) -> list[bytes]:
    return [tensor.detach().numpy().tobytes() for tensor in tensors_of(found)]


def close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    for own, other in zip(tensors_of(actual), tensors_of(expected), strict=True):
        scale = max(1.0, float(other.detach().abs().max())) if other.numel() else 1.0
        torch.testing.assert_close(own, other, rtol=0, atol=tolerance * scale)


def loss_of(found: Any) -> Tensor:
    """One that every number of outputs and states has another part in."""
    return sum(
        (tensor * torch.linspace(-1, 1, tensor.numel()).view(tensor.shape)).sum() for tensor in tensors_of(found)
    )


def learnt(layer: Any, given_: Any, hx: Any, inputs: list[Tensor]) -> list[Tensor]:
    """The gradients of inputs, states and weights."""
    return list(torch.autograd.grad(loss_of(layer(given_, hx)), [*inputs, *layer.parameters()], retain_graph=True))


@st.composite
def examples(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "kind": draw(st.sampled_from(KINDS)),
        "sizes": (draw(st.integers(1, 5)), draw(st.sampled_from([1, 4, 17])), draw(st.integers(1, 3))),
        "bidirectional": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "form": draw(st.sampled_from(["padded", "unbatched", "packed", "sorted"])),
        "states": draw(st.booleans()),
        "lengths": draw(st.lists(st.integers(1, 9), min_size=1, max_size=6)),
        "seed": draw(st.integers(0, 1000)),
    }


def arguments(example: dict[str, Any]) -> tuple[Any, Any, list[Tensor]]:
    """An input, first states, and the leaves that gradients go to."""
    torch.manual_seed(example["seed"])
    inputs, units, layers = example["sizes"]
    lengths, form = example["lengths"], example["form"]
    count = len(lengths) if form != "unbatched" else 1
    cells = layers * (2 if example["bidirectional"] else 1)
    shape = (cells, units) if form == "unbatched" else (cells, count, units)
    states = [torch.randn(shape, requires_grad=True) for _ in range(2 if example["kind"] == "LSTM" else 1)]
    hx = None if not example["states"] else tuple(states) if len(states) > 1 else states[0]
    leaves = states if example["states"] else []
    if form in ("packed", "sorted"):
        lengths = sorted(lengths, reverse=True) if form == "sorted" else lengths
        own = [torch.randn(length, inputs, requires_grad=True) for length in lengths]
        return pack_sequence(own, enforce_sorted=form == "sorted"), hx, own + leaves
    if form == "unbatched":
        x = torch.randn(lengths[0], inputs, requires_grad=True)
    else:
        x = torch.randn(*((count, lengths[0]) if example["batch_first"] else (lengths[0], count)), inputs)
        x.requires_grad_()
    return x, hx, [x, *leaves]


def layers_of(example: dict[str, Any]) -> tuple[Any, Any]:
    options = {name: example[name] for name in ("bidirectional", "bias", "batch_first")}
    return pair(example["kind"], *example["sizes"], seed=example["seed"], **options)


# --- Equal to PyTorch's -------------------------------------------------------------------------------------------


@given(examples())
@settings(max_examples=150)
def test_outputs_states_and_gradients(example: dict[str, Any]) -> None:
    theirs, ours = layers_of(example)
    x, hx, leaves = arguments(example)
    expected, found = theirs(x, hx), ours(x, hx)
    close(found, expected)
    if isinstance(expected[0], PackedSequence):
        assert found[0].batch_sizes.tolist() == expected[0].batch_sizes.tolist()
        assert found[0].sorted_indices is expected[0].sorted_indices
    for own, other in zip(learnt(ours, x, hx, leaves), learnt(theirs, x, hx, leaves), strict=True):
        close(own, other)
    with torch.no_grad():
        assert bits(ours(x, hx)) == bits(found)


@pytest.mark.parametrize("kind", KINDS)
def test_training_takes_the_same_way(kind: str) -> None:
    theirs, ours = pair(kind, 3, 20, bidirectional=True)
    x = pack_sequence([torch.randn(length, 3) for length in (5, 30, 1, 12)], enforce_sorted=False)
    for layer in (theirs, ours):
        optimizer = torch.optim.Adam(layer.parameters(), 0.01)
        for _ in range(50):
            optimizer.zero_grad()
            layer(x)[0].data.square().mean().backward()
            optimizer.step()
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        close(own, other, 1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_samples_of_pytorchs_own_tests(kind: str, training: bool) -> None:
    """Its ModuleInfo database ships with it."""
    pytest.importorskip("expecttest")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_modules import module_db
    (info,) = (info for info in module_db if info.name == f"nn.{kind}")
    samples = info.module_inputs_func(info, device="cpu", dtype=torch.float32, requires_grad=True, training=training)
    count = 0
    for sample in samples:
        if sample.constructor_input.kwargs.get("proj_size"):
            continue  # PyTorch's own code runs, and warns
        torch.manual_seed(1)
        theirs = getattr(torch.nn, kind)(*sample.constructor_input.args, **sample.constructor_input.kwargs)
        ours = getattr(bilstm.torch, kind)(*sample.constructor_input.args, **sample.constructor_input.kwargs)
        ours.load_state_dict(theirs.state_dict())
        for layer in (theirs, ours):
            layer.train(training)
        given_ = sample.forward_input.args, sample.forward_input.kwargs
        expected, found = theirs(*given_[0], **given_[1]), ours(*given_[0], **given_[1])
        close(found, expected)
        gradients = [
            torch.autograd.grad(loss_of(each), layer.parameters())
            for each, layer in ((found, ours), (expected, theirs))
        ]
        for own, other in zip(*gradients, strict=True):
            close(own, other)
        count += 1
    assert count


# --- Laws -----------------------------------------------------------------------------------------------------------


@given(examples())
@settings(max_examples=50)
def test_a_sequence_is_the_same_alone_and_in_any_company(example: dict[str, Any]) -> None:
    example |= {"form": "packed", "states": False}
    _, ours = layers_of(example)
    x, _, own = arguments(example)
    with torch.no_grad():
        output, states = ours(x)
        together = list(zip(*[each.unbind(1) for each in tensors_of(states)], strict=True))
        for sequence, rows, ends in zip(own, unpack_sequence(output), together, strict=True):
            alone, alone_states = ours(sequence)
            assert bits(alone) == bits(rows)
            assert bits(alone_states) == bits(tuple(ends))
        nested = torch.nested.nested_tensor([each.detach() for each in own], layout=torch.jagged)
        assert bits(tuple(ours(nested)[0].unbind())) == bits(tuple(unpack_sequence(output)))


@pytest.mark.parametrize("kind", KINDS)
def test_nested_tensors_have_the_gradients_of_packed_ones(kind: str) -> None:
    _, ours = pair(kind, 2, 3, bidirectional=True)
    own = [torch.randn(length, 2, requires_grad=True) for length in (4, 1, 6)]
    expected = torch.autograd.grad(loss_of(torch.cat(unpack_sequence(ours(pack_sequence(own, False))[0]))), own)
    nested = torch.nested.as_nested_tensor(own, layout=torch.jagged)
    found = torch.autograd.grad(loss_of(ours(nested)[0].values()), own)
    assert bits(tuple(found)) == bits(tuple(expected))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [1, 5, 11])
def test_chunks_that_carry_states_are_one_pass(kind: str, cut: int) -> None:
    theirs, ours = pair(kind, 3, 9, 2)
    x = torch.randn(12, 4, 3, requires_grad=True)
    whole, last = ours(x)
    first, states = ours(x[:cut])
    second, ends = ours(x[cut:], states)
    assert bits(torch.cat([first, second])) == bits(whole)
    assert bits(ends) == bits(last)
    expected = torch.autograd.grad(loss_of(theirs(x)), [x, *theirs.parameters()])
    for own, other in zip(
        torch.autograd.grad(loss_of((torch.cat([first, second]), ends)), [x, *ours.parameters()]), expected, strict=True
    ):
        close(own, other)


@pytest.mark.parametrize("kind", KINDS)
def test_reversal_swaps_the_directions(kind: str) -> None:
    _, ours = pair(kind, 3, 5, bidirectional=True)
    swapped = copy.deepcopy(ours)
    own = dict(ours.named_parameters())
    with torch.no_grad():
        for name, weight in swapped.named_parameters():
            weight.copy_(own[name.removesuffix("_reverse") if name.endswith("_reverse") else f"{name}_reverse"])
    x = torch.randn(7, 2, 3)
    forwards, backwards = ours(x)[0].chunk(2, dim=2)
    assert bits(torch.cat([backwards.flip(0), forwards.flip(0)], dim=2)) == bits(swapped(x.flip(0))[0])


def test_threads_change_no_bit() -> None:
    _, ours = pair("LSTM", 30, 150, 2, bidirectional=True)
    x, before, found = torch.randn(40, 20, 30), utils.threads(), set()
    try:
        for threads in (1, 2, 3):
            utils.set_threads(threads)
            found.add(b"".join(bits((ours(x), *learnt(ours, x, None, [])))))
    finally:
        utils.set_threads(before)
    assert len(found) == 1


# --- Weights ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["step", "data", "load", "assign"])
def test_weights_that_change_in_any_way(change: str) -> None:
    theirs, ours = pair("LSTM", 2, 3)
    x = torch.randn(4, 1, 2)
    with torch.no_grad():
        ours(x)
    for layer in (theirs, ours):
        if change == "step":
            optimizer = torch.optim.SGD(layer.parameters(), 1.0)
            layer(x)[0].sum().backward()
            optimizer.step()
        elif change == "data":
            layer.weight_hh_l0.data.mul_(2)  # which PyTorch's counter of versions does not notice
        elif change == "load":
            layer.load_state_dict({name: weight + 1 for name, weight in layer.state_dict().items()})
        else:
            layer.weight_ih_l0 = torch.nn.Parameter(torch.ones(12, 2))
    with torch.no_grad():
        close(ours(x), theirs(x))


def test_two_sets_of_weights_between_forward_and_backward() -> None:
    theirs, ours = pair("GRU", 2, 3, bidirectional=True)
    x, gradients = torch.randn(4, 5, 2), []
    for layer in (theirs, ours):
        first = {name: weight.detach().clone().requires_grad_() for name, weight in layer.named_parameters()}
        second = {name: (weight * 2).detach().requires_grad_() for name, weight in layer.named_parameters()}
        losses = [loss_of(torch.func.functional_call(layer, weights, (x,))) for weights in (first, second)]
        gradients.append([torch.autograd.grad(losses[i], list(w.values())) for i, w in ((0, first), (1, second))])
    for own, other in zip(gradients[1], gradients[0], strict=True):
        for a, b in zip(own, other, strict=True):
            close(a, b)


def test_both_biases_of_an_lstm_have_gradients_of_their_own() -> None:
    _, ours = pair("LSTM", 2, 3)
    loss_of(ours(torch.randn(4, 5, 2))).backward()
    assert bits(ours.bias_ih_l0.grad) == bits(ours.bias_hh_l0.grad)
    assert ours.bias_ih_l0.grad.data_ptr() != ours.bias_hh_l0.grad.data_ptr()


@pytest.mark.parametrize("frozen", ["weight_ih_l0", "bias_hh_l0", "all"])
def test_frozen_weights(frozen: str) -> None:
    theirs, ours = pair("LSTM", 2, 3)
    x = torch.randn(4, 5, 2, requires_grad=True)
    for layer in (theirs, ours):
        for name, weight in layer.named_parameters():
            weight.requires_grad_(frozen not in (name, "all"))
        loss_of(layer(x)).backward()
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert (own.grad is None) == (other.grad is None)
        if own.grad is not None:
            close(own.grad, other.grad)


# --- Dropout ----------------------------------------------------------------------------------------------------------


def test_dropout_between_layers() -> None:
    _, ours = pair("LSTM", 4, 50, 2, dropout=0.5)
    x = torch.randn(20, 10, 4)
    seen = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        seen.append(b"".join(bits(ours(x))))
    assert seen[0] == seen[1] != seen[2]
    with torch.no_grad():
        torch.manual_seed(1)
        assert b"".join(bits(ours(x))) == seen[0]
    ours.eval()
    close(ours(x), torch.nn.LSTM.forward(ours, x))
    assert bits(ours(x)) == bits(ours(x))


def test_dropout_has_the_gradient_of_what_it_computed() -> None:
    _, ours = pair("GRU", 2, 30, 2, dropout=0.5)
    x = torch.randn(3, 2, 2, requires_grad=True)
    way = torch.randn_like(x) / x.numel() ** 0.5

    def loss(moved: Tensor) -> Tensor:
        torch.manual_seed(5)
        return loss_of(ours(moved))

    (gradient,) = torch.autograd.grad(loss(x), x)
    step = 1e-2
    with torch.no_grad():
        difference = (loss(x + step * way) - loss(x - step * way)) / (2 * step)
    assert float((gradient * way).sum()) == pytest.approx(float(difference), rel=0.02, abs=0.02)


# --- Second derivatives -------------------------------------------------------------------------------------------


@given(examples())
@settings(max_examples=30)
def test_second_derivatives(example: dict[str, Any]) -> None:
    theirs, ours = layers_of(example)
    x, hx, leaves = arguments(example)
    found = []
    for layer in (theirs, ours):
        first = torch.autograd.grad(loss_of(layer(x, hx)), leaves, create_graph=True)
        penalty = sum(gradient.square().sum() for gradient in first)
        learnt_from = [*leaves, *layer.parameters()]
        found.append(torch.autograd.grad(penalty, learnt_from, allow_unused=True, retain_graph=True))
    for own, other in zip(found[1], found[0], strict=True):
        assert (own is None) == (other is None)
        if own is not None:
            close(own, other, 1e-4)


def test_second_derivatives_through_dropout() -> None:
    _, ours = pair("LSTM", 2, 3, 2, dropout=0.5)
    x = torch.randn(4, 5, 2, requires_grad=True)
    with pytest.raises(NotImplementedError, match="no second derivatives through the dropout between layers"):
        torch.autograd.grad(loss_of(ours(x)), x, create_graph=True)


# --- Where PyTorch's own code runs --------------------------------------------------------------------------------


def test_what_the_engine_does_not_compute() -> None:
    x = torch.randn(4, 5, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch, about projections
        for options, given_ in (({"proj_size": 2}, x), ({"dtype": torch.float64}, x.double())):
            theirs, ours = pair("LSTM", 2, 3, **options)
            assert bits(ours(given_)) == bits(theirs(given_))
    theirs, ours = pair("LSTM", 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x)[0].dtype == theirs(x)[0].dtype
    x[1, 2, 0] = torch.nan
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_in_float64_are_checked_as_pytorchs(kind: str) -> None:
    ours = getattr(bilstm.torch, kind)(2, 3, bidirectional=True, dtype=torch.float64)
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given_: tensors_of(ours(given_))[0], x)
    assert torch.autograd.gradgradcheck(lambda given_: tensors_of(ours(given_))[0], x)


def test_transforms_of_functions() -> None:
    theirs, ours = pair("GRU", 2, 3)
    x = torch.randn(4, 5, 2)
    for layer in (theirs, ours):
        weights = dict(layer.named_parameters())
        gradients = torch.func.grad(lambda w, layer=layer: loss_of(torch.func.functional_call(layer, w, (x,))))(weights)
        layer.found = list(gradients.values())
    for own, other in zip(ours.found, theirs.found, strict=True):
        close(own, other)


def test_traced_exported_and_compiled() -> None:
    theirs, ours = pair("LSTM", 2, 3)
    x = torch.randn(4, 5, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch, about its own layers
        close(torch.jit.trace(ours, x)(x), theirs(x))
        close(torch.export.export(ours, (x,)).module()(x), theirs(x))
        close(torch.compile(ours, backend="eager")(x), theirs(x))


@pytest.mark.parametrize(
    ("given_", "hx"),
    [
        (torch.zeros(4, 5, 3), None),
        (torch.zeros(5), None),
        (torch.zeros(4, 5, 2), (torch.zeros(1, 4, 3), torch.zeros(1, 5, 3))),
        (torch.zeros(4, 5, 2), (torch.zeros(1, 3), torch.zeros(1, 3))),
        (torch.zeros(4, 2), (torch.zeros(1, 5, 3), torch.zeros(1, 5, 3))),
        (torch.zeros(0, 5, 2), None),
        (torch.zeros(4, 5, 2, dtype=torch.int64), None),
    ],
)
def test_errors_are_pytorchs(given_: Any, hx: Any) -> None:
    theirs, ours = pair("LSTM", 2, 3)
    with pytest.raises((RuntimeError, ValueError)) as expected:
        theirs(given_, hx)
    with pytest.raises(type(expected.value)) as raised:
        ours(given_, hx)
    assert str(raised.value) == str(expected.value)


def test_no_sequences() -> None:
    theirs, ours = pair("LSTM", 2, 3)
    assert ours(torch.zeros(4, 0, 2))[0].shape == theirs(torch.zeros(4, 0, 2))[0].shape


# --- As a module ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_pickles(kind: str) -> None:
    _, ours = pair(kind, 2, 3, bidirectional=True)
    x = torch.randn(4, 5, 2)
    expected = bits(ours(x))
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    for copied in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), torch.load(file, weights_only=False)):
        assert isinstance(copied, OnEngine)
        assert bits(copied(x)) == expected
        with torch.no_grad():
            next(copied.parameters()).add_(1)
        assert bits(copied(x)) != expected
        assert bits(ours(x)) == expected


def test_it_is_pytorchs_layer_for_all_who_ask() -> None:
    theirs, ours = pair("LSTM", 2, 3, 2, bidirectional=True)
    assert isinstance(ours, torch.nn.LSTM)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    torch.nn.utils.parametrizations.weight_norm(ours, "weight_hh_l0")
    x = torch.randn(4, 5, 2)
    close(ours(x), theirs(x))


@pytest.mark.fast
def test_without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.startswith("bilstm.torch")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"bilstm\.torch needs PyTorch: pip install 'bilstm\[torch\]'"):
        import bilstm.torch  # noqa: F401


def test_arrays_are_not_shared_with_outputs() -> None:
    """An output that is changed in place does not change what comes after."""
    _, ours = pair("LSTM", 2, 3)
    x = torch.randn(4, 5, 2)
    with torch.no_grad():
        expected = bits(ours(x))
        ours(x)[0].zero_()
        assert bits(ours(x)) == expected
    assert np.isfinite(ours(x)[0].detach().numpy()).all()
