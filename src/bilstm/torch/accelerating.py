"""Replaces the recurrent layers of an existing model of PyTorch's."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import nn

from bilstm.torch.crf import CRF
from bilstm.torch.recurrent import GRU, LSTM

_REPLACED: dict[type[nn.Module], type[nn.Module]] = {nn.LSTM: LSTM, nn.GRU: GRU}
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


class Accelerated(NamedTuple):
    """What `accelerate` did.

    Attributes:
        module: the model.
        replaced: the names of the modules that were replaced, and what they are now.
        kept: the names of recurrent modules that were not, and why.
    """

    module: nn.Module
    replaced: dict[str, str]
    kept: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{name or 'the module itself'}: now {what}" for name, what in self.replaced.items()]
        lines += [f"{name or 'the module itself'}: kept, {why}" for name, why in self.kept.items()]
        return "\n".join(lines or ["there is no recurrent layer and no CRF"])


def accelerate(module: nn.Module, *, inplace: bool = False) -> Accelerated:
    """Replace `torch.nn.LSTM`, `torch.nn.GRU` and pytorch-crf's `CRF` by this package's, wherever in a model they are.

    Modules change their class and remain the same objects, with the same parameters and hooks, so that optimizers and
    other references stay valid.

    Args:
        module: the model.
        inplace: whether to change it, or a copy of it.

    Returns:
        The model, what was replaced, and what was not and why; `print` it.

    Raises:
        TypeError: `module` is not a module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"accelerate: a torch.nn.Module is needed, not {module!r:.100}")
    module = module if inplace else copy.deepcopy(module)
    replaced, kept = {}, {}
    for name, part in module.named_modules():
        new = _replacement(part)
        if isinstance(new, str):
            kept[name] = new
        elif new is not None:
            part.__class__ = new
            if new is CRF:
                part.register_buffer("forbidden", None, persistent=False)
            replaced[name] = f"bilstm.torch.{new.__name__}"
    return Accelerated(module, replaced, kept)


def _replacement(part: Any) -> type[nn.Module] | str | None:
    """The class that replaces a module's; why there is none; or None for modules of other kinds."""
    kind = type(part)
    if isinstance(part, (LSTM, GRU, CRF)):
        return None
    crf = kind.__module__.partition(".")[0] == "torchcrf" and kind.__name__ == "CRF"
    new = CRF if crf else _REPLACED.get(kind)
    if new is None:
        return _reason(part) if isinstance(part, _RECURRENT) else _reason_of_script(part)
    if getattr(part, "proj_size", 0):
        return "it has projections, which the engine does not compute"
    other = next((weight for weight in part.parameters() if weight.dtype != torch.float32), None)
    if other is not None:
        return f"its weights are {str(other.dtype).removeprefix('torch.')}: the engine computes float32"
    other = next((weight for weight in part.parameters() if weight.device.type != "cpu"), None)
    if other is not None:
        return f"it is on {other.device}: the engine computes on the CPU"
    return new


def _reason_of_script(part: nn.Module) -> str | None:
    if isinstance(part, torch.jit.ScriptModule) and getattr(part, "original_name", "") in ("LSTM", "GRU"):
        return "it is TorchScript: accelerate the model before it is scripted or traced"
    return None


def _reason(part: nn.Module) -> str:
    kind = type(part)
    if isinstance(part, nn.RNNCellBase):
        return f"a {kind.__name__} takes single steps, and the engine whole sequences"
    if kind is nn.RNN:
        return "there is no replacement for RNN"
    if getattr(torch.nn.utils.parametrize, "is_parametrized", lambda _: False)(part):
        return "its weights are parametrized: accelerate the model before that"
    return f"a {kind.__name__} is a class of its own, which may compute something else"
