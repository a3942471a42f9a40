"""`bilstm export`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from bilstm.cli.options import FILE
from bilstm.console import say

if TYPE_CHECKING:
    from bilstm.model import TrainedModel
    from bilstm.models import Sequential


@click.command(short_help="Write a MODEL for ONNX Runtime, for Keras, for the Hugging Face Hub, or as C++ source code.")
@click.argument("model", type=FILE)
@click.option(
    "--to",
    metavar="FILE",
    type=FILE,
    required=True,
    help="The file to write, .onnx or .keras; a folder/ for the Hugging Face Hub; or c, for source code.",
)
@click.option(
    "--out", metavar="FOLDER", type=FILE, help="With --to c: the folder to write. Default: the model's name and _c."
)
@click.option(
    "--inputs",
    type=click.Choice(["columns", "encoded"]),
    default="columns",
    show_default=True,
    help="columns: raw numbers and words, one input for each feature; encoded: the network's inputs.",
)
@click.option("--force", is_flag=True, help="Replace files even if bilstm did not write them.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
def export(model: str, to: str, out: str | None, inputs: Any, force: bool, quiet: bool) -> None:
    """Write a MODEL as an ONNX file, for ONNX Runtime and others: in Python, C++, a browser. Or as a file for Keras 3.
    Or, with --to c, as C++ source code with a C header, which needs no library.

    In ONNX and C, scaling, missing values and vocabularies are part of it: raw numbers and words in, probabilities out.
    A .keras file holds the network alone. What cannot be expressed is named, and nothing is written.

    A --to that ends with / is a folder for the Hugging Face Hub, with the model file and a model card.
    """
    from bilstm.errors import UserError

    if to == "c":
        _export_c(model, out, inputs, force, quiet)
        return
    if out is not None:
        raise click.UsageError("--out names the folder of source code: it needs --to c")
    out, name = to, to.lower()
    if name.endswith(".onnx"):
        from bilstm.bridges.onnx import writing

        writing.check_onnx_path(out, inputs=[model], force=force)
        written = writing.export(_load(model), out, inputs=inputs, force=force)
        say([f"wrote {out}", *writing.describe(written)], quiet)
    elif name.endswith(".keras"):
        from bilstm.bridges.keras import saving

        saving.check_keras_path(out, inputs=[model], force=force)
        saving.save(_network(model, inputs), out, force=force)
        say([f"wrote {out}"], quiet)
    elif name.endswith(("/", os.sep)):
        from bilstm.bridges import hub

        if inputs != "columns":
            raise click.UsageError("--inputs is for .onnx and .keras files: a folder holds the model as it is")
        hub.save_pretrained(_load(model), out, force=force)
        say([f"wrote {out}: the model and its card, README.md"], quiet)
    else:
        raise UserError(
            f"cannot tell from its name what {out} is to be: give it a name that ends with .onnx or .keras, for a "
            f"folder with /, or say --to c for source code"
        )


def _export_c(model: str, out: str | None, inputs: Any, force: bool, quiet: bool) -> None:
    from bilstm.bridges import c

    name = c.identifier(os.path.basename(model).partition(".")[0])
    folder = f"{name}_c" if out is None else out
    c.check_folder(folder, name, inputs=[model], force=force)
    files = c.export(_load(model), folder, name=name, inputs=inputs, force=force)
    say([f"wrote {file}" for file in files] + [f"how to build it: see {files[0]}"], quiet)


def _load(path: str) -> TrainedModel | Sequential:
    from bilstm.model import TrainedModel
    from bilstm.modelfile import read_model
    from bilstm.models import load_model

    _, header = read_model(path)
    return load_model(path) if header["kind"] == "sequential" else TrainedModel.load(path)


def _network(path: str, inputs: str) -> Sequential:
    """The network in a model file; of a trained model only where encoded inputs were asked for."""
    from bilstm.errors import UserError
    from bilstm.model import TrainedModel

    model = _load(path)
    if not isinstance(model, TrainedModel):
        return model
    if inputs != "encoded":
        raise UserError(
            f"a .keras file would hold the network of {path} alone, without the encoding of its features: say "
            f"--inputs encoded if that is wanted, or export to .onnx"
        )
    return model.network
