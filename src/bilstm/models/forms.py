"""Small decisions about arguments that several methods of `Sequential` share."""

from __future__ import annotations

from typing import Any

import numpy as np

from bilstm.arguments import check_choice, check_count


def is_small(x: Any, one_row_each: bool = False) -> bool:
    """Whether x is in the engine's own form already, and so small that microseconds around its call count."""
    return (
        type(x) is np.ndarray
        and x.ndim == (2 if one_row_each else 3)
        and 0 < x.size <= 1 << 14
        and x.dtype == np.float32
        and x.flags.c_contiguous
    )


def batch_size_of(owner: str, batch_size: int | None, name: str = "batch_size") -> int:
    """The given batch size, checked, or Keras's default."""
    return 32 if batch_size is None else check_count(owner, name, batch_size)


def verbosity_of(owner: str, verbose: int | str) -> int:
    """0, 1 or 2 from what Keras takes."""
    if isinstance(verbose, bool) or verbose == "auto":
        return int(verbose is not False)
    return int(check_choice(owner, "verbose", verbose, (0, 1, 2)))


def refuse_steps(owner: str, name: str, steps: int | None) -> None:
    """Refuse a number of batches where arrays, not batches, were given."""
    if steps is not None:
        raise ValueError(f"{owner}: {name}={steps!r} is not supported with arrays, only if a generator makes batches")
