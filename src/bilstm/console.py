"""How the command line behaves: one line for a mistake, and no traceback."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import click

from bilstm.errors import UserError, printable, suggestion
from bilstm.files import reason
from bilstm.signals import Stopped, heard, held, ignore_signals

MISTAKE, INTERRUPTED, BROKEN = 2, 130, 70  # exit statuses; the last is sysexits.h's EX_SOFTWARE
_speaker: list[str] = []  # what `speak_as` was given last
_lost: list[OSError] = []  # why lines on standard output were not written


class CommandLine(click.Group):
    """A group of commands that ends with a status and one line on standard error whatever goes wrong."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> NoReturn:
        arguments = list(sys.argv[1:] if args is None else args) or ["--help"]
        options["standalone_mode"] = False
        with _ending_in_one_line():
            with held(every=True):  # click would make an empty line of a signal
                status = super().main(arguments, *rest, **options)
            _finish_output()
            ignore_signals()
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        # Here, since click itself turns Ctrl-C and a closed pipe into something else.
        with _ending_in_one_line(), heard():
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
    except (SystemExit, click.exceptions.Exit):  # the latter of --help and --version
        raise
    except BaseException as error:
        if stopped := _stopped_by(error):
            fail("stopped", stop_status(stopped))
        if isinstance(error, BrokenPipeError):  # whoever read the output has gone
            _discard_output()
            sys.exit(0)
        if message := _message(error):
            fail(message)
        if os.environ.get("BILSTM_TRACEBACK"):
            raise
        fail(
            f"this should not have happened ({type(error).__name__}: {error}); please report it, with what is printed "
            f"when the environment variable BILSTM_TRACEBACK is 1",
            BROKEN,
        )


def _message(error: BaseException) -> str | None:
    """What a person should know about a mistake, or about what the system refused; None for a defect of ours."""
    if isinstance(error, click.NoSuchOption):
        return f"no such option {error.option_name!r}.{suggestion(error.option_name, _options(error.ctx))}"
    if isinstance(error, click.ClickException):
        message = error.format_message()
        return message[:1].lower() + message[1:]
    if isinstance(error, UserError) or _is_expected(error):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"this needs the package {error.name}: pip install 'bilstm[cli]'"
    if any(_is_lack_of_memory(each) for each in _causes(error)):
        return "there is not enough memory"
    if isinstance(error, OSError):
        return f"{error.filename}: {reason(error)}" if error.filename else reason(error)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from, whether or not a message hides that."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _stopped_by(error: BaseException) -> BaseException | None:
    """The signal that an error stands for: libraries make errors of their own of it. None for other errors."""
    causes = list(_causes(error))
    for each in causes:
        if isinstance(each, (KeyboardInterrupt, click.Abort)):
            return each
    hidden = any(type(each).__name__ == "InterruptException" for each in causes)  # DuckDB's
    expected = isinstance(error, (UserError, click.ClickException)) or _is_expected(error)
    return Stopped.received if hidden or not expected else None


def _is_lack_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryException":  # the latter is DuckDB's
        return True
    mapping = isinstance(error, ImportError) and "failed to map segment" in str(error)  # of a library
    return mapping or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def _options(context: click.Context | None) -> list[str]:
    """The long options of a command, as they are typed."""
    parameters = context.command.get_params(context) if context else []
    options = [option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)]
    return [option for option in options if option.startswith("--")]


def _finish_output() -> None:
    """What has been done is done, whether or not anybody could be told; but then it is no success.

    Raises:
        UserError: not all could be written.
        BrokenPipeError: whoever read it has gone.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        _lost.append(error)
    if _lost:
        first = _lost[0]
        _lost.clear()
        _discard_output()
        if isinstance(first, BrokenPipeError):
            raise first
        raise UserError(f"cannot write the standard output: {reason(first)}")


def _discard_output() -> None:
    """Give up what standard output still holds and cannot take, or Python would fail at it once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_expected(error: BaseException) -> bool:
    """Whether its message is meant for a person: of training that diverges, and of an engine that cannot run here."""
    from bilstm.engine.library import EngineError
    from bilstm.errors import DivergedError

    return isinstance(error, (EngineError, DivergedError))


def fail(message: str, status: int = MISTAKE) -> NoReturn:
    """Print one line on standard error, and exit."""
    ignore_signals()  # one more would only disturb the end
    echo(": ".join(["bilstm", *_speaker, " ".join(message.split())]), err=True)
    sys.exit(status)


def speak_as(name: str) -> None:
    """From now on, begin messages of `fail` with this name, too: of one of several processes."""
    _speaker[:] = [name]


def echo(line: str, *, err: bool = False) -> None:
    """Print one line in which nothing can command the terminal, since it may quote an untrusted file.

    Where it cannot be printed, the command continues: a training's model is worth more than its messages. It says so in
    the end.
    """
    _print(printable(line), err=err)


def _print(text: str, *, err: bool = False) -> None:
    try:
        click.echo(text, err=err)
    except OSError as error:
        if not err:  # otherwise nothing can be reported
            _lost.append(error)
            _discard_output()


def say(lines: Sequence[str], quiet: bool, *, err: bool = False) -> None:
    """Print lines unless the command is quiet; on standard error where standard output is for data."""
    for line in () if quiet else lines:
        echo(line, err=err)


def echo_json(data: Any) -> None:
    """Print data as JSON on several lines; what `printable` would replace becomes an escape of JSON's."""
    text = json.dumps(data, ensure_ascii=False, indent=2)
    for character in set(text) - {"\n"}:
        if printable(character) != character:
            units = character.encode("utf-16-be", "surrogatepass").hex()
            text = text.replace(character, "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)))
    _print(text)


def write_output(data: bytes) -> None:
    """Write data to the standard output, at once.

    Raises:
        UserError: it cannot be written; the message gives the system's reason.
        BrokenPipeError: whoever read it has gone.
    """
    output = getattr(sys.stdout.buffer, "raw", sys.stdout.buffer)  # nothing is left in a buffer at a signal
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[output.write(rest) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"cannot write the standard output: {reason(error)}") from error


def highlighting() -> str:
    """How parts of a text are marked on the standard output: "colours" on a terminal, otherwise "brackets".

    The environment variable NO_COLOR, if it is not empty, means brackets: see https://no-color.org.
    """
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return "colours" if colours else "brackets"


def open_closed_streams() -> None:
    """Let the null device take the place of standard streams that the shell has closed.

    Otherwise the next file that is opened would, and hold what is printed.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115


def output_is_closed() -> bool:
    """Whether the shell has closed the standard output."""
    return getattr(sys.stdout, "name", None) == os.devnull


def stop_status(interrupt: BaseException) -> int:
    """The exit status of a program that was interrupted so, or by what is the cause of it."""
    signalled = interrupt if isinstance(interrupt, Stopped) else interrupt.__cause__
    return signalled.status if isinstance(signalled, Stopped) else INTERRUPTED


@contextlib.contextmanager
def saying_if_stopped(when: str) -> Iterator[None]:
    """Where the block is stopped, say when that was, and end the program."""
    try:
        yield
    except SystemExit:
        raise
    except BaseException as error:
        if stopped := _stopped_by(error):
            fail(f"stopped {when}", stop_status(stopped))
        raise
