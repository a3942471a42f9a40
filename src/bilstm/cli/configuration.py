"""Options from a TOML file, for every command: what is typed wins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from bilstm.errors import UserError, listed, suggestion
from bilstm.files import check_readable


def config_option() -> click.Option:
    """`--config FILE`: the file's options become what the command takes where they are not typed."""
    text = "A TOML file of options, such as epochs = 20. Options on the command line take precedence."
    return click.Option(
        ["--config"],
        metavar="FILE",
        type=click.Path(),
        is_eager=True,  # before the others look for their defaults
        expose_value=False,
        callback=_take,
        help=text,
    )


def _take(context: click.Context, _: click.Parameter, path: str | None) -> None:
    if path is None:
        return
    known = dict(_options(context.command))
    commands = context.parent.command.list_commands(context.parent) if context.parent else []  # type: ignore[attr-defined]
    content = _read(path)
    of_command = content.pop(str(context.info_name), {})
    if not isinstance(of_command, dict):
        raise UserError(f"{path}: {context.info_name} is a command; its options stand below [{context.info_name}]")
    general = {name: value for name, value in content.items() if name not in commands}
    values: dict[str, Any] = {}
    for options in (general, of_command):  # the latter win
        taken: dict[str, str] = {}
        for name, value in options.items():
            option = known.get(name.replace("_", "-"))
            if option is None:
                raise UserError(
                    f"{path}: {context.info_name} has no option {name!r}.{suggestion(name, [*known, *commands])} "
                    f"Its options: {listed(known, limit=40)}"
                )
            if (other := taken.setdefault(str(option.name), name)) != name:
                raise UserError(f"{path}: {other} and {name} are the same option")
            values[str(option.name)] = _value(context, option, path, name, value)
    context.default_map = values


def _options(command: click.Command) -> Iterator[tuple[str, click.Option]]:
    """The options that a file may hold, by name."""
    for option in command.params:
        if isinstance(option, click.Option) and option.name != "config":
            yield max(option.opts, key=len).removeprefix("--"), option


def _read(path: str) -> dict[str, Any]:
    import tomllib

    check_readable(path)
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
    except UnicodeDecodeError:
        message = "it is not UTF-8 text"
    raise UserError(f"{path} is not a TOML file: {message[:1].lower()}{message[1:]}") from None


def _value(context: click.Context, option: click.Option, path: str, name: str, value: Any) -> Any:
    """What click makes of the value as if it had been typed, so that it is judged alike."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise UserError(f"{path}: {name} is true or false, not {_as_written(value)}")
        return value
    several = value if isinstance(value, list) else [value]
    if isinstance(value, list) and not option.multiple:
        raise UserError(f"{path}: {name} takes one value, not a list")
    for each in several:
        if isinstance(each, bool) or not isinstance(each, (int, float, str)):
            raise UserError(f"{path}: {name} takes text or a number, not {_as_written(each)}")
    typed = [str(each) for each in several]
    try:
        option.type_cast_value(context, typed if option.multiple else typed[0])
    except click.BadParameter as error:
        raise UserError(f"{path}: {name}: {error.message}") from None
    return typed if option.multiple else typed[0]


def _as_written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "a table" if isinstance(value, Mapping) else "a list" if isinstance(value, list) else str(value)
