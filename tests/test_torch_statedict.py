"""Other people's taggers from their state_dicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils.rnn import pack_sequence, unpack_sequence  # noqa: E402

import bilstm.torch  # noqa: E402
from bilstm import layers  # noqa: E402
from bilstm.ragged import Ragged  # noqa: E402
from bilstm.torch import from_state_dict, guess_layers  # noqa: E402

Tensor = Any


class Tagger(nn.Module):
    """What people write."""

    def __init__(self, cell: str, outputs: int, crf: bool, words: bool, **options: Any) -> None:
        super().__init__()
        if words:
            self.word_embeds = nn.Embedding(9, 3)
        self.rnn = getattr(nn, cell)(3, 5, **options)
        directions = 2 if options.get("bidirectional") else 1
        self.hidden2tag = nn.Linear(5 * directions, outputs)
        if crf:
            self.crf = bilstm.torch.CRF(outputs)
            with torch.no_grad():
                self.crf.transitions.mul_(20)

    def forward(self, sequences: list[Tensor]) -> list[Tensor]:
        """The emissions of each sequence."""
        embedded = [self.word_embeds(each) if hasattr(self, "word_embeds") else each for each in sequences]
        return [self.hidden2tag(each) for each in unpack_sequence(self.rnn(pack_sequence(embedded, False))[0])]


def inputs(words: bool) -> list[Tensor]:
    return [torch.randint(9, (n,)) if words else torch.randn(n, 3) for n in (4, 1, 6)]


def as_arrays(sequences: list[Tensor]) -> list[Any]:
    return [each.numpy().astype(np.float32) for each in sequences]


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}, {"bias": False}])
@pytest.mark.parametrize(("outputs", "crf", "words"), [(4, True, True), (1, False, False), (3, False, True)])
def test_common_taggers(cell: str, options: dict[str, Any], outputs: int, crf: bool, words: bool) -> None:
    torch.manual_seed(0)
    tagger, x = Tagger(cell, outputs, crf, words, **options), inputs(words)
    model = from_state_dict(tagger.state_dict())
    emissions, predicted = tagger(x), model.predict(as_arrays(x))
    if crf:
        labels = model.decode(as_arrays(x))[0][0]
        assert [each.tolist() for each in labels] == [tagger.crf.decode(each.unsqueeze(1))[0] for each in emissions]
        expected = [tagger.crf.marginals(each.unsqueeze(1)).squeeze(1) for each in emissions]
    else:
        expected = [each.sigmoid() if outputs == 1 else each.softmax(-1) for each in emissions]
    for found, other in zip(predicted, expected, strict=True):
        np.testing.assert_allclose(found, other.detach(), atol=1e-5)


def test_the_mapping_can_be_corrected() -> None:
    torch.manual_seed(0)
    tagger = Tagger("GRU", 3, False, True, bidirectional=True)
    guessed = guess_layers(tagger)
    assert [(prefix, type(layer).__name__) for prefix, layer in guessed] == [
        ("word_embeds", "Embedding"),
        ("rnn", "Bidirectional"),
        ("hidden2tag", "TimeDistributed"),
    ]
    x = inputs(True)
    model = from_state_dict(tagger, [*guessed[:2], ("hidden2tag", layers.Dense(3)), (None, layers.Dropout(0.5))])
    for found, expected in zip(model.predict(as_arrays(x)), tagger(x), strict=True):
        np.testing.assert_allclose(found, expected.detach(), atol=1e-5)


def test_more_layers_than_can_be_guessed() -> None:
    """Convolutions, normalizations, and activations that a state_dict does not say."""
    torch.manual_seed(0)
    conv, norm, first, rnn = nn.Conv1d(2, 4, 3, padding=1), nn.BatchNorm1d(4), nn.Linear(4, 3), nn.LSTM(3, 2)
    norm.running_mean.uniform_(-1, 1)
    modules = nn.ModuleDict({"conv": conv, "norm": norm, "first": first, "rnn": rnn}).eval()
    with pytest.raises(ValueError, match="it is unknown what 'conv.weight', 'conv.bias' is for: pass layers="):
        from_state_dict(modules)
    model = from_state_dict(
        {f"module.{name}": weight for name, weight in modules.state_dict().items()},
        [
            ("module.conv", layers.Conv1D(4, 3, padding="same", activation="relu")),
            ("module.norm", layers.BatchNormalization(epsilon=1e-5, momentum=0.9)),
            ("module.first", layers.Dense(3, "tanh")),
            ("module.rnn", layers.LSTM(2)),
        ],
    )
    x = torch.randn(6, 2)
    hidden = norm(conv(x.T.unsqueeze(0)).relu())[0].T
    expected = rnn(first(hidden).tanh())[0][-1]
    np.testing.assert_allclose(model.predict(Ragged(x.numpy(), [0, 6]))[0], expected.detach(), atol=1e-5)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_what_is_refused() -> None:
    tagger = Tagger("LSTM", 3, False, True)
    state = tagger.state_dict()
    guessed = guess_layers(state)
    wrong = {
        "no layer takes 'hidden2tag.weight', 'hidden2tag.bias'": (state, guessed[:2]),
        "needs 'tag.weight', 'tag.bias', which is not there": (state, [*guessed[:2], ("tag", layers.Dense(3))]),
        r"needs hidden2tag.weight of shape \(4, 5\), not \(3, 5\)": (
            state,
            [*guessed[:2], ("hidden2tag", layers.Dense(4))],
        ),
        "rnn.weight_ih_l0 of shape": (state, [guessed[0], ("rnn", layers.GRU(5)), guessed[2]]),
        "layers is empty": (state, []),
        "does not say how many features a step has": (state, [(None, layers.Dropout(0.5))]),
        "there is no recurrent layer": (nn.Linear(2, 3), None),
        "more than one linear layer, 'a', 'b'": (
            nn.ModuleDict({"rnn": nn.GRU(2, 3), "a": nn.Linear(3, 3), "b": nn.Linear(3, 3)}),
            None,
        ),
        "has projections": (nn.ModuleDict({"rnn": nn.LSTM(2, 3, proj_size=2)}), None),
        "a state_dict is needed": ({"model": {}}, None),
        "'word_embeds.weight' holds NaN": (state | {"word_embeds.weight": torch.full((9, 3), torch.nan)}, None),
    }
    for message, (given_, parts) in wrong.items():
        with pytest.raises(ValueError, match=message):
            from_state_dict(given_, parts)
