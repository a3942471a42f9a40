"""Options come from a TOML file as well, and shells complete them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bilstm.cli import commands
from bilstm.modelfile import read_model

SMALL = "units = 3\nlayers = 1\nepochs = 2\nquiet = true\n"
ROLES = 'sequence = "id"\nlabel = "y"\nout = "model"\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [f"s{i // 4},{i % 7},{i % 3},{'pq'[i % 2]}" for i in range(40)]
    Path("table.csv").write_text("\n".join(["id,x,code,y", *rows]) + "\n")
    return tmp_path


def bilstm(*arguments: Any) -> str:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def trained(config: str, *arguments: Any) -> dict[str, Any]:
    """What the model's file says, trained with these options."""
    Path("options.toml").write_text(config)
    assert bilstm("train", "table.csv", "--config", "options.toml", *arguments) == ""
    return read_model("model")[1]


def test_a_file_gives_what_typing_gives(folder: Path) -> None:
    header = trained(
        ROLES + SMALL + 'features = ["x", "code"]\ncategorical = "code"\nmerge-mode = "sum"\ndropout = 0\n'
        'cell = "gru"\n'
    )
    first = Path("model").read_bytes()
    typed = "--sequence id --label y --out model --units 3 --layers 1 --epochs 2 --quiet --features x,code"
    bilstm(
        "train",
        "table.csv",
        *typed.split(),
        "--categorical",
        "code",
        "--merge-mode",
        "sum",
        "--dropout",
        0,
        "--cell",
        "gru",
    )
    assert Path("model").read_bytes() == first
    assert header["training"]["options"]["merge_mode"] == "sum"
    assert header["training"]["options"]["cell"] == "gru"
    assert header["schema"]["categorical"][0]["name"] == "code"


def test_a_file_tells_what_to_compare(folder: Path) -> None:
    Path("options.toml").write_text(
        'sequence = "id"\nlabel = "y"\nunits = 3\nepochs = 1\ncategorical = "code"\nspelling = true\n'
        'same-size = false\njson = true\n[compare]\nvary = ["layers=1,2", "merge-mode=sum,ave"]\nseeds = 1\n'
    )
    found = json.loads(bilstm("compare", "table.csv", "--config", "options.toml"))
    assert [variant["name"] for variant in found["variants"]] == [
        f"layers {layers}, {mode}" for layers in (1, 2) for mode in ("sum", "ave")
    ]
    typed = "--sequence id --label y --units 3 --epochs 1 --categorical code --spelling --vary layers=1,2 --seeds 1"
    repeated = json.loads(bilstm("compare", "table.csv", *typed.split(), "--vary", "merge-mode=sum,ave", "--json"))
    assert [variant["scores"] for variant in repeated["variants"]] == [
        variant["scores"] for variant in found["variants"]
    ]


@pytest.mark.parametrize("spelling", [True, False])
def test_a_file_says_yes_and_no(folder: Path, spelling: bool) -> None:
    header = trained(f'{ROLES}{SMALL}categorical = "code"\nspelling = {str(spelling).lower()}\n')
    assert len(header["schema"]["categorical"]) == (6 if spelling else 1)


def test_what_is_typed_wins(folder: Path) -> None:
    assert trained(ROLES + SMALL, "--epochs", 3)["training"]["options"]["epochs"] == 3
    assert trained(ROLES + SMALL, "--features", "x")["schema"]["numeric"][0]["name"] == "x"
    assert trained(ROLES + SMALL)["training"]["options"]["epochs"] == 2


@pytest.mark.parametrize("name", ["validation-split", "validation_split"])
def test_names_have_dashes_or_underscores(folder: Path, name: str) -> None:
    assert trained(f"{ROLES}{SMALL}{name} = 0.5\n")["training"]["validation_sequences"] == 5


def test_a_file_can_serve_all_commands(folder: Path) -> None:
    config = f"threads = 1\nquiet = true\n[train]\n{ROLES}{SMALL}[predict]\ntop = 2\nquiet = false\n[demo]\nsteps = 9\n"
    trained(config)
    said = bilstm("predict", "model", "table.csv", "--config", "options.toml", "--out", "out.csv")
    assert said.startswith("out.csv: 10 sequences")
    assert Path("out.csv").read_text().startswith("id,x,code,y,predicted,probability,predicted_2,probability_2\n")
    Path("options.toml").write_text("[evaluate]\nevents = 1\njson = true\n")
    assert '"tolerance": 1' in bilstm("evaluate", "model", "table.csv", "--config", "options.toml")


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "compare", "inspect", "demo"])
def test_every_command_takes_a_file(command: str) -> None:
    assert "--config FILE" in bilstm(command, "--help")


def completed(*words: str) -> list[str]:
    environment = os.environ | {
        "_BILSTM_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["bilstm", *words]),
        "COMP_CWORD": str(len(words)),
    }
    run = subprocess.run([sys.executable, "-m", "bilstm"], env=environment, capture_output=True, text=True, check=True)
    return run.stdout.split()


def test_words_are_completed() -> None:
    assert completed("pre") == ["plain,predict"]
    assert completed("predict", "--pro") == ["plain,--probabilities"]
    assert completed("train", "--merge-mode", "c") == ["plain,concat"]
    assert completed("train", "tab") == ["file,tab"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_understand_what_makes_them_complete(shell: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(bilstm("completion", shell))
    assert "_BILSTM_COMPLETE" in script.read_text()
    if shutil.which(shell):
        subprocess.run([shell, "-n", script], check=True)
