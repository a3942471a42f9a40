"""Folders for the Hugging Face Hub: what they hold, what is kept and what is refused."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import bilstm
from bilstm import TrainedModel
from bilstm.bridges.hub import from_pretrained, save_pretrained
from bilstm.cli import commands
from bilstm.errors import ModelFileError, UserError
from bilstm.layers import Dense, Input
from bilstm.models import Sequential

pytestmark = pytest.mark.fast


def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"id": np.repeat(np.arange(10), 6), "speed, ü": random.normal(size=60)})
    return frame.assign(state=np.where(frame["speed, ü"] > 0, "up", "down"))


@functools.cache
def trained() -> TrainedModel:
    options = {"epochs": 1, "units": 3, "layers": 1, "seed": 0, "verbose": False}
    return bilstm.train(table(), sequence="id", label="state", task="step-label", **options)  # type: ignore[arg-type]


def test_a_trained_model_comes_back_with_a_card(tmp_path: Path) -> None:
    folder = tmp_path / "some" / "tagger"
    save_pretrained(trained(), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    model = from_pretrained(folder)
    assert isinstance(model, TrainedModel)
    np.testing.assert_array_equal(model.predict_proba(table()), trained().predict_proba(table()))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: bilstm\ntags:\n- bilstm\n- lstm\n- step-label\n---\n\n# tagger\n")
    for part in ('from_pretrained("tagger")', "speed, ü  number", "2 classes of 'state'", "validation set", "licence"):
        assert part in card
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["library_name"], config["task"], config["classes"]) == ("bilstm", "step-label", ["down", "up"])


def test_a_network_comes_back(tmp_path: Path) -> None:
    network = Sequential([Input((None, 2)), Dense(1)], seed=1)
    save_pretrained(network, tmp_path)
    x = np.ones((1, 3, 2), np.float32)
    np.testing.assert_array_equal(from_pretrained(tmp_path).predict(x), network.predict(x))
    assert "a Sequential network" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_a_card_that_was_edited_is_kept(tmp_path: Path) -> None:
    for force in (False, True):
        (tmp_path / "README.md").write_text("mine")
        save_pretrained(trained(), tmp_path, force=force)
        assert ((tmp_path / "README.md").read_text() == "mine") == (not force)


@pytest.mark.parametrize("content", ["{}", "[1]", "not JSON"])
def test_other_files_are_not_replaced(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json was not written by bilstm"):
        save_pretrained(trained(), tmp_path)
    assert (tmp_path / "config.json").read_text() == content
    save_pretrained(trained(), tmp_path, force=True)
    (tmp_path / "model.safetensors").write_text("somebody's")
    with pytest.raises(UserError, match="is not a bilstm model"):
        save_pretrained(trained(), tmp_path)
    with pytest.raises(UserError, match="cannot make the folder"):
        save_pretrained(trained(), tmp_path / "config.json" / "inside")


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no folder someone/tagger: only local folders are opened"):
        from_pretrained("someone/tagger")
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        from_pretrained(tmp_path)


def test_the_command_line(tmp_path: Path) -> None:
    trained().save(tmp_path / "model")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(commands, ["export", str(tmp_path / "model"), *arguments])

    ran = run("--to", f"{tmp_path}/folder/")
    assert ran.exit_code == 0, ran.output
    assert "the model and its card" in ran.output
    assert isinstance(from_pretrained(tmp_path / "folder"), TrainedModel)
    assert run("--to", f"{tmp_path}/folder/", "--inputs", "encoded").exit_code == 2
    assert "for a folder with /, or say" in run("--to", f"{tmp_path}/folder").output


def test_no_package_of_the_hub_is_needed() -> None:
    code = (
        "import sys, bilstm.bridges.hub; print(sorted({'huggingface_hub', 'transformers', 'torch'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
