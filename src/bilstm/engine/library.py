"""Finds and loads the engine: the build for the best instruction set that this processor has."""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import POINTER, c_char_p, c_float, c_int32, c_int64, c_uint8, c_uint64, c_void_p
from functools import cache
from pathlib import Path

from bilstm.engine.processors import default_threads

ABI = 12
INVALID, OUT_OF_MEMORY, INTERRUPTED = 1, 2, 4  # error codes
TARGETS = ("avx512", "avx2", "neon")  # best first
SUFFIXES = (".so", ".dylib", ".dll")


class EngineError(RuntimeError):
    """The engine could not be loaded, or failed."""


class DirectionStruct(ctypes.Structure):
    """One direction of a recurrent layer: `reverse` reads sequences from their last step; `flip` stores outputs from
    the last step on; `cell` is an index into `plans.CELLS`, `gates` one into `plans.GATES`.
    """

    _fields_ = [
        ("units", c_int64),
        ("reverse", c_int32),
        ("flip", c_int32),
        ("cell", c_int32),
        ("gates", c_int32),
        ("without_bias", c_int32),
    ]


class LayerStruct(ctypes.Structure):
    """A layer as the engine reads it: see bilstm_layer in native/api.h."""


LayerStruct._fields_ = [  # one of them points to layers
    ("kind", c_int32),
    ("index", c_int32),
    ("directions", c_int32),
    ("ways", DirectionStruct * 2),
    ("merge", c_int32),
    ("return_sequences", c_int32),
    ("units", c_int64),
    ("activation", c_int32),
    ("rate", c_float),
    ("numeric", c_int64),
    ("tables", c_int64),
    ("vocabularies", POINTER(c_int64)),
    ("dimensions", POINTER(c_int64)),
    ("pool", c_int32),
    ("window", c_int64),
    ("stride", c_int64),
    ("dilation", c_int64),
    ("same", c_int32),
    ("causal", c_int32),
    ("without_bias", c_int32),
    ("forbidden", POINTER(c_uint8)),
    ("without_scale", c_int32),
    ("epsilon", c_float),
    ("frozen", POINTER(c_uint8)),
    ("index_dropout", POINTER(c_float)),
    ("encoder", POINTER(LayerStruct)),
    ("encoder_layers", c_int32),
    ("word_features", c_int64),
]


class DataStruct(ctypes.Structure):
    _fields_ = [
        ("values", c_void_p),
        ("offsets", c_void_p),
        ("steps", c_int64),
        ("sequences", c_int64),
        ("labels", c_void_p),
        ("targets", c_void_p),
        ("weights", c_void_p),
        ("word_values", c_void_p),
        ("word_offsets", c_void_p),
        ("words", c_int64),
        ("word_features", c_int64),
    ]


class OptimizerStruct(ctypes.Structure):
    _fields_ = [
        ("kind", c_int32),
        ("learning_rate", c_float),
        ("beta_1", c_float),
        ("beta_2", c_float),
        ("epsilon", c_float),
        ("clipnorm", c_float),
        ("global_clipnorm", c_float),
        ("clipvalue", c_float),
        ("weight_decay", c_float),
    ]


class InterruptStruct(ctypes.Structure):
    _fields_ = [("enter", c_void_p), ("pending", c_void_p), ("keep", c_void_p), ("leave", c_void_p)]


class InterruptionStruct(ctypes.Structure):
    _fields_ = [("kind", c_void_p), ("value", c_void_p), ("traceback", c_void_p)]


_SIGNATURES: dict[str, list[type]] = {
    "bilstm_set_threads": [c_int32],
    "bilstm_set_interrupt": [POINTER(InterruptStruct)],
    "bilstm_last_interruption": [POINTER(InterruptionStruct)],
    "bilstm_create": [POINTER(LayerStruct), c_int32, c_int64, POINTER(c_void_p)],
    "bilstm_describe": [c_void_p, POINTER(c_int64), POINTER(c_int64), POINTER(c_int32), POINTER(c_int64)],
    "bilstm_read": [c_void_p, c_int32, c_void_p, c_int64],
    "bilstm_write": [c_void_p, c_int32, c_void_p, c_int64],
    "bilstm_iteration": [c_void_p, POINTER(c_int64), c_int32],
    "bilstm_set_recompute": [c_void_p, c_int32],
    "bilstm_train": [
        c_void_p,
        c_void_p,
        c_void_p,
        c_int64,
        c_void_p,
        c_int64,
        c_int32,
        c_void_p,
        c_uint64,
        c_void_p,
    ],
    "bilstm_train_equal": [c_void_p, c_void_p, c_void_p, c_int64, c_int64, c_int32, c_void_p, c_uint64, c_void_p],
    "bilstm_gradient": [
        c_void_p,
        c_void_p,
        c_void_p,
        c_int64,
        c_int32,
        c_int32,
        c_uint64,
        c_void_p,
        c_void_p,
        c_void_p,
    ],
    "bilstm_forward": [
        c_void_p,
        c_void_p,
        c_int32,
        c_uint64,
        c_void_p,
        c_void_p,
        c_void_p,
        POINTER(c_void_p),
    ],
    "bilstm_backward": [c_void_p, c_void_p, c_void_p, c_void_p, c_void_p],
    "bilstm_divide": [c_void_p, c_void_p, c_int64, c_void_p, c_void_p, c_void_p],
    "bilstm_gradient_of_shares": [
        c_void_p,
        c_void_p,
        c_void_p,
        c_void_p,
        c_int64,
        c_void_p,
        c_int64,
        c_int64,
        c_int32,
        c_int32,
        c_uint64,
        c_void_p,
        c_void_p,
    ],
    "bilstm_sum_shares": [c_void_p, c_int64, c_float, c_void_p, c_int64],
    "bilstm_update": [c_void_p, c_void_p],
    "bilstm_average": [c_void_p, c_float],
    "bilstm_predict": [c_void_p, c_void_p, c_int32, c_int32, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p],
    "bilstm_decode": [c_void_p, c_void_p, c_int32, c_int64, c_void_p, c_void_p, c_void_p, c_void_p],
    "bilstm_predict_equal": [c_void_p, c_void_p, c_int64, c_int64, c_int32, c_void_p],
    "bilstm_prepare": [c_void_p, c_void_p, c_int64, c_int64, c_int32, c_void_p, POINTER(c_void_p)],
    "bilstm_predict_prepared": [c_void_p],
    "bilstm_first_not_finite": [c_void_p, c_int64],
    "bilstm_mark_unlabelled": [c_void_p, c_int64],
}


