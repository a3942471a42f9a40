"""The service: models at an address, for programs and for people. It needs the extra `serve`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bilstm.errors import UserError
from bilstm.serving.settings import Settings

__all__ = ["Settings", "run"]


def run(settings: Settings, announce: Callable[[str, Sequence[str]], object] = lambda *_: None) -> None:
    """Serve models until a signal says to end. Requests that were accepted are answered first.

    Args:
        settings: which models, where, and with which limits.
        announce: called with the address and the models' names once requests are taken.

    Raises:
        UserError: a package is missing, a model cannot be loaded, or the address cannot be used.
    """
    try:
        from bilstm.serving.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "bilstm":
            raise
        raise UserError(f"serving needs the package {error.name}: pip install 'bilstm[serve]'") from None
    serve(settings, announce)
