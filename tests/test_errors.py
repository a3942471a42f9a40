"""Messages: nothing in them commands a terminal, and a suggestion is what was meant or is left out."""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import bilstm
from bilstm.cli import commands
from bilstm.console import echo_json
from bilstm.errors import ModelFileError, UserError, listed, printable, shown, suggestion
from bilstm.modelfile import read_model, write_model
from test_cli import COLUMNS, SMALL, rows, write

pytestmark = pytest.mark.fast

# --- Printable text --------------------------------------------------------------------------------------------------

ANY = st.text(
    st.characters(exclude_categories=()) | st.sampled_from("\x1b\x9b\x07\r\n\u202e\u2066\u2028\ud800\U000e0041")
)


@given(ANY)
def test_nothing_in_printable_text_commands_a_terminal(text: str) -> None:
    result = printable(text)
    left = {unicodedata.category(character) for character in result} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not left or set(result) & set("\u200c\u200d")
    assert len(result.splitlines()) <= 1
    result.encode()
    assert printable(result) == result


@given(st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"])))
def test_letters_of_every_script_stay(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("text", ["größe", "दुख", "می\u200cخواهم", "👩\u200d🔬", "10\u202f000 €", "水位"])
def test_words_stay(text: str) -> None:
    assert printable(text) == text


def test_what_is_replaced_can_be_recognised() -> None:
    assert printable("a\x1b[31m\n\u202eb\ud800\x7f") == r"a\x1b[31m\n\u202eb\ud800\x7f"


@given(ANY, ANY)
def test_messages_are_printable(text: str, other: str) -> None:
    messages = [shown(text), listed([text, other]), suggestion(text, [text + "a", other])]
    messages += [str(UserError(f"no {text}")), str(ModelFileError(f"no {text}"))]
    for message in messages:
        assert printable(message) == message


@pytest.mark.parametrize("length", [10, 10_000])
def test_what_a_stranger_made_long_is_cut(length: int) -> None:
    message = str(ModelFileError(f"start {'x' * length} end"))
    assert message.startswith("start x")
    assert message.endswith("x end")
    assert len(message) < 1500


@given(st.dictionaries(ANY, ANY | st.integers() | st.lists(ANY), max_size=4))
def test_json_that_is_printed_commands_nothing_and_says_the_same(data: dict[str, Any]) -> None:
    @click.command()
    def command() -> None:
        echo_json(data)

    result = CliRunner().invoke(command, [], catch_exceptions=False)
    assert all(printable(line) == line for line in result.output.split("\n"))
    # JSON cannot tell two halves from the character that they make.
    expected = json.dumps(data)
    assert json.loads(result.output) == json.loads(expected)


HOSTILE = "\x1b]0;owned\x07\x9b31m\u202e"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a tagger whose every text has something hostile in it, as far as it is read then."""
    folder = tmp_path_factory.mktemp("hostile")
    table = write(folder / "train.csv", rows(30))
    arguments = ["train", table, *COLUMNS, *SMALL, "--quiet", "--out", folder / "model"]
    assert CliRunner().invoke(commands, [str(argument) for argument in arguments]).exit_code == 0
    tensors, header = read_model(folder / "model")

    def poison(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            columns = HOSTILE if key in ("cells", "truth") else ""
            return {name + columns: poison(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [poison(inner, key) for inner in value]
        kept = ("class_name", "kind", "activation", "loss", "metrics", "merge_mode", "part", "type")
        return value + HOSTILE if isinstance(value, str) and key not in kept else value

    changed = {name: poison(header[name]) for name in ("schema", "task", "training", "versions")}
    write_model(folder / "model", tensors, {**header, **changed})
    return folder / "model"


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("inspect MODEL", 0),
        ("inspect MODEL --json", 0),
        ("predict MODEL TABLE --out OUT.csv", 2),
        ("evaluate MODEL TABLE", 2),
        ("inspect MODEL --\x1b[31m", 2),
        ("\x1b[31m", 2),
        ("train TABLE --units \x1b[31m", 2),
        ("inspect \x1b[31m", 2),
        ("evaluate TABLE \x1b[31m", 2),
    ],
)
def test_no_file_or_argument_commands_the_terminal(hostile: Path, command: str, status: int) -> None:
    names = {"MODEL": hostile, "TABLE": hostile.with_name("train.csv"), "OUT.csv": hostile.with_name("out.csv")}
    result = CliRunner().invoke(commands, [str(names.get(word, word)) for word in command.split(" ")])
    assert result.exit_code == status, result.output
    assert all(printable(line) == line for line in result.output.split("\n")), result.output
    assert result.output
    assert "should not have happened" not in result.output
    if "MODEL" in command and "--" not in command.replace("--json", "").replace("--out", ""):
        assert r"\x1b]0;owned" in result.output or r"\u001b]0;owned" in result.output


# --- Suggestions -----------------------------------------------------------------------------------------------------


COMMANDS = {
    name: command
    for name in commands.list_commands(click.Context(commands))
    if (command := commands.get_command(click.Context(commands), name))
}


def options(name: str) -> list[str]:
    command = COMMANDS[name]
    parameters = command.get_params(click.Context(command))
    return [option for each in parameters for option in (*each.opts, *each.secondary_opts) if option.startswith("--")]


def one_edit(word: str) -> Iterator[str]:
    """With a letter dropped, doubled, or swapped with the next."""
    for place in range(len(word)):
        yield word[:place] + word[place + 1 :]
        yield word[: place + 1] + word[place:]
        yield word[:place] + word[place + 1 : place + 2] + word[place : place + 1] + word[place + 2 :]


def near(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, name, other).ratio()


def misspelt(option: str) -> Iterator[str]:
    name = option.removeprefix("--")
    words = name.split("-")
    yield from one_edit(name)
    for british, american in (("our", "or"), ("re", "er"), ("ll", "l"), ("s", "z"), ("que", "k")):
        yield name.replace(american, british)
        yield name.replace(british, american)
    yield from ("".join(words), "_".join(words), name.upper(), name.capitalize(), name + "s", name.rstrip("s"))
    yield from (f"{name}-file", f"my-{name}", f"{name}-value")
    if len(words) > 1:
        yield "".join(word[0] for word in words)
        for length in (3, 4, 5):
            yield "-".join(word[:length] for word in words)


CASES = [(command, option) for command in COMMANDS for option in options(command)]


@pytest.mark.parametrize(("command", "option"), CASES, ids=[f"{command} {option}" for command, option in CASES])
def test_a_misspelt_option_leads_to_it_or_to_nothing(command: str, option: str) -> None:
    known = options(command)
    led = 0
    typed = {f"--{name}" for name in misspelt(option)} - {"--", *known}
    for name in typed:
        found = re.fullmatch(r"( Did you mean '(.*)'\?)?", suggestion(name, known))
        assert found
        # Another may be as near, as --seed and --seeds are to --seesd, and --test and --text to --tezt.
        as_near = found[2] is not None and near(name, found[2]) >= near(name, option)
        led += found[2] == option or as_near
        initial = found[2] is not None and name == found[2][:3]
        assert found[2] in (None, option) or as_near or initial or found[2] in one_edit(name), name
    assert led > 0.8 * len(typed)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        *(("--lr", "--learning-rate"), ("--bs", "--batch-size"), ("--wd", "--weight-decay")),
        *(("--cm", "--checkpoint-minutes"), ("--out-file", "--out"), ("--batch", "--batch-size")),
        *(("--num-layers", "--layers"), ("--max-epochs", "--epochs"), ("--rate", "--learning-rate")),
        *(("--val-split", "--validation-split"), ("--LR", "--learning-rate"), ("--learning_rate", "--learning-rate")),
    ],
)
def test_other_words_for_an_option(typed: str, meant: str) -> None:
    result = CliRunner().invoke(commands, ["train", "table.csv", typed, "1"])
    assert result.stderr == f"bilstm: no such option '{typed}'. Did you mean '{meant}'?\n"


@pytest.fixture(scope="module")
def unordered(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A table and a model without an order column."""
    folder = tmp_path_factory.mktemp("unordered")
    table, model = str(folder / "table.csv"), str(folder / "a.model")
    Path(table).write_text("id,x,y\n" + "".join(f"{i // 4},0.{i},{'ab'[i % 2]}\n" for i in range(20)))
    trained = bilstm.train(table, sequence="id", label="y", units=2, layers=1, epochs=1, baseline=False, verbose=False)
    trained.save(model)
    return table, model


@pytest.mark.parametrize("option", [["--time-format", "%H:%M"], ["--one-day"]])
@pytest.mark.parametrize("command", ["train", "compare", "evaluate", "predict", "inspect"])
def test_how_an_order_column_is_read_without_one(
    command: str, option: list[str], tmp_path: Path, unordered: tuple[str, str]
) -> None:
    table, model = unordered
    out = str(tmp_path / "out")
    roles = ["--sequence", "id", "--label", "y"]
    files = {
        "train": [table, *roles, "--out", out],
        "compare": [table, *roles],
        "evaluate": [model, table],
        "predict": [model, table, "--out", out],
        "inspect": [table, "--sequence", "id"],
    }
    result = CliRunner().invoke(commands, [command, *files[command], *option])
    assert result.exit_code == 2
    assert result.stderr == (
        f"bilstm: {option[0]} ({option[0][2:].replace('-', '_')}) says how the order column is read, and has no effect "
        "without one: name it with --order (order='…')\n"
    )


@pytest.mark.parametrize("typed", ["--gpu", "--nodes", "--steps", "--verbose", "--optimizer", "--l2", "--x", "--cuda"])
def test_no_suggestion_rather_than_nonsense(typed: str) -> None:
    result = CliRunner().invoke(commands, ["train", "table.csv", typed])
    assert result.stderr == f"bilstm: no such option '{typed}'.\n"


@given(st.text(), st.lists(st.text(), max_size=5))
def test_a_suggestion_is_one_of_the_known(name: str, known: list[str]) -> None:
    assert suggestion(name, known) in {"", *(f" Did you mean {other!r}?" for other in known)}


def test_numbers_of_numpy_are_quoted_as_text() -> None:
    assert listed([np.str_("a"), np.str_("b")]) == "'a', 'b'"