@cache
def library() -> ctypes.CDLL:
    """The loaded engine.

    The environment variable BILSTM_ENGINE names a build to use instead of the best ("avx512", "avx2" or "neon");
    BILSTM_THREADS a number of threads instead of one per processor.

    Raises:
        EngineError: there is no build that this processor can run, or a variable holds something else.
    """
    requested = os.environ.get("BILSTM_ENGINE")
    if requested is not None and requested not in TARGETS:
        raise EngineError(f"BILSTM_ENGINE must be one of {', '.join(TARGETS)}, not {requested!r}")
    present = [path for target in ((requested,) if requested else TARGETS) if (path := _find(target))]
    for path in present:
        engine = _load(path)
        if engine.bilstm_supported():
            engine.bilstm_set_threads(_threads())
            if sys.implementation.name == "cpython":
                engine.bilstm_set_interrupt(ctypes.byref(_interrupt()))
            return engine
    if not present:
        raise EngineError(f"the engine is not installed: no bilstm_{requested or '*'} library next to {__file__}")
    names = " or ".join(path.stem.removeprefix("bilstm_").upper() for path in present)
    raise EngineError(f"this processor has no {names}: exact results need fused multiply-add, which came with these")


def _find(target: str) -> Path | None:
    import bilstm.engine

    # An editable install keeps the libraries apart from the sources; both folders are in __path__.
    for folder in bilstm.engine.__path__:
        for suffix in SUFFIXES:
            path = Path(folder) / f"bilstm_{target}{suffix}"
            if path.is_file():
                return path
    return None


def _load(path: Path) -> ctypes.CDLL:
    engine = ctypes.CDLL(str(path))
    if engine.bilstm_abi() != ABI:
        raise EngineError(f"{path} is of another version of bilstm: install it again")
    engine.bilstm_last_error.restype = c_char_p
    engine.bilstm_target.restype = c_char_p
    for end in (engine.bilstm_destroy, engine.bilstm_forget, engine.bilstm_forget_pass):
        end.argtypes, end.restype = [c_void_p], None
    engine.bilstm_first_not_finite.restype = c_int64
    engine.bilstm_mark_unlabelled.restype = c_int64
    for name, arguments in _SIGNATURES.items():
        getattr(engine, name).argtypes = arguments
    return engine


@cache
def _interrupt() -> InterruptStruct:
    """Python's functions by which long calls of the engine find out that a signal's handler has raised an exception."""
    names = ("PyGILState_Ensure", "PyErr_CheckSignals", "PyErr_Fetch", "PyGILState_Release")
    return InterruptStruct(*(ctypes.cast(getattr(ctypes.pythonapi, name), c_void_p).value for name in names))


def _threads() -> int:
    text = os.environ.get("BILSTM_THREADS")
    if text is None:
        return default_threads()
    try:
        return _checked_threads(int(text))
    except ValueError:
        raise EngineError(f"BILSTM_THREADS must be a number from 1 to 1024, not {text!r}") from None


def _checked_threads(threads: int) -> int:
    if not 1 <= threads <= 1024:
        raise ValueError(f"the number of threads must be from 1 to 1024, not {threads}")
    return threads


def check(code: int) -> None:
    """Turn an error code of the engine into an exception."""
    if not code:
        return
    message = library().bilstm_last_error().decode()
    if code == INVALID:
        raise ValueError(message)
    if code == OUT_OF_MEMORY:
        raise MemoryError(message)
    if code == INTERRUPTED:
        _raise_interruption()
    raise EngineError(message)


def _raise_interruption() -> None:
    """Raise what the handler of a signal raised while the engine computed."""
    interruption = InterruptionStruct()
    library().bilstm_last_interruption(ctypes.byref(interruption))
    restore = ctypes.pythonapi.PyErr_Restore
    restore.argtypes, restore.restype = [c_void_p] * 3, None
    restore(interruption.kind, interruption.value, interruption.traceback)


def set_threads(threads: int) -> None:
    """Use this many threads, from 1 to 1024. Results do not depend on it.

    Raises:
        ValueError: another number.
    """
    check(library().bilstm_set_threads(_checked_threads(threads)))


def threads() -> int:
    """How many threads the engine uses."""
    return int(library().bilstm_threads())


def target() -> str:
    """The instruction set of the engine in use: "avx512", "avx2" or "neon"."""
    return str(library().bilstm_target().decode())
