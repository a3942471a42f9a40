"""`accelerate`: what is replaced in a model of PyTorch's, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import bilstm.torch  # noqa: E402
from bilstm.torch import accelerate  # noqa: E402


class Own(nn.LSTM):
    pass


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 4, bidirectional=True)
        self.deep = nn.ModuleDict({"gru": nn.GRU(8, 4)})
        self.head = nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.deep["gru"](self.rnn(x)[0])[0])


@pytest.mark.parametrize("inplace", [False, True])
def test_the_layers_of_a_model(inplace: bool) -> None:
    model, x = Model(), torch.randn(5, 2, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    seen: list[str] = []
    model.rnn.register_forward_hook(lambda module, *_: seen.append(type(module).__module__))
    expected = model(x)
    found = accelerate(model, inplace=inplace)
    assert found.replaced == {"rnn": "bilstm.torch.LSTM", "deep.gru": "bilstm.torch.GRU"}
    assert found.kept == {}
    assert str(found) == "rnn: now bilstm.torch.LSTM\ndeep.gru: now bilstm.torch.GRU"
    assert (found.module is model) == inplace
    assert type(model.rnn) is (bilstm.torch.LSTM if inplace else nn.LSTM)
    torch.testing.assert_close(found.module(x), expected)
    assert seen == ["torch.nn.modules.rnn", "bilstm.torch.recurrent"]
    assert list(found.module.state_dict()) == list(Model().state_dict())
    found.module(x).square().sum().backward()
    optimizer.step()
    assert torch.equal(model(x), expected) != inplace  # the optimizer has the same parameters still
    assert accelerate(found.module).replaced == {}


def test_the_module_itself() -> None:
    found = accelerate(nn.GRU(2, 3))
    assert isinstance(found.module, bilstm.torch.GRU)
    assert str(found) == "the module itself: now bilstm.torch.GRU"
    assert str(accelerate(nn.Linear(2, 3))) == "there is no recurrent layer and no CRF"


def test_pytorch_crf() -> None:
    torchcrf = pytest.importorskip("torchcrf")
    crf, x = torchcrf.CRF(3, batch_first=True), torch.randn(2, 5, 3)
    found = accelerate(nn.ModuleList([crf]))
    assert found.replaced == {"0": "bilstm.torch.CRF"}
    (ours,) = found.module
    tags, mask = torch.ones(2, 5, dtype=torch.long), torch.ones(2, 5, dtype=torch.bool)
    torch.testing.assert_close(ours(x, tags, mask), crf(x, tags, mask))
    assert ours.decode(x, mask) == crf.decode(x, mask)
    assert list(ours.state_dict()) == list(crf.state_dict())


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning", "ignore::DeprecationWarning")
def test_what_is_kept_and_why() -> None:
    parametrized = nn.LSTM(2, 3)
    nn.utils.parametrizations.weight_norm(parametrized, "weight_hh_l0")
    model = nn.ModuleDict(
        {
            "projected": nn.LSTM(2, 4, proj_size=3),
            "wide": nn.GRU(2, 3).double(),
            "meta": nn.GRU(2, 3, device="meta"),
            "own": Own(2, 3),
            "rnn": nn.RNN(2, 3),
            "cell": nn.LSTMCell(2, 3),
            "parametrized": parametrized,
            "script": torch.jit.script(nn.LSTM(2, 3)),
        }
    )
    found = accelerate(model, inplace=True)
    assert found.replaced == {}
    reasons = {
        "projected": "it has projections",
        "wide": "its weights are float64: the engine computes float32",
        "meta": "it is on meta: the engine computes on the CPU",
        "own": "a Own is a class of its own",
        "rnn": "there is no replacement for RNN",
        "cell": "a LSTMCell takes single steps",
        "parametrized": "its weights are parametrized",
        "script": "it is TorchScript",
    }
    assert found.kept.keys() == reasons.keys()
    for name, why in reasons.items():
        assert found.kept[name].startswith(why)
        assert f"{name}: kept, {why}" in str(found)
    with pytest.raises(TypeError, match="a torch.nn.Module is needed, not 3"):
        accelerate(3)
