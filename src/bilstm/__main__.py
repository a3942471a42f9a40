"""The command line: `bilstm`, or `python -m bilstm`."""

from __future__ import annotations

import sys
from typing import NoReturn

from bilstm.signals import Stopped, ignore_signals, stop_on_signals


def main() -> NoReturn:
    """Run the command line, and exit with its status."""
    status: object = None
    try:
        stop_on_signals()  # before the modules are imported that take a while
        from bilstm.cli import run

        run()
    except SystemExit as end:
        status = end.code
    except KeyboardInterrupt as interrupt:  # before there was a command, or a second time
        ignore_signals()
        status = interrupt.status if isinstance(interrupt, Stopped) else 130
        print("bilstm: stopped", file=sys.stderr)
    except MemoryError:
        status = 2
        print("bilstm: there is not enough memory", file=sys.stderr)
    finally:
        ignore_signals()  # while temporary files are removed
    sys.exit(status)


if __name__ == "__main__":
    main()
