"""The CRF module: beside pytorch-crf, beside the enumeration of all label sequences, and beside our own layer."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from bilstm import layers, models  # noqa: E402
from bilstm.torch import CRF  # noqa: E402
from bilstm.torch.crf import _Likelihood  # noqa: E402

Tensor = Any
REDUCTIONS = ("none", "sum", "mean", "token_mean")


@st.composite
def examples(draw: st.DrawFn, *, longest: int = 6, most: int = 5) -> dict[str, Any]:
    return {
        "labels": draw(st.integers(1, most)),
        "lengths": draw(st.lists(st.integers(1, longest), min_size=1, max_size=4)),
        "batch_first": draw(st.booleans()),
        "reduction": draw(st.sampled_from(REDUCTIONS)),
        "masked": draw(st.sampled_from(["bool", "uint8", "none"])),
        "dtype": draw(st.sampled_from(["float32", "float64"])),
        "scale": draw(st.sampled_from([1.0, 20.0])),
        "seed": draw(st.integers(0, 99)),
    }


def problem(example: dict[str, Any], kind: Any = CRF, **options: Any) -> tuple[Any, dict[str, Any], list[int]]:
    """A CRF, arguments of forward but the reduction, and the lengths."""
    torch.manual_seed(example["seed"])
    dtype, lengths = getattr(torch, example["dtype"]), example["lengths"]
    if example["masked"] == "none":
        lengths = [max(lengths)] * len(lengths)
    crf = kind(example["labels"], batch_first=example["batch_first"], **options).to(dtype)
    with torch.no_grad():
        for weights in crf.parameters():
            weights.mul_(10)
    steps, count = max(lengths), len(lengths)
    emissions = example["scale"] * torch.randn(count, steps, example["labels"], dtype=dtype)
    tags = torch.randint(example["labels"], (count, steps))
    mask = torch.arange(steps) < torch.tensor(lengths).unsqueeze(1)
    if not example["batch_first"]:
        emissions, tags, mask = emissions.transpose(0, 1), tags.T, mask.T
    emissions = emissions.contiguous().requires_grad_()
    masks = {"bool": mask, "uint8": mask.to(torch.uint8), "none": None}
    return crf, {"emissions": emissions, "tags": tags, "mask": masks[example["masked"]]}, lengths


def by_sequence(crf: Any, tensor: Tensor, lengths: list[int]) -> list[Tensor]:
    ordered = tensor if crf.batch_first else tensor.transpose(0, 1)
    return [part[:length] for part, length in zip(ordered, lengths, strict=True)]


def close(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    scale = max(1.0, float(expected.detach().abs().max()))
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * scale)


@given(examples(longest=12, most=7))
@settings(max_examples=60)
@pytest.mark.filterwarnings("ignore:where received a uint8 condition:UserWarning")  # pytorch-crf's
def test_it_is_pytorch_crf(example: dict[str, Any]) -> None:
    torchcrf = pytest.importorskip("torchcrf")
    theirs, given_, _ = problem(example, torchcrf.CRF)
    ours = CRF(example["labels"], batch_first=example["batch_first"]).to(given_["emissions"].dtype)
    ours.load_state_dict(theirs.state_dict())
    found, expected = (crf(**given_, reduction=example["reduction"]) for crf in (ours, theirs))
    close(found, expected)
    assert found.shape == expected.shape
    weights = torch.randn_like(expected)
    gradients = [
        torch.autograd.grad(
            (each * weights).sum(), [given_["emissions"], *crf.parameters()], allow_unused=True, materialize_grads=True
        )
        for each, crf in ((found, ours), (expected, theirs))
    ]
    for own, other in zip(*gradients, strict=True):
        close(own, other, 1e-4)
    assert ours.decode(given_["emissions"], given_["mask"]) == theirs.decode(given_["emissions"], given_["mask"])


def enumerated(crf: Any, scores: Tensor) -> dict[tuple[int, ...], Tensor]:
    """The logarithm of the probability of each label sequence that no forbidden transition is in."""
    table = None if crf.forbidden is None else crf.forbidden.tolist()
    n, totals = crf.num_tags, {}
    for path in itertools.product(range(n), repeat=len(scores)):
        if table and (
            table[n][path[0]] or table[n + 1][path[-1]] or any(table[a][b] for a, b in itertools.pairwise(path))
        ):
            continue
        total = crf.start_transitions[path[0]] + crf.end_transitions[path[-1]]
        total = total + sum(scores[t, label] for t, label in enumerate(path))
        totals[path] = total + sum(crf.transitions[a, b] for a, b in itertools.pairwise(path))
    normalizer = torch.logsumexp(torch.stack(list(totals.values())), 0)
    return {path: total - normalizer for path, total in totals.items()}


@given(examples(longest=4, most=3), st.booleans(), st.booleans())
@settings(max_examples=60)
def test_it_is_the_enumeration(example: dict[str, Any], forbids: bool, twice: bool) -> None:
    """Likelihoods, marginals, paths, gradients and second derivatives, with and without forbidden transitions."""
    forbidden = [(0, 0), (None, example["labels"] - 1)] if forbids and example["labels"] > 1 else None
    crf, given_, lengths = problem(example | {"scale": 1.0}, forbidden=forbidden)
    own = by_sequence(crf, given_["emissions"], lengths)
    if any(not len(enumerate_all) for enumerate_all in (allowed(crf, len(each)) for each in own)):
        return
    possible = [enumerated(crf, each) for each in own]
    random = np.random.default_rng(example["seed"])
    paths = [list(each)[random.integers(len(each))] for each in possible]
    tags = torch.full_like(given_["tags"], -100)
    for part, path in zip(
        by_sequence(crf, tags, [tags.shape[int(crf.batch_first)]] * len(lengths)), paths, strict=True
    ):
        part[: len(path)] = torch.tensor(path)
    found = crf(given_["emissions"], tags, given_["mask"], "none")
    expected = torch.stack([each[path] for each, path in zip(possible, paths, strict=True)])
    close(found, expected)
    leaves = [given_["emissions"], *crf.parameters()]
    gradients = []
    for each in (found, expected):
        weights = torch.linspace(-1, 2, len(each), dtype=each.dtype)
        first = torch.autograd.grad(
            (each * weights).sum(), leaves, create_graph=twice, allow_unused=True, materialize_grads=True
        )
        gradients.append(first)
        if twice and example["labels"] > 1:
            penalty = sum(one.square().sum() for one in first)
            gradients[-1] += torch.autograd.grad(penalty, leaves, allow_unused=True, materialize_grads=True)
    for a, b in zip(*gradients, strict=True):
        close(a, b, 1e-4)
    with torch.no_grad():
        best = [max(each, key=each.__getitem__) for each in possible]
        for a, b, each in zip(crf.decode(given_["emissions"], given_["mask"]), best, possible, strict=True):
            assert each[tuple(a)] >= each[b] - 1e-5
        for probabilities in (crf.marginals(given_["emissions"], given_["mask"]),):
            for one, each in zip(by_sequence(crf, probabilities, lengths), possible, strict=True):
                expected = torch.zeros_like(one)
                for path, log_probability in each.items():
                    expected[torch.arange(len(path)), list(path)] += log_probability.exp()
                close(one, expected)


def allowed(crf: Any, steps: int) -> list[int]:
    """The labels that a sequence of so many steps may end with."""
    if crf.forbidden is None:
        return [0]
    table, n = crf.forbidden.numpy(), crf.num_tags
    reached = ~table[n]
    for _ in range(steps - 1):
        reached = (reached[:, None] & ~table[:n]).any(0)
    return np.flatnonzero(reached & ~table[n + 1]).tolist()  # type: ignore[no-any-return]


def test_it_is_our_layer() -> None:
    forbidden = [(1, 2), (None, 2), (0, None)]
    model = models.Sequential([layers.Input((None, 3)), layers.CRF(3, forbidden)], seed=1)
    crf = CRF(3, batch_first=True, forbidden=forbidden)
    transitions, start, end = map(torch.from_numpy, model.get_weights())
    crf.load_state_dict({"transitions": transitions, "start_transitions": start[0], "end_transitions": end[0]})
    x = torch.randn(4, 6, 3)
    labels = model.decode(x.numpy())[0][0]
    assert crf.decode(x) == labels.tolist()
    likelihoods = crf(x, torch.from_numpy(labels.astype(np.int64)), reduction="none")
    np.testing.assert_allclose(likelihoods.detach(), model.log_likelihoods(x.numpy(), labels), atol=1e-6)
    for grad in (torch.no_grad, torch.enable_grad):  # on the engine, and in PyTorch
        with grad():
            np.testing.assert_allclose(crf.marginals(x).detach(), model.predict(x.numpy()), atol=1e-6)


def test_gradients_of_marginals() -> None:
    crf = CRF(3, forbidden=[(0, 1)]).double()
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1], [1, 1], [1, 0], [1, 0]])
    assert torch.autograd.gradcheck(lambda x: crf.marginals(x, mask), x)
    assert torch.autograd.gradgradcheck(lambda x: crf(x, torch.ones(4, 2, dtype=torch.long), mask, "none"), x)


@given(examples())
@settings(max_examples=20)
def test_a_sequence_is_the_same_alone(example: dict[str, Any]) -> None:
    crf, given_, lengths = problem(example | {"dtype": "float32"})
    together = crf(**given_, reduction="none")
    parts = [by_sequence(crf, given_[name], lengths) for name in ("emissions", "tags")]
    for found, scores, tags in zip(together, *parts, strict=True):
        axis = 0 if crf.batch_first else 1
        assert torch.equal(crf(scores.unsqueeze(axis), tags.unsqueeze(axis)), found)


def test_half_precision_and_autocast() -> None:
    crf, x, tags = CRF(3), torch.randn(5, 2, 3), torch.ones(5, 2, dtype=torch.long)
    expected = crf(x, tags)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(crf(x.bfloat16(), tags), expected, rtol=0.02, atol=0.05)
    assert crf.bfloat16()(x.bfloat16(), tags).dtype == torch.bfloat16


def test_scores_that_are_not_finite_have_no_finite_likelihood() -> None:
    crf, x = CRF(3), torch.randn(5, 2, 3)
    x[2, 1, 0] = torch.nan
    found = crf(x, torch.ones(5, 2, dtype=torch.long), reduction="none")
    assert found.isfinite().tolist() == [True, False]


def test_weights_that_change_between_the_passes() -> None:
    """The gradient is that of the weights of the forward pass."""
    crf = CRF(2)
    x, tags = torch.randn(3, 1, 2), torch.zeros(3, 1, dtype=torch.long)
    other = {name: (weights * 5).detach().requires_grad_() for name, weights in crf.named_parameters()}
    losses = [crf(x, tags), torch.func.functional_call(crf, other, (x, tags))]
    expected = torch.autograd.grad(losses[0], list(crf.parameters()), retain_graph=True)
    torch.autograd.grad(losses[1], list(other.values()))
    for a, b in zip(torch.autograd.grad(losses[0], list(crf.parameters())), expected, strict=True):
        assert torch.equal(a, b)


def test_as_a_module() -> None:
    crf, x = CRF(3, forbidden=[(0, 1)]), torch.randn(5, 2, 3)
    assert list(crf.state_dict()) == ["start_transitions", "end_transitions", "transitions"]
    assert repr(crf) == "CRF(num_tags=3, 1 transitions forbidden)"
    assert repr(CRF(4)) == "CRF(num_tags=4)"
    expected = crf.decode(x), crf(x, torch.ones(5, 2, dtype=torch.long))
    file = io.BytesIO()
    torch.save(crf, file)
    file.seek(0)
    others = copy.deepcopy(crf), pickle.loads(pickle.dumps(crf)), torch.load(file, weights_only=False)
    for other in (*others, torch.compile(crf, backend="eager")):
        assert torch.equal(other(x, torch.ones(5, 2, dtype=torch.long)), expected[1])
        assert other.decode(x) == expected[0]
    assert crf.double().decode(x.double()) == expected[0]


REFUSED: list[tuple[Any, str]] = [
    (lambda: CRF(0), "invalid number of tags: 0"),
    (lambda: CRF(2, forbidden=[(0, 2)]), "2 is not a label"),
    (lambda: CRF(2)(torch.zeros(3, 2), torch.zeros(3, 1)), "emissions must have dimension of 3, got 2"),
    (lambda: CRF(2)(torch.zeros(3, 1, 4), torch.zeros(3, 1)), "expected last dimension of emissions is 2, got 4"),
    (
        lambda: CRF(2)(torch.zeros(3, 1, 2), torch.zeros(1, 3)),
        r"emissions and tags must match, got \(3, 1\) and \(1, 3",
    ),
    (lambda: CRF(2)(torch.zeros(3, 1, 2), torch.zeros(3, 1)), "tags must be whole numbers, not torch.float32"),
    (lambda: CRF(2)(torch.zeros(3, 1, 2), torch.full((3, 1), 2)), "tag 2 at step 0 of sequence 0: the tags are 0 to 1"),
    (lambda: CRF(2)(torch.zeros(3, 2, 2), torch.tensor([[0, 0], [0, -1], [0, 0]])), "tag -1 at step 1 of sequence 1"),
    (lambda: CRF(2)(torch.zeros(3, 1, 2), torch.zeros(3, 1).long(), reduction="max"), "invalid reduction: max"),
    (lambda: CRF(2).decode(torch.zeros(3, 1, 2), torch.zeros(1, 3)), "emissions and mask must match"),
    (lambda: CRF(2).decode(torch.zeros(3, 1, 2), torch.tensor([[0], [1], [1]])), "mask of the first timestep must all"),
    (
        lambda: CRF(2, True).decode(torch.zeros(2, 3, 2), torch.tensor([[1, 1, 1], [1, 0, 1]])),
        "the mask must be on for the first steps of each sequence: of 1 it is not",
    ),
    (
        lambda: CRF(2, True, forbidden=[(0, 1)])(torch.zeros(1, 3, 2), torch.tensor([[1, 0, 1]])),
        "tag 1 at step 2 of sequence 0: a transition from, to or at the end of it is forbidden",
    ),
]
FORBIDDEN = [(0, 0), (0, 1), (1, 0), (1, 1)]
REFUSED += [
    (lambda dtype=dtype: CRF(2, True, forbidden=FORBIDDEN).to(dtype).decode(torch.zeros(1, 3, 2, dtype=dtype)), message)
    for dtype in (torch.float32, torch.float64)
    for message in ("no labels of sequence 0, 3 steps, are without a forbidden transition",)
]


@pytest.mark.fast
@pytest.mark.parametrize(("do", "message"), REFUSED)
def test_what_is_refused(do: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        do()


def test_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the engine in float32, in PyTorch in float64."""
    calls: list[str] = []
    apply = _Likelihood.apply
    monkeypatch.setattr(_Likelihood, "apply", lambda *given_: calls.append("engine") or apply(*given_))
    crf, x, tags = CRF(3), torch.randn(5, 2, 3), torch.ones(5, 2, dtype=torch.long)
    crf(x, tags)
    crf.double()(x.double(), tags)
    assert calls == ["engine"]
