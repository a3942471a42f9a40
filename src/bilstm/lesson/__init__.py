"""`bilstm demo --page`: networks of one direction and of both learn in a browser, before a reader's eyes.

It needs the extra `serve`.
"""

from __future__ import annotations

from collections.abc import Callable

from bilstm.errors import UserError

__all__ = ["run_page"]


def run_page(
    steps: int = 10,
    units: int = 20,
    sequences: int = 1000,
    merge_mode: str = "concat",
    seed: int | None = None,
    port: int = 8000,
    announce: Callable[[str], object] = lambda address: None,
) -> None:
    """Serve the page on this computer until a signal says to end.

    Args:
        steps: the number of steps of every sequence, from 2 to 200.
        units: LSTM units in each direction.
        sequences: how many sequences every network is trained on, one at a time.
        merge_mode: how the bidirectional network joins its directions: "concat", "sum", "mul" or "ave".
        seed: an integer from 0; the same seed gives the same figures. Default: 1.
        port: where it listens; 0 takes a free one.
        announce: called with the address once the page is there.

    Raises:
        UserError: an argument is not one of the above, a package is missing, or the port cannot be used.
    """
    from bilstm.demo import check

    seed = 1 if seed is None else seed
    check(steps, units, sequences, merge_mode, seed)
    if steps > 200:
        raise UserError(f"the page has room for 200 steps, not {steps}: give fewer, or leave out --page")
    try:
        from bilstm.lesson.app import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "bilstm":
            raise
        raise UserError(f"the page needs the package {error.name}: pip install 'bilstm[serve]'") from None
    serve(steps, units, sequences, merge_mode, seed, port, announce)
