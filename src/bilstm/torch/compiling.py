"""What PyTorch's compiler, exporters and transforms of functions must not look into."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy.typing as npt
import torch
from torch import Tensor

_Function = TypeVar("_Function", bound=Callable[..., Any])


def recorded() -> bool:
    """Whether PyTorch records what is computed, to export it, say."""
    if torch.jit.is_scripting() or torch.jit.is_tracing() or torch.onnx.is_in_onnx_export():
        return True
    return bool(getattr(torch.compiler, "is_exporting", lambda: False)())


def transformed() -> bool:
    """Whether a transform of functions, of `torch.func`, is at work."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def to_numpy(tensor: Tensor) -> npt.NDArray[Any]:
    """On the CPU, without gradients, also where `torch.func.grad` is at work, which wraps each result."""
    functorch = torch._C._functorch
    while functorch.is_gradtrackingtensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    with torch._C._DisableFuncTorch():
        array: npt.NDArray[Any] = tensor.detach().cpu().numpy()
    return array


# Whether calls of functions are looked at by the compiler; None where PyTorch has no such function.
_compiler: Callable[[], Any] | None = getattr(torch._C._dynamo.eval_frame, "get_eval_frame_callback", None)


def outside_graphs(function: _Function) -> _Function:
    """Run a function as it is, between two graphs, where `torch.compile` compiles what calls it.

    `torch.compiler.disable` alone does so, too, but takes 50 microseconds each time, even where nothing is compiled.
    """
    disabled: _Function = torch.compiler.disable(function)
    if _compiler is None:
        return disabled
    compiler = _compiler

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        # The first is what the compiler sees; the second is for calls that it has given up to compile.
        if torch.compiler.is_compiling() or compiler() is not None:
            return disabled(*arguments, **keywords)
        return function(*arguments, **keywords)

    return cast(_Function, call)
