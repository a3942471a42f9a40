"""How the command line behaves: one line for a mistake, and no traceback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NoReturn

import click

from bilstm.errors import UserError, printable, suggestion
from bilstm.files import reason

MISTAKE, INTERRUPTED, BROKEN = 2, 130, 70  # exit statuses; the last is sysexits.h's EX_SOFTWARE


class CommandLine(click.Group):
    """A group of commands that ends with a status and one line on standard error whatever goes wrong."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> NoReturn:
        arguments = list(sys.argv[1:] if args is None else args) or ["--help"]
        options["standalone_mode"] = False
        with _ending_in_one_line():
            status = super().main(arguments, *rest, **options)
            sys.stdout.flush()
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        # Here, since click itself turns Ctrl-C and a closed pipe into something else.
        with _ending_in_one_line():
            return super().invoke(ctx)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and self.get_command(ctx, args[0]) is None:
            known = self.list_commands(ctx)
            raise click.UsageError(
                f"there is no command {args[0]!r}.{suggestion(args[0], known)} The commands: {', '.join(known)}"
            )
        return super().resolve_command(ctx, args)


@contextlib.contextmanager
def _ending_in_one_line() -> Iterator[None]:
    try:
        yield
    except click.exceptions.Exit:  # of --help and --version
        raise
    except click.NoSuchOption as error:
        fail(f"no such option {error.option_name!r}.{suggestion(error.option_name, _options(error.ctx))}")
    except (UserError, click.ClickException) as error:
        message = error.format_message() if isinstance(error, click.ClickException) else str(error)
        fail(message[:1].lower() + message[1:] if isinstance(error, click.ClickException) else message)
    except (KeyboardInterrupt, click.Abort) as error:
        fail("stopped", stop_status(error))
    except BrokenPipeError:
        _discard_output()  # whoever read it has gone
        sys.exit(0)
    except OSError as error:
        _discard_output()
        fail(f"{error.filename}: {reason(error)}" if error.filename else reason(error))
    except ModuleNotFoundError as error:
        fail(f"this needs the package {error.name}: pip install 'bilstm[cli]'")
    except MemoryError:
        fail("there is not enough memory")
    except Exception as error:
        if Stopped.received:  # and hidden by a library: DuckDB raises an error of its own
            fail("stopped", stop_status(Stopped.received))
        if _is_expected(error):
            fail(str(error))
        if os.environ.get("BILSTM_TRACEBACK"):
            raise
        fail(
            f"this should not have happened ({type(error).__name__}: {error}); please report it, with what is printed "
            f"when the environment variable BILSTM_TRACEBACK is 1",
            BROKEN,
        )


def _options(context: click.Context | None) -> list[str]:
    """The long options of a command, as they are typed."""
    parameters = context.command.get_params(context) if context else []
    options = [option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)]
    return [option for option in options if option.startswith("--")]


def _discard_output() -> None:
    """Give up what standard output still holds and cannot take, or Python would fail at it once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_expected(error: Exception) -> bool:
    """Whether its message is meant for a person: of training that diverges, and of an engine that cannot run here."""
    from bilstm.engine.library import EngineError
    from bilstm.errors import DivergedError

    return isinstance(error, (EngineError, DivergedError))


def fail(message: str, status: int = MISTAKE) -> NoReturn:
    """Print one line on standard error, and exit."""
    echo("bilstm: " + " ".join(message.split()), err=True)
    sys.exit(status)


def echo(line: str, *, err: bool = False) -> None:
    """Print one line in which nothing can command the terminal, since it may quote a file from a stranger."""
    click.echo(printable(line), err=err)


def echo_json(data: Any) -> None:
    """Print data as JSON on several lines; what `printable` would replace becomes an escape of JSON's."""
    text = json.dumps(data, ensure_ascii=False, indent=2)
    for character in set(text) - {"\n"}:
        if printable(character) != character:
            units = character.encode("utf-16-be", "surrogatepass").hex()
            text = text.replace(character, "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)))
    click.echo(text)


class Stopped(KeyboardInterrupt):
    """Ctrl-C (SIGINT), or a request to end (SIGTERM), which is treated alike.

    Attributes:
        status: the exit status by which a shell knows the signal.
        received: the last one of this program.
    """

    received: ClassVar[Stopped | None] = None

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


def stop_on_signals() -> None:
    """Raise `Stopped` at Ctrl-C and at SIGTERM, so that what must be written or removed in the end still is."""

    def stop(number: int, _: object) -> NoReturn:
        Stopped.received = Stopped(number)
        raise Stopped.received

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in a shell's background jobs
            signal.signal(number, stop)


def stop_status(interrupt: BaseException) -> int:
    """The exit status of a program that was interrupted so, or by what is the cause of it."""
    signalled = interrupt if isinstance(interrupt, Stopped) else interrupt.__cause__
    return signalled.status if isinstance(signalled, Stopped) else INTERRUPTED


@contextlib.contextmanager
def saying_if_stopped(when: str) -> Iterator[None]:
    """Where the block is stopped, say when that was, and end the program."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        fail(f"stopped {when}", stop_status(interrupt))
