"""What the readers of other libraries' files have in common: refusing, and directions that belong together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from bilstm.errors import ModelFileError
from bilstm.files import AnyPath
from bilstm.layers import Bidirectional, Recurrent


class RefusedError(ValueError):
    """Why a file cannot be read; the message lacks only the file's name."""


@contextlib.contextmanager
def saying_why(path: AnyPath) -> Iterator[None]:
    """Make one line of whatever goes wrong in the block: on damaged files the libraries raise nearly everything."""
    try:
        yield
    except (ModelFileError, MemoryError):
        raise
    except RefusedError as error:
        raise ModelFileError(f"cannot open {os.fspath(path)}: {error}") from None
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise ModelFileError(f"{os.fspath(path)} is damaged or was not written completely ({why:.200})") from None


def joined(forward: Recurrent, backward: Recurrent, merge_mode: str | None) -> Bidirectional:
    """Both directions in one layer. The second is left out of its description where the first implies it.

    Raises:
        ValueError: they do not go together; the message says why.
    """
    implied = forward.get_config() | {"go_backwards": not forward.go_backwards}
    if type(forward) is type(backward) and backward.get_config() == implied:
        return Bidirectional(forward, merge_mode)
    return Bidirectional(forward, merge_mode, backward)
