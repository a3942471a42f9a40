"""Drop-in replacements for PyTorch's recurrent layers, on bilstm's engine: `pip install bilstm[torch]`.

from bilstm.torch import LSTM  # instead of: from torch.nn import LSTM
"""

from __future__ import annotations

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("bilstm.torch needs PyTorch: pip install 'bilstm[torch]'") from error

from bilstm.torch.accelerating import Accelerated, accelerate
from bilstm.torch.bidirectional import Bidirectional, TimeDistributed
from bilstm.torch.crf import CRF
from bilstm.torch.network import SequenceNetwork, from_torch, to_torch
from bilstm.torch.recurrent import GRU, LSTM
from bilstm.torch.statedict import from_state_dict, guess_layers

__all__ = [
    "CRF",
    "GRU",
    "LSTM",
    "Accelerated",
    "Bidirectional",
    "SequenceNetwork",
    "TimeDistributed",
    "accelerate",
    "from_state_dict",
    "from_torch",
    "guess_layers",
    "to_torch",
]
