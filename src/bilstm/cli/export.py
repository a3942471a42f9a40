"""`bilstm export`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bilstm.cli.options import FILE, say

if TYPE_CHECKING:
    from bilstm.model import TrainedModel
    from bilstm.models import Sequential


@click.command(short_help="Write a MODEL as ONNX.")
@click.argument("model", type=FILE)
@click.option("--to", "out", metavar="FILE", type=FILE, required=True, help="The file to write: .onnx.")
@click.option(
    "--inputs",
    type=click.Choice(["columns", "encoded"]),
    default="columns",
    show_default=True,
    help="columns: raw numbers and words, one input for each feature; encoded: the network's inputs.",
)
@click.option("--force", is_flag=True, help="Replace a file that bilstm did not write, too.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
def export(model: str, out: str, inputs: Any, force: bool, quiet: bool) -> None:
    """Write a MODEL as an ONNX file, for ONNX Runtime and others: in Python, C++, a browser.

    Scaling, missing values and vocabularies are part of it: raw numbers and words in, labels and probabilities out.
    What ONNX cannot express is named, and nothing is written.
    """
    from bilstm.bridges.onnx import check_onnx_path, describe
    from bilstm.bridges.onnx import export as write
    from bilstm.errors import UserError

    if not out.lower().endswith(".onnx"):
        raise UserError(f"cannot tell from its name what {out} is to be: give it a name that ends with .onnx")
    loaded = _load(model)
    check_onnx_path(out, inputs=[model], force=force)
    written = write(loaded, out, inputs=inputs, force=force)
    say([f"wrote {out}", *describe(written)], quiet)


def _load(path: str) -> TrainedModel | Sequential:
    from bilstm.model import TrainedModel
    from bilstm.modelfile import read_model
    from bilstm.models import load_model

    _, header = read_model(path)
    return load_model(path) if header["kind"] == "sequential" else TrainedModel.load(path)
