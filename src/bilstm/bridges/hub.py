"""Hugging Face Hub's conventions, offline: a folder with a model card, which the Hub's own tools upload and download.

`save_pretrained` writes the folder, `from_pretrained` opens it. Neither needs a package, nor opens a connection.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bilstm.errors import ModelFileError, UserError
from bilstm.files import AnyPath, replacing
from bilstm.inspection import inspect_file, inspection
from bilstm.model import TrainedModel
from bilstm.modelfile import read_model
from bilstm.models import Sequential, load_model

_MODEL, _CONFIG, _CARD = "model.safetensors", "config.json", "README.md"


def save_pretrained(model: TrainedModel | Sequential, folder: AnyPath, *, force: bool = False) -> None:
    """Write a model as a folder for the Hub: model.safetensors, config.json, and a model card, README.md.

    The card says what the model reads and predicts, how it was trained and how well it did on its validation set. Its
    licence and an account of the data are for you to add. A card that is there already is kept.

    Args:
        model: the model.
        folder: the folder; it is made if it is missing.
        force: whether to replace a card, and files that bilstm did not write.

    Raises:
        UserError: a file cannot be written, or is another program's.
    """
    root = Path(folder)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {root}: {error.strerror}") from None
    path = root / _MODEL
    model.save(path, force=force)
    facts = inspect_file(path)
    config = {"library_name": "bilstm", **{name: facts[name] for name in facts if name not in ("file", "bytes")}}
    config_path, card_path = root / _CONFIG, root / _CARD
    if not force and config_path.exists() and not _is_ours(config_path):
        raise UserError(f"{config_path} was not written by bilstm, and is not replaced")
    with replacing(config_path) as temporary:
        temporary.write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    if force or not card_path.exists():
        with replacing(card_path) as temporary:
            temporary.write_text(_card(root.resolve().name, facts), encoding="utf-8")


def from_pretrained(folder: AnyPath) -> TrainedModel | Sequential:
    """The model in a local folder that `save_pretrained` wrote, such as one that the Hub's tools downloaded.

    Raises:
        ModelFileError: the folder holds no model of bilstm's; the message says why.
    """
    path = os.path.join(folder, _MODEL)
    if not os.path.isdir(folder):
        raise ModelFileError(
            f"there is no folder {os.fspath(folder)}: only local folders are opened; download it first"
        )
    _, header = read_model(path)
    return load_model(path) if header["kind"] == "sequential" else TrainedModel.load(path)


def _is_ours(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_bytes())["library_name"] == "bilstm")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _card(name: str, facts: dict[str, Any]) -> str:
    first, *lines = inspection(facts)
    what = first.split(": ", 1)[1]
    load = "\n".join(
        [
            "from bilstm.bridges.hub import from_pretrained",
            "",
            f"model = from_pretrained({json.dumps(name)})  # the folder",
            "labels = model.predict(data)",
        ]
    )
    tags = "".join(f"- {tag}\n" for tag in ("bilstm", "lstm", facts.get("task") or "sequence-model"))
    return (
        f"---\nlibrary_name: bilstm\ntags:\n{tags}---\n\n# {name}\n\nA sequence model made with bilstm: {what}.\n\n"
        f"## Use\n\n```python\n{load}\n```\n\n## The model\n\n```text\n" + "\n".join(lines) + "\n```\n\n"
        "## Data and licence\n\nNot stated.\n"
    )
